"""The flag `--rerun`, which may stand alone or name a file."""

from collections.abc import Sequence

from absl import flags

WINDOW = "window"
NAME = "rerun"


def define() -> flags.FlagHolder[str | None]:
    """Defines the flag for a command; pass the arguments through `with_value` first."""
    return flags.DEFINE_string(
        NAME,
        None,
        "watch the run in a Rerun window, or write FILE.rrd (extra `viewer`); look at a file with "
        "python -m ace_jax.viewer FILE.rrd",
    )


def with_value(argv: Sequence[str]) -> list[str]:
    """Arguments in which a `--rerun` that stands alone asks for a window."""
    result = list(argv)
    for i, argument in enumerate(result):
        alone = i + 1 == len(result) or result[i + 1].startswith("-")
        if argument in (f"--{NAME}", f"-{NAME}") and alone:
            result[i] = f"--{NAME}={WINDOW}"
    return result
