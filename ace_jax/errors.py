"""User errors: one line that says what to do next, without a traceback."""

import contextlib
import errno
import io
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags
from absl import logging as absl_logging

from ace_jax import __version__, command_help

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # what shells report for Ctrl-C

# What a machine says that has no room, or a place that may not be written to: nobody's mistake in
# the program, and nothing that a traceback explains.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM)

_CONFIG_PATH = "ml_collections.config_flags.config_path"
# What absl says of a flag that is required.
_MISSING_FLAG = re.compile(r"Flag (--\w+) must have a value other than None")
_HELP = ("-h", "-help", "--help", "-?", "--helpshort")
_VERSION = ("-version", "--version")
_FULL_HELP = ("-helpfull", "--helpfull")  # with the flags of every module


class _PlainLines(logging.Formatter):
    """Log lines for people: `warning: ...`, without a code, a thread, a file and its line."""

    def format(self, record: logging.LogRecord) -> str:
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return level + super().format(record)


class UserError(Exception):
    """A mistake in the input (data, flags, weights), told in one line that names the remedy."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


def report(error: UserError | str) -> int:
    """Prints one line on stderr and returns the exit code of a user's error."""
    print(f"error: {UserError(str(error))}", file=sys.stderr)
    return EXIT_USER_ERROR


def stop_printing() -> None:
    """After a `BrokenPipeError` (`... | head`): nothing more may be written, at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def limit_reached(error: BaseException) -> str | None:
    """A line for an exception that says that the machine, not the program, is at its end.

    Returns:
        What to do, for a full or read-only disk and for memory that ran out; else None.
    """
    if isinstance(error, OSError) and error.errno in _NO_ROOM:
        place = f" to write {error.filename}" if error.filename else ""
        return f"no room{place} ({error.strerror}); what was saved before is whole: free some space"
    if isinstance(error, OSError) and error.errno in _NO_RIGHT:
        return f"{error.filename or 'a file'}: {error.strerror}; choose another place"
    # JAX says it so; its exception's class has changed its name and is not imported for this.
    exhausted = isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    if isinstance(error, MemoryError) or exhausted:
        return (
            "out of memory; what was saved before is whole: close other programs, or take fewer or "
            "smaller images, a smaller batch or buffer"
        )
    return None


def run(
    main: Callable[[Sequence[str]], int | None],
    positional: Sequence[str] = (),
    optional: Sequence[str] = (),
    groups: command_help.Groups | None = None,
    config: Callable[[], Any] | None = None,
) -> None:
    """Runs `main` under absl; a `UserError` or a bad flag becomes one line and exit code 2.

    So does a disk without room or a machine without memory, see `limit_reached`.

    Args:
        main: takes the arguments left over after flag parsing (the program's name first, then
            the positional ones); returns an exit code or None.
        positional: names of the positional arguments, all of them required.
        optional: names of further ones, which may be left out.
        groups: names of flags by title, for --help.
        config: makes the default of --config, whose fields --help shows.
    """

    def guarded(argv: Sequence[str]) -> int | None:
        extra = argv[1 + len(positional) + len(optional) :]
        if extra:
            return report(f"unexpected argument {extra[0]!r}; see --help")
        missing = positional[len(argv) - 1 :]
        if missing:
            return report(f"missing {' '.join(missing)}; see --help")
        absl_logging.get_absl_handler().setFormatter(_PlainLines())
        if not flags.FLAGS["verbosity"].present:
            # absl shows level INFO of every package: JAX on devices that are not there, which reads
            # like an error, fontTools on each font's tables. Our own lines are absl's logger's.
            absl_logging.get_absl_logger().setLevel(logging.INFO)
            logging.getLogger().setLevel(logging.WARNING)
        try:
            return main(argv)
        except UserError as error:
            return report(error)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return EXIT_INTERRUPTED
        except Exception as error:
            line = limit_reached(error)
            if line is None:
                raise
            return report(line)

    app.run(guarded, flags_parser=lambda argv: _parse_flags(argv, groups, config))


def _parse_flags(
    argv: Sequence[str],
    groups: command_help.Groups | None,
    config: Callable[[], Any] | None,
) -> list[str]:
    """Parses flags as absl does, but with the exit codes of other tools: help 0, bad flag 2."""
    arguments = list(argv[1 : argv.index("--")] if "--" in argv else argv[1:])
    if any(argument in _HELP + _FULL_HELP for argument in arguments):
        if any(argument in _HELP for argument in arguments):
            main = sys.modules["__main__"]
            print(command_help.help_text(main.__doc__ or "", sys.argv[0], groups, config), end="")
        else:
            print(_full_help(), end="")
        sys.exit(0)
    if any(argument in _VERSION for argument in arguments):
        print(f"ace_jax {__version__}")
        sys.exit(0)
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        missing = " ".join(_MISSING_FLAG.findall(str(error)))
        sys.exit(report(f"{'missing ' + missing if missing else error}; see --help"))
    except (AttributeError, KeyError, ValueError) as error:
        if not _is_of_a_config_path(error):  # a defect in the config file's own code
            raise
        cause = error.args[0]
        what = cause.args[0] if isinstance(cause, KeyError) else cause
        sys.exit(report(f"--config has no such field: {what}; see --help"))


def _full_help() -> str:
    """absl's help, with the main module's name where absl writes the path of its file."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        app.usage(shorthelp=False, writeto_stdout=True)
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).name
    return text.getvalue().replace(f"\n{sys.argv[0]}:\n", f"\n{name}:\n")


def _is_of_a_config_path(error: BaseException) -> bool:
    """Whether ml_collections looked for the field of an override (`--config.FIELD=`) and failed."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(frame.f_globals.get("__name__") == _CONFIG_PATH for frame in frames)
