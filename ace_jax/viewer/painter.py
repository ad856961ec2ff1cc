"""The drawing process of the live view: reads messages from standard input and logs them to Rerun.

A process of its own, of low priority: neither its Python nor its encoding takes time from tracking.
Started by `ace_jax.viewer.live`; keep its imports light.
"""

import os
import pickle
import signal
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from matplotlib import colormaps

from ace_jax.evaluation.trajectory import MIN_MATCHES, align_se3
from ace_jax.viewer import WINDOW

_NICENESS = 10
_WARM_UP_FRAMES = 2  # compile; their times would flatten the plot
_WIDTH = 480  # pixels of a shown image
_CHUNK = 50  # positions in one piece of the path: only the newest piece is sent again
_SIGMAS = (0.005, 0.5)  # metres, the ends of the colours: green to red
_COLOURS = (np.array(colormaps["RdYlGn_r"](np.linspace(0, 1, 256)))[:, :3] * 255).astype(np.uint8)
_UNKNOWN = np.array([160, 160, 160], np.uint8)


def uncertainty_colours(sigma: np.ndarray) -> np.ndarray:
    """(N, 3) uint8: green at 5 mm, red at 50 cm, logarithmic; grey where NaN."""
    low, high = np.log(_SIGMAS)
    known = np.isfinite(sigma)
    place = (np.log(np.where(known, np.maximum(sigma, 1e-9), 1.0)) - low) / (high - low)
    colours = _COLOURS[np.clip(place * 255, 0, 255).astype(int)]
    return np.where(known[:, None], colours, _UNKNOWN)


class Painter:
    """Draws into a window or a file.

    Args:
        target: "window", or a file that ends in .rrd.
        name: of what is shown.
    """

    def __init__(self, target: str, name: str) -> None:
        import rerun  # an extra

        self._rr = rerun
        self._stream = rerun.RecordingStream("ace_jax")
        if target == WINDOW:
            self._stream.spawn(default_blueprint=_layout())
        else:
            self._stream.save(target, default_blueprint=_layout())
        self._stream.send_recording_name(name)
        self._stages: set[str] = set()
        self._path: list[np.ndarray] = []
        self._truth: list[np.ndarray] = []
        self._pairs: list[tuple[np.ndarray, np.ndarray]] = []

    def close(self) -> None:
        """Completes the file."""
        self._stream.flush()
        self._stream.disconnect()

    def frame(self, view: SimpleNamespace) -> None:
        """Draws a `View`, whose camera is told as `intrinsics` fx, fy, cx, cy."""
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
            self.numbers("milliseconds", view.index, view.milliseconds)
        if view.note:
            stream.log("log", rr.TextLog(f"frame {view.index}: {view.note}"))
        if view.rgb is not None:
            self._picture(view)

    def _picture(self, view: SimpleNamespace) -> None:
        rr, stream = self._rr, self._stream
        height, width = view.rgb.shape[:2]
        factor = min(1.0, _WIDTH / width)
        size = (round(width * factor), round(height * factor))
        # Nearest: two rows in three are not even read.
        small = cv2.resize(view.rgb, size, interpolation=cv2.INTER_NEAREST)
        data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 70])[1]
        fx, fy, cx, cy = (value * factor for value in view.intrinsics)
        stream.log(
            "world/camera/image",
            rr.Pinhole(
                focal_length=[fx, fy],
                principal_point=[cx, cy],
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

    def map(self, points: np.ndarray, colours: np.ndarray | None, always: bool) -> None:
        """Draws a map."""
        points = np.asarray(points, np.float32)
        known = np.isfinite(points).all(axis=1)
        shade = [150, 150, 150] if colours is None else np.asarray(colours)[known]
        drawn = self._rr.Points3D(points[known], colors=shade, radii=0.006)
        self._stream.log("world/map", drawn, static=always)

    def cameras(self, world_from_camera: np.ndarray) -> None:
        """Draws where images were taken."""
        places = world_from_camera[:, :3, 3]
        ahead = 0.1 * world_from_camera[:, :3, 2]
        arrows = self._rr.Arrows3D(origins=places, vectors=ahead, colors=[210, 70, 90])
        self._stream.log("world/mapping_cameras", arrows, static=True)

    def numbers(self, group: str, step: int, numbers: Mapping[str, float]) -> None:
        """Plots numbers."""
        self._stream.set_time("frame", sequence=step)
        for name in numbers:
            if f"{group}/{name}" not in self._stages:
                self._stages.add(f"{group}/{name}")
                series = self._rr.SeriesLines(names=name)
                self._stream.log(f"plots/{group}/{name}", series, static=True)
        for name, value in numbers.items():
            self._stream.log(f"plots/{group}/{name}", self._rr.Scalars(float(value)))


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


def main(target: str, name: str) -> None:
    """Draws until standard input ends. Each message is a method's name and its arguments."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's; this ends with it
    os.nice(_NICENESS)
    painter = Painter(target, name)
    print("ready", flush=True)
    while True:
        try:
            method, arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        getattr(painter, method)(*arguments)
    painter.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
