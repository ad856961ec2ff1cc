"""Checks of files and metadata: timestamps, image sizes, poses, intrinsics, depth range."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ace_jax.data.checks.finding import Finding
from ace_jax.data.frame import BadFrame, Frame, FrameSource, timed
from ace_jax.data.images import image_size
from ace_jax.data.stored_poses import PoseCounts
from ace_jax.geometry import rigid
from ace_jax.geometry.camera import Camera

MIN_FRAMES = 10
GAP = 2.5  # median intervals: at least two frames are missing
OFF_CENTRE = 0.2  # of the image's size; a real principal point is nearer to the middle
SKEWED = 5e-3  # |R^T R - I|; 7-Scenes' own poses have 4e-4
JUMP = 6.0  # times the usual motion between frames ...
MIN_JUMP = 0.1  # ... and at least so many radians (or metres)
PLAUSIBLE_DEPTH = (0.15, 40.0)  # metres, of the median depth of a recording
MIN_KNOWN_DEPTH = 0.05  # share of pixels


def times(source: FrameSource) -> Iterator[Finding]:
    """Too few frames, times that run backwards or stand still, gaps."""
    if len(source) < MIN_FRAMES:
        yield Finding(
            "few_frames",
            f"the recording has {len(source)} frames",
            "most jobs need some dozens",
            "check that all images were copied and that names end in .png or .jpg",
        )
    intervals = np.diff(source.timestamps())
    if not len(intervals):
        return
    backward = int((intervals <= 0).sum())
    if backward:
        yield Finding(
            "times_not_ascending",
            "times do not ascend",
            f"{backward} frames have the time of the frame before, or an earlier one",
            "sort the images by time, and write times in seconds with at least 3 decimals",
        )
        return
    usual = np.median(intervals)
    gaps = np.flatnonzero(intervals > GAP * usual)
    if len(gaps):
        missing = int(np.rint(intervals[gaps] / usual - 1).sum())
        longest = gaps[np.argmax(intervals[gaps])]
        yield Finding(
            "dropped_frames",
            "frames are missing",
            f"{len(gaps)} gaps, about {missing} frames in all; the longest, "
            f"{intervals[longest]:.2f} s, follows frame {source.names()[longest]}",
            "record to a faster disk, or at a lower frame rate; tracking may be lost at each gap",
        )


def poses(source: FrameSource) -> Iterator[Finding]:
    """Poses that are missing, not finite, no rotations, or jump."""
    found = source.poses()
    if found is None:
        return
    counts: PoseCounts | None = getattr(source, "pose_counts", None)
    total = len(found)
    without = int(np.isnan(found).any(axis=(1, 2)).sum())
    skewed = counts is not None and (counts.not_rigid or counts.defect > SKEWED)
    if without and not (counts and counts.not_rigid == without):
        broken = counts.not_finite if counts else 0
        yield Finding(
            "nan_pose",
            "frames have no usable pose",
            f"{without} of {total} frames; NaN or infinite numbers in {broken} poses",
            "nothing need be done if tracking failed there: such frames are left out of mapping; "
            "otherwise write the poses again",
        )
    if skewed:
        yield Finding(
            "not_orthonormal",
            "rotations are not orthonormal",
            f"R^T R differs from the identity by up to {counts.defect:.2g}; {counts.not_rigid} of "
            f"{total} poses are too far off (or mirrored) and are not used",
            "write rotations without scale or shear, with at least 6 digits; a similarity "
            "transform (a scaled SfM model) must be split into scale and rotation first",
        )
    if timed(source):  # photos may be far apart: they are no trajectory
        yield from _jumps(source, found)


def _jumps(source: FrameSource, found: np.ndarray) -> Iterator[Finding]:
    relative = rigid.invert(found[:-1]) @ found[1:]
    motion = np.linalg.norm(relative[:, :3, 3], axis=1) + rigid.rotation_angle(relative)
    motion = motion / np.maximum(np.diff(source.timestamps()), 1e-9)
    interval = np.median(np.diff(source.timestamps())) if len(found) > 1 else 1.0
    motion = motion * interval  # radians + metres a usual interval: a gap in time is no jump
    known = np.flatnonzero(np.isfinite(motion))
    if len(known) < 2 * MIN_FRAMES:
        return
    values = motion[known]
    padded = np.pad(values, 7, mode="reflect")
    around = np.median(np.lib.stride_tricks.sliding_window_view(padded, 15), axis=1)
    jumps = known[(values > JUMP * around) & (values > MIN_JUMP)]
    if len(jumps):
        worst = jumps[np.argmax(motion[jumps])]
        yield Finding(
            "pose_jump",
            "the camera jumps",
            f"at {len(jumps)} places, most after frame {source.names()[worst]}: "
            f"{motion[worst]:.2f} (radians plus metres) in one frame",
            "frames were left out and the rest renumbered, or the poses are wrong there: give the "
            "true times, or split the recording",
        )


def sizes(source: FrameSource) -> Iterator[Finding]:
    """Images that are missing, unreadable, or not of the camera's size; headers only."""
    files = getattr(source, "files", None)
    if files is None:
        return
    cameras = [source.camera_of(i) for i in range(len(source))]
    missing = [
        (i, path)
        for i in range(len(source))
        for path in files(i)
        if path is not None and not path.exists()
    ]
    absent = {path for _, path in missing}
    bad, wrong = [], []
    for i, camera in enumerate(cameras):
        if files(i)[0] in absent:
            continue
        size = _size(files(i)[0])
        if size is None:
            bad.append(i)
        elif size != (camera.width, camera.height):
            wrong.append((i, size))
    yield from _wrong_sizes(source, wrong, cameras)
    depth_shape = source.depth_shape
    wrong_depth = []
    for i, camera in enumerate(cameras):
        path = files(i)[1]
        if path is None or path in absent:
            continue
        size = _size(path)
        if size is None:
            bad.append(i)
        wanted = depth_shape[::-1] if depth_shape else (camera.width, camera.height)
        if size is not None and size != wanted and not source.any_depth_shape:
            wrong_depth.append((i, size))
    if wrong_depth:
        i, size = wrong_depth[0]
        yield Finding(
            "mixed_sizes" if len(wrong_depth) < len(source) else "depth_size",
            "depth images have another size than they should",
            f"{len(wrong_depth)} of {len(source)}, the first is {source.names()[i]}: "
            f"{size[0]} x {size[1]}",
            "register depth to colour (most cameras' software can), so that both have one size",
        )
    if missing:
        frames = len({i for i, _ in missing})
        yield Finding(
            "missing_files",
            "images are missing",
            f"{len(missing)} files of {frames} of {len(source)} frames are not there, the first is "
            f"{missing[0][1]}",
            "put them there, or correct their names in the file that lists them; frames without "
            "their images are skipped",
        )
    if bad:
        names = ", ".join(source.names()[i] for i in sorted(set(bad))[:3])
        yield Finding(
            "unreadable",
            "images cannot be read",
            f"{len(set(bad))} of {len(source)} frames: {names}",
            "copy these files again; frames that cannot be read are skipped",
        )


def _wrong_sizes(
    source: FrameSource, wrong: list[tuple[int, tuple[int, int]]], cameras: list[Camera]
) -> Iterator[Finding]:
    if not wrong:
        return
    common, count = Counter(size for _, size in wrong).most_common(1)[0]
    camera = cameras[wrong[0][0]]
    if count > len(source) / 2:
        yield _size_finding(camera, common, "the file with the intrinsics says so")
    else:
        yield Finding(
            "mixed_sizes",
            "images have different sizes",
            f"{len(wrong)} of {len(source)} are not {camera.width} x {camera.height}, the first "
            f"is {source.names()[wrong[0][0]]}: {common[0]} x {common[1]}",
            "export all images in one size, or put each size into a recording of its own with its "
            "own intrinsics; frames of another size are skipped",
        )


def _size_finding(camera: Camera, size: tuple[int, int], reason: str) -> Finding:
    factor = size[0] / camera.width
    return Finding(
        "intrinsics_size",
        "the intrinsics are for images of another size",
        f"images are {size[0]} x {size[1]}, the intrinsics seem to be for "
        f"{camera.width} x {camera.height} ({reason})",
        f"multiply fx, fy, cx and cy by {factor:.4g}, or take images of the calibrated size",
    )


def _size(path: Path) -> tuple[int, int] | None:
    try:
        return image_size(path)
    except BadFrame:
        return None


def intrinsics(source: FrameSource) -> Iterator[Finding]:
    """A principal point far from the middle: intrinsics of another size, or mixed up."""
    camera = source.camera
    size = np.array([camera.width, camera.height])
    centre = np.array([float(camera.cx), float(camera.cy)])
    if (np.abs(centre / size - 0.5) <= OFF_CENTRE).all():
        return
    seen = f"principal point ({centre[0]:.1f}, {centre[1]:.1f})"
    if (np.abs(centre[::-1] / size - 0.5) <= OFF_CENTRE).all():
        yield Finding(
            "swapped_centre",
            "cx and cy look swapped",
            f"{seen} of {size[0]} x {size[1]} images",
            "swap cx and cy, or the image was turned: turn it back",
        )
        return
    factor = float(np.median(2 * centre / size))
    guess = Camera(
        *(float(x) for x in (camera.fx, camera.fy, *centre)),
        round(camera.width * factor),
        round(camera.height * factor),
    )
    yield _size_finding(guess, (camera.width, camera.height), seen)


def depth_range(frames: list[Frame]) -> Iterator[Finding]:
    """Depth that is hardly there, or not in metres."""
    depths = [frame.depth for frame in frames if frame.depth is not None]
    if not depths:
        return
    known = np.concatenate([depth[depth > 0].ravel()[::37] for depth in depths])
    share = float(np.mean([np.mean(depth > 0) for depth in depths]))
    if share < MIN_KNOWN_DEPTH or not len(known):
        yield Finding(
            "little_depth",
            "depth is nearly everywhere unknown",
            f"{100 * share:.1f} % of the pixels have depth",
            "check that depth images are 16 bit and not black; glass and sunlight give none",
        )
        return
    median = float(np.median(known))
    if not PLAUSIBLE_DEPTH[0] <= median <= PLAUSIBLE_DEPTH[1]:
        # Rooms have 1 to 4 m: the power of ten that brings the median nearest to 2 m.
        power = int(np.rint(np.log10(2.0 / median)))
        yield unit_finding(10.0**power, f"the median depth is {median:.4g} m")


def unit_finding(factor: float, seen: str) -> Finding:
    """Depth that is a power of ten off; `factor` is what makes it right."""
    direction = f"{1 / factor:g} times too large" if factor < 1 else f"{factor:g} times too small"
    return Finding(
        "depth_unit",
        f"depth is in the wrong unit: about {direction}",
        seen,
        "depth_scale is units per metre (1000 for millimetres): "
        + (f"multiply it by {1 / factor:g}" if factor < 1 else f"divide it by {factor:g}"),
    )
