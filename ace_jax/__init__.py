"""ace_jax: scene coordinate regression in JAX (SLAM, mapping, relocalization, pre-training).

The names below are the ones to begin with; they are loaded when they are first used:

    import ace_jax

    slam = ace_jax.Slam(ace_jax.Camera(525, 525, 319.5, 239.5, 640, 480))
    pose = slam.track(rgb, depth, seconds)
    result = slam.finish()
"""

__version__ = "0.1.0"

TYPE_CHECKING = False  # type checkers know this name; importing it would take ten times as long
if TYPE_CHECKING:
    from ace_jax.api.mapping import map_images
    from ace_jax.api.recordings import open_recording
    from ace_jax.api.slam import Slam, SlamPose, SlamResult
    from ace_jax.api.solver import estimate_absolute_pose
    from ace_jax.data.frame import Frame
    from ace_jax.errors import UserError
    from ace_jax.geometry.camera import Camera
    from ace_jax.localization.relocalizer import Localization, Relocalizer
    from ace_jax.localization.scene_map import SceneMap

__all__ = [
    "Camera",
    "Frame",
    "Localization",
    "Relocalizer",
    "SceneMap",
    "Slam",
    "SlamPose",
    "SlamResult",
    "UserError",
    "__version__",
    "estimate_absolute_pose",
    "map_images",
    "open_recording",
]

_MODULES = {
    "Camera": "geometry.camera",
    "Frame": "data.frame",
    "Localization": "localization.relocalizer",
    "Relocalizer": "localization.relocalizer",
    "SceneMap": "localization.scene_map",
    "Slam": "api.slam",
    "SlamPose": "api.slam",
    "SlamResult": "api.slam",
    "UserError": "errors",
    "estimate_absolute_pose": "api.solver",
    "map_images": "api.mapping",
    "open_recording": "api.recordings",
}


if not TYPE_CHECKING:

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module 'ace_jax' has no attribute {name!r}")
        import importlib

        found = getattr(importlib.import_module(f"ace_jax.{_MODULES[name]}"), name)
        globals()[name] = found  # the next time it is there
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES} - {"TYPE_CHECKING"})
