"""Every table of the documentation that a script writes: which command, which revision."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent


@dataclasses.dataclass(frozen=True)
class Job:
    """One command and the tables that it writes.

    Attributes:
        command: arguments of Python. Filled in are `{data}`, `{shared}`, `{docs}` (the page's file)
            and `{work}` (a folder of this revision, where an interrupted script finds what it did).
        page: below docs/.
        tables: names of the page's blocks.
        hours: a guess for two idle cores, to plan a night; `all.py --list` shows measured ones
            where there are some.
        needs: what the machine must have beside the package and the recordings.
    """

    command: str
    page: str
    tables: tuple[str, ...]
    hours: float
    needs: str = ""


_SLAM = "slam.py --data_root={data} --out={work} --reuse --docs={docs} --tables="
_STRESS = "slam_stress.py --data_root={data} --out={work} --reuse --docs={docs} --tables="
_RELOCALIZATION = (
    "relocalization.py --data_root={data} --weights_dir={shared}/weights --out={work} --reuse "
    "--docs={docs} --tables="
)
_RELIABILITY = "reliability.py --data_root={data} --docs={docs} --tables="
_PRETRAINING = "pretraining.py --data_root={data} --work={work} --docs={docs} "
_SOLVERS = "absolute_pose.py --data_root={data} --out={work} --docs={docs}"

JOBS = {
    "slam": Job(
        _SLAM + "accuracy,heads,speed", "slam-figures.md", ("accuracy", "heads", "speed"), 2.0
    ),
    "slam-install": Job(_SLAM + "install", "slam-figures.md", ("install",), 0.2, "a package index"),
    "slam-stress": Job(
        _STRESS + "realtime,loops,kidnap,movers",
        "slam-figures.md",
        ("realtime", "loops", "kidnap", "movers"),
        2.0,
    ),
    "slam-everywhere": Job(
        "slam_everywhere.py --data_root={data} --out={work} --reuse --docs={docs}",
        "slam-figures.md",
        ("recordings", "hard"),
        3.0,
        "open3d",
    ),
    "slam-peers": Job(
        "slam_peers.py --data_root={data} --out={work} --reuse --docs={docs}",
        "slam-figures.md",
        ("peers",),
        0.5,
        "open3d",
    ),
    "slam-ablation": Job(
        "slam_ablation.py --data_root={data} --out={work}/rows.jsonl --docs={docs}",
        "slam-figures.md",
        ("ablation", "ablation-synthetic"),
        3.0,
    ),
    "slam-budget": Job(
        "slam_budget.py --data_root={data} --weights_dir={shared}/weights --docs={docs}",
        "slam-figures.md",
        ("budget",),
        0.2,
        "XFeat's weights",
    ),
    "slam-masked": Job("slam_masked.py --docs={docs}", "slam-figures.md", ("masked",), 0.5),
    "slam-dense": Job(
        "dense_alignment.py --data_root={data} --docs={docs}",
        "slam-figures.md",
        ("dense", "steps"),
        0.4,
        "open3d",
    ),
    "relocalization": Job(
        _RELOCALIZATION + "main,light,filter,update,scenes,images",
        "relocalization-figures.md",
        ("main", "light", "filter", "update", "scenes", "images"),
        3.0,
        "XFeat's weights, poselib",
    ),
    "relocalization-sets": Job(
        "relocalization_sets.py --data_root={data} --out={work} --docs={docs}",
        "relocalization-figures.md",
        ("sets",),
        2.0,
        "poselib",
    ),
    "solvers": Job(
        _SOLVERS,
        "solvers.md",
        ("compile", "summary", "speed", "batch", "real", "success", "errors"),
        4.0,
        "poselib, pycolmap",
    ),
    "encoders": Job(
        "encoders.py --shared={shared} --out={work} --reuse --docs={docs}",
        "encoders.md",
        ("parity", "speed", "matching"),
        2.0,
        "torch, timm, onnxruntime, weights",
    ),
    "encoders-learned": Job(
        "encoders.py --tables=learned --cores=1 --descriptor={work}/encoder/descriptor.safetensors "
        "--shared={shared} --out={work} --docs={docs}",
        "encoders.md",
        ("learned",),
        0.3,
        "`python -m ace_jax.encoder --config cpu` run to its end in the work folder's `encoder`",
    ),
    "readers": Job(
        "readers.py --data_root={data} --docs={docs}", "datasets.md", ("faults", "speed"), 0.3
    ),
    "pretraining-250": Job(
        _PRETRAINING + "--steps=250 --tables=ablation", "pretraining.md", ("ablation-250",), 2.0
    ),
    "pretraining-750": Job(
        _PRETRAINING + "--steps=750 --tables=ablation,forms",
        "pretraining.md",
        ("ablation-750", "forms"),
        5.0,
    ),
    "pretraining-general": Job(
        _PRETRAINING + "--tables=general", "pretraining.md", ("general",), 1.0
    ),
    "pretraining-arms": Job(
        _PRETRAINING + "--general_steps=2000 --tables=arms", "pretraining.md", ("arms-2000",), 5.0
    ),
    "pretraining-keypoints": Job(
        "pretraining_keypoints.py --work={work} --docs={docs} --tables=features,context",
        "pretraining.md",
        ("keypoints-features", "keypoints-context"),
        3.0,
        "poselib, XFeat's weights",
    ),
    "pretraining-hour": Job(
        _PRETRAINING + "--tables=hour,poses,redkitchen",
        "pretraining.md",
        ("hour", "poses", "redkitchen"),
        3.0,
        "`cpu` runs trained to their end in the work folder, see the script",
    ),
    "pretraining-cost": Job(
        "pretraining_cost.py --docs={docs}", "pretraining.md", ("speed", "memory"), 0.3
    ),
    "reliability-faults": Job(
        _RELIABILITY + "faults_real,faults_synthetic",
        "reliability.md",
        ("faults_real", "faults_synthetic"),
        1.0,
    ),
    "reliability-kills": Job(_RELIABILITY + "kills", "reliability.md", ("kills",), 2.0),
    "reliability-files": Job(_RELIABILITY + "files", "reliability.md", ("files",), 1.0),
    "reliability-soak": Job(_RELIABILITY + "soak", "reliability.md", ("soak",), 1.0),
    "failures": Job("failures.py --docs={docs}", "troubleshooting.md", ("failures",), 0.1),
    "viewer": Job(
        "viewer.py --seq=7scenes/redkitchen/seq-01 --data_root={data} --docs={docs}",
        "viewing.md",
        ("viewer",),
        0.2,
        "rerun-sdk",
    ),
    "first-steps": Job(
        "first_steps.py --docs={docs}", "first-steps.md", ("first_steps",), 0.5, "a package index"
    ),
    "scaling-curves": Job(
        "scaling_curves.py --only=frames,batch,devices --out={work} --docs={docs}",
        "scaling.md",
        ("curve-frames", "curve-batch", "curve-devices"),
        2.0,
    ),
    "scaling-maps": Job(
        "scaling_curves.py --only=mapping,density --out={work} --docs={docs}",
        "scaling.md",
        ("curve-mapping", "curve-density"),
        2.0,
    ),
    "claims": Job("claims.py --docs={docs}", "benchmarks.md", ("claims",), 0.0),
    "published": Job(
        "published.py --data_root={data} --out={work} --docs={docs}",
        "published.md",
        ("published", "published-sources"),
        1.0,
    ),
}

# Written before their scripts said where they ran. The list only gets shorter: a regenerated table
# has its line, and is then refused here.
UNSTAMPED = {
    ("datasets.md", "faults"),
    ("datasets.md", "speed"),
    ("encoders.md", "parity"),
    ("encoders.md", "speed"),
    ("slam-figures.md", "budget"),
}


@dataclasses.dataclass(frozen=True)
class Stamp:
    """Where a table was made.

    Attributes:
        date: YYYY-MM-DD.
        revisions: of the repository; several if rows were made at different times.
        machine: cores and processor.
        load: in words, "" if the line says nothing.
    """

    date: str
    revisions: tuple[str, ...]
    machine: str
    load: str


def stamp_of(text: str) -> Stamp | None:
    """What a table says of its revision and machine; None unless it says both, and a date."""
    dates = re.findall(r"\b\d{4}-\d\d-\d\d\b", text)
    told = re.findall(r"revisions? ((?:[0-9a-f]{7,40}(?:-dirty)?(?:, | and )?)+)", text)
    revisions = tuple(dict.fromkeys(r for line in told for r in re.split(r", | and ", line) if r))
    machine = re.search(r"\b\d+ cores? of [^,;.]+", text)
    load = re.search(r"\bload (?:of )?\d[\d.]*|\bbusy\b", text)
    if not (dates and revisions and machine):
        return None
    return Stamp(max(dates), revisions, machine[0], load[0] if load else "")


def blocks(docs: Path = REPO / "docs") -> dict[tuple[str, str], str]:
    """The text of every block `<!-- table: NAME -->`, by page and name."""
    pattern = re.compile(r"<!-- table: (\S+) -->\n(.*?)<!-- end table -->", re.DOTALL)
    return {
        (page.name, name): text
        for page in sorted(docs.glob("*.md"))
        for name, text in pattern.findall(page.read_text(encoding="utf-8"))
    }


def faults(
    found: Mapping[tuple[str, str], str], unstamped: set[tuple[str, str]] = UNSTAMPED
) -> list[str]:
    """What is wrong with the tables, a line each."""
    listed = {(job.page, name): title for title, job in JOBS.items() for name in job.tables}
    lines = [
        f"{page} {name}: no job of doc_tables.py writes it" for page, name in found.keys() - listed
    ]
    # A script whose tables no page shows is listed all the same; one that lacks some is an error.
    shown = {listed[place] for place in found.keys() & listed.keys()}
    lines += [
        f"{page} {name}: the page has no such block, but job {job}"
        for (page, name), job in listed.items()
        if job in shown and (page, name) not in found
    ]
    for (page, name), text in found.items():
        stamped = stamp_of(text) is not None
        if not stamped and (page, name) not in unstamped:
            lines.append(f"{page} {name}: no date, revision and machine below the table")
        if stamped and (page, name) in unstamped:
            lines.append(f"{page} {name}: has its line now, take it out of UNSTAMPED")
    return sorted(lines)
