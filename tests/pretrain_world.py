"""Scenes for tests of pre-training: random points with descriptors, seen by cameras around them."""

import numpy as np
from ml_collections import ConfigDict

from ace_jax.pretrain import config as settings
from ace_jax.pretrain.patches import ScenePatches, viewpoint_ranks
from ace_jax.pretrain.scenes import Views

DIM = 16
WIDTH, HEIGHT, FOCAL = 320, 240, 260.0
POINTS = 400


def config(**changes) -> ConfigDict:
    """A configuration of toy size."""
    made = settings.base()
    made.update(steps=12, patches_per_image=24, log_every=1, checkpoint_seconds=1e9)
    made.views.update(mapping=4, held_out=2, query=2)
    made.pool.update(scenes=2, shortest_life=3, longest_life=6, ahead=1)
    made.code.update(size=48, least=0)
    made.transformer = ConfigDict({"dim": 32, "blocks": 1, "tau": 20.0, "dtype": "float32"})
    made.mapping.patches = made.query.patches = 16
    made.support.update(first=2, steps=4)
    made.transformer_optimizer.warmup = 2
    made.validation.update(every=6, scenes=2, steps=2)
    for name, value in changes.items():
        made[name].update(value) if isinstance(value, dict) else setattr(made, name, value)
    return made


def random_form(made: ConfigDict) -> ConfigDict:
    """The same in the paper's form."""
    made.code.form = "random"
    made.transformer = ConfigDict({"dim": 32, "blocks": 1, "heads": 2, "dtype": "float32"})
    made.loss = "laplace"
    return made


def scene(number: int, made: ConfigDict) -> ScenePatches:
    """A scene; the same number gives the same one."""
    rng = np.random.default_rng(number)
    views, patches = Views(**made.views), made.patches_per_image
    points = rng.uniform(-1.0, 1.0, (POINTS, 3)) + np.array([0, 0, 3.0])
    descriptors = rng.normal(size=(POINTS, DIM))
    poses = np.tile(np.eye(4), (views.total, 1, 1))
    poses[:, :3, 3] = rng.normal(size=(views.total, 3)) * 0.2
    seen = np.stack([rng.permutation(POINTS)[:patches] for _ in range(views.total)])
    features = descriptors[seen] + 0.05 * rng.normal(size=(*seen.shape, DIM))
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    local = points[seen] - poses[:, None, :3, 3]
    uv = FOCAL * local[..., :2] / local[..., 2:] + [(WIDTH - 1) / 2, (HEIGHT - 1) / 2]
    return ScenePatches(
        features=features.astype(np.float16),
        uv=uv.astype(np.float32),
        xyz=points[seen].astype(np.float32),
        mask=np.ones(seen.shape, bool),
        camera_from_world=np.linalg.inv(poses).astype(np.float32),
        intrinsics=np.tile(
            np.array([FOCAL, FOCAL, (WIDTH - 1) / 2, (HEIGHT - 1) / 2], np.float32),
            (views.total, 1),
        ),
        nearness=viewpoint_ranks(poses, views.mapping),
    )
