"""Every table of the documentation, regenerated on one revision.

  python benchmarks/all.py --list
  python benchmarks/all.py --data_root DIR [--only slam,solvers] [--again]
  python benchmarks/all.py --check

Runs the commands of `doc_tables.py` one after the other. What a revision has finished is kept in
--out and not repeated (--again does), so that an interrupted night goes on where it was; a command
that fails is recorded with its reason, and the rest goes on. Commit first: a revision with changed
files ends in "-dirty", and stands for nothing.

`--check` runs nothing: it prints which tables are of which revision, and ends with exit code 1 if a
table has no line with date, revision and machine, or no command that writes it. Tables of different
revisions are told and, as long as there are some, not an error.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from doc_tables import JOBS, blocks
from markdown import asked
from night import check, listing, read, run

from ace_jax import errors

_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/, tum/, ...")
_SHARED = flags.DEFINE_string("shared", "../shared", "folder with weights/ and golden/")
_ONLY = flags.DEFINE_list("only", list(JOBS), "jobs, see --list")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/all", "folder for results and logs")
_AGAIN = flags.DEFINE_bool("again", False, "repeat what is finished")
_LIST = flags.DEFINE_bool("list", False, "list jobs, tables, commands and hours")
_CHECK = flags.DEFINE_bool("check", False, "say which tables are of which revision")


def main(_: Sequence[str]) -> int:
    """Lists, checks or runs."""
    asked(JOBS, _ONLY.value, "job")
    out = Path(_OUT.value)
    if _LIST.value:
        print(listing(read(out)))
        return 0
    if _CHECK.value:
        text, code = check(blocks())
        print(text)
        return code
    places = {"data": _DATA_ROOT.value, "shared": _SHARED.value}
    ended = run(_ONLY.value, places, out, again=_AGAIN.value)
    failed = {name: ended[name]["failure"] for name in _ONLY.value if ended[name]["failure"]}
    for name, failure in failed.items():
        print(f"{name}: {failure}; log: {out / name}.log")
    return int(bool(failed))


if __name__ == "__main__":
    errors.run(main)
