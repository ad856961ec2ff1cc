"""README says what the documentation's tables say; verdicts, "behind" included."""

import re
import sys

import pytest
from repository import REPO

from ace_jax.errors import UserError

sys.path.insert(0, str(REPO / "benchmarks"))

# isort: split
import claim_list
from claim_list import Claim
from doc_tables import blocks
from markdown import table

CLAIMS = claim_list.read()
README = (REPO / "README.md").read_text()
TABLE = """
| recording | frames | ATE | later |
| --- | --- | --- | --- |
| a | 10 | 0.44 (0.40-0.50) | 100 / 94 / 45 |
| b | 10 | 1.26 | 90 / 80 / 5 |

2026-11-29, revision abcdef0, 2 cores of A
"""
BLOCKS = {("slam-figures.md", "accuracy"): TABLE}


def claim(**changes) -> Claim:
    values = {"rows": ["a"], "column": "ATE", "digits": 1, "readme": "has {} cm", **changes}
    return Claim("a claim", "slam-figures.md", "accuracy", **values)


@pytest.mark.parametrize("known", CLAIMS, ids=lambda known: known.title)
def test_readme_says_what_the_tables_say(known):
    assert claim_list.wrong(known, blocks(), README) is None


def test_every_figure_row_of_readme_is_a_claim():
    """Rows that begin with a recording or a map; the peer's own row has nothing of ours."""
    head = r"^\| (?:recording|map) \|.*\n\|[-|]+\|\n"
    found = re.findall(head + r"((?:\|.*\n)+)", README, re.MULTILINE)
    rows = [row for lines in found for row in lines.splitlines()]
    assert len(rows) >= 9
    known = {known.readme.replace("{}", known.text(blocks())) for known in CLAIMS}
    for row in rows:
        assert any(text in row for text in known) or row.startswith("| SIFT matching"), row


def test_the_list_in_the_documentation_is_that_of_today():
    """Else: python benchmarks/claims.py --docs docs/benchmarks.md"""
    expected = table(claim_list.HEADER, claim_list.rows(CLAIMS, blocks()))
    assert expected in blocks()["benchmarks.md", "claims"]


def test_figures_are_read_rounded_and_ranged():
    assert claim().text(BLOCKS) == "0.4"
    assert claim(rows=["a", "b"], digits=2).text(BLOCKS) == "0.44-1.26"
    assert claim(column="later", part=1, digits=0).text(BLOCKS) == "94"
    assert claim_list.wrong(claim(), BLOCKS, "it has 0.4 cm") is None
    assert "README lacks 'has 0.4 cm'" in claim_list.wrong(claim(), BLOCKS, "it has 0.3 cm")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ["c"]}, "row 'c' has no such figure"),
        ({"column": "live"}, "no column 'live'"),
        ({"part": 7}, "no such figure"),
    ],
)
def test_a_claim_without_a_figure_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        claim(**changes).text(BLOCKS)
    with pytest.raises(UserError, match="no column"):
        claim().text({})


@pytest.mark.parametrize(
    ("peer", "higher", "verdict"),
    [
        (("P", 0.6, 0.7), False, "ahead of P"),
        (("P", 0.45, 0.7), False, "level with P"),
        (("P", 0.3, 0.5), False, "level with P"),
        (("P", 0.2, 0.3), False, "behind P"),
        (("P", 0.2, 0.3), True, "ahead of P"),
        (("P", 0.6, 0.7), True, "behind P"),
        (None, False, "-"),
    ],
)
def test_verdicts(peer, higher, verdict):
    known = claim(peer=peer, higher_is_better=higher)
    assert known.verdict(BLOCKS) == verdict
    ((_, figure, _, told, script, revision),) = claim_list.rows([known], BLOCKS)
    assert (figure, told, script, revision) == ("0.4", verdict, "`slam.py`", "abcdef0")


def test_unknown_fields_are_refused(tmp_path):
    text = claim_list.PATH.read_text() + "colour = 1\n"
    (tmp_path / "claims.toml").write_text(text)
    with pytest.raises(UserError, match="colour"):
        claim_list.read(tmp_path / "claims.toml")
