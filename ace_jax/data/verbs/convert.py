"""`convert SEQ --to LAYOUT --out FOLDER`: writes a recording in another layout."""

from ace_jax.data.bag_writer import write_bag
from ace_jax.data.export import LAYOUTS, export
from ace_jax.data.frame import FrameSource
from ace_jax.data.registry import path_of
from ace_jax.errors import UserError

BAG = "mcap"  # a ROS 2 bag; not a folder of images


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
    path = out if path_of(out) else f"./{out}"  # a name such as tum/desk is below the data root
    return f"{out}: {count} of {len(source)} frames{lost}, layout {layout}; open it as {path}"
