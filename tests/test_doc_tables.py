"""Tables of the documentation: each has a command, a revision and a machine; all.py runs them."""

import re
import sys

import pytest
from repository import REPO

from ace_jax.errors import UserError

sys.path.insert(0, str(REPO / "benchmarks"))

# isort: split
import doc_tables
import night
from doc_tables import JOBS, UNSTAMPED, Stamp, blocks, faults, stamp_of
from markdown import asked

LINE = (
    "2026-11-29, revision 1af4fc3-dirty, 2 cores of AMD EPYC, load 4.4 at the start; Python 3.11.7"
)


def test_every_table_of_the_documentation_says_where_it_was_made():
    """Also that each has a command, and that no command writes a table that no page has."""
    assert len(blocks()) > 40
    assert faults(blocks()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LINE, Stamp("2026-11-29", ("1af4fc3-dirty",), "2 cores of AMD EPYC", "load 4.4")),
        (
            "2026-11-29, revisions efb31e9 and f020d0c, 1 core of AMD EPYC, busy; 1 start.",
            Stamp("2026-11-29", ("efb31e9", "f020d0c"), "1 core of AMD EPYC", "busy"),
        ),
        (f"{LINE}\n\n2026-11-30, revision abcdef0, 2 cores of A", None),
        ("2026-11-29, 2 cores of AMD EPYC, load 9.3 at the start", None),  # no revision
        ("2026-11-29, revision 1af4fc3, load 1.0", None),  # no machine
        ("revision 1af4fc3, 2 cores of AMD EPYC", None),  # no date
        ("", None),
    ],
)
def test_lines_of_revision_and_machine(text, expected):
    found = stamp_of(f"| a | b |\n| --- | --- |\n| 1 | 2 |\n\n{text}")
    if text.startswith(LINE) and expected is None:  # rows of two times: both are told
        expected = Stamp(
            "2026-11-30", ("1af4fc3-dirty", "abcdef0"), "2 cores of AMD EPYC", "load 4.4"
        )
    assert found == expected


def test_a_table_without_the_line_is_refused():
    found = dict(blocks())
    found["slam-figures.md", "speed"] = "| a |\n| --- |\n| 1 |"
    found["slam-figures.md", "invented"] = LINE
    del found["slam-figures.md", "heads"]
    assert faults(found) == [
        "slam-figures.md heads: the page has no such block, but job slam",
        "slam-figures.md invented: no job of doc_tables.py writes it",
        "slam-figures.md speed: no date, revision and machine below the table",
    ]


def test_the_list_of_exceptions_only_gets_shorter():
    place = next(iter(sorted(UNSTAMPED)))
    assert faults({**blocks(), place: LINE}) == [
        f"{place[0]} {place[1]}: has its line now, take it out of UNSTAMPED"
    ]


@pytest.mark.parametrize("name", JOBS)
def test_commands_name_scripts_flags_and_tables_that_exist(name):
    job = JOBS[name]
    script, *flags = job.command.split()
    path = REPO / "benchmarks" / script
    text = path.read_text()
    for module in re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE):
        other = path.with_name(f"{module}.py")
        text += other.read_text() if other.is_file() else ""
    defined = re.findall(r"flags\.DEFINE_\w+\(\s*\"(\w+)\"", text)
    for flag in flags:
        option, _, value = flag.removeprefix("--").partition("=")
        assert option in defined
        for table in value.split(",") if option == "tables" else []:
            assert f'"{table}"' in text
    assert {"docs"} <= {flag[2:].partition("=")[0] for flag in flags}
    assert (REPO / "docs" / job.page).is_file()


def test_a_night_goes_on_where_it_was(tmp_path, monkeypatch):
    calls = []

    def command(arguments, log):
        calls.append(arguments)
        log.write_text("said something\n")
        return "exit code 1, no open3d" if "slam_peers.py" in arguments[0] else None

    def names():
        told = [call[0].rpartition("/")[2] for call in calls]
        calls.clear()
        return told

    monkeypatch.setattr(night, "revision", lambda: "abcdef0-dirty")
    places = {"data": "DATA", "shared": "SHARED"}
    chosen = ["slam", "slam-peers", "solvers"]
    ended = night.run(chosen, places, tmp_path, command)
    assert "--data_root=DATA" in calls[0]
    assert f"--docs={REPO / 'docs/slam-figures.md'}" in calls[0]
    assert f"--out={tmp_path / 'abcdef0/slam'}" in calls[0]
    assert names() == ["slam.py", "slam_peers.py", "absolute_pose.py"]
    assert ended["slam-peers"]["failure"] == "exit code 1, no open3d"
    assert ended["slam"]["revision"] == "abcdef0"
    night.run(chosen, places, tmp_path, command)
    assert names() == ["slam_peers.py"]  # what failed is tried again
    night.run(["solvers"], places, tmp_path, command, again=True)
    assert names() == ["absolute_pose.py"]
    monkeypatch.setattr(night, "revision", lambda: "1234567")
    night.run(["solvers"], places, tmp_path, command)
    assert names() == ["absolute_pose.py"]
    assert set(night.read(tmp_path)) == set(chosen)


def test_the_list_has_every_table_and_measured_hours():
    text = night.listing({"slam": {"hours": 12.5, "failure": None}})
    assert "12.5 h measured" in text
    for job in JOBS.values():
        assert f"docs/{job.page}: {', '.join(job.tables)}" in text
    failed = night.listing({"slam": {"hours": 0.1, "failure": "no disk"}})
    assert "measured" not in failed


def test_revisions_are_told_and_a_broken_table_ends_with_1():
    found = {place: LINE for place in blocks()}
    text, code = night.check(found)
    assert code == 1  # those of UNSTAMPED have lines here
    found |= {place: "" for place in UNSTAMPED}
    text, code = night.check(found)
    assert code == 0
    assert "1af4fc3-dirty: " in text
    assert "of 2 revisions" in text


def test_an_unknown_job_is_refused():
    with pytest.raises(UserError, match="no job 'slamm'; there are slam, "):
        asked(JOBS, ["slamm"], "job")


def test_scripts_that_write_into_pages_are_all_listed():
    """A new script with --docs has to be added to the night."""
    listed = {job.command.split()[0] for job in doc_tables.JOBS.values()}
    for path in (REPO / "benchmarks").glob("*.py"):
        text = path.read_text()
        writes = "publish(" in text or "put_into(" in text or "make_tables(" in text
        if writes and "errors.run(" in text:
            assert path.name in listed
