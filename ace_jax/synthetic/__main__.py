"""Writes a synthetic sequence in the layout of a known data set.

  python -m ace_jax.synthetic --out DIR [flags]

Examples:
  python -m ace_jax.synthetic --room room0 --out room0_tum --layout tum
  python -m ace_jax.synthetic --room room1-noisy --frames 60 --out my_recording --layout folder

Renders at first use (300 frames of a room take about half a minute on two cores, the corridor's
2018 about seven), then reads the cache.
"""

from absl import flags

from ace_jax import errors
from ace_jax.data.export import LAYOUTS, export
from ace_jax.synthetic import sequences

__doc__ += f"\n{sequences.__doc__}"  # shown by --help

_ROOM = flags.DEFINE_string("room", "room0", f"one of {', '.join(sequences.FORMS)}")
_OUT = flags.DEFINE_string("out", None, "folder to create", required=True)
_LAYOUT = flags.DEFINE_enum("layout", "replica", sorted(LAYOUTS), "layout of the files")
_FRAMES = flags.DEFINE_integer(
    "frames", None, "number of frames (default: all); a room's path repeats after 10 s"
)


def main(_) -> None:
    """Exports one sequence."""
    source = sequences.open_synthetic(_ROOM.value, frames=_FRAMES.value)
    count = export(source, _OUT.value, _LAYOUT.value)
    print(f"{count} frames of {source.name} in {_OUT.value} ({_LAYOUT.value})")


if __name__ == "__main__":
    errors.run(main)
