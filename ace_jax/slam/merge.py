"""Merges two SLAM sessions of places that overlap.

  python -m ace_jax.slam.merge FIRST SECOND --out MERGED

FIRST and SECOND are the session.safetensors of two runs of ace_jax.slam with the same features and
camera; MERGED is one, in the world axes of the first. Continue it by
`python -m ace_jax.slam --session MERGED --seq ...`.

Example:
  python -m ace_jax.slam.merge runs/monday/session.safetensors runs/tuesday/session.safetensors \\
      --out both.safetensors
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from ace_jax import errors

_OUT = flags.DEFINE_string("out", None, "the merged session's file", required=True)
_WEIGHTS_DIR = flags.DEFINE_string(
    "weights_dir", None, "folder with pretrained weights (default: $ACE_JAX_WEIGHTS or the cache)"
)


def main(arguments: Sequence[str]) -> None:
    """Merges as the flags say."""
    from ace_jax.features import registry
    from ace_jax.localization.scene_map import save_map
    from ace_jax.slam.config import SlamConfig
    from ace_jax.slam.landmark_slam import LandmarkSlam
    from ace_jax.slam.sessions.merging import merge
    from ace_jax.slam.sessions.session import load_session, with_session

    if len(arguments) != 3:
        raise errors.UserError(
            "name two sessions: python -m ace_jax.slam.merge FIRST SECOND --out M"
        )
    config = SlamConfig()
    (first_map, first), (second_map, second) = (
        load_session(path, config.max_landmarks) for path in arguments[1:]
    )
    extractor = registry.create(first_map.features, _WEIGHTS_DIR.value, **first_map.feature_options)
    first_map.require_camera(second_map.camera, arguments[2])
    for scene_map in (first_map, second_map):
        scene_map.require_features(extractor)
    system = LandmarkSlam(
        first_map.camera,
        extractor,
        config,
        feature_options=first_map.feature_options,
        landmark_map=first,
        close_loops=False,
        new_maps=False,
    )
    overlap = merge(system, second)
    out = Path(_OUT.value)
    size = save_map(out, with_session(system.scene_map(), system.landmark_map), half=True)
    print(
        f"{len(overlap.keyframes)} of the second map's {len(second.keyframes)} keyframes lie in "
        f"the first; {len(system.landmark_map)} landmarks, {size / 1e6:.1f} MB in {out}"
    )


if __name__ == "__main__":
    errors.run(main, positional=("FIRST", "SECOND"))
