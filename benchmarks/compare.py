"""Compares two runs of a benchmark: which figures changed by more than their noise.

  python benchmarks/compare.py OLD NEW [--margin 0.1] [--all]

OLD and NEW are files of benchmarks/history/, or parts of their names, such as a revision. A figure
has moved if its median changed by more than its noise: the larger of both runs' ranges over the
seeds where both have three or more, else --margin of the old median; in any case half a unit of
what counts (0.01 cm, 0.1 %, ...). Speed is judged by --speed_margin: the machine's load is in it.
Exit code 1 if a figure got worse.
"""

from collections.abc import Sequence

from absl import flags
from figure_changes import compare, text
from history_file import load

from ace_jax import errors

_MARGIN = flags.DEFINE_float("margin", 0.1, "share of a figure within which it has not moved")
_SPEED_MARGIN = flags.DEFINE_float("speed_margin", 0.25, "the same for speed")
_ALL = flags.DEFINE_bool("all", False, "show figures that have not moved, too")


def main(argv: Sequence[str]) -> int:
    """Compares, and prints."""
    old, new = load(argv[1]), load(argv[2])
    if old.benchmark != new.benchmark:
        raise errors.UserError(f"these are of {old.benchmark} and of {new.benchmark}")
    changes = compare(old, new, _MARGIN.value, _SPEED_MARGIN.value)
    print(f"{old.benchmark}\n\nold: {old.stamp}\nnew: {new.stamp}\n\n{text(changes, _ALL.value)}")
    return int(any(change.verdict == "worse" for change in changes))


if __name__ == "__main__":
    errors.run(main, positional=("OLD", "NEW"))
