"""Draws every figure of the documentation from real runs.

  python benchmarks/figures.py --data_root DIR [--only NAMES]

Runs SLAM, mapping and relocalization on 7-Scenes redkitchen as a user would, then draws. Needs the
extras `viewer` and `mesh`, `pip install playwright` and a Chromium for the screenshots of reports
(--chromium, default: that on PATH), and a Vulkan driver, if only Mesa's for processors, for the
live view's.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ace_jax import errors
from ace_jax.data.selection import open_frames
from ace_jax.errors import UserError
from ace_jax.localization.relocalizer import Localization, Relocalizer
from ace_jax.viewer.painter import uncertainty_colours

REPO = Path(__file__).resolve().parent.parent
IMAGES = REPO / "docs" / "images"
SCENE = "7scenes/redkitchen/seq-01"
_PORT, _LOADING_SECONDS = 9899, 20.0  # of the viewer
_EVERY, _MS_A_PICTURE = 12, 200  # of the animation: frames, milliseconds
QUERY = 303  # a frame that is not mapped

_DATA_ROOT = flags.DEFINE_string("data_root", "data", "folder that holds 7scenes/")
_WORK = flags.DEFINE_string("work", "runs/figures", "where the runs go; what is there is kept")
_CHROMIUM = flags.DEFINE_string("chromium", shutil.which("chromium"), "the browser")
_ONLY = flags.DEFINE_list("only", None, "figures to make; all by default")


def main(_: Sequence[str]) -> None:
    """Makes the figures."""
    work = Path(_WORK.value)  # as it was given: reports show their commands
    IMAGES.mkdir(parents=True, exist_ok=True)
    figures = {
        "explorer": _explorer,
        "trajectory": _trajectory,
        "coordinates": _coordinates,
        "reports": _reports,
        "viewer": _viewer,
        "mesh": _mesh,
    }
    for name in _ONLY.value or figures:
        if name not in figures:
            raise UserError(f"no figure {name!r}; there are {', '.join(figures)}")
        print(f"== {name}", flush=True)
        figures[name](work)


def _command(*arguments: str) -> None:
    path = os.pathsep.join(filter(None, [str(REPO), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", *arguments], env={**os.environ, "PYTHONPATH": path}
    )
    if done.returncode:
        raise UserError(f"{' '.join(arguments)} ended with {done.returncode}")


def _slam(work: Path) -> Path:
    out = work / "slam"
    if not (out / "mesh.ply").exists():
        _command(
            *("ace_jax.slam", "--seq", SCENE, "--data_root", _DATA_ROOT.value),
            *("--max_frames", "400", "--stride", "2", "--poses", _sfm()),
            *("--out", str(out), "--mesh", "--rerun", str(out / "slam.rrd")),
        )
    return out


def _map(work: Path) -> Path:
    path = work / "kitchen.safetensors"
    if not path.exists():
        _command(
            *("ace_jax.mapping", "--seq", SCENE, "--data_root", _DATA_ROOT.value),
            *("--frames", "0:600:6", "--poses", _sfm(), "--out", str(path)),
        )
    return path


def _queries(work: Path) -> Path:
    out = work / "relocalize"
    if not (out / "report.html").exists():
        _command(
            *("ace_jax.relocalize", "--map", str(_map(work)), "--seq", SCENE),
            *("--data_root", _DATA_ROOT.value, "--frames", "3:700:12", "--poses", _sfm()),
            *("--out", str(out)),
        )
    return out


def _sfm() -> str:
    """The SfM reference, which agrees with the colour images."""
    found = sorted(Path(_DATA_ROOT.value).glob("7scenes/**/*seq-01*sfm*.txt"))
    if not found:
        raise UserError(f"no SfM poses of {SCENE} under {_DATA_ROOT.value}")
    return str(found[0])


def _trajectory(work: Path) -> None:
    shutil.copyfile(_slam(work) / "trajectory.png", IMAGES / "slam-trajectory.png")


def _coordinates(work: Path) -> None:
    """What a map says to one image: where each feature is, how sure it is, who agrees."""
    relocalizer = Relocalizer.load(_map(work))
    source = open_frames(
        SCENE, _DATA_ROOT.value, frames=f"{QUERY}:{QUERY + 1}", split=None, poses=None, focal=None
    )
    frame = source[0]
    answer = relocalizer(frame.rgb, frame.camera)
    figure = Figure(figsize=(10.5, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplot_mosaic([["place", "sure", "agree"], ["above", "above", "above"]])
    for name, title, colours in (
        ("place", "scene coordinates, as colours", _as_colours(answer, relocalizer)),
        ("sure", "predicted deviation: 5 mm green, 50 cm red", uncertainty_colours(answer.scale)),
        ("agree", "inliers green, outliers red, filtered out grey", _verdicts(answer)),
    ):
        axes[name].imshow(frame.rgb, alpha=0.6)
        axes[name].scatter(*answer.uv.T, s=9, c=colours / 255.0, linewidths=0)
        axes[name].set_title(title, fontsize=9)
        axes[name].set_axis_off()
    above = axes["above"]
    points = relocalizer.points()
    above.scatter(points[:, 0], points[:, 2], s=1, color="0.8", linewidths=0)
    found = answer.xyz[answer.inliers]
    colours = _as_colours(answer, relocalizer)[answer.inliers] / 255.0
    above.scatter(found[:, 0], found[:, 2], s=10, c=colours, linewidths=0)
    centre = answer.world_from_camera[:3, 3]
    ahead = centre + 0.4 * answer.world_from_camera[:3, 2]
    above.plot([centre[0], ahead[0]], [centre[2], ahead[2]], color="#d1495b", linewidth=2)
    above.plot(centre[0], centre[2], "o", color="#d1495b", markersize=6)
    low, high = np.percentile(points[:, [0, 2]], (2, 98), axis=0)
    above.set(
        xlim=(min(low[0], centre[0]) - 0.3, max(high[0], centre[0]) + 0.3),
        ylim=(min(low[1], centre[1]) - 0.3, max(high[1], centre[1]) + 0.3),
        aspect="equal",
        xlabel="x (m)",
        ylabel="z (m)",
    )
    above.set_title("the map, and the camera that the inliers give", fontsize=9)
    figure.savefig(IMAGES / "concept-coordinates.png", dpi=110)


def _as_colours(answer: Localization, relocalizer: Relocalizer) -> np.ndarray:
    low, high = np.percentile(relocalizer.points(), (5, 95), axis=0)
    return np.clip((answer.xyz - low) / (high - low), 0, 1) * 255


def _verdicts(answer: Localization) -> np.ndarray:
    colours = np.full((len(answer.uv), 3), 150.0)
    colours[answer.voted] = (230, 60, 60)
    colours[answer.inliers] = (60, 190, 80)
    return colours


@contextlib.contextmanager
def _browser(**options: Any) -> Iterator[Any]:
    """A Chromium without a network that can draw in 3D, if only by the processor."""
    from playwright.sync_api import sync_playwright

    if not _CHROMIUM.value:
        raise UserError("no Chromium: name one with --chromium")
    arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader"]
    arguments.append("--enable-unsafe-swiftshader")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM.value, args=arguments)
        yield browser.new_context(offline=True, **options)
        browser.close()


def _explorer(work: Path) -> None:
    """The page of a SLAM run, as a picture in both themes, and from frame to frame."""
    out = work / "room"
    if not (out / "report.html").exists():
        _command("ace_jax.slam", "--seq", "synthetic/room0", "--out", str(out))
    address = (out / "report.html").resolve().as_uri()
    for theme in ("light", "dark"):
        size = {"width": 1060, "height": 800}
        with _browser(viewport=size, color_scheme=theme) as context:
            page = context.new_page()
            page.goto(address)
            shown = page.locator(".explorer")
            shown.screenshot(path=work / f"explorer-{theme}.png")
            _shrink(work / f"explorer-{theme}.png", IMAGES / f"explorer-{theme}.jpg", 1000)
            if theme == "dark":
                continue
            frames = []
            for at in range(0, 300, _EVERY):
                page.evaluate(f"location.hash = {at}")
                page.wait_for_timeout(80)
                frames.append(Image.open(io.BytesIO(shown.screenshot())).convert("RGB"))
    frames = [frame.resize((760, 760 * frame.height // frame.width)) for frame in frames]
    frames[0].save(
        IMAGES / "slam.webp",
        save_all=True,
        append_images=frames[1:],
        duration=_MS_A_PICTURE,
        loop=0,
        quality=55,
        method=4,
    )


def _reports(work: Path) -> None:
    """The reports in a browser without a network; what it asks for or complains about is fatal."""
    _map(work)
    pages = {
        "report-slam": _slam(work) / "report.html",
        "report-mapping": work / "kitchen.report.html",
        "report-relocalize": _queries(work) / "report.html",
    }
    with _browser(viewport={"width": 1000, "height": 800}) as context:
        for name, path in pages.items():
            page, asked, wrong = context.new_page(), [], []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("pageerror", lambda error, wrong=wrong: wrong.append(str(error)))
            page.goto(path.resolve().as_uri())
            broken = page.evaluate(
                "[...document.images].filter(i => i.src && !i.naturalWidth).length"
            )
            outside = [url for url in asked[1:] if not url.startswith("data:")]
            if broken or outside or wrong:
                raise UserError(f"{path}: {broken} broken images, {outside}, {wrong}")
            page.screenshot(path=work / f"{name}.png", full_page=True)
            _shrink(work / f"{name}.png", IMAGES / f"{name}.jpg", 700)


def _viewer(work: Path) -> None:
    """The live view in Rerun's own viewer, at the end of the run."""
    from rerun.experimental import ViewerClient

    picture = work / "viewer.png"
    viewer = subprocess.Popen(
        [
            *(sys.executable, "-m", "rerun", str(_slam(work) / "slam.rrd"), "--headless"),
            *("--window-size", "1500x850", "--port", str(_PORT)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        time.sleep(_LOADING_SECONDS)
        ViewerClient(f"rerun+http://127.0.0.1:{_PORT}/proxy").save_screenshot(str(picture))
    finally:
        os.killpg(viewer.pid, signal.SIGTERM)  # Rerun's own process is Python's child
    _shrink(picture, IMAGES / "viewer.jpg", 1100)


def _mesh(work: Path) -> None:
    """The mesh from where the first camera stood, a little higher and further back."""
    import open3d as o3d

    mesh = o3d.io.read_triangle_mesh(str(_slam(work) / "mesh.ply"))
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.t.geometry.TriangleMesh.from_legacy(mesh))
    rays = scene.create_rays_pinhole(
        fov_deg=75, center=[0.0, 0.2, 2.0], eye=[0.3, -1.2, -1.0], up=[0, -1, 0],
        width_px=1100, height_px=700,
    )  # fmt: skip
    hits = scene.cast_rays(rays)
    triangle = hits["primitive_ids"].numpy().astype(np.int64)
    seen = triangle != scene.INVALID_ID
    corners = np.asarray(mesh.triangles)[triangle[seen]]
    u, v = hits["primitive_uvs"].numpy()[seen].T
    weights = np.stack([1 - u - v, u, v], axis=1)[..., None]
    picture = np.full((*triangle.shape, 3), 255.0)
    picture[seen] = (np.asarray(mesh.vertex_colors)[corners] * weights).sum(1) * 255
    cv2.imwrite(
        str(IMAGES / "mesh.jpg"),
        picture[..., ::-1].astype(np.uint8),
        [cv2.IMWRITE_JPEG_QUALITY, 85],
    )


def _shrink(source: Path, target: Path, width: int) -> None:
    image = cv2.imread(str(source))
    size = (width, round(width * image.shape[0] / image.shape[1]))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(target), small, [cv2.IMWRITE_JPEG_QUALITY, 82])


if __name__ == "__main__":
    errors.run(main)
