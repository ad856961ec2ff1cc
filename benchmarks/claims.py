"""Figures that README states: each with its table, script, revision and verdict.

  python benchmarks/claims.py [--docs docs/benchmarks.md]

Measures nothing: figures are read from the documentation's tables (`claims.toml` says which). Ends
with exit code 1 if README says something else.
"""

from collections.abc import Sequence

from absl import flags
from claim_list import HEADER, read, rows, wrong
from doc_tables import REPO, blocks
from machine import stamp
from markdown import publish, table

from ace_jax import errors

_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose table is replaced")


def main(_: Sequence[str]) -> int:
    """Prints the list."""
    claims, found = read(), blocks()
    publish("claims", f"{table(HEADER, rows(claims, found))}\n\nListed {stamp(())}.", _DOCS.value)
    readme = (REPO / "README.md").read_text()
    faults = [line for claim in claims if (line := wrong(claim, found, readme))]
    for line in faults:
        print(f"error: {line}")
    return int(bool(faults))


if __name__ == "__main__":
    errors.run(main)
