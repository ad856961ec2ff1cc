"""What every pose solver returns."""

import flax.struct
import jax


@flax.struct.dataclass
class PoseResult:
    """A pose with what supports it. Always finite; look at `success` before using it.

    Attributes:
        camera_from_world: (4, 4) float32, rotation on SO(3), metres; the identity if nothing was
            found.
        inliers: (N,) bool, correspondences within the threshold; never a masked or non-finite one.
        num_inliers: () int32.
        covariance: (6, 6) of the tangent (v, omega) in metres and radians, where
            true camera_from_world = exp(tangent) @ camera_from_world. Zero without success.
        success: () bool.
        num_hypotheses: () int32, minimal samples that were solved.
    """

    camera_from_world: jax.Array
    inliers: jax.Array
    num_inliers: jax.Array
    covariance: jax.Array
    success: jax.Array
    num_hypotheses: jax.Array
