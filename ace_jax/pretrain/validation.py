"""Validation: unseen scenes are mapped, then queried with other images.

Each scene gets a fresh code and some mapping steps under the frozen transformer; then the query
images are answered with the whole scene as support. What is reported of the answers: how many are
right, whether the transformer knows which, and whether poses can be found from them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from ace_jax.evaluation.relocalization import (
    PoseErrors,
    calibration,
    pose_errors,
    rank_correlation,
)
from ace_jax.geometry.absolute_pose import estimate_absolute_pose
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.rigid import invert
from ace_jax.models.scene_coordinates import SceneCoordinates
from ace_jax.pretrain.forms import Form
from ace_jax.pretrain.patches import ScenePatches, in_widths
from ace_jax.pretrain.scenes import Views
from ace_jax.pretrain.steps import PretrainState, create_steps
from ace_jax.programs import program
from ace_jax.training.mesh import SceneMesh

RIGHT = 0.10  # metres: a coordinate nearer to the truth is right
SUREST = 0.10  # share of a scene's answers whose confidence is put to the test
_THRESHOLD = 10.0 / 640.0  # of reprojection, in image widths
_WITHIN = (0.05, 5.0)  # metres, degrees


@dataclasses.dataclass(frozen=True)
class Answers:
    """What was answered about the query images of V scenes: K images each, P patches an image.

    Attributes:
        xyz: (V, K, P, 3) predicted, metres.
        scale: (V, K, P) predicted standard deviation, metres.
        error: (V, K, P) distance to the truth, metres; NaN for padding.
        poses: errors of the V * K images' poses, in this order; infinite without a pose.
    """

    xyz: np.ndarray
    scale: np.ndarray
    error: np.ndarray
    poses: PoseErrors

    def by_scene(self) -> dict[str, np.ndarray]:
        """Figures (V,) of each scene, by name; shares in per cent.

        A scene of which no truth is known has NaN for all but its poses.
        """
        scenes = len(self.error)
        error, scale = self.error.reshape(scenes, -1), self.scale.reshape(scenes, -1)
        known = ~np.isnan(error)
        within = (self.poses.translation <= _WITHIN[0]) & (self.poses.rotation <= _WITHIN[1])
        rows = [_figures(e[k], s[k]) for e, s, k in zip(error, scale, known, strict=True)]
        table = dict(zip(_FIGURES, np.array(rows).T, strict=True))
        table["pose_5cm_5deg"] = 100.0 * within.reshape(scenes, -1).mean(axis=1)
        return table

    def summary(self) -> dict[str, float]:
        """The means over the scenes that have the figure, the median pose error, and `score`.

        The score, by which transformers are chosen, is the mean of the share of poses and that of
        all coordinates: poses are what counts, and they are few.
        """
        result = {
            name: float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
            for name, values in self.by_scene().items()
        }
        result["pose_median_cm"] = 100.0 * float(np.median(self.poses.translation))
        result["score"] = 0.5 * (result["pose_5cm_5deg"] + float(np.nan_to_num(result["right"])))
        return result

    def calibration(self) -> list:
        """Predicted scale against error, over all scenes."""
        known = ~np.isnan(self.error)
        return calibration(self.scale[known], self.error[known])


_FIGURES = ("right", "surest_right", "surest_median_cm", "median_cm", "order", "error_over_scale")


def _figures(error: np.ndarray, scale: np.ndarray) -> tuple[float, ...]:
    """What `_FIGURES` names, of the answers (N,) of one scene."""
    if not len(error):
        return (np.nan,) * len(_FIGURES)
    surest = error[_surest(scale)]
    return (
        100.0 * np.mean(error < RIGHT),
        100.0 * np.mean(surest < RIGHT),
        100.0 * np.median(surest),
        100.0 * np.median(error),
        rank_correlation(scale, error),
        np.median(error / scale),  # one where the predicted scale is the median error
    )


def _surest(scale: np.ndarray) -> np.ndarray:
    return np.argsort(scale, kind="stable")[: max(int(SUREST * len(scale)), 1)]


class Validator:
    """Asks about scenes that are fixed; made once, called with every transformer in question.

    Each process works on its own first device, and all come to the same answers.
    """

    def __init__(
        self,
        config: ml_collections.ConfigDict,
        form: Form,
        scenes: Sequence[ScenePatches],
    ):
        """Takes in the scenes.

        Args:
            config: of the run; `validation` says how scenes are mapped.
            form: of code and transformer.
            scenes: V of them, on the host.
        """
        config = ml_collections.ConfigDict(config.to_dict())
        self._mapping_steps = config.validation.steps
        # One cycle of the codes' learning rate is one mapping, as it is in a scene's life.
        config.pool.longest_life = max(config.validation.steps // max(config.mapping.steps, 1), 1)
        config.mapping.transformer_every = 0
        form = dataclasses.replace(form, least=form.size)
        self._steps = create_steps(config, form)
        mesh = SceneMesh(len(scenes), jax.local_devices()[:1])
        self._patches = mesh.stack(lambda slot: scenes[slot])
        self._key = jax.random.key(config.seed + 1)
        self._keep = config.validation.keep_share
        views = Views(**config.views)
        self._asked = views.rows("query")
        self.views = views

        def answer(transformer: Any, codes: jax.Array, patches: ScenePatches) -> SceneCoordinates:
            def scene(code: jax.Array, patches: ScenePatches) -> SceneCoordinates:
                def image(rows: tuple[jax.Array, ...]) -> SceneCoordinates:
                    features, uv, mask = rows
                    place = (uv, mask) if form.context else ()
                    return form.apply(transformer, features.astype(jnp.float32), code, None, *place)

                some = jax.tree.map(lambda x: x[self._asked], patches)
                uv = in_widths(some.uv, some.intrinsics)
                return jax.lax.map(image, (some.features, uv, some.mask))

            return jax.vmap(scene)(codes, patches)

        self._answer = program(answer)

    def map(self, transformer: Any, steps: int | None = None) -> PretrainState:
        """Fresh codes of all scenes, mapped under the transformer.

        Args:
            transformer: its parameters.
            steps: mapping steps; by default what the configuration says.
        """
        state = self._steps.init(self._key, self._patches)
        # A copy, because steps reuse the memory of the state that they are given.
        state = state.replace(transformer=jax.tree.map(jnp.copy, transformer))
        for step in range(self._mapping_steps if steps is None else steps):
            state, _ = self._steps.map(state, self._patches, jax.random.fold_in(self._key, step))
        return state

    def __call__(self, transformer: Any, steps: int | None = None) -> Answers:
        """Maps the scenes and asks; arguments as for `map`."""
        state = self.map(transformer, steps)
        out = self._answer(transformer, state.codes, self._patches)
        asked = self._asked
        patches = self._patches
        xyz, scale, true, mask, uv, pose, intrinsics = (
            np.asarray(x)
            for x in (
                out.xyz,
                out.scale,
                patches.xyz[:, asked],
                patches.mask[:, asked],
                patches.uv[:, asked],
                patches.camera_from_world[:, asked],
                patches.intrinsics[:, asked],
            )
        )
        error = np.where(mask, np.linalg.norm(xyz - true, axis=-1), np.nan)
        scenes, images = mask.shape[:2]
        found = []
        for v, k in np.ndindex(scenes, images):
            if not mask[v, k].any():  # no feature of the image has depth
                found.append(None)
                continue
            sure = np.where(mask[v, k], scale[v, k], np.inf)
            votes = mask[v, k] & (sure <= np.quantile(scale[v, k][mask[v, k]], self._keep))
            found.append(find_pose(uv[v, k], xyz[v, k], votes, intrinsics[v, k], self._key))
        truth = invert(pose.reshape(-1, 4, 4).astype(np.float64))
        return Answers(xyz, scale, error, pose_errors(found, truth))


def find_pose(
    uv: np.ndarray, xyz: np.ndarray, votes: np.ndarray, intrinsics: np.ndarray, key: jax.Array
) -> np.ndarray | None:
    """The pose world_from_camera (4, 4) that most answers agree with, or None.

    Args:
        uv: (P, 2) pixels.
        xyz: (P, 3) answers, metres.
        votes: (P,) bool, the answers that count.
        intrinsics: (4,) fx, fy, cx, cy.
        key: of the sampling.
    """
    # The image's size, from a principal point near its middle: it tells how many inliers chance
    # explains.
    width, height = (round(float(2.0 * c + 1.0)) for c in intrinsics[2:])
    result = _solve(uv, xyz, votes, intrinsics, key, (width, height))
    if not result.success:
        return None
    return invert(np.asarray(result.camera_from_world, np.float64))


@program(static_argnames="size")
def _solve(
    uv: jax.Array,
    xyz: jax.Array,
    votes: jax.Array,
    intrinsics: jax.Array,
    key: jax.Array,
    size: tuple[int, int],
) -> Any:
    camera = Camera(*intrinsics, *size)
    threshold = _THRESHOLD * camera.width
    return estimate_absolute_pose(uv, xyz, camera, key, mask=votes, threshold=threshold)
