"""Constants of the SLAM loop, with units. Chosen on redkitchen 0-499 and synthetic rooms."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class SlamConfig:
    """Settings of one run. Pixel figures are for a 640-pixel-wide image and scale with the width.

    Attributes:
        pixel_sigma: keypoint noise at the start and at most, pixels; see `FeatureNoise`.
        min_pixel_sigma: the same at least.
        pixel_sigma_factor: noise over the residuals' standard deviation.
        noise_memory: frames over which residuals are averaged.
        inverse_depth_sigma: depth sensor noise, 1/m (several times a Kinect's random noise:
            registration and scale errors are systematic, and a tight term bends the trajectory).
        max_depth: depth beyond it is not used, metres.
        insert_depth: (nearest, farthest) depth at which a landmark is created, metres; beyond it
            only if a keyframe shows fewer than `min_near_landmarks` nearer points.
        coarse_radius: search radius around the motion prediction, pixels.
        coarse_retry_radius: the same after a failed first search, pixels.
        fine_radius: search radius around the first pass's pose, pixels.
        min_cosine: least descriptor similarity of a match; RootSIFT has its own.
        match_ratio: best over second-best descriptor distance must stay below it.
        max_view_angle: between the mean direction a landmark was seen from and now, radians.
        max_scale_change: ratio of distances at which a landmark was seen and is seen now.
        min_inliers: fewer matched landmarks mean that tracking is lost.
        min_inlier_ratio: inliers over matches in the first pass below which it is repeated by
            global relocalization.
        well_observed_by: keyframes that observe a well-observed landmark, at least,
        min_well_observed: if so many are matched, others may not drag the pose away from them.
        unsteady_agreement: with less agreement (see `Tracked`), and fewer than `min_well_observed`
            well-observed landmarks, the camera may be following someone who walks.
        min_inlier_spread: standard deviation of the inliers along the direction in which they
            spread least, pixels; with less, one direction is not observed (aperture problem),
        small_spread_inlier_ratio: and the pose needs at least this ratio of inliers.
        dense_agreement: share of pixels that must agree for a pose by dense alignment to count. Of
            pairs of frames up to 24 cm and 17 degrees apart (redkitchen, TUM freiburg1_rpy,
            hololens_lounge 0-94) 1 % of the right poses have less than 0.91 to 0.98.
        dense_overlap: share of the last image that must be in view.
        dense_deviation: metres and radians of standard deviation in the worst direction, at most:
            a bare wall in even light does not tell how the camera moved along it.
        keyframe_min_gap: frames between keyframes, at least.
        keyframe_probation: frames tracked in a row before the map grows again, after a loss.
        max_fused: keyframes that are fused at a time; older ones that wait as well are adjusted,
            but not fused (their neighbours will find what they share with them).
        max_waiting_loops: if more keyframes wait to be mapped, no loop is looked for.
        keyframe_translation: metres to the nearest keyframe that make a new one.
        keyframe_rotation: radians to the nearest keyframe that make a new one.
        keyframe_overlap: a keyframe is made when fewer than this share of the last keyframe's
            landmarks is tracked.
        keyframe_min_tracked: and when fewer landmarks than this are tracked while
        keyframe_min_new: more features than this have depth and could become landmarks.
        local_keyframes: keyframes whose landmarks form the local map.
        max_local_landmarks: capacity of the local map (static shape).
        fuse_neighbours: keyframes that a new keyframe's landmarks are fused with.
        fuse_radius: pixels.
        max_fuse_landmarks: landmarks that are fused into a new keyframe, at most.
        window_free: keyframes that bundle adjustment moves.
        window_fixed: keyframes that hold the window in place.
        max_window_landmarks: capacity of bundle adjustment (static shape).
        registered_neighbours: keyframes that a new keyframe's depth image is registered to.
        max_window_edges: capacity of bundle adjustment for such registrations (static shape).
        min_covisible: shared landmarks that make two keyframes neighbours.
        max_landmarks: capacity of the whole map.
        max_keyframes: capacity of the whole map; beyond it the least useful ones are retired,
        recent_keyframes: but none of so many newest ones.
        descriptors_per_landmark: appearances kept per landmark.
        mapping_lag: frames after which the result of a mapping job is taken; see `MappingQueue`.
    """

    pixel_sigma: float = 1.75
    min_pixel_sigma: float = 0.7
    pixel_sigma_factor: float = 2.0
    noise_memory: float = 30.0
    inverse_depth_sigma: float = 0.0075
    max_depth: float = 10.0
    insert_depth: tuple[float, float] = (0.3, 4.0)
    min_near_landmarks: int = 100
    coarse_radius: float = 20.0
    coarse_retry_radius: float = 50.0
    fine_radius: float = 8.0
    min_cosine: float = 0.75
    match_ratio: float = 0.9
    max_view_angle: float = 1.05
    max_scale_change: float = 2.0
    min_inliers: int = 20
    min_inlier_ratio: float = 0.35
    well_observed_by: int = 3
    min_well_observed: int = 25
    unsteady_agreement: float = 0.7
    min_inlier_spread: float = 40.0
    small_spread_inlier_ratio: float = 0.7
    dense_agreement: float = 0.9
    dense_overlap: float = 0.4
    dense_deviation: tuple[float, float] = (0.03, 0.02)
    keyframe_min_gap: int = 2
    keyframe_probation: int = 8
    max_fused: int = 4
    max_waiting_loops: int = 3
    keyframe_translation: float = 0.15
    keyframe_rotation: float = 0.175
    keyframe_overlap: float = 0.35
    keyframe_min_tracked: int = 100
    keyframe_min_new: int = 70
    local_keyframes: int = 20
    max_local_landmarks: int = 1536
    fuse_neighbours: int = 10
    fuse_radius: float = 4.0
    max_fuse_landmarks: int = 1536
    window_free: int = 8
    window_fixed: int = 20
    max_window_landmarks: int = 3072
    registered_neighbours: int = 6
    max_window_edges: int = 96
    min_covisible: int = 15
    max_landmarks: int = 16384
    max_keyframes: int = 320
    recent_keyframes: int = 50
    descriptors_per_landmark: int = 4
    mapping_lag: int = 3
