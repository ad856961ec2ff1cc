"""Relocalization on every recording: today's default beside brute-force SIFT matching.

  python benchmarks/relocalization_sets.py [--sets kitchen,rooms,...] [--methods default,matching]
      [--data_root DIR] [--out DIR] [--docs PAGE.md] [--changes FIELD=VALUE,...]

Every row (a set and a method) is kept in --out as soon as it is there; run again, the script goes
on with what is missing. With --nomake it prints the table of what there is. The sets:

- kitchen: 7-Scenes redkitchen, frames 0:600:6 mapped, 700:800:2 asked; SfM poses, depth.
- kitchen in between: the same map, frames 3:600:24 asked.
- kitchen turned by N: the same map, every fourth of the later frames turned about the optical axis.
- kitchen 10 images: frames 0:600:60 mapped, 9:600:24 asked.
- rooms: 8 test rooms of the pre-training benchmark (`ace_jax.pretrain.procedural`, seeds from
  800,000): 16 images of 320x240 with depth mapped; 8 asked, from elsewhere, in other light and
  exposure, a quarter of the furniture moved.
- rooms RGB: the same without depth.
- lounge: every other frame of hololens_lounge mapped, every second of the others asked.
- corridor: four rooms in a row and a corridor of 15 m with repeated doors, rendered: frames
  0:2018:8 mapped, 4:2018:32 asked.
- alike: 20 rendered rooms with one wallpaper and one stock of furniture: frames 0:1664:8 mapped,
  4:1664:32 asked.
- castle: EPFL castle, 30 photos mapped, 19 asked; no depth.
- fox: every other photo of nerfstudio's fox mapped, the others asked; no depth, arbitrary scale:
  its figures are hundredths of its unit.

`matching` is the strongest simple peer, see `sift_matching.py`.
"""

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import flags, logging
from kitchen import SEQUENCE, with_sfm_poses
from machine import stamp, use_cores
from markdown import asked, publish, table
from sift_matching import SiftMatching

from ace_jax import errors
from ace_jax.data.frame import Frame, FrameSource
from ace_jax.data.given_images import GivenImages
from ace_jax.data.selection import open_frames
from ace_jax.evaluation import relocalization as evaluation
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.host_camera import intrinsic_matrix, rays
from ace_jax.localization.relocalizer import Relocalizer
from ace_jax.localization.scene_map import save_map
from ace_jax.mapping import config as mapping_config
from ace_jax.mapping.pipeline import map_scene
from ace_jax.pretrain.procedural import ProceduralScenes
from ace_jax.pretrain.scenes import Views
from ace_jax.runtime import enable_compilation_cache

_DATA_ROOT = flags.DEFINE_string("data_root", "../shared/data", "folder with 7scenes/, folders/")
_OUT = flags.DEFINE_string("out", "runs/benchmarks/relocalization_sets", "for maps and rows")
_CORES = flags.DEFINE_integer("cores", 2, "processor cores to use", lower_bound=1)
_DOCS = flags.DEFINE_string("docs", None, "Markdown file whose table is replaced")
_MAKE = flags.DEFINE_bool("make", True, "make missing rows; else the table of what there is")
_CHANGES = flags.DEFINE_list("changes", [], "of the mapping configuration, FIELD=VALUE")

ROOMS, FIRST_ROOM = 8, 800_000
STAGES = "features", "head", "solver"
VIEWS = Views(mapping=16, held_out=6, query=8)  # the pre-training benchmark's


@dataclasses.dataclass(frozen=True)
class Scene:
    """What is mapped (`name` is of the map's file, which is made once), and what is asked."""

    name: str
    mapping: FrameSource
    queries: Sequence[Frame] | FrameSource


def in_memory(name: str, frames: Sequence[Frame], depth: bool) -> FrameSource:
    """Frames as a recording, with or without their depth."""
    return GivenImages(
        [f.rgb for f in frames],
        frames[0].camera,
        [f.world_from_camera for f in frames],
        [f.depth for f in frames] if depth else None,
        name=name,
    )


def kitchen(frames: str) -> FrameSource:
    """7-Scenes redkitchen."""
    root = Path(_DATA_ROOT.value)
    return open_frames(SEQUENCE, root, frames=frames, **with_sfm_poses(root))


def folder(name: str, frames: str | None = None) -> FrameSource:
    """A recording in a folder."""
    return open_frames(f"folder/{name}", Path(_DATA_ROOT.value) / "folders", frames=frames)


def rendered(name: str, mapped: str, asked_about: str) -> list[Scene]:
    """A rendered building."""
    mapping, queries = (
        open_frames(f"synthetic/{name}", Path(_DATA_ROOT.value), frames=frames)
        for frames in (mapped, asked_about)
    )
    return [Scene(name, mapping, queries)]


def fox(frames: str) -> FrameSource:
    """A phone's photos of a room corner, without scale."""
    return open_frames("nerfstudio/nerfstudio_fox", Path(_DATA_ROOT.value), frames=frames)


@functools.cache
def room(number: int) -> list[Frame]:
    """The images of a test room, in the order of `VIEWS`; rendered once."""
    path = Path(_OUT.value) / f"room-{number}.npz"
    source = ProceduralScenes(first=FIRST_ROOM)
    if not path.is_file():
        frames = source.images(number, VIEWS)
        arrays = {
            "rgb": np.stack([f.rgb for f in frames]),
            "depth": np.stack([f.depth for f in frames]),
            "pose": np.stack([f.world_from_camera for f in frames]),
            "camera": np.array([*map(float, frames[0].camera.intrinsics)]),
        }
        np.savez_compressed(path, **arrays)
    data = np.load(path)
    height, width = data["rgb"].shape[1:3]
    camera = Camera(*map(float, data["camera"]), width, height)
    return [
        Frame(i, f"{i:06d}", float(i), rgb, depth, camera, pose)
        for i, (rgb, depth, pose) in enumerate(
            zip(data["rgb"], data["depth"], data["pose"], strict=True)
        )
    ]


def rooms(depth: bool) -> list[Scene]:
    """The test rooms."""
    return [
        Scene(
            f"room-{n}{'' if depth else '-rgb'}",
            in_memory(f"room {n}", room(n)[VIEWS.rows("mapping")], depth),
            room(n)[VIEWS.rows("query")],
        )
        for n in range(ROOMS)
    ]


def turned(frame: Frame, degrees: float) -> Frame:
    """The frame as a camera that is turned about its optical axis sees it, with nothing cut off."""
    camera, angle = frame.camera, np.deg2rad(degrees)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    height, width = frame.rgb.shape[:2]
    corners = np.array([[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]], float)
    seen = rays(corners, camera) @ turn.T
    pixels = seen[:, :2] / seen[:, 2:] * np.array([camera.fx, camera.fx])
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    size = np.rint(high - low).astype(int) + 1
    new = Camera(float(camera.fx), float(camera.fx), *(-low), int(size[0]), int(size[1]))
    warp = intrinsic_matrix(new) @ turn @ np.linalg.inv(intrinsic_matrix(camera))
    rgb = cv2.warpPerspective(frame.rgb, warp, tuple(map(int, size)), flags=cv2.INTER_LINEAR)
    pose = frame.world_from_camera.copy()
    pose[:3, :3] = pose[:3, :3] @ turn.T
    return dataclasses.replace(frame, rgb=rgb, depth=None, camera=new, world_from_camera=pose)


def kitchen_turned(degrees: float) -> list[Scene]:
    """Later frames of the kitchen, turned."""
    queries = [turned(frame, degrees) for frame in kitchen("700:800:4")]
    return [Scene("kitchen", kitchen("0:600:6"), queries)]


SETS: dict[str, Callable[[], list[Scene]]] = {
    "kitchen": lambda: [Scene("kitchen", kitchen("0:600:6"), kitchen("700:800:2"))],
    "kitchen in between": lambda: [Scene("kitchen", kitchen("0:600:6"), kitchen("3:600:24"))],
    **{f"kitchen turned by {d}": functools.partial(kitchen_turned, d) for d in (30, 45, 90, 180)},
    "kitchen 10 images": lambda: [Scene("kitchen10", kitchen("0:600:60"), kitchen("9:600:24"))],
    "rooms": lambda: rooms(True),
    "rooms RGB": lambda: rooms(False),
    "lounge": lambda: [
        Scene("lounge", folder("hololens_lounge", "0:190:2"), folder("hololens_lounge", "1:190:4"))
    ],
    "corridor": lambda: rendered("corridor", "0:2018:8", "4:2018:32"),
    "alike": lambda: rendered("alike", "0:1664:8", "4:1664:32"),
    "castle": lambda: [Scene("castle", folder("castle_map"), folder("castle_query"))],
    "fox": lambda: [Scene("fox", fox("0:67:2"), fox("1:67:2"))],
}
_SETS = flags.DEFINE_list("sets", list(SETS), "which", short_name="s")


class Default:
    """A map made with today's defaults (and --changes), and its answers."""

    label = "default"

    def __init__(self, name: str, mapping: FrameSource) -> None:
        path = Path(_OUT.value) / f"{name}{tag()}.safetensors"
        if not path.is_file():
            config = mapping_config.base()
            for change in _CHANGES.value:
                field, value = change.split("=")
                config.update_from_flattened_dict({field: json.loads(value)})
            save_map(path, map_scene(mapping, config), half=config.half)
        self.bytes = path.stat().st_size
        self._relocalizer = Relocalizer.load(path)
        self.core_seconds = self._relocalizer.map.info["core_seconds"]

    def __call__(self, frame: Frame) -> tuple[np.ndarray | None, dict[str, float], int]:
        found = self._relocalizer(frame.rgb, frame.camera)
        return (found.world_from_camera if found.success else None), found.ms, found.num_inliers


class Matching(SiftMatching):
    """Brute-force matching of SIFT against every mapping image, and PoseLib."""

    label = "matching"

    def __init__(self, name: str, mapping: FrameSource) -> None:
        started = time.process_time()
        super().__init__(list(mapping))
        self.core_seconds = time.process_time() - started


METHODS: dict[str, Callable[[str, FrameSource], Any]] = {"default": Default, "matching": Matching}
_METHODS = flags.DEFINE_list("methods", list(METHODS), "which")


def tag() -> str:
    """Of file names: the changes to the default."""
    return "".join(f"-{change.replace('/', '_')}" for change in _CHANGES.value)


def row(name: str, method: str) -> dict[str, Any] | None:
    """Figures of a method on a set; those that are there already are read."""
    changed = tag() if method == "default" else ""
    path = Path(_OUT.value) / f"row-{name.replace(' ', '_')}-{method}{changed}.json"
    if path.is_file():
        return json.loads(path.read_text())
    if not _MAKE.value:
        return None
    poses, truth, ms, inliers, size, seconds = [], [], [], [], [], []
    for scene in SETS[name]():
        made = METHODS[method](scene.name, scene.mapping)
        size.append(made.bytes)
        seconds.append(made.core_seconds)
        made(scene.queries[0])  # compiled before the clock runs
        for frame in scene.queries:
            pose, took, votes = made(frame)
            poses.append(pose)
            truth.append(frame.world_from_camera)
            ms.append(took)
            inliers.append(votes)
    errors_of = evaluation.pose_errors(poses, np.stack(truth))
    figures = {
        **evaluation.summary(errors_of, sum(pose is not None for pose in poses)),
        "ms": {stage: float(np.median([m[stage] for m in ms])) for stage in ms[0]},
        "bytes": float(np.mean(size)),
        "core_seconds": float(np.mean(seconds)),
        "translation_m": errors_of.translation.tolist(),
        "inliers": inliers,
    }
    path.write_text(json.dumps(figures, indent=1, default=float) + "\n")
    logging.info("%s, %s: %s", name, method, cells(figures))
    return figures


def cells(figures: dict[str, Any]) -> list[str]:
    """A row's cells."""
    median = 100 * figures["median_translation_m"]
    return [
        " / ".join(f"{share:.0f}" for share in evaluation.within(figures)),
        f"{median:.2f} cm" if np.isfinite(median) else "no pose",
        f"{figures['bytes'] / 1e6:.2f}",
        f"{figures['core_seconds']:.0f}",
        " / ".join(f"{figures['ms'][stage]:.0f}" for stage in STAGES),
    ]


def main(_: Any) -> None:
    """Makes the rows that are missing, and the table."""
    use_cores(_CORES.value)
    logging.set_verbosity(logging.INFO)
    enable_compilation_cache()
    Path(_OUT.value).mkdir(parents=True, exist_ok=True)
    where = stamp(("jax", "poselib"))
    asked(SETS, _SETS.value, "set")
    asked(METHODS, _METHODS.value, "method")
    labels = {"default": "default", "matching": "SIFT matching, PoseLib"}
    rows = []
    for name in _SETS.value:
        for method in _METHODS.value:
            if (figures := row(name, method)) is not None:
                rows.append([f"{name}, {figures['queries']}", labels[method], *cells(figures)])
    header = ["set, queries", "method", "% 10/5/2/1 cm", "median", "map MB", "mapping core s"]
    header += ["ms features / map / solver"]
    publish("sets", f"{table(header, rows)}\n\n{where}.", _DOCS.value)


if __name__ == "__main__":
    errors.run(main)
