"""Online training of a scene-coordinate network: a keyframe buffer, gradient steps on a window.

ACE-SLAM's objective: min over the network M and the poses P of
sum |M(f_i) - P_k^-1 y_i|, f_i a descriptor of keyframe k and y_i its point in camera axes.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ace_jax.features.base import Features
from ace_jax.geometry.camera import Camera, unproject
from ace_jax.geometry.pose_result import PoseResult
from ace_jax.geometry.ransac_kabsch import estimate_rigid_transform
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.programs import program
from ace_jax.slam.networks.config import NetworkConfig

_FINAL = 1 << 30  # draws of the training after the stream; no frame has such an index
_ROUND = 20  # steps on each window of keyframes that is drawn after the stream

FIRST_LAYERS = {"tri_mlp": ("fc0",), "homogeneous_mlp": ("res3_conv1", "head_skip")}


@flax.struct.dataclass
class NetworkState:
    """What training changes, and what belongs to the scene: plain pytrees."""

    params: Any
    scene: Any
    optimizer: Any


@flax.struct.dataclass
class KeyframeBuffer:
    """Training data of C keyframes of N features; the valid features of each come first.

    Attributes:
        descriptors: (C, N, D).
        points: (C, N, 3) in camera axes, metres.
        count: (C,) valid features.
    """

    descriptors: jax.Array
    points: jax.Array
    count: jax.Array


def _optimizer(config: NetworkConfig) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate, b2=0.99))


def predict(head: nn.Module, state: NetworkState, descriptors: jax.Array) -> SceneCoordinates:
    """Scene coordinates of descriptors (N, D)."""
    return head.apply({"params": state.params, "scene": state.scene}, descriptors)


def coordinate_loss(error: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean length, over `mask` (B,), of error (B, 3)."""
    # The offset keeps the root's gradient finite at zero.
    length = jnp.sqrt(jnp.sum(error**2, -1) + 1e-4)
    return jnp.sum(jnp.where(mask, length, 0.0)) / jnp.maximum(mask.sum(), 1)


@program(static_argnames=("head", "config"), donate_argnames=("state",))
def train(
    state: NetworkState,
    buffer: KeyframeBuffer,
    camera_from_world: jax.Array,
    window: jax.Array,
    steps: jax.Array,
    key: jax.Array,
    head: nn.Module,
    config: NetworkConfig,
) -> NetworkState:
    """Gradient steps on features drawn from the keyframes `window` (W,) of the C in the buffer.

    Args:
        state: the network.
        buffer: C keyframes.
        camera_from_world: (C, 4, 4) their poses.
        window: (W,) which keyframes to learn from.
        steps: how many steps.
        key: PRNG key.
        head: the network's module.
        config: constants.
    """
    optimizer = _optimizer(config)

    def loss(params, descriptors, targets, mask):
        predicted = predict(head, state.replace(params=params), descriptors)
        return coordinate_loss(predicted.xyz - targets, mask)

    def step(index, carry):
        params, moments = carry
        pick, draw = jax.random.split(jax.random.fold_in(key, index))
        frame = window[jax.random.randint(pick, (config.batch,), 0, window.shape[0])]
        count = buffer.count[frame]
        row = (jax.random.uniform(draw, (config.batch,)) * count).astype(jnp.int32)
        pose = camera_from_world[frame]
        local = buffer.points[frame, row] - pose[:, :3, 3]
        targets = jnp.einsum("bji,bj->bi", pose[:, :3, :3], local, precision="highest")
        gradient = jax.grad(loss)(params, buffer.descriptors[frame, row], targets, count > 0)
        update, moments = optimizer.update(gradient, moments, params)
        return optax.apply_updates(params, update), moments

    params, moments = jax.lax.fori_loop(0, steps, step, (state.params, state.optimizer))
    return state.replace(params=params, optimizer=moments)


@program(static_argnames=("head", "config"))
def locate(
    state: NetworkState,
    features: Features,
    prior: jax.Array,
    key: jax.Array,
    camera: Camera,
    head: nn.Module,
    config: NetworkConfig,
) -> tuple[SceneCoordinates, PoseResult, jax.Array]:
    """Relocalizes one frame: coordinates from the network, the pose from RANSAC-Kabsch.

    Args:
        state: the network.
        features: N features with depth.
        prior: (4, 4) camera_from_world that is tried as one more hypothesis; NaN for none.
        key: PRNG key.
        camera: intrinsics.
        head: the network's module.
        config: constants.

    Returns:
        The coordinates, the pose, and the inlier ratio lambda (inliers over features with depth).
    """
    predicted = predict(head, state, features.descriptors)
    near, growth = config.inlier_threshold
    usable = features.mask & (features.depth > 0)
    result = estimate_rigid_transform(
        predicted.xyz,
        unproject(features.uv, features.depth, camera),
        key,
        mask=usable,
        threshold=near + growth * features.depth**2,
        max_hypotheses=config.hypotheses,
        initial_pose=prior,
    )
    return predicted, result, result.num_inliers / jnp.maximum(usable.sum(), 1)


@program(donate_argnames=("buffer",))
def _store(buffer: KeyframeBuffer, place: jax.Array, frame: KeyframeBuffer) -> KeyframeBuffer:
    return jax.tree.map(lambda all_, one: all_.at[place].set(one), buffer, frame)


class NetworkMap:
    """A scene coordinate head that is trained on the keyframes it is given.

    Place `capacity` of the buffer, one more than keyframes fit in, is for the current frame.

    Attributes:
        state: the network.
        camera_from_world: (capacity + 1, 4, 4) float32 poses of the buffer's places; whoever
            corrects a keyframe writes here.
        keyframe_at: keyframe number of each filled place.

    Args:
        head_name: the head's name in the registry.
        head: its module.
        dim: descriptor length.
        num_features: features a frame.
        camera: intrinsics.
        config: constants.
        key: PRNG key of every draw.
    """

    def __init__(
        self,
        head_name: str,
        head: nn.Module,
        dim: int,
        num_features: int,
        camera: Camera,
        config: NetworkConfig,
        key: jax.Array,
    ):
        self.head, self.head_name, self.config, self.camera = head, head_name, config, camera
        self._key = key
        self._seed_words = np.asarray(jax.random.key_data(key)).tolist()
        variables = head.init(key, jnp.zeros((1, dim)))
        params = dict(variables["params"])
        for name in FIRST_LAYERS[head_name]:
            if name in params:
                layer = params[name]
                params[name] = {**layer, "kernel": layer["kernel"] * config.input_gain}
        self.state = NetworkState(
            params=params, scene=dict(variables["scene"]), optimizer=_optimizer(config).init(params)
        )
        places = config.capacity + 1
        self._buffer = KeyframeBuffer(
            descriptors=jnp.zeros((places, num_features, dim)),
            points=jnp.zeros((places, num_features, 3)),
            count=jnp.zeros(places, jnp.int32),
        )
        self.camera_from_world = np.tile(np.eye(4, dtype=np.float32), (places, 1, 1))
        self.keyframe_at: list[int] = []
        self._seeded = 0
        self._window_size = config.window_latest + config.window_older + 1

    def warm_up(self, features: Features) -> None:
        """Compiles the programs with blank features; nothing is learned."""
        self.hold(features, np.eye(4))
        self.train_on(np.zeros(self._window_size, np.int32), 0, 0)
        self.locate(features, None, self._key)

    def start(self, features: Features) -> None:
        """Places the scene around the first frame, whose camera is the world."""
        points = np.asarray(unproject(features.uv, features.depth, self.camera))
        points = points[self._learnable(features)]
        centre = points.mean(0) if len(points) else np.zeros(3)
        if self.head_name == "tri_mlp":
            half = self.config.extent
            scene = {"lower": centre - half, "upper": centre + half}
        else:
            scene = {"mean": centre}
        scene = {name: jnp.asarray(value, jnp.float32) for name, value in scene.items()}
        self.state = self.state.replace(scene=scene)

    def seed_units(self, features: Features, share: float) -> None:
        """Turns unused units of TriMLP's first layer into detectors of observed descriptors.

        The unit relu(g (f . k - c)) answers to descriptors f near the observed k alone: what is
        learned of a new place leaves the other places as they are, and far fewer steps are needed.
        The cosine c is the frame's own quantile, because kinds of descriptors differ in it.
        A head with other first layers is left alone.

        Args:
            features: where descriptors are drawn from.
            share: of all units, to be seeded now.
        """
        if self.head_name != "tri_mlp" or not self.config.seeded_support:
            return
        layer = self.state.params["fc0"]
        kernel, bias = (np.array(layer[name]) for name in ("kernel", "bias"))
        valid = np.flatnonzero(self._learnable(features))
        count = min(int(share * len(bias)), len(bias) - self._seeded, len(valid))
        chosen = self._random(_FINAL - 1 - self._seeded).choice(valid, count, replace=False)
        units = slice(self._seeded, self._seeded + count)
        descriptors = np.asarray(features.descriptors)
        if count:
            cosines = descriptors[valid] @ descriptors[chosen].T
            cut = np.quantile(cosines, 1 - self.config.seeded_support, axis=0)
            gain = self.config.seeded_answer / np.maximum(1 - cut, 0.05)
            kernel[:, units] = gain * descriptors[chosen].T
            bias[units] = -gain * cut
        self._seeded += count
        layer = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(bias)}
        self.state = self.state.replace(params={**self.state.params, "fc0": layer})

    def _learnable(self, features: Features) -> np.ndarray:
        near, far = self.config.depth_range
        depth = np.asarray(features.depth)
        return np.asarray(features.mask) & (depth > near) & (depth < far)

    def hold(self, features: Features, camera_from_world: np.ndarray) -> None:
        """Makes a frame the current one."""
        self._put(self.config.capacity, features, camera_from_world)

    def add(self, features: Features, camera_from_world: np.ndarray, number: int) -> None:
        """Keeps a frame as keyframe `number`; when the buffer is full an old one gives way."""
        place = len(self.keyframe_at)
        if place < self.config.capacity:
            self.keyframe_at.append(number)
        else:
            # Never the first, which holds the world in place.
            place = 1 + int(self._random(number).integers(self.config.capacity - 1))
            self.keyframe_at[place] = number
        self._put(place, features, camera_from_world)
        self.seed_units(features, self.config.seeded_first if place == 0 else self.config.seeded)

    def _put(self, place: int, features: Features, camera_from_world: np.ndarray) -> None:
        valid = self._learnable(features)
        order = np.argsort(~valid, kind="stable")
        points = np.asarray(unproject(features.uv, features.depth, self.camera))
        points = np.where(valid[:, None], points, 0.0)  # a NaN is not masked by a weight of zero
        self._buffer = _store(
            self._buffer,
            np.int32(place),
            KeyframeBuffer(
                descriptors=np.asarray(features.descriptors)[order],
                points=points[order],
                count=np.int32(valid.sum()),
            ),
        )
        self.camera_from_world[place] = camera_from_world

    def _random(self, number: int) -> np.random.Generator:
        return np.random.default_rng([*self._seed_words, number])

    def window(self, ratios: np.ndarray, frame_index: int) -> np.ndarray:
        """Places of the window: the current frame, the latest keyframes, and sampled older ones.

        Args:
            ratios: (K,) inlier ratio of each filled place.
            frame_index: seeds the draw.
        """
        filled, config = len(self.keyframe_at), self.config
        newest = np.argsort(self.keyframe_at)[::-1][: config.window_latest]
        older = np.setdiff1d(np.arange(filled), newest)
        pool = older if len(older) else np.arange(filled)
        weight = 1.0 / len(pool) + config.quality_weight * (1.0 - ratios[pool])
        count = self._window_size - 1 - len(newest)
        drawn = self._random(frame_index).choice(pool, count, p=weight / weight.sum())
        return np.concatenate([[config.capacity], newest, drawn]).astype(np.int32)

    def train_on(self, window: np.ndarray, steps: int, frame_index: int) -> None:
        """Takes gradient steps on features of the places `window`."""
        self.state = train(
            self.state,
            self._buffer,
            self.camera_from_world,
            window,
            np.int32(steps),
            jax.random.fold_in(self._key, frame_index),
            self.head,
            self.config,
        )

    def train_evenly(self, steps: int) -> None:
        """Takes gradient steps on all keyframes alike, some steps on each drawn window."""
        filled = len(self.keyframe_at)
        for number in range(0, steps, _ROUND):
            draw = self._random(_FINAL + number)
            window = draw.choice(filled, self._window_size).astype(np.int32)
            self.train_on(window, min(_ROUND, steps - number), _FINAL + number)

    def locate(
        self, features: Features, prior: np.ndarray | None, key: jax.Array
    ) -> tuple[SceneCoordinates, PoseResult, jax.Array]:
        """Relocalizes one frame; see the function of this name."""
        if prior is None:
            prior = np.full((4, 4), np.nan)
        return locate(
            self.state,
            features,
            np.asarray(prior, np.float32),
            key,
            self.camera,
            self.head,
            self.config,
        )

    def variables(self) -> dict[str, Any]:
        """The head's variables."""
        return jax.tree.map(np.asarray, {"params": self.state.params, "scene": self.state.scene})
