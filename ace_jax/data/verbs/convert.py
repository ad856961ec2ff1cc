"""`convert SEQ --to LAYOUT --out FOLDER`: writes a recording in another layout."""

from pathlib import Path

from ace_jax.data.bag_writer import write_bag
from ace_jax.data.export import LAYOUTS, export
from ace_jax.data.frame import FrameSource
from ace_jax.errors import UserError

BAG = "mcap"  # a ROS 2 bag; not a folder of images
_OPENED_AS = {"mcap": "bag"} | {kind: kind for kind in ("folder", "ace", "colmap", "nerfstudio")}


def convert(source: FrameSource, layout: str | None, out: str | None) -> str:
    """Writes the recording; says what was written, and how to open it.

    Raises:
        UserError: a flag is missing, see also `export`.
    """
    if layout is None:
        raise UserError(f"--to is missing: one of {', '.join(LAYOUTS)}, {BAG}")
    if out is None:
        raise UserError("--out is missing: the new folder to write to")
    count = write_bag(source, out) if layout == BAG else export(source, out, layout)
    skipped = len(source) - count
    lost = f" ({skipped} could not be read)" if skipped else ""
    return f"{out}: {count} of {len(source)} frames{lost}, layout {layout}{_opened_by(layout, out)}"


def _opened_by(layout: str, out: str) -> str:
    """How to name it, for layouts that are opened by their path."""
    if layout not in _OPENED_AS:
        return ""
    return f"; open it as {_OPENED_AS[layout]}/{Path(out).resolve()}"
