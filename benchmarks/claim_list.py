"""The claims of `claims.toml`: figures, read from the documentation's tables, and verdicts."""

import dataclasses
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from doc_tables import JOBS, stamp_of

from ace_jax.errors import UserError

PATH = Path(__file__).with_name("claims.toml")
HEADER = ["claim", "ace_jax", "peer", "verdict", "script", "revision"]
MARGIN = 0.05  # of the peer's figure, within which ours is level


@dataclasses.dataclass(frozen=True)
class Claim:
    """One claim; see the first lines of `claims.toml`."""

    title: str
    page: str
    table: str
    rows: list[str]
    column: str
    digits: int
    readme: str
    part: int = 0
    higher_is_better: bool = False
    peer: tuple[str, float, float] | None = None

    def values(self, blocks: Mapping[tuple[str, str], str]) -> list[float]:
        """The figures, from the table.

        Raises:
            UserError: the table has no such row, column or number.
        """
        where = f"docs/{self.page}, table {self.table}"
        lines = blocks.get((self.page, self.table), "").splitlines()
        table = [_cells(line) for line in lines if line.startswith("|")]
        if not table or self.column not in table[0]:
            raise UserError(f"{where}: no column {self.column!r}")
        place, found = table[0].index(self.column), []
        for name in self.rows:
            row = next((row for row in table[2:] if row[0] == name), None)
            numbers = re.findall(r"-?\d+(?:\.\d+)?", row[place]) if row else []
            if len(numbers) <= self.part:
                raise UserError(f"{where}: row {name!r} has no such figure of {self.column!r}")
            found.append(float(numbers[self.part]))
        return found

    def text(self, blocks: Mapping[tuple[str, str], str]) -> str:
        """The figures as README has to write them."""
        values = self.values(blocks)
        low, high = (f"{value:.{self.digits}f}" for value in (min(values), max(values)))
        return low if low == high else f"{low}-{high}"

    def verdict(self, blocks: Mapping[tuple[str, str], str]) -> str:
        """Beside the peer: ahead or behind with all figures and by more than 5 %, or level."""
        if self.peer is None:
            return "-"
        name, low, high = self.peer
        values, margin = self.values(blocks), MARGIN * low
        best, worst = (low, high) if not self.higher_is_better else (high, low)
        sign = 1.0 if self.higher_is_better else -1.0
        if min(sign * (value - best) for value in values) > margin:
            return f"ahead of {name}"
        if max(sign * (value - worst) for value in values) < -margin:
            return f"behind {name}"
        return f"level with {name}"

    def script(self) -> str:
        """The command that measures it."""
        job = next(j for j in JOBS.values() if j.page == self.page and self.table in j.tables)
        return job.command.split()[0]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def read(path: Path = PATH) -> list[Claim]:
    """All claims.

    Raises:
        UserError: an entry is incomplete or has a field that there is not.
    """
    try:
        entries = tomllib.loads(path.read_text())["claim"]
        return [Claim(**entry) for entry in entries]
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: {error}; see its first lines") from error


def wrong(claim: Claim, blocks: Mapping[tuple[str, str], str], readme: str) -> str | None:
    """What is wrong with a claim, in a line; None if README says what the table says."""
    expected = claim.readme.replace("{}", claim.text(blocks))
    if expected in readme:
        return None
    return f"{claim.title}: README lacks {expected!r}, which docs/{claim.page} has"


def rows(claims: list[Claim], blocks: Mapping[tuple[str, str], str]) -> list[list[str]]:
    """Claim, figure, verdict, script and revision of each."""
    result = []
    for claim in claims:
        told = stamp_of(blocks[claim.page, claim.table])
        revision = " and ".join(told.revisions) if told else "not told"
        peer = ""
        if claim.peer is not None:
            _, low, high = claim.peer
            peer = f"{low:g}" if low == high else f"{low:g}-{high:g}"
        figure = claim.text(blocks)
        verdict = claim.verdict(blocks)
        result.append([claim.title, figure, peer, verdict, f"`{claim.script()}`", revision])
    return result
