"""`info SEQ`: describes a recording without reading its images."""

import numpy as np

from ace_jax.data.frame import FrameSource, metric, timed


def facts(source: FrameSource) -> dict[str, str]:
    """Names and values, for people."""
    camera, times = source.camera, source.timestamps()
    described = {"recording": source.name}
    span = float(times[-1] - times[0]) if len(times) else 0.0
    described["frames"] = f"{len(source)}, {span:.2f} s"
    intervals = np.diff(times)
    if not timed(source):
        described["frames"] = f"{len(source)}, no times"
    elif len(intervals) and np.median(intervals) > 0:
        described["frames"] += f" at {1 / np.median(intervals):.4g} Hz"
    values = (camera.fx, camera.fy, camera.cx, camera.cy)
    described["camera"] = (
        f"{camera.width} x {camera.height}, fx fy cx cy "
        + " ".join(f"{float(value):.6g}" for value in values)
        + _varying(source)
    )
    described["depth"] = "yes" if source.has_depth else "none"
    described["poses"] = _poses(source)
    return described


def _varying(source: FrameSource) -> str:
    camera_of = getattr(source, "camera_of", None)
    different = len({camera_of(i) for i in range(len(source))}) if camera_of else 1
    return f" (the first of {different} cameras)" if different > 1 else ""


def _poses(source: FrameSource) -> str:
    poses = source.poses()
    if poses is None:
        return "none"
    known = np.isfinite(poses).all(axis=(1, 2))
    counts = getattr(source, "pose_counts", None)
    text = f"{known.sum()} of {len(poses)}"
    if counts is not None and (counts.not_finite or counts.not_rigid):
        text += (
            f"; dropped: {counts.not_finite} with NaN or infinity, {counts.not_rigid} that are no "
            "rigid motion"
        )
    centres = poses[known, :3, 3]
    if len(centres) > 1:
        length = np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()
        unit = "m" if metric(source) else "scene units (their scale in metres is not known)"
        text += f"; path of {length:.2f} {unit}"
    return text


def info(source: FrameSource) -> str:
    """The facts as lines."""
    described = facts(source)
    width = max(map(len, described))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in described.items())
