"""The papers' benchmarks in miniature, and what stands for the package's commands in their runs."""

import dataclasses
import json
import sys
from pathlib import Path

import data_formats
from data_scene import PlaneSource
from repository import REPO

from ace_jax.data.export import export

sys.path.insert(0, str(REPO / "benchmarks"))
import published_measure
from published_protocols import BENCHMARKS
from published_runs import Runs


def tum(root: Path, sequence: str = "freiburg1_desk", count: int = 5) -> None:
    export(PlaneSource(count), root / f"tum/rgbd_dataset_{sequence}", "tum")


def seven_scenes(root: Path) -> None:
    """Two sequences of chess with its official split; poses by SfM beside."""
    for number in (1, 2):
        export(PlaneSource(4), root / f"7scenes/chess/seq-{number:02d}", "7scenes")
    for split, number in (("train", 2), ("test", 1)):
        path = root / f"7scenes/chess/{split.capitalize()}Split.txt"
        path.write_text(f"sequence{number}\n")
        rows = [
            f"seq-{number:02d}/frame-{i:06d}.color.png 1 0 0 0 {0.1 * i} 0 0 525" for i in range(4)
        ]
        place = root / f"pgt/sfm/7scenes/chess_{split}.txt"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("\n".join(rows) + "\n")


def icl(root: Path) -> None:
    data_formats.icl(root)
    (root / "icl/living_room_traj0_frei_png").rename(root / "icl/living_room_traj0n_frei_png")


def bonn(root: Path) -> None:
    export(PlaneSource(5), root / "bonn/rgbd_bonn_balloon", "tum")


# Benchmark: who writes it, the sequence, our number of frames (training and test images).
LAYOUTS = {
    "tum": (tum, "freiburg1_desk", 5),
    "replica": (data_formats.WRITERS["replica"], "room0", 5),
    "scannet": (data_formats.scannet, "scene0000_00", 5),
    "bonn": (bonn, "balloon", 5),
    "icl": (icl, "living_room_traj0n", 5),
    "7scenes": (seven_scenes, "chess", (4, 4)),
    "7scenes-sfm": (seven_scenes, "chess", (4, 4)),
    "12scenes": (data_formats.twelve_scenes, "apt1/kitchen", (3, 2)),
    "cambridge": (data_formats.cambridge, "KingsCollege", (3, 2)),
    "indoor6": (data_formats.indoor6, "scene1", (3, 2)),
    "rio10": (data_formats.rio10, "scene01", (5, 5)),
}


def as_short_as_the_miniatures() -> dict[str, object]:
    """The benchmarks, where a miniature's frames are all that there are."""
    return {
        name: dataclasses.replace(
            known, sequences={**known.sequences, sequence: known.sequences[sequence] and count}
        )
        for name, (_, sequence, count) in LAYOUTS.items()
        for known in [BENCHMARKS[name]]
    }


@dataclasses.dataclass
class Stub:
    """Stands for the package's commands: writes given figures, and fails for some sequences."""

    ate: float = 0.01
    near: int = 9  # of ten queries within 5 cm; the tenth is 20 cm off
    broken: tuple[str, ...] = ()
    calls: list = dataclasses.field(default_factory=list)

    def __call__(self, arguments, log) -> str | None:
        given = dict(a[2:].split("=", 1) for a in arguments if a.startswith("--"))
        self.calls.append((arguments[1], given))
        if given["seq"] in self.broken:
            return "exit code 1, ValueError: broken"
        if arguments[1] == "ace_jax.mapping":
            Path(given["out"]).write_bytes(b"map")
            return None
        out = Path(given["out"])
        told = {"map_bytes": 2_000_000}
        if arguments[1] == "ace_jax.slam":
            told |= {"ate_rmse_m": self.ate, "coverage": 1.0, "fps": 20.0, "frames_skipped": 0}
        else:
            lines = [
                f"q{i} 1 0 0 0 0 0 0 1.0 {0.01 if i < self.near else 0.2} 50" for i in range(10)
            ]
            (out / "poses.txt").write_text("# header\n" + "\n".join(lines) + "\n")
            told |= {"queries": 10, "registered": 10, "unread": 0, "median_translation_m": 0.01}
            told["within_5cm_5deg"] = 10.0 * self.near
        (out / "metrics.json").write_text(json.dumps(told))
        return None


def measured(root: Path, out: Path, stub: Stub, seeds: int = 1, names=tuple(BENCHMARKS), **options):
    runs = Runs(out, root, "landmarks_rgb", stub, options.pop("again", False))
    out.mkdir(exist_ok=True)
    return published_measure.measure(names, root, runs, seeds, **options)
