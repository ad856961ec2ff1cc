"""Procedural rooms as a scene source, with adjustable difficulty of the query images."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial.transform import Rotation

from ace_jax.data.frame import Frame
from ace_jax.geometry.camera import Camera
from ace_jax.pretrain.conditions import Conditions, Difficulty, draw_conditions, lit, photograph
from ace_jax.pretrain.scenes import Views, identity_of
from ace_jax.programs import program
from ace_jax.synthetic.furnished_rooms import make_room
from ace_jax.synthetic.render import render
from ace_jax.synthetic.room import Room, clearance
from ace_jax.synthetic.sensor import Sensor, sense
from ace_jax.synthetic.trajectory import make_trajectory
from ace_jax.synthetic.variation import rearrange, relight, remove

VERSION = 1  # part of the cache's key: raise it when the images change
FOCAL = 525.0 / 640.0  # of the width
_PATH = 300  # poses of the mapping pass, of which images are taken
_FREE = 0.25  # metres that a query camera keeps from everything
_TRIES = 40
_SHAKE = (0.01, 0.02)  # metres, radians: standard deviation of a camera's motion between frames


class ProceduralScenes:
    """Rooms by seed: a mapping pass that looks all the way round, and queries made harder."""

    def __init__(
        self,
        first: int = 0,
        count: int = 1_000_000,
        image_size: tuple[int, int] = (320, 240),
        difficulty: Difficulty | None = None,
    ):
        """Rooms `first` to `first + count - 1`.

        Args:
            first: seed of scene 0; give training and validation ranges that do not meet.
            count: number of scenes.
            image_size: width and height in pixels.
            difficulty: of the queries.
        """
        self.name = "procedural"
        self._first, self._count = first, count
        self._difficulty = difficulty or Difficulty()
        width, height = image_size
        focal = FOCAL * width
        self._camera = Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)
        self.identity = identity_of(
            version=VERSION, size=image_size, difficulty=dataclasses.asdict(self._difficulty)
        )
        # Tiles in parallel feed an accelerator; a CPU's cores have enough with one.
        self._tiles = 1 if jax.default_backend() == "cpu" else 64

    def __len__(self) -> int:
        return self._count

    def seed(self, number: int) -> int:
        """The seed of a scene: what names it in the cache."""
        return self._first + number

    def images(self, number: int, views: Views) -> list[Frame]:
        """See `SceneSource`."""
        seed = self.seed(number)
        rng = np.random.default_rng([seed, 17])
        room, path = self._room(seed)
        # Streams of their own, so that what they change changes nothing else.
        camera = np.random.default_rng([seed, 29])
        path = self._part(path, camera)
        defects = _Defects(self._difficulty.noise * camera.uniform(), camera)
        spots = views.mapping + views.held_out
        chosen = np.sort(rng.permutation(np.arange(0, len(path), len(path) // spots))[:spots])
        held_out = np.zeros(len(chosen), bool)
        if views.held_out:
            held_out[np.linspace(0, spots - 1, views.held_out + 2).round().astype(int)[1:-1]] = True
        passed = np.concatenate([path[chosen[~held_out]], path[chosen[held_out]]])
        frames = self._render(room, passed, defects)
        return frames + self._queries(
            room, path, views.query, defects, rng, np.random.default_rng([seed, 31])
        )

    def _part(self, path: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The part of the path, which is closed, that the scene covers."""
        share, start = rng.uniform(self._difficulty.span, 1.0), rng.integers(len(path))
        if self._difficulty.span >= 1.0:
            return path
        return np.roll(path, -start, axis=0)[: round(share * len(path))]

    def _room(self, seed: int) -> tuple[Room, np.ndarray]:
        """A room and a path in it; a room without a free path is passed over for another."""
        for attempt in range(_TRIES):
            room = make_room(seed + attempt * 1_000_003)
            try:
                return room, make_trajectory(room, _PATH, seed, full_turn=True)
            except ValueError:
                continue
        raise RuntimeError(f"no room with a free path for seed {seed}")

    def _queries(
        self,
        room: Room,
        path: np.ndarray,
        count: int,
        defects: "_Defects",
        rng: np.random.Generator,
        camera: np.random.Generator,
    ) -> list[Frame]:
        """Images of the room as it is another day; `camera` draws each image's conditions."""
        if not count:
            return []
        dial = self._difficulty
        strength = rng.uniform(dial.least, 1.0)
        key = jax.random.key(int(rng.integers(1 << 31)))
        changed = rearrange(
            room, jax.random.fold_in(key, 0), dial.moved * strength, 0.6, np.deg2rad(40.0)
        )
        changed = remove(changed, jax.random.fold_in(key, 2), dial.removed * strength)
        light = relight(room.illumination, jax.random.fold_in(key, 1), dial.light * strength)
        changed = changed.replace(illumination=light)
        poses, exposures = [], []
        length = len(path)
        drawn = [draw_conditions(dial, strength, camera) for _ in range(count)]
        spots = np.linspace(0, length, count, endpoint=False) + rng.uniform(0, length / count)
        for spot, conditions in zip(spots, drawn, strict=True):
            near = path[int(spot) % length]
            poses.append(self._elsewhere(changed, near, conditions, strength, rng))
            exposures.append(np.exp(dial.exposure * strength * rng.normal()))
        return self._render(changed, np.stack(poses), defects, np.array(exposures), drawn)

    def _elsewhere(
        self,
        room: Room,
        pose: np.ndarray,
        conditions: Conditions,
        strength: float,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """A pose (4, 4) near another one, in free space; nearer and nearer until it is."""
        for attempt in range(_TRIES):
            share = 1.0 - attempt / _TRIES
            reach = strength * share
            out = pose.copy()
            out[:3, 3] += reach * self._difficulty.shift * rng.normal(size=3)
            out[:3, 3] += share * conditions.step * pose[:3, 2]
            turn = np.deg2rad(reach * self._difficulty.turn) * rng.normal(size=3)
            roll = Rotation.from_rotvec([0.0, 0.0, conditions.roll])
            out[:3, :3] = pose[:3, :3] @ (Rotation.from_rotvec(turn) * roll).as_matrix()
            if clearance(room, out[None, :3, 3])[0] > _FREE:
                return out
        return pose

    def _render(
        self,
        room: Room,
        poses: np.ndarray,
        defects: "_Defects",
        exposures: np.ndarray | None = None,
        conditions: Sequence[Conditions] = (),
    ) -> list[Frame]:
        room = jax.device_put(room)
        frames = []
        for index, pose in enumerate(poses):
            light, gain = room.illumination, 1.0
            if conditions:
                light, gain = lit(light, conditions[index])
            if exposures is not None:
                light = light.replace(exposure=light.exposure * exposures[index])
            rgb, depth = render(
                room, jnp.asarray(pose, jnp.float32), self._camera, light, self._tiles
            )
            if conditions:
                rgb = photograph(
                    np.asarray(rgb), np.asarray(depth), self._camera, conditions[index], gain
                )
            rgb, depth = defects(rgb, depth, self._camera)
            frames.append(
                Frame(
                    index=index,
                    name=f"{index:06d}",
                    timestamp=float(index),
                    rgb=np.round(np.asarray(rgb) * 255).astype(np.uint8),
                    depth=np.asarray(depth),
                    camera=self._camera,
                    world_from_camera=pose,
                )
            )
        return frames


class _Defects:
    """What one scene's camera makes of perfect pictures."""

    def __init__(self, strength: float, rng: np.random.Generator):
        """A camera; `strength` is a factor on the defects of `Sensor`, 0 for none."""
        usual, holes = Sensor(), min(strength, 1.0)
        self._none, self._rng = not strength, rng
        self._sensor = Sensor(
            shutter=strength * usual.shutter,
            gain_swing=strength * usual.gain_swing,
            read_noise=strength * usual.read_noise,
            shot_noise=strength**2 * usual.shot_noise,
            depth_offset=strength * usual.depth_offset,
            depth_slope=strength * usual.depth_slope,
            disparity_step=strength * usual.disparity_step,
            edge_holes=holes * usual.edge_holes,
            blob_holes=1.0 - holes * (1.0 - usual.blob_holes),
            grazing=holes * usual.grazing,
        )

    def __call__(
        self, rgb: jax.Array, depth: jax.Array, camera: Camera
    ) -> tuple[jax.Array, jax.Array]:
        """A picture (H, W, 3) in [0, 1] and its depth (H, W), metres, 0 where it is lost."""
        if self._none:
            return rgb, depth
        rng, motion = self._rng, np.eye(4)
        motion[:3, 3] = _SHAKE[0] * rng.normal(size=3)
        motion[:3, :3] = Rotation.from_rotvec(_SHAKE[1] * rng.normal(size=3)).as_matrix()
        key, time = jax.random.key(int(rng.integers(1 << 31))), float(rng.uniform(0.0, 60.0))
        return _sense(rgb, depth, jnp.asarray(motion, jnp.float32), time, camera, self._sensor, key)


_sense = program(sense)
