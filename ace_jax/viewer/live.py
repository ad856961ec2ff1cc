"""Live view of a running job, without slowing it down.

The run hands over what it has, in microseconds; a thread passes it on to a process of its own,
which encodes images and writes to Rerun (`painter`). Where that one cannot keep up, frames are not
shown.
"""

import contextlib
import dataclasses
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ace_jax.errors import UserError
from ace_jax.geometry.camera import Camera
from ace_jax.viewer import WINDOW, require_rerun

PICTURES_PER_SECOND = 5.0  # of the run's time: images cost most
_WAITING = 8  # frames that may wait to be shown


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

    _COMMAND = (sys.executable, "-m", "ace_jax.viewer.painter")

    def __init__(self, target: str, name: str) -> None:
        require_rerun(target)
        if target != WINDOW and not target.endswith(".rrd"):
            raise UserError(f"--rerun {target}: name a file that ends in .rrd, or no file at all")
        if target != WINDOW:
            try:
                Path(target).parent.mkdir(parents=True, exist_ok=True)
                Path(target).touch()
            except OSError as error:
                raise UserError(f"cannot write {target}: {error.strerror}") from error
        self.dropped = 0
        self._next_picture = 0.0
        self._painter = subprocess.Popen(
            [*self._COMMAND, target, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        # Some seconds of imports, before the run rather than beside its first frames. Without a
        # line it has ended, and `close` tells why.
        self._painter.stdout.readline()
        self._queue: queue.Queue[tuple[str, tuple[Any, ...]] | None] = queue.Queue(_WAITING)
        self._complaints = b""
        self._threads = [
            threading.Thread(target=work, name="viewer", daemon=True)
            for work in (self._pass_on, self._listen)
        ]
        for thread in self._threads:
            thread.start()

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
        camera = view.camera
        plain = dict(vars(view))
        del plain["camera"]
        plain["intrinsics"] = tuple(float(x) for x in camera.intrinsics)
        self._put("frame", SimpleNamespace(**plain))

    def show_map(
        self, points: np.ndarray, colours: np.ndarray | None = None, always: bool = True
    ) -> None:
        """Shows a map: points (M, 3) world, metres, and colours (M, 3) uint8. May wait.

        `always`: at all times of the recording, not from now on.
        """
        self._queue.put(("map", (points, colours, always)))

    def show_cameras(self, world_from_camera: np.ndarray) -> None:
        """Shows where images (N, 4, 4) were taken. May wait."""
        self._queue.put(("cameras", (world_from_camera,)))

    def show_numbers(self, group: str, step: int, numbers: Mapping[str, float]) -> None:
        """Plots numbers over steps, or drops them; returns at once."""
        self._put("numbers", group, step, dict(numbers))

    def close(self) -> None:
        """Waits until everything is shown.

        Raises:
            UserError: the view broke down meanwhile; the run did not.
        """
        if self._threads:
            self._queue.put(None)
            for thread in self._threads:
                thread.join()
            self._threads = []
            if self._painter.wait():
                lines = self._complaints.decode(errors="replace").strip().splitlines() or ["?"]
                raise UserError(f"the view broke down: {lines[-1]}")

    def _put(self, method: str, *arguments: Any) -> None:
        try:
            self._queue.put_nowait((method, arguments))
        except queue.Full:
            self.dropped += 1

    def _pass_on(self) -> None:
        alive = True
        while (message := self._queue.get()) is not None:
            try:
                if alive:
                    pickle.dump(message, self._painter.stdin, protocol=5)
                    self._painter.stdin.flush()
            except OSError:  # the other process is gone; `close` tells why
                alive = False
        with contextlib.suppress(OSError):
            self._painter.stdin.close()

    def _listen(self) -> None:
        """Keeps the last complaints of the other process; an unread pipe would stop it."""
        for line in self._painter.stderr:
            self._complaints = (self._complaints + line)[-4000:]
