"""Shows relocalization results in the live view."""

from ace_jax.data.frame import Frame
from ace_jax.localization.relocalizer import Localization
from ace_jax.viewer.live import View


def view_of(index: int, frame: Frame, answer: Localization, picture: bool = True) -> View:
    """The view of one answered image; `picture` says whether its image is shown, too."""
    return View(
        index=index,
        timestamp=frame.timestamp,
        camera=frame.camera,
        world_from_camera=answer.world_from_camera if answer.success else None,
        ground_truth=frame.world_from_camera,
        milliseconds=answer.ms,
        rgb=frame.rgb if picture else None,
        uv=answer.uv if picture else None,
        sigma=answer.scale if picture else None,
        xyz=answer.xyz if picture else None,
        note="" if answer.success else f"{frame.name}: no pose",
    )
