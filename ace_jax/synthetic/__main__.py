"""Writes a synthetic sequence in the layout of a known data set.

    python -m ace_jax.synthetic --room room0 --out DIR --layout tum

Renders at first use (about half a minute for 300 frames on two cores), then reads the cache.
"""

from absl import flags

from ace_jax import errors
from ace_jax.data.export import LAYOUTS, export
from ace_jax.synthetic.sequences import FORMS, open_synthetic

_ROOM = flags.DEFINE_string("room", "room0", f"one of {', '.join(FORMS)}")
_OUT = flags.DEFINE_string("out", None, "folder to create", required=True)
_LAYOUT = flags.DEFINE_enum("layout", "replica", sorted(LAYOUTS), "layout of the files")
_FRAMES = flags.DEFINE_integer("frames", None, "length; the camera's path repeats after 10 s")


def main(_) -> None:
    """Exports one room."""
    source = open_synthetic(_ROOM.value, frames=_FRAMES.value)
    count = export(source, _OUT.value, _LAYOUT.value)
    print(f"{count} frames of {source.name} in {_OUT.value} ({_LAYOUT.value})")


if __name__ == "__main__":
    errors.run(main)
