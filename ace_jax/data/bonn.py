"""Bonn RGB-D Dynamic (Palazzolo et al., "ReFusion", IROS 2019): TUM's layout, another camera."""

from pathlib import Path

from ace_jax.data.intrinsics import Intrinsics
from ace_jax.data.places import existing
from ace_jax.data.tum import UNITS_PER_METRE, Tum

URL = "https://www.ipb.uni-bonn.de/data/rgbd-dynamic-dataset/"
INTRINSICS = Intrinsics(
    542.822841,
    542.576870,
    315.593520,
    237.756098,
    depth_scale=UNITS_PER_METRE,
    distortion=(0.039903, -0.099343, -0.000730, -0.000144, 0.0),
)


def open_named(rest: str, root: Path) -> Tum:
    """Opens `bonn/SEQUENCE`; `balloon` and `rgbd_bonn_balloon` mean the same."""
    sequence = rest.removeprefix("rgbd_bonn_")
    base = root / "bonn"
    folder = base / f"rgbd_bonn_{sequence}"
    if not folder.is_dir() and (base / "rgbd_bonn_dataset" / folder.name).is_dir():
        folder = base / "rgbd_bonn_dataset" / folder.name
    how = f"download rgbd_bonn_{sequence}.zip from {URL} and unpack it there"
    folder = existing(folder, f"bonn/{sequence}", how)
    return open_folder(folder, f"bonn/{sequence}")


def open_folder(folder: Path, name: str | None = None) -> Tum:
    """Opens a sequence's folder."""
    return Tum(folder, name=name, intrinsics=INTRINSICS, readout=0.0)
