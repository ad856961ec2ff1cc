"""Common user errors and their messages: the table of docs/troubleshooting.md.

  python benchmarks/failures.py [--docs docs/troubleshooting.md]

Runs each command in an empty directory without weights and quotes its line; a command that gives
anything but one line and exit code 2 ends the script.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from absl import flags
from machine import REPO, stamp
from markdown import put_into, table

from ace_jax import errors
from ace_jax.errors import UserError

# Command, what to do. In the directory: photo.png (no EXIF), notes.safetensors (no map), and a
# recording `bare` of colour images alone, a folder `notes`, and walk.mp4.
CASES = (
    ("salm", "commands are listed by `ace-jax`"),
    ("slam --sequence room0", "flags are listed by `--help`; two dashes, underscores"),
    ("slam --seq kitchen", "give a path that is there, or a name: `ace-jax data list`"),
    ("slam --seq tum/freiburg1_rpy", "download it, or say where it is: `--data_root`"),
    ("slam bare", "SLAM takes depth for scale: map with poses instead"),
    ("slam walk.mp4", "map posed images, then localize the video's frames in the map"),
    ("slam notes", "put it into one of the layouts of docs/datasets.md"),
    (
        "slam --features superpoint",
        "unset the variable, download the weights elsewhere, or `--features sift`",
    ),
    ("slam --features surf", "take one of those listed"),
    ("slam --frozen", "name the session that an earlier run left"),
    ("slam --rerun out.bag", "a recording of the view is called .rrd"),
    ("mapping --seq folder/bare --data_root . --out m", "`--poses FILE`, or run SLAM first"),
    ("mapping --seq synthetic/room0 --config ace5 --out m", "presets are listed in the line"),
    (
        "mapping --seq synthetic/room0 --config.landmarks.corse=9 --out m",
        "the field's name is misspelt; `--help` and `ace_jax/mapping/config.py` have them",
    ),
    ("relocalize --map notes.safetensors --seq synthetic/room0", "make the map again"),
    ("relocalize --map nothing.safetensors --seq synthetic/room0", "`ace-jax mapping` makes maps"),
    ("relocalize --map notes.safetensors", "say what the queries are"),
    ("export nothing.safetensors --out deployed", "`ace-jax mapping` makes maps"),
    ("viewer nothing.rrd", "record one: `--rerun FILE.rrd`"),
    ("evaluation nothing.tum nothing.tum", "give two trajectories that are there"),
)

_LONGEST = 230  # characters of a line that are quoted

_DOCS = flags.DEFINE_string("docs", None, "put the table into this file")


def main(_: Sequence[str]) -> None:
    """Runs the commands and prints the table."""
    rows, where = [], stamp(())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder)
        environment = os.environ | {
            "PYTHONPATH": str(REPO),
            "ACE_JAX_WEIGHTS": str(folder / "no_weights"),
            "ACE_JAX_OFFLINE": "1",
        }
        for command, remedy in CASES:
            line = _line(command, folder, environment)
            line = line.replace(f"{folder}/", "").replace("|", "\\|")
            if len(line) > _LONGEST:
                line = f"{line[:_LONGEST]} ..."
            rows.append((f"`ace-jax {command}`", f"`` {line} ``", remedy))
            print(rows[-1][:2], flush=True)
    text = table(("command", "what it says", "what to do"), rows)
    if _DOCS.value:
        put_into(Path(_DOCS.value), "failures", f"{text}\n\n{where}")


def _prepare(folder: Path) -> None:
    from safetensors.numpy import save_file

    (folder / "bare" / "rgb").mkdir(parents=True)
    for i in range(3):
        cv2.imwrite(str(folder / "bare" / "rgb" / f"{i}.png"), np.zeros((480, 640, 3), np.uint8))
    (folder / "bare" / "intrinsics.json").write_text(
        '{"fx": 525.0, "fy": 525.0, "cx": 319.5, "cy": 239.5, "depth_scale": 1000.0}'
    )
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").touch()
    (folder / "walk.mp4").touch()
    save_file({"a": np.zeros(3, np.float32)}, folder / "notes.safetensors")


def _line(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ace_jax", *command.split()],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.returncode != errors.EXIT_USER_ERROR or len(lines) != 1 or "Traceback" in done.stderr:
        raise UserError(f"{command}: exit code {done.returncode}, {done.stderr[-600:]}")
    return lines[0]


if __name__ == "__main__":
    errors.run(main)
