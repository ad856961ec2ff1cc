"""Smooth hand-held camera paths through a room, ending where they began. Host code, float64."""

import numpy as np
from scipy.ndimage import gaussian_filter1d, minimum_filter1d
from scipy.spatial.transform import Rotation

from ace_jax.synthetic.room import Room, clearance

RATE = 30.0  # Hz
LOOP = 10.0  # seconds for the path to come back to its start
MAX_SPEED = 0.65  # metres per second
MAX_TURN = np.deg2rad(43.0)  # per second
CLEARANCE = 0.28  # metres between the camera and everything
VIEW_RANGE = (0.7, 4.0)  # metres to what the camera looks at, median over the image
_DOWN = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])  # camera looking along +x


def _shake(rng, times: np.ndarray, amplitude: float) -> np.ndarray:
    """Hand tremor (N, 3): a few sinusoids of 1.5-5 Hz per axis, periodic over the loop."""
    out = np.zeros((len(times), 3))
    for axis in range(3):
        for _ in range(4):
            k = rng.integers(int(1.5 * LOOP), int(5 * LOOP))
            out[:, axis] += np.sin(2 * np.pi * (k * times / LOOP + rng.random())) / k
    return out * amplitude * 1.5 * LOOP / 2.0


def _candidate(rng, size: np.ndarray, times: np.ndarray, spread: float, full_turn: bool):
    """One random path: poses (N, 4, 4)."""
    phase = 2 * np.pi * times / LOOP
    position = np.empty((len(times), 3))
    turn, swirl = rng.uniform(0, 2 * np.pi, 2)
    direction = rng.choice((-1, 1))
    radius = spread * np.array([0.17 * size[0], 0.17 * size[1]])
    radius = np.minimum(radius, 0.75)
    for axis, shift in ((0, 0.0), (1, np.pi / 2)):
        position[:, axis] = 0.5 * size[axis] + radius[axis] * np.cos(
            direction * phase + turn - shift
        )
        position[:, axis] += 0.2 * radius[axis] * np.cos(2 * phase + swirl + 2 * shift)
    position[:, 2] = rng.uniform(1.3, 1.5) + 0.14 * np.cos(phase + rng.uniform(0, 6.28))
    position += _shake(rng, times, 0.003)

    yaw = rng.uniform(0, 2 * np.pi) + 0.04 * np.sin(2 * phase + rng.uniform(0, 6.28))
    if full_turn:
        yaw = yaw + direction * phase
    else:
        yaw = yaw + rng.uniform(0.8, 1.0) * np.sin(phase + rng.uniform(0, 6.28))
    pitch = 0.26 + 0.14 * np.sin(phase + rng.uniform(0, 6.28))
    pitch = pitch + 0.06 * np.sin(3 * phase + rng.uniform(0, 6.28))
    roll = 0.05 * np.sin(2 * phase + rng.uniform(0, 6.28))
    shake = _shake(rng, times, np.deg2rad(0.12))
    angles = np.stack([yaw, pitch, roll], -1) + shake
    poses = np.tile(np.eye(4), (len(times), 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("ZYX", angles).as_matrix() @ _DOWN
    poses[:, :3, 3] = position
    return poses


def speeds(poses: np.ndarray, rate: float = RATE) -> tuple[np.ndarray, np.ndarray]:
    """Metres per second and radians per second (N - 1,) between consecutive poses (N, 4, 4)."""
    step = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=-1)
    relative = np.swapaxes(poses[:-1, :3, :3], -1, -2) @ poses[1:, :3, :3]
    return step * rate, Rotation.from_matrix(relative).magnitude() * rate


def _view_distances(room: Room, poses: np.ndarray) -> np.ndarray:
    """Distances (N, 12) along a fan of rays, by sphere tracing the bounding boxes."""
    x, y = np.meshgrid(np.linspace(-0.5, 0.5, 4), np.linspace(-0.4, 0.4, 3))
    rays = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    d = np.einsum("nij,kj->nki", poses[:, :3, :3], rays)
    t = np.zeros(d.shape[:2])
    for _ in range(12):
        points = poses[:, None, :3, 3] + t[..., None] * d
        t += np.maximum(clearance(room, points.reshape(-1, 3)).reshape(t.shape), 0.0)
    return t


def make_trajectory(
    room: Room, frames: int, seed: int, full_turn: bool = False, rate: float = RATE
) -> np.ndarray:
    """A path in free space that looks at things 0.7-4 m away and returns after 10 s.

    Args:
        room: the room (leading axis not batched).
        frames: number of poses N.
        seed: of the path.
        full_turn: look all the way round once, instead of to and fro.
        rate: frames per second.

    Returns:
        (N, 4, 4) float64 world_from_camera.

    Raises:
        ValueError: the room leaves no free path at eye height.
    """
    rng = np.random.default_rng([seed, 1])
    size = np.asarray(room.size, float)
    loop = np.arange(round(LOOP * rate)) / rate
    times = np.arange(frames) / rate
    for attempt in range(200):
        key = rng.integers(1 << 62)
        spread = 1.0 - 0.7 * attempt / 200
        path = _candidate(np.random.default_rng(key), size, loop, spread, full_turn)
        linear, angular = speeds(path, rate)
        if linear.max() > MAX_SPEED or angular.max() > MAX_TURN:
            continue
        if clearance(room, path[::3, :3, 3]).min() < CLEARANCE:
            continue
        distance = _view_distances(room, path[:: max(1, len(path) // 24)])
        median = np.median(distance, axis=1)
        if median.min() < VIEW_RANGE[0] or median.max() > VIEW_RANGE[1] or distance.min() < 0.35:
            continue
        return _candidate(np.random.default_rng(key), size, times, spread, full_turn)
    raise ValueError("no free camera path: the room is too full or too low")


def vary(poses: np.ndarray, seed: int) -> np.ndarray:
    """A path that is never quite the same twice: off by about 3 cm and 2 degrees, slowly.

    Args:
        poses: (N, 4, 4) world_from_camera.
        seed: of the changes.
    """
    rng = np.random.default_rng([seed, 2])
    times = np.arange(len(poses)) / RATE
    offset = np.zeros((len(poses), 6))
    for axis in range(6):
        for frequency in rng.uniform(0.03, 0.2, 4):
            offset[:, axis] += np.sin(2 * np.pi * (frequency * times + rng.random()))
    offset *= np.repeat([0.03, np.deg2rad(2.0)], 3) / 2.0  # four sines: standard deviation sqrt 2
    out = poses.copy()
    out[:, :3, 3] += offset[:, :3]
    out[:, :3, :3] = poses[:, :3, :3] @ Rotation.from_rotvec(offset[:, 3:]).as_matrix()
    return out


WALK_TURN = np.deg2rad(30.0)  # per second, of the heading; the head turns on top of it
LOOK_AHEAD = 0.8  # metres along the way


def make_walk(waypoints: np.ndarray, seed: int, speed: float) -> np.ndarray:
    """A hand-held walk along a way: looks ahead and about, slows down where it turns.

    Args:
        waypoints: (K, 2) metres, world; corners are cut by about 0.3 m.
        seed: of the head's and the hand's motion.
        speed: metres per second where the way is straight.

    Returns:
        (N, 4, 4) float64 world_from_camera; N follows from the way.
    """
    rng = np.random.default_rng([seed, 3])
    step = 0.01
    corners = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(waypoints, axis=0), axis=-1))])
    along = np.arange(0, corners[-1], step)
    way = np.stack([np.interp(along, corners, waypoints[:, j]) for j in range(2)], -1)
    way = gaussian_filter1d(way, 0.3 / step, axis=0, mode="nearest")
    ahead = int(LOOK_AHEAD / step)
    extended = np.concatenate(
        [way, way[-1] + (way[-1] - way[-2]) * np.arange(1, ahead + 1)[:, None]]
    )
    gaze = extended[ahead:] - way
    heading = gaussian_filter1d(
        np.unwrap(np.arctan2(gaze[:, 1], gaze[:, 0])), 0.3 / step, mode="nearest"
    )
    turning = np.abs(np.gradient(heading, step))  # radians per metre
    length = np.linalg.norm(np.gradient(way, step, axis=0), axis=-1)  # metres per metre of `along`
    pace = np.minimum(speed / np.maximum(length, 0.1), WALK_TURN / np.maximum(turning, 1e-3))
    pace = gaussian_filter1d(minimum_filter1d(pace, int(0.4 / step)), 0.2 / step, mode="nearest")
    elapsed = np.concatenate([[0], np.cumsum(step / pace[:-1])])
    times = np.arange(0, elapsed[-1], 1 / RATE)

    poses = np.tile(np.eye(4), (len(times), 1, 1))
    for j in range(2):
        poses[:, j, 3] = np.interp(times, elapsed, way[:, j])
    wave = [2 * np.pi * (f * times + rng.random()) for f in (0.05, 0.08, 0.11, 0.13, 0.17, 0.19)]
    poses[:, 2, 3] = 1.4 + 0.06 * np.sin(wave[0])
    poses[:, :3, 3] += _shake(rng, times, 0.003)
    yaw = np.interp(times, elapsed, heading) + 0.3 * np.sin(wave[1]) + 0.2 * np.sin(wave[3])
    pitch = 0.14 + 0.1 * np.sin(wave[2]) + 0.04 * np.sin(wave[5])
    roll = 0.04 * np.sin(wave[4])
    angles = np.stack([yaw, pitch, roll], -1) + _shake(rng, times, np.deg2rad(0.12))
    poses[:, :3, :3] = Rotation.from_euler("ZYX", angles).as_matrix() @ _DOWN
    return poses
