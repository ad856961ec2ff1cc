"""Settings of a relocalization query, and those that suit each kind of map."""

import flax.struct

from ace_jax.features.similarity import similarity
from ace_jax.localization.landmarks import MatchGates
from ace_jax.localization.places import HEAD_ROWS
from ace_jax.localization.scene_map import SceneMap


@flax.struct.dataclass
class Settings:
    """How a query is answered. What decides about shapes is static under jit, the rest is traced.

    Attributes:
        first_queries: of a map of landmarks so many features are asked first, strong and weak ones
            alike. Their pose is the answer if `sure_guided` landmarks confirm it.
        max_queries: the most reliable features that are asked next (of equally reliable ones an
            even choice over the image); all of them if these fail.
        keep_share: share of the answers, the most certain, that vote.
        quantile_ratio: if set, instead: answers with s < ratio x the 10 % quantile of s vote
            (ACE-G takes 2).
        threshold: largest reprojection error of an inlier, pixels at 640 columns (10 as in ACE).
        min_inliers: fewer is a failure.
        min_guided: with guided matching a pose of fewer inliers is a success as well, if so many
            landmarks are found within two pixels of their projections.
        sure_guided: so many of them make sure that more features would not tell another pose.
        guided_rounds: refinements of the pose by guided matching, for maps of landmarks; 0: none.
        guided_landmarks: landmarks in view that a refinement uses at most; a room has 500 to 2000.
        guided_similarity: least cosine similarity of a landmark and a feature in it.
        guided_scale_change: a landmark takes part that is so many times as near or as far as the
            mapping images were, at most; see `MatchGates`.
        head_rows: of a map with places, so many landmarks of the head answer: those of the mapping
            images that look most like the query; of `first_queries` features half as many, which is
            most of a query's time. More than `places.HEAD_ROWS` are rarely needed.
        use_depth: let measured depth of the query, where given, take part in the refinement.
        seed: of the sampling; the same seed gives the same pose.
    """

    first_queries: int = flax.struct.field(pytree_node=False, default=256)
    max_queries: int = flax.struct.field(pytree_node=False, default=1024)
    keep_share: float = flax.struct.field(pytree_node=False, default=0.6)
    quantile_ratio: float | None = flax.struct.field(pytree_node=False, default=None)
    threshold: float = 10.0
    min_inliers: int = 20
    min_guided: int = 10
    sure_guided: int = 48
    guided_rounds: int = flax.struct.field(pytree_node=False, default=1)
    guided_landmarks: int = flax.struct.field(pytree_node=False, default=2048)
    guided_similarity: float = 0.8
    guided_scale_change: float = MatchGates.max_scale_change
    head_rows: int = flax.struct.field(pytree_node=False, default=HEAD_ROWS)
    use_depth: bool = flax.struct.field(pytree_node=False, default=True)
    seed: int = 0

    def of_the_pose(self) -> "Settings":
        """Without what decides about correspondences alone: all maps share the pose's programs."""
        return self.replace(
            max_queries=0,
            first_queries=0,
            keep_share=1.0,
            quantile_ratio=None,
            guided_rounds=0,
            guided_landmarks=0,
            head_rows=0,
        )


def default_settings(scene_map: SceneMap) -> Settings:
    """What suits the map's kind of head."""
    if scene_map.head == "map_code_transformer":
        return Settings(max_queries=1 << 20, quantile_ratio=2.0)  # as the paper: all patches
    if scene_map.head != "landmark_attention" or scene_map.features.endswith("dense"):
        # One answer per cell: coarse positions, many of them poor, and no keypoints to search for.
        return Settings(guided_rounds=0, keep_share=0.3)
    config = scene_map.info.get("landmark_options", {})
    min_cosine = config.get("min_similarity", Settings.guided_similarity)
    kind = similarity(scene_map.features)
    # On redkitchen 0-699 the right map has 62 inliers and more, maps of other places 27 at most.
    # All features are asked: the strongest ones may lie on one thing that was moved since.
    return Settings(
        threshold=4.0,
        min_inliers=30,
        guided_similarity=min_cosine,
        guided_scale_change=kind.max_scale_change,
    )
