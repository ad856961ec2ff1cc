"""Catalogue of the papers' data sets: download links, sizes, checksums, licences, citations.

Sizes and checksums are given where a published source states them (7-Scenes: as an independent
project pins the archives of Microsoft's server); elsewhere the server's length is what is checked.
"""

import dataclasses

from ace_jax.errors import UserError

_MICROSOFT = "https://download.microsoft.com/download/2/8/5/28564B23-0828-408F-8631-23B1EFF1DAC8"
_STANFORD = "https://graphics.stanford.edu/projects/reloc/data"
_CAMBRIDGE = "https://www.repository.cam.ac.uk/bitstream/handle/1810"
_TUM = "https://cvg.cit.tum.de/rgbd/dataset"
_REPLICA = "https://cvg-data.inf.ethz.ch/nice-slam/data/Replica.zip"
_ICL = "https://www.doc.ic.ac.uk/~ahanda"


@dataclasses.dataclass(frozen=True)
class Part:
    """One archive of a data set.

    Attributes:
        name: what is said after the data set's: `redkitchen`.
        url: of the archive.
        folder: below the data root, where it is unpacked.
        keep: patterns of the files wanted.
        nested: patterns of archives inside that are unpacked, too.
        size: bytes; 0 where unknown.
        sha256: of the archive; "" where unknown.
    """

    name: str
    url: str
    folder: str
    keep: tuple[str, ...] = ("*",)
    nested: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One data set.

    Attributes:
        name: also the kind of its recordings' names.
        title: for people.
        page: its home page.
        licence: in short; the page has the terms.
        citation: authors, title, venue.
        parts: what can be downloaded; empty where a form has to be filled in, or a page visited.
        how: what to do where nothing can be downloaded directly.
        gigabytes: of all of it, about; 0 where unknown.
    """

    name: str
    title: str
    page: str
    licence: str
    citation: str
    parts: tuple[Part, ...] = ()
    how: str = ""
    gigabytes: float = 0.0


_SEVEN_SCENES_ZIPS = {
    "chess": (3079608937, "d00b5b8f904123ec136768ee0ebd8f72aebb5473630fb5d8ec352e70ae4859d0"),
    "fire": (2301204154, "735d577f471a116b3f190f9bd79026b7fccfc6dee220473499bdb2b93efd1955"),
    "heads": (956332240, "402f8760ba150100bda5360241b605383dc5f949c055863301bde1b45f6a7a5d"),
    "office": (4707873861, "c2bd101aae86c926d43ed92e080140b2e32d54ce14a5ce289b9aeca3472e7744"),
    "pumpkin": (2890874911, "53fd1cb4c2f50378abc112f48e8897138e2135f2848c8c2e094e8028af07a65f"),
    "redkitchen": (6141181406, "55f6aeabfd8308fbe02a6f37d1dbdbc4c087c3c6c84cb5fae062a90c43ffcba6"),
    "stairs": (1496412431, "3521a1a26acb98321918ec352f8b189d301c2e3cce2de1bf2eac424d003b3929"),
}
# Thumbs.db files in the inner archives have wrong checksums: only frames are unpacked.
_FRAMES = ("*.color.png", "*.depth.png", "*.pose.txt", "*Split.txt")

_SEVEN_SCENES = DataSet(
    name="7scenes",
    title="7-Scenes",
    page="https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/",
    licence="Microsoft Research, non-commercial",
    citation="Glocker et al.: Real-time RGB-D camera relocalization, ISMAR 2013",
    parts=tuple(
        Part(
            name=scene,
            url=f"{_MICROSOFT}/{scene}.zip",
            folder="7scenes",
            keep=("*.zip", *_FRAMES),
            nested=("*/seq-*.zip",),
            size=size,
            sha256=sha256,
        )
        for scene, (size, sha256) in _SEVEN_SCENES_ZIPS.items()
    ),
    gigabytes=21.6,
)
_TWELVE_SCENES = DataSet(
    name="12scenes",
    title="12-Scenes",
    page="https://graphics.stanford.edu/projects/reloc/",
    licence="see the page",
    citation="Valentin et al.: Learning to navigate the energy landscape, 3DV 2016",
    parts=tuple(
        Part(
            name=place,
            url=f"{_STANFORD}/{place}.zip",
            folder="12scenes",
            keep=("*data/*", "*info.txt", "*split.txt", "*.zip"),
            nested=("*.zip",),
        )
        for place in ("apt1", "apt2", "office1", "office2")
    ),
)
_CAMBRIDGE_SCENES = DataSet(
    name="cambridge",
    title="Cambridge Landmarks",
    page="https://www.repository.cam.ac.uk/handle/1810/251342",
    licence="see the page; non-commercial",
    citation="Kendall, Grimes, Cipolla: PoseNet, ICCV 2015",
    parts=tuple(
        Part(
            name=scene,
            url=f"{_CAMBRIDGE}/{number}/{scene}.zip",
            folder="cambridge",
            keep=("*.png", "*.jpg", "*dataset_*.txt", "*reconstruction.nvm"),
        )
        for scene, number in (
            ("KingsCollege", 251342),
            ("OldHospital", 251340),
            ("ShopFacade", 251336),
            ("StMarysChurch", 251294),
            ("GreatCourt", 251291),
        )
    ),
)
_TUM_RGBD = DataSet(
    name="tum",
    title="TUM RGB-D",
    page="https://cvg.cit.tum.de/data/datasets/rgbd-dataset",
    licence="CC BY 4.0",
    citation="Sturm et al.: A benchmark for the evaluation of RGB-D SLAM systems, IROS 2012",
    parts=tuple(
        Part(
            name=f"freiburg{family}_{sequence}",
            url=f"{_TUM}/freiburg{family}/rgbd_dataset_freiburg{family}_{sequence}.tgz",
            folder="tum",
        )
        for family, sequences in (
            (1, ("xyz", "rpy", "360", "floor", "desk", "desk2", "room", "plant", "teddy")),
            (2, ("xyz", "rpy", "desk", "large_no_loop", "large_with_loop")),
            (3, ("long_office_household", "walking_xyz", "walking_halfsphere", "walking_static")),
            (3, ("sitting_xyz", "sitting_static")),
        )
        for sequence in sequences
    ),
)
_REPLICA_SCENES = DataSet(
    name="replica",
    title="Replica, NICE-SLAM's renderings",
    page="https://github.com/cvg/nice-slam",
    licence="Replica research licence (Meta), non-commercial",
    citation="Straub et al.: The Replica dataset, 2019; renderings: Zhu et al., CVPR 2022",
    parts=tuple(
        Part(
            name=scene,
            url=_REPLICA,
            folder="",
            keep=(f"Replica/{scene}/*", "Replica/cam_params.json"),
        )
        for scene in (*(f"room{i}" for i in range(3)), *(f"office{i}" for i in range(5)))
    ),
    gigabytes=12.4,
)
_ICL_NUIM = DataSet(
    name="icl",
    title="ICL-NUIM",
    page="https://www.doc.ic.ac.uk/~ahanda/VaFRIC/iclnuim.html",
    licence="CC BY 3.0",
    citation="Handa, Whelan, McDonald, Davison: A benchmark for RGB-D visual odometry, ICRA 2014",
    parts=tuple(
        Part(
            name=name,
            url=f"{_ICL}/{name}.tar.gz",
            folder=f"icl/{name}",  # the archive has no folder of its own
        )
        for room in ("living_room", "office_room")
        for name in (f"{room}_traj{i}{n}_frei_png" for i in range(4) for n in ("", "n"))
    ),
)

_WITHOUT_LINK = (
    DataSet(
        name="indoor6",
        title="Indoor-6",
        page="https://github.com/microsoft/SceneLandmarkLocalization",
        licence="see the page",
        citation="Do et al.: Learning to detect scene landmarks for camera localization, CVPR 2022",
        how="follow the link to the data on the page, and unpack scene1 to scene6 into "
        "{root}/indoor6",
    ),
    DataSet(
        name="rio10",
        title="RIO10",
        page="https://github.com/WaldJohannaU/RIO10",
        licence="research only; a form has to be filled in",
        citation="Wald et al.: Beyond controlled environments, ECCV 2020",
        how="fill in the form that the page links to (name, institution, purpose); the answer has "
        "the download script; unpack seqXX.zip into {root}/rio10/sceneXX",
    ),
    DataSet(
        name="scannet",
        title="ScanNet",
        page="http://www.scan-net.org/",
        licence="ScanNet terms of use, research only; a signed form has to be sent",
        citation="Dai et al.: ScanNet, CVPR 2017",
        how="sign the terms of use on the page and send them to scannet@googlegroups.com from your "
        "institution's address; download the .sens files with the script you get, and export each "
        "with SensReader to {root}/scannet/sceneXXXX_YY",
        gigabytes=1300.0,
    ),
    DataSet(
        name="bonn",
        title="Bonn RGB-D Dynamic",
        page="https://www.ipb.uni-bonn.de/data/rgbd-dynamic-dataset/",
        licence="see the page",
        citation="Palazzolo et al.: ReFusion, IROS 2019",
        how="download rgbd_bonn_SEQUENCE.zip from the page and unpack it into {root}/bonn",
        gigabytes=16.4,
    ),
)

DATA_SETS: dict[str, DataSet] = {
    known.name: known
    for known in (
        _SEVEN_SCENES,
        _TWELVE_SCENES,
        _CAMBRIDGE_SCENES,
        _TUM_RGBD,
        _REPLICA_SCENES,
        _ICL_NUIM,
        *_WITHOUT_LINK,
    )
}


def find(name: str) -> tuple[DataSet, tuple[Part, ...]]:
    """A data set and the parts meant by `DATASET` (all) or `DATASET/PART`.

    Raises:
        UserError: unknown.
    """
    kind, _, part = name.strip("/").partition("/")
    if kind not in DATA_SETS:
        raise UserError(f"no data set {name!r}: there are {', '.join(DATA_SETS)}")
    known = DATA_SETS[kind]
    if not part or not known.parts:
        return known, known.parts
    chosen = tuple(p for p in known.parts if p.name == part)
    if not chosen:
        names = ", ".join(p.name for p in known.parts)
        raise UserError(f"{known.title} has no part {part!r}: there are {names}")
    return known, chosen
