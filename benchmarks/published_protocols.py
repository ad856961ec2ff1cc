"""The benchmarks of the papers: sequences, numbers of frames, official splits."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One benchmark, and how it is run.

    SLAM: every frame once, in order; ATE after rigid alignment, never scaled. Relocalization: a map
    of the official training images, asked about every official test image.

    Attributes:
        title: for people.
        kind: what the names of its recordings begin with.
        task: `slam` or `relocalization`.
        metrics: the tables, keys of `published_figures.METRICS`.
        sequences: expected frames by name: of the recording, or (training, test) of a scene; None
            where the official split itself says how many.
        averages: names of means over some of the sequences.
        least: share of the expected frames that counts as all. TUM's readers pair colour with
            depth, which leaves out some colour images.
        poses: where other reference poses lie below the data root, `{scene}` and `{split}` filled
            in; "" for the data set's own.
        same: False if our frames cannot be those of the papers; `note` says why.
        note: what else is to be known.
    """

    title: str
    kind: str
    task: str
    metrics: tuple[str, ...]
    sequences: Mapping[str, int | tuple[int, int] | None]
    averages: Mapping[str, tuple[str, ...]]
    least: float = 1.0
    poses: str = ""
    same: bool = True
    note: str = ""


def _all(sequences: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    return {"average": tuple(sequences)}


# Colour images of each recording, as its rgb.txt lists them.
_TUM = {
    "freiburg1_desk": 613,
    "freiburg1_desk2": 640,
    "freiburg1_room": 1362,
    "freiburg1_rpy": 723,
    "freiburg2_desk": 2965,
    "freiburg2_xyz": 3669,
    "freiburg3_long_office_household": 2585,
    "freiburg3_walking_xyz": 859,
    "freiburg3_sitting_static": 707,
}
_REPLICA = {f"{kind}{i}": 2000 for kind, n in (("room", 3), ("office", 5)) for i in range(n)}
_SCANNET = {
    "scene0000_00": 5578,
    "scene0059_00": 1807,
    "scene0106_00": 2324,
    "scene0169_00": 2034,
    "scene0181_00": 2349,
    "scene0207_00": 1988,
}
_SEVEN_SCENES = {
    "chess": (4000, 2000),
    "fire": (2000, 2000),
    "heads": (1000, 1000),
    "office": (6000, 4000),
    "pumpkin": (4000, 2000),
    "redkitchen": (7000, 5000),
    "stairs": (2000, 1000),
}
_TWELVE_SCENES = dict.fromkeys(
    [
        *(f"apt1/{room}" for room in ("kitchen", "living")),
        *(f"apt2/{room}" for room in ("bed", "kitchen", "living", "luke")),
        *(f"office1/{room}" for room in ("gates362", "gates381", "lounge", "manolis")),
        *(f"office2/{room}" for room in ("5a", "5b")),
    ]
)
_CAMBRIDGE = {
    "GreatCourt": (1532, 760),
    "KingsCollege": (1220, 343),
    "OldHospital": (895, 182),
    "ShopFacade": (231, 103),
    "StMarysChurch": (1487, 530),
}
_INDOOR6 = dict.fromkeys(("scene1", "scene2a", "scene3", "scene4a", "scene5", "scene6"))
_RIO10 = dict.fromkeys(f"scene{number:02d}" for number in range(1, 11))
_BONN = dict.fromkeys(("balloon", "balloon2", "person_tracking", "person_tracking2"))
_ICL = {
    "living_room_traj0n": 1510,
    "living_room_traj1n": 967,
    "living_room_traj2n": 882,
    "living_room_traj3n": 1242,
}

BENCHMARKS = {
    "tum": Benchmark(
        title="TUM RGB-D",
        kind="tum",
        task="slam",
        metrics=("ate_cm",),
        sequences=_TUM,
        averages={
            "average of three": (
                "freiburg1_desk",
                "freiburg2_xyz",
                "freiburg3_long_office_household",
            )
        },
        least=0.9,
    ),
    "replica": Benchmark(
        title="Replica, NICE-SLAM's renderings",
        kind="replica",
        task="slam",
        metrics=("ate_cm", "fps", "map_mb"),
        sequences=_REPLICA,
        averages=_all(_REPLICA),
    ),
    "scannet": Benchmark(
        title="ScanNet",
        kind="scannet",
        task="slam",
        metrics=("ate_cm",),
        sequences=_SCANNET,
        averages=_all(_SCANNET),
    ),
    "bonn": Benchmark(
        title="Bonn RGB-D Dynamic",
        kind="bonn",
        task="slam",
        metrics=("ate_cm",),
        sequences=_BONN,
        averages={},
        same=False,
        note="How many frames a whole sequence has was not at hand, so none counts as whole.",
    ),
    "icl": Benchmark(
        title="ICL-NUIM, the edition with noise",
        kind="icl",
        task="slam",
        metrics=("ate_cm",),
        sequences=_ICL,
        averages={},
        least=0.99,
    ),
    "7scenes": Benchmark(
        title="7-Scenes, poses of the data set",
        kind="7scenes",
        task="relocalization",
        metrics=("within_5cm_5deg",),
        sequences=_SEVEN_SCENES,
        averages=_all(_SEVEN_SCENES),
    ),
    "7scenes-sfm": Benchmark(
        title="7-Scenes, SfM poses",
        kind="7scenes",
        task="relocalization",
        metrics=("within_5cm_5deg", "map_mb"),
        sequences=_SEVEN_SCENES,
        averages=_all(_SEVEN_SCENES),
        poses="pgt/sfm/7scenes/{scene}_{split}.txt",
        note="The SfM poses are those of github.com/tsattler/visloc_pseudo_gt_limitations "
        "(Brachmann et al., ICCV 2021); its folder `pgt` belongs into the data root.",
    ),
    "12scenes": Benchmark(
        title="12-Scenes, poses of the data set",
        kind="12scenes",
        task="relocalization",
        metrics=("within_5cm_5deg",),
        sequences=_TWELVE_SCENES,
        averages=_all(_TWELVE_SCENES),
    ),
    "cambridge": Benchmark(
        title="Cambridge Landmarks",
        kind="cambridge",
        task="relocalization",
        metrics=("median_cm",),
        sequences=_CAMBRIDGE,
        averages=_all(_CAMBRIDGE),
    ),
    "indoor6": Benchmark(
        title="Indoor-6",
        kind="indoor6",
        task="relocalization",
        metrics=("within_25cm_5deg", "map_mb"),
        sequences=_INDOOR6,
        averages=_all(_INDOOR6),
    ),
    "rio10": Benchmark(
        title="RIO10",
        kind="rio10",
        task="relocalization",
        metrics=("median_cm",),
        sequences=_RIO10,
        averages=_all(_RIO10),
        same=False,
        note="The test sequences have no public poses: validation sequences are asked about here.",
    ),
}
