"""Sessions: the SLAM map with its keyframes in a file, loaded to continue on another day.

The file is an ordinary scene map (it relocalizes too) whose extras hold what tracking and
mapping need beyond it: keyframes with the surfaces that their depth images show and how these were
registered, who observes which landmark, every appearance, and what was learned of the camera (its
depth's calibration, the noise of features). Sessions of earlier versions lack some of that, and
SLAM learns it anew.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ace_jax.errors import UserError
from ace_jax.features.base import FeatureExtractor
from ace_jax.features.similarity import similarity
from ace_jax.geometry.camera import Camera
from ace_jax.geometry.depth_calibration import DepthCalibrator
from ace_jax.geometry.depth_planes import grid_pixels
from ace_jax.geometry.readout_calibration import ReadoutEstimator
from ace_jax.localization.scene_map import SceneMap, feature_fields, load_map, part
from ace_jax.localization.stored_landmarks import landmark_entries
from ace_jax.slam.mapping.keyframes import NO_LANDMARK, Keyframe
from ace_jax.slam.mapping.landmark_map import (
    LANDMARK_ATTRIBUTES,
    LandmarkMap,
)

# The depth camera's calibration is called a bend in files.
_SENSOR = ("depth_bend", "settled_bend", "pixel_residual")
_KEYFRAMES = ("camera_from_world", "uv", "descriptors", "depth", "mask")


def scene_map_of(
    landmark_map: LandmarkMap,
    extractor: FeatureExtractor,
    camera: Camera,
    feature_options: dict[str, Any],
) -> SceneMap:
    """A map file's content: every landmark with its mean descriptor."""
    landmarks = landmark_map.block(np.flatnonzero(landmark_map.valid), len(landmark_map))
    total = landmarks.descriptors.sum(axis=1, keepdims=True)
    norm = np.linalg.norm(total, axis=2, keepdims=True)
    landmarks = landmarks.replace(descriptors=total / np.maximum(norm, 1e-6))
    tau = similarity(extractor.name).temperature
    return SceneMap(
        **landmark_entries(landmarks, len(landmark_map), tau=tau),
        **feature_fields(extractor, feature_options),
        camera=camera,
        mean=landmark_map.keyframes.mean_centre(),
    )


def with_session(scene_map: SceneMap, landmark_map: LandmarkMap) -> SceneMap:
    """A map file's content together with everything that SLAM needs to go on."""
    extra = session_entries(landmark_map, scene_map.camera)
    return dataclasses.replace(scene_map, extra=scene_map.extra | extra)


def session_entries(landmark_map: LandmarkMap, camera: Camera) -> dict[str, np.ndarray]:
    """A map as arrays by name; `restored_map` takes them."""
    landmarks, keyframes, observed = landmark_map.content()
    extra = {
        f"keyframe/{name}": np.stack([getattr(k, name) for k in keyframes]) for name in _KEYFRAMES
    }
    extra["keyframe/landmarks"] = observed
    extra["keyframe/frame_index"] = np.array([k.frame_index for k in keyframes])
    extra["keyframe/inlier_ratio"] = np.array([k.inlier_ratio for k in keyframes])
    rows, columns = grid_pixels(camera)
    unknown = np.zeros((len(rows), len(columns), 3), np.float32)
    extra["keyframe/planes"] = np.stack([unknown if k.planes is None else k.planes
                                         for k in keyframes])  # fmt: skip
    extra["depth_bend"] = landmark_map.depth_calibration
    extra["settled_bend"] = landmark_map.settled_calibration
    extra["pixel_residual"] = np.array(landmark_map.pixel_residual)
    known = [
        np.nan if x is None else x for x in (landmark_map.readout, landmark_map.settled_readout)
    ]
    shutter = landmark_map.shutter
    extra["shutter"] = np.array([*known, shutter.information, shutter.weighted])
    extra["keyframe/uv_rate"] = np.stack([np.zeros_like(k.uv) if k.uv_rate is None else k.uv_rate
                                          for k in keyframes])  # fmt: skip
    extra |= {f"landmark/{name}": values for name, values in landmarks.items()}
    extra |= {f"bend/{name}": values for name, values in landmark_map.calibrator.content().items()}
    _, places = landmark_map.places()
    extra |= {f"edge/{name}": values for name, values in landmark_map.edges.content(places).items()}
    return extra


def load_session(path: Path | str, capacity: int) -> tuple[SceneMap, LandmarkMap]:
    """Reads what `with_session` made.

    Args:
        path: the file.
        capacity: landmarks that the map may have, old and new ones.

    Raises:
        UserError: no such file, damaged, a map without a session, or larger than the capacity.
    """
    scene_map = load_map(path)
    extra = scene_map.extra
    if "keyframe/landmarks" not in extra:
        raise UserError(
            f"{path} is a map without a session; take the session.safetensors beside it"
        )
    try:
        landmark_map = restored_map(extra, scene_map.camera, capacity)
    except (KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
        raise UserError(f"{path} is not a complete session ({error}); record it again") from error
    return scene_map, landmark_map


def restored_map(extra: dict[str, np.ndarray], camera: Camera, capacity: int) -> LandmarkMap:
    """The map that `session_entries` made the arrays of, with room for `capacity` landmarks.

    Raises:
        KeyError, ValueError, IndexError, TypeError, OverflowError: they are not complete.
    """
    count = len(extra["landmark/points"])
    appearances, _, dim = extra["landmark/descriptors"].shape
    if count > capacity:
        raise ValueError(f"{count} landmarks, at most {capacity} fit")
    landmark_map = LandmarkMap(capacity, dim, appearances)
    # Sessions of earlier versions have none of these.
    calibration = extra.get("depth_bend", landmark_map.depth_calibration)
    rows, columns = grid_pixels(camera)
    planes = np.zeros((len(extra["keyframe/uv"]), len(rows), len(columns), 3), np.float32)
    extra = {
        "depth_bend": calibration,
        "settled_bend": calibration,
        "pixel_residual": np.array(0.0),
        "shutter": np.array([np.nan, np.nan, 0.0, 0.0]),
        "keyframe/uv_rate": np.zeros_like(extra["keyframe/uv"]),
        "keyframe/planes": planes,
    } | extra
    keyframes = {name: extra[f"keyframe/{name}"] for name in _KEYFRAMES}
    observed = extra["keyframe/landmarks"]
    if observed.size == 0 or observed.min() < NO_LANDMARK or observed.max() >= count:
        raise ValueError("observations of landmarks that are not there")
    _check_shapes(extra, landmark_map, dim, (len(rows), len(columns)))
    for name, values in extra.items():
        if name.startswith(("keyframe/", "landmark/", *_SENSOR)) and not np.isfinite(values).all():
            raise ValueError(f"{name} holds values that are not finite")
    landmark_map.depth_calibration = np.asarray(extra["depth_bend"], np.float64)
    landmark_map.settled_calibration = np.asarray(extra["settled_bend"], np.float64)
    landmark_map.pixel_residual = max(float(extra["pixel_residual"]), 0.0)
    landmark_map.calibrator = DepthCalibrator(landmark_map.depth_calibration)
    known = [None if np.isnan(x) else float(x) for x in extra["shutter"][:2]]
    landmark_map.readout, landmark_map.settled_readout = known
    landmark_map.shutter = ReadoutEstimator(*map(float, extra["shutter"][2:]))
    if "bend/prior" in extra:
        landmark_map.calibrator = DepthCalibrator.restored(part(extra, "bend/"))
    landmark_map.adopt(
        {name: extra[f"landmark/{name}"] for name in (*LANDMARK_ATTRIBUTES, "descriptors")},
        [
            Keyframe(
                frame_index=int(extra["keyframe/frame_index"][i]),
                inlier_ratio=float(extra["keyframe/inlier_ratio"][i]),
                planes=extra["keyframe/planes"][i] if extra["keyframe/planes"][i].any() else None,
                uv_rate=extra["keyframe/uv_rate"][i]
                if extra["keyframe/uv_rate"][i].any()
                else None,
                **{name: values[i] for name, values in keyframes.items()},
            )
            for i in range(len(observed))
        ],
        observed,
        landmark_map.depth_calibration,
        camera,
    )
    if "edge/pairs" in extra:
        landmark_map.edges.adopt(part(extra, "edge/"), 0, len(observed))
    return landmark_map


def _check_shapes(
    extra: dict[str, np.ndarray], landmark_map: LandmarkMap, dim: int, grid: tuple[int, int]
) -> None:
    """Whether all arrays are of as many keyframes, features and landmarks.

    Raises:
        ValueError: one is not.
    """
    keyframes, features = extra["keyframe/landmarks"].shape
    landmarks, appearances = len(extra["landmark/points"]), len(extra["landmark/descriptors"])
    wanted = {
        "depth_bend": landmark_map.depth_calibration.shape,
        "settled_bend": landmark_map.depth_calibration.shape,
        "pixel_residual": (),
        "shutter": (4,),
        "keyframe/uv_rate": (keyframes, features, 2),
        "keyframe/planes": (keyframes, *grid, 3),
        "keyframe/camera_from_world": (keyframes, 4, 4),
        "keyframe/uv": (keyframes, features, 2),
        "keyframe/descriptors": (keyframes, features, dim),
        "keyframe/depth": (keyframes, features),
        "keyframe/mask": (keyframes, features),
        "keyframe/frame_index": (keyframes,),
        "keyframe/inlier_ratio": (keyframes,),
        "landmark/descriptors": (appearances, landmarks, dim),
    }
    for name in LANDMARK_ATTRIBUTES:
        wanted[f"landmark/{name}"] = (landmarks, *getattr(landmark_map, name).shape[1:])
    for name, shape in wanted.items():
        if extra[name].shape != shape:
            raise ValueError(f"{name} has shape {extra[name].shape}, not {shape}")
