"""Procedural rooms as recordings: `synthetic/room0`, rendered on first use."""

from pathlib import Path

from ace_jax.data.frame import FrameSource
from ace_jax.synthetic.sequences import open_synthetic


def open_named(rest: str, root: Path) -> FrameSource:
    """Opens `synthetic/ROOM`; nothing lies under the data root."""
    return open_synthetic(rest)
