"""Shows a run while it goes on, without holding it up.

The run hands over what it has, at most some microseconds of work; a thread of its own encodes
images and writes to Rerun. Where that thread cannot keep up, frames are not shown.
"""

import dataclasses
import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps

from ace_jax.errors import UserError
from ace_jax.evaluation.trajectory import MIN_MATCHES, align_se3
from ace_jax.geometry.camera import Camera
from ace_jax.viewer.flag import WINDOW

PICTURES_PER_SECOND = 5.0  # of the run's time: images cost most
_WAITING = 8  # frames that may wait to be shown
_WARM_UP_FRAMES = 2  # compile; their times would flatten the plot
_WIDTH = 480  # pixels of a shown image
_CHUNK = 50  # positions in one piece of the path: only the newest piece is sent again
_SIGMAS = (0.005, 0.5)  # metres, the ends of the colours: green to red
_COLOURS = (np.array(colormaps["RdYlGn_r"](np.linspace(0, 1, 256)))[:, :3] * 255).astype(np.uint8)
_UNKNOWN = np.array([160, 160, 160], np.uint8)


@dataclasses.dataclass(frozen=True)
class View:
    """What there is to see of one frame. Arrays must not change after they were handed over.

    Attributes:
        index: of the frame.
        timestamp: seconds.
        camera: intrinsics of the image.
        world_from_camera: (4, 4), or None without a pose.
        ground_truth: (4, 4) world_from_camera in any world, or None.
        milliseconds: by stage.
        rgb: (H, W, 3) uint8, or None: then nothing of the image is shown.
        uv: (N, 2) pixels of features.
        sigma: (N,) predicted standard deviation of their scene coordinates, metres; NaN: unknown.
        xyz: (N, 3) their scene coordinates, world, metres; NaN where there is none.
        keyframes: (K, 3) positions of the keyframes, or None where they have not changed.
        note: a word about the frame, such as LOST.
    """

    index: int
    timestamp: float
    camera: Camera
    world_from_camera: np.ndarray | None
    ground_truth: np.ndarray | None = None
    milliseconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    rgb: np.ndarray | None = None
    uv: np.ndarray | None = None
    sigma: np.ndarray | None = None
    xyz: np.ndarray | None = None
    keyframes: np.ndarray | None = None
    note: str = ""


def uncertainty_colours(sigma: np.ndarray) -> np.ndarray:
    """(N, 3) uint8: green at 5 mm, red at 50 cm, logarithmic; grey where NaN."""
    low, high = np.log(_SIGMAS)
    known = np.isfinite(sigma)
    place = (np.log(np.where(known, np.maximum(sigma, 1e-9), 1.0)) - low) / (high - low)
    colours = _COLOURS[np.clip(place * 255, 0, 255).astype(int)]
    return np.where(known[:, None], colours, _UNKNOWN)


class LiveView:
    """A window or a recording. Use as a context manager.

    Args:
        target: "window", or the path of a file that ends in .rrd.
        name: of what is shown.

    Attributes:
        dropped: frames that were not shown because the view was busy.

    Raises:
        UserError: Rerun is not installed, or the file cannot be written.
    """

    def __init__(self, target: str, name: str) -> None:
        try:
            import rerun
        except ImportError as error:
            raise UserError(
                "--rerun needs the extra `viewer`: pip install rerun-sdk, or leave --rerun away"
            ) from error
        if target != WINDOW and not target.endswith(".rrd"):
            raise UserError(f"--rerun {target}: name a file that ends in .rrd, or no file at all")
        self._rr = rerun
        self.dropped = 0
        self._stream = rerun.RecordingStream("ace_jax")
        if target == WINDOW:
            self._stream.spawn(default_blueprint=_layout())
        else:
            try:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(target).touch()
            except OSError as error:
                raise UserError(f"cannot write {target}: {error.strerror}") from error
            self._stream.save(target, default_blueprint=_layout())
        self._stream.send_recording_name(name)
        self._stages: list[str] = []
        self._path: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []
        self._next_picture = 0.0
        self._queue: queue.Queue[tuple[Any, ...] | None] = queue.Queue(_WAITING)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="viewer", daemon=True)
        self._thread.start()

    def __enter__(self) -> "LiveView":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wants_picture(self) -> bool:
        """Whether the next view should come with its image; asking counts as taking."""
        now = time.perf_counter()
        if now < self._next_picture or self._queue.full():
            return False
        self._next_picture = now + 1.0 / PICTURES_PER_SECOND
        return True

    def show(self, view: View) -> None:
        """Shows a frame, or drops it; returns at once."""
        self._put((self._draw, view))

    def show_map(self, points: np.ndarray, colours: np.ndarray | None = None) -> None:
        """Shows a map: points (M, 3) world, metres, and colours (M, 3) uint8. May wait."""
        self._queue.put((self._draw_map, points, colours))

    def show_cameras(self, world_from_camera: np.ndarray) -> None:
        """Shows where images (N, 4, 4) were taken. May wait."""
        self._queue.put((self._draw_cameras, world_from_camera))

    def show_numbers(self, group: str, step: int, numbers: Mapping[str, float]) -> None:
        """Plots numbers over steps, or drops them; returns at once."""
        self._put((self._draw_numbers, group, step, dict(numbers)))

    def close(self) -> None:
        """Shows what waits and ends the thread.

        Raises:
            UserError: the view broke down meanwhile; the run did not.
        """
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
            self._stream.flush()
            self._stream.disconnect()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise UserError(f"the view broke down: {failure}") from failure

    def _put(self, work: tuple[Any, ...]) -> None:
        try:
            self._queue.put_nowait(work)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    work[0](*work[1:])
                except Exception as error:  # the run goes on; `close` tells
                    self._failure = error

    def _draw(self, view: View) -> None:
        rr, stream = self._rr, self._stream
        stream.set_time("frame", sequence=view.index)
        stream.set_time("time", duration=view.timestamp)
        if view.world_from_camera is not None:
            pose = view.world_from_camera
            stream.log("world/camera", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
            self._extend("world/path", self._path, pose[:3, 3], [60, 120, 190])
            if view.ground_truth is not None and np.isfinite(view.ground_truth).all():
                self._pairs.append((view.ground_truth[:3, 3], pose[:3, 3]))
        if view.ground_truth is not None and np.isfinite(view.ground_truth).all():
            self._extend("world/truth/path", self._truth, view.ground_truth[:3, 3], [150, 150, 150])
            self._align_truth()
        if view.keyframes is not None:
            stream.log(
                "world/keyframes", rr.Points3D(view.keyframes, radii=0.012, colors=[240, 160, 40])
            )
        if view.milliseconds and view.index >= _WARM_UP_FRAMES:
            self._draw_numbers("milliseconds", view.index, view.milliseconds)
        if view.note:
            stream.log("log", rr.TextLog(f"frame {view.index}: {view.note}"))
        if view.rgb is not None:
            self._draw_picture(view)

    def _draw_picture(self, view: View) -> None:
        rr, stream = self._rr, self._stream
        height, width = view.rgb.shape[:2]
        factor = min(1.0, _WIDTH / width)
        size = (round(width * factor), round(height * factor))
        # Nearest: two rows in three are not even read.
        small = cv2.resize(view.rgb, size, interpolation=cv2.INTER_NEAREST)
        data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
        camera = view.camera
        stream.log(
            "world/camera/image",
            rr.Pinhole(
                focal_length=[float(camera.fx) * factor, float(camera.fy) * factor],
                principal_point=[float(camera.cx) * factor, float(camera.cy) * factor],
                width=size[0],
                height=size[1],
                image_plane_distance=0.25,
            ),
            rr.EncodedImage(contents=data.tobytes(), media_type="image/jpeg"),
        )
        if view.uv is None:
            return
        sigma = np.full(len(view.uv), np.nan) if view.sigma is None else view.sigma
        colours = uncertainty_colours(sigma)
        stream.log(
            "world/camera/image/features",
            rr.Points2D((view.uv + 0.5) * factor, colors=colours, radii=2.0),
        )
        if view.xyz is not None:
            known = np.isfinite(view.xyz).all(axis=1)
            stream.log(
                "world/coordinates",
                rr.Points3D(view.xyz[known], colors=colours[known], radii=0.008),
            )

    def _extend(
        self, entity: str, path: list[np.ndarray], position: np.ndarray, colour: list[int]
    ) -> None:
        """Appends to a path; a piece is sent every few positions and when it is full."""
        path.append(np.asarray(position, np.float32))
        count = len(path)
        if count % 5 == 0 or count < 5:
            piece = (count - 1) // _CHUNK
            start = max(piece * _CHUNK - 1, 0)  # joined to the piece before
            strip = self._rr.LineStrips3D([np.stack(path[start:])], colors=colour)
            self._stream.log(f"{entity}/{piece}", strip)

    def _align_truth(self) -> None:
        """Moves the true path onto the estimated one, now and then, as ATE does."""
        count = len(self._pairs)
        if count < MIN_MATCHES or count % 10:
            return
        step = max(1, count // 500)
        truth, estimate = (np.array(side) for side in zip(*self._pairs[::step], strict=True))
        motion = align_se3(truth, estimate)
        self._stream.log(
            "world/truth",
            self._rr.Transform3D(translation=motion[:3, 3], mat3x3=motion[:3, :3]),
        )

    def _draw_map(self, points: np.ndarray, colours: np.ndarray | None) -> None:
        points = np.asarray(points, np.float32)
        known = np.isfinite(points).all(axis=1)
        shade = [150, 150, 150] if colours is None else np.asarray(colours)[known]
        self._stream.log("world/map", self._rr.Points3D(points[known], colors=shade, radii=0.006))

    def _draw_cameras(self, world_from_camera: np.ndarray) -> None:
        places = world_from_camera[:, :3, 3]
        ahead = 0.1 * world_from_camera[:, :3, 2]
        arrows = self._rr.Arrows3D(origins=places, vectors=ahead, colors=[210, 70, 90])
        self._stream.log("world/mapping_cameras", arrows)

    def _draw_numbers(self, group: str, step: int, numbers: Mapping[str, float]) -> None:
        self._stream.set_time("frame", sequence=step)
        for name in numbers:
            if f"{group}/{name}" not in self._stages:
                self._stages.append(f"{group}/{name}")
                series = self._rr.SeriesLines(names=name)
                self._stream.log(f"plots/{group}/{name}", series, static=True)
        for name, value in numbers.items():
            self._stream.log(f"plots/{group}/{name}", self._rr.Scalars(float(value)))


def _upright(rr: Any, world_from_camera: np.ndarray) -> Any:
    """The world's axis that is nearest to an image's "up", as Rerun wants to be told."""
    up = -world_from_camera[:3, 1]
    axis = int(np.argmax(np.abs(up)))
    return getattr(
        rr.ViewCoordinates, f"RIGHT_HAND_{'XYZ'[axis]}_{'UP' if up[axis] > 0 else 'DOWN'}"
    )


def _layout() -> Any:
    """Scene on the left; image and plots on the right."""
    import rerun.blueprint as rrb

    return rrb.Blueprint(
        rrb.Horizontal(
            rrb.Spatial3DView(origin="world", name="scene"),
            rrb.Vertical(
                rrb.Spatial2DView(origin="world/camera/image", name="image"),
                rrb.TimeSeriesView(origin="plots", name="numbers"),
                rrb.TextLogView(origin="log", name="log"),
                row_shares=[3, 2, 1],
            ),
            column_shares=[3, 2],
        ),
        collapse_panels=True,
    )
