"""Depth brought into the colour camera where a recording's reader does not do it."""

import dataclasses
import functools
import sys
from typing import Any

import numpy as np

from ace_jax.data import depth_camera
from ace_jax.data.checks import registration
from ace_jax.data.depth_camera import DepthCamera
from ace_jax.data.frame import BadFrame, Frame, FrameSource, random_access, rendered
from ace_jax.data.registration import DepthRegistration
from ace_jax.data.subset import SubsetSource
from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera

LOOK_FRAMES = 12  # that tell whether depth is registered: a second's work
# A line before each run must be no false alarm: within a second all frames look alike, and depth
# that is late while the camera turns lies beside its image edges (freiburg1_rpy: 0.5 s of it).
_LEAST_FRAMES = 24
_CLEAR = 0.5  # of the best fit; no more than that where depth is
_CAMERAS = 4  # whose tables are kept, of a source in which each frame has its own; 5 MB each


class RegisteredDepth(SubsetSource):
    """Another source whose depth images are warped from the depth camera into the colour camera.

    Attributes:
        name: of the source.
        camera: intrinsics.
        has_depth: True.
        depth_camera: where depth came from.
    """

    def __init__(self, source: FrameSource, depth_camera: DepthCamera) -> None:
        """See the class."""
        super().__init__(source)
        self.depth_camera = depth_camera
        self._warp = functools.lru_cache(_CAMERAS)(self._warp_into)

    def _warp_into(
        self, fx: float, fy: float, cx: float, cy: float, width: int, height: int
    ) -> DepthRegistration:
        found, colour = self.depth_camera, Camera(fx, fy, cx, cy, width, height)
        return DepthRegistration(found.camera, colour, found.colour_from_depth)

    def __getitem__(self, index: int) -> Frame:
        frame = super().__getitem__(index)
        if frame.depth is None:
            return frame
        colour = frame.camera
        warp = self._warp(*map(float, colour.intrinsics), colour.width, colour.height)
        if frame.depth.shape != warp.depth_shape:
            height, width = warp.depth_shape
            raise BadFrame(
                f"{frame.name}: depth of {frame.depth.shape[1]}x{frame.depth.shape[0]} in a stream "
                f"of {width}x{height}"
            )
        depth = np.where(np.isfinite(frame.depth), frame.depth, 0).astype(np.float32)
        return dataclasses.replace(frame, depth=warp(depth))


def register_depth(source: FrameSource, focal: float | None = None) -> RegisteredDepth:
    """Estimates where a recording's depth camera is, and warps its depth into the colour camera.

    Args:
        source: the recording.
        focal: of the depth camera, pixels, if it is known.

    Raises:
        UserError: there is no depth, the source cannot be read in any order, or the estimate fails;
            see `depth_camera.estimate`.
    """
    if not source.has_depth:
        raise UserError(f"{source.name}: no depth to register; leave out --register_depth")
    if not random_access(source):
        raise UserError(
            f"{source.name}: --register_depth looks at the whole recording first, and this one "
            "comes live; record it, or switch on the alignment of depth to colour in the camera"
        )
    try:
        found = depth_camera.estimate(_spread(source, depth_camera.FRAMES), focal)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from None
    return RegisteredDepth(source, found)


def registered(source: FrameSource, wanted: bool, focal: float | None = None) -> FrameSource:
    """The recording with registered depth if that is wanted; what was found goes to stderr.

    If it is not, and depth is clearly not registered, a line on stderr says so.

    Args:
        source: the recording.
        wanted: whether depth is to be registered.
        focal: of the depth camera, pixels, if it is known.

    Raises:
        UserError: see `register_depth`; or a focal length for nothing.
    """
    if wanted:
        source = register_depth(source, focal)
        print(f"{source.name}: {source.depth_camera}", file=sys.stderr)
    elif focal is not None:
        raise UserError("--depth_focal is the depth camera's for --register_depth: give both")
    elif (line := unregistered(source)) is not None:
        print(line, file=sys.stderr)
    return source


def unregistered(source: FrameSource) -> str | None:
    """A line that says that depth is not registered to colour, and what to do; None if it may be.

    A few frames are read, none of a source that cannot be read in any order. Nor of one that is
    rendered: its depth is registered, and it is to be rendered while programs are compiled.
    """
    if not source.has_depth or not random_access(source) or len(source) < _LEAST_FRAMES:
        return None
    if rendered(source):
        return None
    found = registration.align(_spread(source, LOOK_FRAMES))
    if found is None or not found.unregistered or found.centre > _CLEAR * found.peak:
        return None
    x, y = found.shift
    return (
        f"warning: {source.name}: depth is not registered to colour (its edges fit image edges if "
        f"it is zoomed by {found.zoom:.3g} and moved by ({x}, {y}) px of 640): poses will be poor; "
        "give --register_depth, or align depth to colour when recording"
    )


def facts(source: FrameSource) -> dict[str, Any]:
    """What a report of a run on this source says about its depth camera; empty if nothing."""
    if isinstance(source, RegisteredDepth):
        return {"depth_camera": source.depth_camera.facts()}
    return {}


def _spread(source: FrameSource, count: int) -> list[Frame]:
    """Frames with depth spread over a source, all of the first one's size."""
    frames: list[Frame] = []
    for number in np.unique(np.linspace(0, len(source) - 1, count).astype(int)):
        try:
            frame = source[int(number)]
        except BadFrame:
            continue
        size = (frames or [frame])[0].rgb.shape
        if frame.rgb.shape == size and frame.depth is not None and frame.depth.shape == size[:2]:
            frames.append(frame)
    return frames
