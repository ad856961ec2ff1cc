"""What diagnostics say: levels of diagnostic_msgs/DiagnosticStatus, no ROS."""

import dataclasses

OK, WARN, ERROR = 0, 1, 2


@dataclasses.dataclass
class Health:
    """What a node knows of itself; times are nanoseconds of one clock, None: never.

    Attributes:
        lost_after: seconds without a pose that are an error.
        silent_after: seconds without an image that are an error.
        started: when the node began.
        image_at: when the last image arrived.
        frame_at: when the last frame was worked on.
        pose_at: when the last pose was found.
        calibrated: whether a camera_info has arrived.
        inliers: of the last frame.
        milliseconds: that the last frame took.
        frames: worked on so far.
        dropped: frames that came while one was worked on.
        reason: why the last frame has no pose, or could not be used; "" if it has one.
    """

    lost_after: float
    silent_after: float
    started: int = 0
    image_at: int | None = None
    frame_at: int | None = None
    pose_at: int | None = None
    calibrated: bool = False
    inliers: int = 0
    milliseconds: float = 0.0
    frames: int = 0
    dropped: int = 0
    reason: str = ""

    def status(self, now: int) -> tuple[int, str, dict[str, str]]:
        """Level, one line, and values by key."""
        level, line = self._verdict(now)
        values = {
            "frames": str(self.frames),
            "dropped": str(self.dropped),
            "inliers": str(self.inliers),
            "milliseconds": f"{self.milliseconds:.1f}",
            "seconds since the last pose": _seconds(now, self.pose_at),
        }
        return level, line, values

    def _verdict(self, now: int) -> tuple[int, str]:
        silent = 1e-9 * (now - (self.started if self.image_at is None else self.image_at))
        if silent > self.silent_after:
            return ERROR, f"no image for {silent:.1f} s; are the topics remapped?"
        if not self.calibrated:
            return WARN, "no camera_info yet"
        if self.frame_at is None:
            return WARN, "no frame yet: colour and depth do not fit in time, or it compiles"
        if not self.reason:
            return OK, "tracking"
        lost = 1e-9 * (now - (self.started if self.pose_at is None else self.pose_at))
        return (ERROR if lost > self.lost_after else WARN), f"no pose: {self.reason}"


def _seconds(now: int, then: int | None) -> str:
    return "never" if then is None else f"{1e-9 * (now - then):.1f}"
