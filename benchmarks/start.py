"""Seconds from the start of a Python process to its first answer, with and without a warm cache.

  python benchmarks/start.py [--before ../old_revision] [--repeats 5] [--only slam,relocalizer]

Each case is a process of its own that imports what it needs, makes a `Slam`, a `LandmarkSlam`, a
`Relocalizer` or a pose, and answers once, on images of a room that is rendered here. Its first
run has an empty cache of programs; the others find what that one left. Wall seconds, and
core-seconds, which a busy machine does not change much. With `--before`, a checkout of another
revision takes turns with this one.
"""

import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from machine import REPO, printed_by, stamp
from markdown import table

from ace_jax import errors, runtime
from ace_jax.data.registry import open_sequence
from ace_jax.errors import UserError

# What a process does; `times` takes the seconds after its imports, and when it is ready.
_BEGIN = """
import collections, json, sys, time
started = time.perf_counter()
import numpy as np
data = np.load(sys.argv[1] + "/frame.npz")
rgb, depth = data["rgb"], data["depth"]
times, events, spent = {}, collections.Counter(), collections.Counter()

def lap(name):
    times[name] = time.perf_counter() - started

def watch():
    import jax
    jax.monitoring.register_event_listener(lambda name, **_: events.update([name]))
    def add(name, seconds, **_):
        spent[name] += seconds
        events[name] += 1
    jax.monitoring.register_event_duration_secs_listener(add)
"""
_END = """
lap("answer")
print(json.dumps({"times": times, "core": time.process_time(), "events": events, "spent": spent}))
"""
CASES = {
    "slam": """
import ace_jax
ace_jax.Slam, ace_jax.Camera
watch(); lap("import")
slam = ace_jax.Slam(ace_jax.Camera(*data["camera"].tolist()[:4], 640, 480))
lap("made")
assert slam.track(rgb, depth).tracked
""",
    "landmark_slam": """
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.features import registry
from ace_jax.data.frame import Frame
from ace_jax.geometry.camera import Camera
watch(); lap("import")
camera = Camera(*data["camera"].tolist()[:4], 640, 480)
slam = LandmarkSlam(camera, registry.create("blobs"))
lap("made")
assert slam.process(Frame(0, "0", 0.0, rgb, depth, camera)).live_camera_from_world is not None
""",
    "relocalizer": """
import ace_jax
ace_jax.Relocalizer
watch(); lap("import")
relocalizer = ace_jax.Relocalizer.load(sys.argv[1] + "/map.safetensors")
lap("made")
assert relocalizer(rgb, data["camera"]).success
""",
    "solver": """
import ace_jax
ace_jax.estimate_absolute_pose
watch(); lap("import")
points = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 4], (500, 3)).astype(np.float32)
pixels = points[:, :2] / points[:, 2:] * 500 + [320, 240]
lap("made")
camera = ace_jax.Camera(500, 500, 320, 240, 640, 480)
assert ace_jax.estimate_absolute_pose(pixels, points, camera).success
""",
}
COMPILED = "/jax/core/compile/backend_compile_duration"
PARTS = {
    "trace": "/jax/core/compile/jaxpr_trace_duration",
    "lower": "/jax/core/compile/jaxpr_to_mlir_module_duration",
    "compile or load": COMPILED,
}

_BEFORE = flags.DEFINE_string("before", None, "checkout of an older revision to compare with")
_REPEATS = flags.DEFINE_integer("repeats", 5, "starts with a warm cache", lower_bound=1)
_ONLY = flags.DEFINE_list("only", list(CASES), "which cases")
_WORK = flags.DEFINE_string("work", None, "folder for inputs and caches that is kept")


def main(_: Sequence[str]) -> None:
    """Prints the table."""
    runtime.enable_compilation_cache()
    where = stamp()
    trees = {"this": REPO} | ({"before": Path(_BEFORE.value)} if _BEFORE.value else {})
    rows = []
    with contextlib.ExitStack() as stack:
        folder = _WORK.value or stack.enter_context(tempfile.TemporaryDirectory())
        _prepare(Path(folder))
        for case in _ONLY.value:
            if case not in CASES:
                raise UserError(f"no case {case!r}; there are {', '.join(CASES)}")
            starts: dict[str, list] = {name: [] for name in trees}
            for _ in range(1 + _REPEATS.value):
                for name, tree in trees.items():
                    starts[name].append(_start(case, tree, Path(folder), name))
            for name, of in starts.items():
                print(json.dumps({"case": case, "tree": name, "starts": of}), file=sys.stderr)
                rows += [_row(f"{case}, {name}, empty", of[:1])]
                rows += [_row(f"{case}, {name}, warm", of[1:])]
    header = ["start", "import s", "made s", "answer s", "core-s", "programs", "from cache", *PARTS]
    print(f"{table(header, rows)}\n\n{where}.")


def _prepare(folder: Path) -> None:
    """Writes a frame and a map of a rendered room, if they are not there."""
    from ace_jax.api.mapping import map_images

    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"frame.npz"} | ({"map.safetensors"} if "relocalizer" in _ONLY.value else set())
    if all((folder / name).exists() for name in wanted):
        return
    source = open_sequence("synthetic/room0", "data")
    source.prepare()
    frames = [source[index] for index in range(0, 60, 5)]
    camera = source.camera
    intrinsics = [camera.fx, camera.fy, camera.cx, camera.cy]
    np.savez(folder / "frame.npz", rgb=frames[1].rgb, depth=frames[1].depth, camera=intrinsics)
    given = [f.rgb for f in frames], [f.world_from_camera for f in frames], intrinsics
    if "relocalizer" in _ONLY.value:
        map_images(*given, [f.depth for f in frames]).save(folder / "map.safetensors")


def _start(case: str, tree: Path, folder: Path, name: str) -> dict:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {
        "PYTHONPATH": str(tree),
        runtime.CACHE_ENV: str(folder / f"cache-{name}-{case}"),
    }
    code = _BEGIN + CASES[case] + _END
    return printed_by(f"{case} of {tree}", ["-c", code, str(folder)], environment, folder)


def _row(label: str, starts: Sequence[dict]) -> list[str]:
    def median(value) -> float:
        return statistics.median(map(value, starts))

    seconds = [f"{median(lambda s, n=n: s['times'][n]):.2f}" for n in ("import", "made", "answer")]
    counts = [
        f"{median(lambda s, n=n: s['events'].get(n, 0)):.0f}"
        for n in (COMPILED, "/jax/compilation_cache/cache_hits")
    ]
    parts = [f"{median(lambda s, n=n: s['spent'].get(n, 0.0)):.2f}" for n in PARTS.values()]
    return [label, *seconds, f"{median(lambda s: s['core']):.2f}", *counts, *parts]


if __name__ == "__main__":
    errors.run(main)
