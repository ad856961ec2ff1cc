"""The flag `--rerun`, with or without a file name."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from absl import flags

from ace_jax.viewer import WINDOW

if TYPE_CHECKING:
    from ace_jax.viewer.live import LiveView

NAME = "rerun"
flags.disclaim_key_flags()  # the flag is that of the command that defines it: --help shows it


def define() -> flags.FlagHolder[str | None]:
    """Defines the flag for a command; pass the arguments through `with_value` first."""
    return flags.DEFINE_string(
        NAME,
        None,
        "show the run in a Rerun window, or record it to FILE.rrd (extra `viewer`), which "
        "python -m ace_jax.viewer FILE.rrd opens",
    )


def with_value(argv: Sequence[str]) -> list[str]:
    """Arguments in which a `--rerun` that stands alone asks for a window."""
    result = list(argv)
    for i, argument in enumerate(result):
        alone = i + 1 == len(result) or result[i + 1].startswith("-")
        if argument in (f"--{NAME}", f"-{NAME}") and alone:
            result[i] = f"--{NAME}={WINDOW}"
    return result


@contextlib.contextmanager
def opened(target: str | None, name: str) -> Iterator["LiveView | None"]:
    """The live view that the flag asks for, open for a while; None if it asks for none.

    Args:
        target: the flag's value.
        name: of what is shown.

    Raises:
        UserError: see `LiveView`.
    """
    if target is None:
        yield None
        return
    from ace_jax.viewer.live import LiveView  # --help and bad flags answer at once without it

    with LiveView(target, name) as view:
        yield view
