"""Errors that a user can act on: one line that says what to do next, never a traceback."""

import sys
from collections.abc import Callable, Sequence

from absl import app

EXIT_USER_ERROR = 2


class UserError(Exception):
    """A mistake in the input (data, flags, weights), told in one line that names the remedy."""


def run(main: Callable[[Sequence[str]], int | None]) -> None:
    """Runs `main` under absl; a `UserError` becomes one line on stderr and exit code 2.

    Args:
        main: takes the arguments left over after flag parsing; returns an exit code or None.
    """

    def guarded(argv: Sequence[str]) -> int | None:
        if len(argv) > 1:
            print(f"error: unexpected argument {argv[1]!r}; see --help", file=sys.stderr)
            return EXIT_USER_ERROR
        try:
            return main(argv)
        except UserError as error:
            print("error: " + " ".join(str(error).split()), file=sys.stderr)
            return EXIT_USER_ERROR

    app.run(guarded)
