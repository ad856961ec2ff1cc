"""Errors that a user can act on: one line that says what to do next, never a traceback."""

import sys
from collections.abc import Callable, Sequence

from absl import app, flags

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # what shells report for Ctrl-C

_HELP = ("-h", "-help", "--help", "-?", "--helpshort")


class UserError(Exception):
    """A mistake in the input (data, flags, weights), told in one line that names the remedy."""


def report(error: UserError | str) -> int:
    """Prints one line on stderr and returns the exit code of a user's error."""
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    return EXIT_USER_ERROR


def run(
    main: Callable[[Sequence[str]], int | None],
    positional: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Runs `main` under absl; a `UserError` or a bad flag becomes one line and exit code 2.

    Args:
        main: takes the arguments left over after flag parsing (the program's name first, then
            the positional ones); returns an exit code or None.
        positional: names of the positional arguments, all of them required.
        optional: names of further ones, which may be left out.
    """

    def guarded(argv: Sequence[str]) -> int | None:
        extra = argv[1 + len(positional) + len(optional) :]
        if extra:
            return report(f"unexpected argument {extra[0]!r}; see --help")
        missing = positional[len(argv) - 1 :]
        if missing:
            return report(f"missing {' '.join(missing)}; see --help")
        try:
            return main(argv)
        except UserError as error:
            return report(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED

    app.run(guarded, flags_parser=_parse_flags)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags as absl does, but with the exit codes of other tools: help 0, bad flag 2."""
    arguments = list(argv[1 : argv.index("--")] if "--" in argv else argv[1:])
    if any(argument in _HELP for argument in arguments):
        app.usage(shorthelp=True, writeto_stdout=True, exitcode=0)
    try:
        return flags.FLAGS(argv)
    # Attribute errors are what a misspelt field of a config file becomes.
    except (flags.Error, AttributeError) as error:
        sys.exit(report(f"{error}; see --help"))
