"""Scene pool: which scenes are in training, for how many iterations, and which come next.

Scenes are numbered in the order in which they enter. Everything about a scene follows from its
number (where it is from, how long it stays), so a few integers are the pool's whole state.
"""

import concurrent.futures
from collections.abc import Callable
from typing import Any

import numpy as np

from ace_jax.errors import UserError


class Pool:
    """S slots, each with a scene that leaves after a drawn number of iterations.

    Attributes:
        scene: (S,) int64 number of the scene in each slot.
        left: (S,) int64 iterations that it still stays.
        entered: number of scenes that have entered so far.
    """

    def __init__(self, slots: int, shortest: int, longest: int, seed: int):
        """Fills the slots with scenes 0 to S - 1.

        Args:
            slots: S.
            shortest: least life, iterations.
            longest: greatest life.
            seed: of the lives.

        Raises:
            UserError: lives that make no sense.
        """
        if not 1 <= shortest <= longest:
            raise UserError(f"scenes live {shortest} to {longest} iterations: at least 1, in order")
        self._lives, self._seed = (shortest, longest), seed
        self.scene = np.arange(slots)
        self.entered = slots
        self.left = np.array([self.life(number) for number in self.scene])
        # The first ones leave at different times, as all later ones do.
        share = np.random.default_rng([seed, 1]).random(slots)
        self.left = np.maximum((self.left * share).astype(np.int64), 1)

    def life(self, number: int) -> int:
        """Iterations that a scene stays."""
        rng = np.random.default_rng([self._seed, 2, number])
        return int(rng.integers(self._lives[0], self._lives[1] + 1))

    def advance(self) -> list[int]:
        """Called after an iteration: the slots whose scene has been replaced by the next one."""
        self.left -= 1
        replaced = np.flatnonzero(self.left <= 0).tolist()
        for slot in replaced:
            self.scene[slot] = self.entered
            self.left[slot] = self.life(self.entered)
            self.entered += 1
        return replaced

    def state(self) -> dict[str, np.ndarray]:
        """For a checkpoint."""
        return {
            "scene": self.scene.astype(np.int32),
            "left": self.left.astype(np.int32),
            "entered": np.int32(self.entered),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.scene = np.asarray(state["scene"]).astype(np.int64)
        self.left = np.asarray(state["left"]).astype(np.int64)
        self.entered = int(state["entered"])


class Ahead:
    """Prepares the next scenes in the background while the present ones are trained on."""

    def __init__(self, load: Callable[[int], Any], count: int):
        """Prepares up to `count` scenes; `load` gives scene `number` and runs in a thread."""
        self._load, self._count = load, count
        # One thread: rendering shares the device with the training steps.
        self._threads = concurrent.futures.ThreadPoolExecutor(1)
        self._waiting: dict[int, concurrent.futures.Future] = {}

    def prepare(self, first: int) -> None:
        """Starts on the scenes from number `first` on; forgets earlier ones."""
        for number in [n for n in self._waiting if n < first]:
            self._waiting.pop(number).cancel()
        for number in range(first, first + self._count):
            if number not in self._waiting:
                self._waiting[number] = self._threads.submit(self._load, number)

    def get(self, number: int) -> Any:
        """The scene, when it is ready."""
        future = self._waiting.pop(number, None)
        return self._load(number) if future is None else future.result()

    def close(self) -> None:
        """Stops; what has not begun is not begun."""
        self._threads.shutdown(wait=True, cancel_futures=True)
