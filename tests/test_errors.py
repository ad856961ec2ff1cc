"""Users' mistakes: one line on stderr, and exit codes that shells and scripts understand."""

import errno
import functools
import os
import re
import textwrap

import pytest
from commands import run_python

from ace_jax.errors import limit_reached

_PROGRAM = textwrap.dedent('''
    """A program.

    Example: program IN OUT
    """
    from absl import flags
    from ace_jax import errors

    FLAG = flags.DEFINE_integer("size", 1, "a number", lower_bound=1)

    def main(argv):
        if FLAG.value == 7:
            raise errors.UserError("seven is missing:\\nuse eight")
        if FLAG.value == 8:
            raise KeyboardInterrupt
        if FLAG.value == 9:
            raise RuntimeError("a defect")
        if FLAG.value == 10:
            open("/dev/full", "w", buffering=1).write("no room\\n")
        if FLAG.value == 11:
            bytearray(1 << 60)
        if FLAG.value == 13:
            from absl import logging
            from logging import getLogger
            getLogger("fontTools.subset").info("maxp pruned")
            logging.info("%d images", 3)
            logging.warning("1 of %d images has no depth", 3)
        if FLAG.value == 12:
            import jax
            jax.devices()
        print(argv[1:])
        return 3 if FLAG.value == 3 else None

    errors.run(main, positional=("IN", "OUT"))
''')


_run = functools.partial(run_python, "-c", _PROGRAM)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a", "b", "--size=7"], 2, "error: seven is missing: use eight"),
        (["a"], 2, "error: missing OUT; see --help"),
        ([], 2, "error: missing IN OUT; see --help"),
        (["a", "b", "c"], 2, "error: unexpected argument 'c'; see --help"),
        (["a", "b", "--sise=1"], 2, "Did you mean: size ?; see --help"),
        (["a", "b", "--size=0"], 2, "see --help"),
        (["a", "b", "--size=x"], 2, "see --help"),
        (["a", "b", "--size=8"], 130, "interrupted"),
        pytest.param(
            *(["a", "b", "--size=10"], 2, "error: no room (No space left on device)"),
            marks=pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here"),
        ),
        (["a", "b", "--size=11"], 2, "error: out of memory"),
    ],
)
def test_mistakes_are_one_line(arguments, code, message):
    done = _run(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_success_and_a_commands_own_exit_code():
    done = _run("a", "--size=2", "b")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['a', 'b']\n", "")
    assert _run("a", "b", "--size=3").returncode == 3


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_a_success(flag):
    done = _run("a", flag)
    assert done.returncode == 0
    assert "Example: program IN OUT" in done.stdout
    assert "--size" in done.stdout


def test_help_after_the_end_of_flags_is_an_argument():
    assert _run("--", "a", "--help").stdout == "['a', '--help']\n"


def test_a_defect_keeps_its_traceback():
    done = _run("a", "b", "--size=9")
    assert done.returncode == 1
    assert "RuntimeError: a defect" in done.stderr


def test_warnings_are_plain_lines_and_libraries_tell_no_details():
    assert _run("a", "b", "--size=13").stderr == ("3 images\nwarning: 1 of 3 images has no depth\n")


def test_devices_that_are_not_there_are_not_told():
    assert _run("a", "b", "--size=12").stderr == ""


def test_required_flags_are_named_as_arguments_are():
    done = run_python("-m", "ace_jax.mapping")
    assert (done.returncode, done.stderr) == (2, "error: missing --seq --out; see --help\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.png"), "no room to write x.png"),
        (OSError(errno.EROFS, "Read-only file system", "x"), "x: Read-only .*another place"),
        (MemoryError(), "out of memory.*saved before is whole"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 3 bytes."), "out of memory"),
        (OSError(errno.ENOENT, "No such file", "x"), None),
        (RuntimeError("a defect"), None),
    ],
)
def test_limits_of_the_machine_are_told_from_defects(error, line):
    told = limit_reached(error)
    assert (told is None) if line is None else re.search(line, told)
