"""`intrinsics.json`: the camera of a recording whose format does not fix it."""

import dataclasses
import json
import math
from pathlib import Path

from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.distortion import RadialTangential

FILE_NAME = "intrinsics.json"
_REQUIRED = ("fx", "fy", "cx", "cy")
_EXAMPLE = '{"fx": 525, "fy": 525, "cx": 319.5, "cy": 239.5, "depth_scale": 1000}'


@dataclasses.dataclass(frozen=True)
class Intrinsics:
    """What the file says; colour and depth of a recording that has one are registered.

    Attributes:
        fx: focal length along x, pixels.
        fy: focal length along y, pixels.
        cx: principal point x, pixels (centre of the top-left pixel at 0).
        cy: principal point y, pixels.
        width: image width in pixels, or None to take it from the images.
        height: image height in pixels, or None to take it from the images.
        depth_scale: stored depth units per metre.
        distortion: OpenCV's (k1, k2, p1, p2, k3) of the stored images; empty for none.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int | None = None
    height: int | None = None
    depth_scale: float = 1000.0
    distortion: tuple[float, ...] = ()

    def camera(self, width: int, height: int) -> Camera:
        """The camera; `width` and `height` serve where the file names no size."""
        return Camera(
            self.fx, self.fy, self.cx, self.cy, self.width or width, self.height or height
        )

    def lens(self) -> RadialTangential | None:
        """The distortion, or None."""
        return RadialTangential(*self.distortion) if any(self.distortion) else None


def read_intrinsics(path: Path) -> Intrinsics:
    """Reads and checks an `intrinsics.json`.

    Raises:
        UserError: missing or unreadable file, missing or impossible value.
    """
    try:
        values = json.loads(Path(path).read_text())
        missing = [key for key in _REQUIRED if key not in values]
        if missing:
            raise UserError(f"{path} lacks {', '.join(missing)}; it should look like {_EXAMPLE}")
        intrinsics = Intrinsics(
            **{key: float(values[key]) for key in _REQUIRED},
            width=int(values["width"]) if values.get("width") else None,
            height=int(values["height"]) if values.get("height") else None,
            depth_scale=float(values.get("depth_scale", 1000.0)),
            distortion=tuple(float(k) for k in values.get("distortion", ())),
        )
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; write one like {_EXAMPLE}, or pass --intrinsics fx,fy,cx,cy"
        ) from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(
            f"{path} is unreadable ({error}); it should look like {_EXAMPLE}"
        ) from error
    numbers = (intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy, intrinsics.depth_scale)
    if not all(map(math.isfinite, (*numbers, *intrinsics.distortion))):
        raise UserError(f"{path} holds a value that is not finite; it should look like {_EXAMPLE}")
    if min(intrinsics.fx, intrinsics.fy, intrinsics.depth_scale) <= 0:
        raise UserError(f"{path}: fx, fy and depth_scale must be positive")
    if len(intrinsics.distortion) not in (0, 4, 5):
        raise UserError(f"{path}: distortion takes 4 or 5 numbers: k1, k2, p1, p2[, k3]")
    return intrinsics


def parse_intrinsics(text: str) -> Intrinsics:
    """What --intrinsics says: a file as `intrinsics.json`, or `fx,fy,cx,cy` in pixels.

    Raises:
        UserError: it is neither.
    """
    if Path(text).is_file():
        return read_intrinsics(Path(text))
    try:
        numbers = pixels_of(text)
    except ValueError as error:
        raise UserError(f"--intrinsics {text!r} is neither a file nor fx,fy,cx,cy") from error
    if len(numbers) != 4:
        raise UserError(f"--intrinsics {text!r}: give fx,fy,cx,cy in pixels, or a file")
    fx, fy, cx, cy = numbers
    return Intrinsics(fx, fy, cx, cy)


def pixels_of(text: str) -> list[float]:
    """The numbers of `fx,fy,cx,cy` or `f`; none where one cannot be, or the focal length is not.

    Raises:
        ValueError: these are no numbers.
    """
    numbers = [float(part) for part in text.split(",")]
    return numbers if all(map(math.isfinite, numbers)) and min(numbers[:2]) > 0 else []


def intrinsics_text(camera: Camera, depth_scale: float) -> str:
    """The content of a file that `read_intrinsics` reads as this camera."""
    values = {key: float(getattr(camera, key)) for key in _REQUIRED}
    values |= {"width": camera.width, "height": camera.height, "depth_scale": depth_scale}
    return json.dumps(values, indent=1) + "\n"
