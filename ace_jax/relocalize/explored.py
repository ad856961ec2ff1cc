"""Data of the interactive view in a relocalization report: the map, and the queries in it."""

from collections.abc import Sequence

import numpy as np

from ace_jax.data.frame import Frame
from ace_jax.evaluation import pictures
from ace_jax.evaluation.explorer import MAX_SHOTS, Cloud, Explored, Shot
from ace_jax.evaluation.lengths import LengthUnit
from ace_jax.evaluation.relocalization import PoseErrors
from ace_jax.geometry.camera import Camera
from ace_jax.localization.relocalizer import Localization

FOUND, NO_POSE, UNREAD = "found", "no pose", "not read"


class Thumbnails:
    """Small images of some queries, evenly spaced.

    Args:
        count: of the queries.
    """

    def __init__(self, count: int) -> None:
        self._step = max(-(-count // MAX_SHOTS), 1)
        self.kept: dict[int, bytes] = {}

    def offer(self, index: int, frame: Frame) -> None:
        """Keeps the query's image if its turn has come."""
        if index % self._step == 0:
            self.kept[index] = pictures.thumbnail(frame.rgb)


def explored(
    points: np.ndarray,
    names: Sequence[str],
    answers: Sequence[Localization | None],
    cameras: Sequence[Camera],
    reference: np.ndarray,
    errors: PoseErrors,
    thumbnails: Thumbnails,
    unit: LengthUnit,
) -> Explored:
    """What the page shows.

    Args:
        points: (M, 3) of the map.
        names: of the N queries.
        answers: to them, None where one could not be read.
        cameras: of them.
        reference: (N, 4, 4) their true poses in the map's world, NaN where unknown.
        errors: of them.
        thumbnails: of some; these can be chosen.
        unit: of lengths.
    """
    shots = []
    for index, jpeg in sorted(thumbnails.kept.items()):
        answer = answers[index]
        if answer is None:
            continue
        facts = [("state", FOUND if answer.success else NO_POSE)]
        facts.append(("inliers", f"{answer.num_inliers} of {int(answer.voted.sum())}"))
        shown = {}
        if not np.isnan(reference[index]).any():
            shown["truth"] = reference[index]
        if answer.success:
            shown |= {"pose": answer.world_from_camera, "uv": answer.uv[answer.inliers]}
            shown["xyz"] = answer.xyz[answer.inliers]
            if np.isfinite(errors.translation[index]):
                facts.append(("error", unit.text(errors.translation[index])))
                facts.append(("its rotation", f"{errors.rotation[index]:.2f} deg"))
        shots.append(Shot(index, names[index], facts, cameras[index], jpeg=jpeg, **shown))
    known = np.where(np.isfinite(errors.translation), errors.translation, np.nan)
    return Explored(
        shots=shots,
        points=Cloud(points),
        states=[UNREAD if a is None else FOUND if a.success else NO_POSE for a in answers],
        usual=FOUND,
        error=known,
        unit=unit,
        what="query",
    )
