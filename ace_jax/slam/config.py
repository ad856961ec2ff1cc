"""Constants of SLAM by mechanism, each with its unit and its source.

Pixel figures are for an image 640 pixels wide and scale with the width. Sources:

- theory: the figure follows from a distribution or a bound, which is named;
- measured: by a script in `benchmarks/`;
- size: bounds of memory or computation, and shapes of compiled programs;
- judged: set once by judgement, not varied since;
- tuned: on the recordings named by a letter, as far as the history of the project tells:
  K 7-Scenes redkitchen 0-499; R synthetic rooms; P synthetic rooms with walking people, without
  harm to K, R and TUM fr1_rpy; W wide steps (HoloLens lounge, a desk, every tenth frame of
  redkitchen); L synthetic rings and corridors, with rooms that look alike; B rooms with a bent
  depth sensor, redkitchen and TUM fr1_rpy.

What descriptors of a kind need is in `ace_jax.features.similarity`.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class MovingConfig:
    """What moves in the image, by its matches: see `guided_pose` and `moving_features`.

    Attributes:
        well_observed_by (keyframes; tuned P): that observe a well-observed landmark, at least.
        min_well_observed (landmarks; tuned P): so many hold a pose; others may not drag it away.
        max_drag (ratio; tuned P): by which others may raise the cost of these.
        min_rivals (matches; tuned P): fewest outliers that are asked for a motion of their own,
        min_rival_share (share; tuned P): and at least this share of the matches.
        unsteady_agreement (share; tuned P): with few well-observed landmarks the camera's pose may
            be that of a moving person, so earlier frames are compared; with more agreement (see
            `Tracked`) than this, another pose is taken only if as many matches as a rival needs
            would be left to a moving thing.
        memory (s; tuned P): for which features are followed; eight frames at 30 Hz.
        radius (px, s; tuned P): that a feature may be from where it stood, after such a time.
        pixel_sigma (px; tuned P): keypoint noise between neighbouring frames.
        surface_ratio (ratio; tuned P): by which another motion must explain more surface.
        max_dragged (m; theory: 1 m/s for a tenth of a second): by which a person moves the pose.
        min_matches (matches; tuned P): that are asked for a motion.
        track_age (s; tuned P): for which a feature must be followed, to tell that it moves,
        long_track (s; tuned P): and to tell that it does not.
        min_settled (features; judged): of landmarks, that tell how far noise moves features.
        least_speed (m/s; tuned P): of what moves, beyond noise.
        min_moving (features; tuned P): with one velocity; fewer are mismatches.
        min_grouped (share; tuned P): of all that seem to move, in such groups.
        reach (m; tuned P): around moving features in which unmatched ones move as well,
        neighbours (features; tuned P): if so many are there, nearer than as many static ones.
    """

    # Landmarks that hold the pose
    well_observed_by: int = 3
    min_well_observed: int = 25
    max_drag: float = 1.3
    # Rival motions among the matches
    min_rivals: int = 20
    min_rival_share: float = 0.25
    unsteady_agreement: float = 0.7
    # Comparison with earlier frames
    memory: float = 0.29
    radius: tuple[float, float] = (60.0, 0.1)
    pixel_sigma: float = 1.0
    surface_ratio: float = 1.1
    max_dragged: float = 0.1
    min_matches: int = 10
    track_age: float = 0.06
    long_track: float = 0.195
    min_settled: int = 20
    least_speed: float = 0.1
    min_moving: int = 12
    min_grouped: float = 2 / 3
    reach: float = 0.3
    neighbours: int = 3


@dataclasses.dataclass(frozen=True)
class FreeSpaceConfig:
    """What moves in the image, by the depth images before: see `free_space`.

    Attributes:
        count (images; size): depth images that are kept.
        interval (s; tuned P): between them.
        step (px; size): every so-many-th row and column is kept.
        margin (m, m/m; tuned P): of surfaces, and its growth with distance.
        max_moved (share; tuned P): of the image's area; if more seems to move, the pose is wrong.
        grid (samples; size): of that area, across the image.
        edge (of the width; tuned P): as far beside an edge features belong to the nearer surface.
        reach (m; tuned P): around moving points in which what was never seen moves as well,
        neighbours (points; tuned P): if so many of them are there.
    """

    count: int = 20
    interval: float = 0.25
    step: int = 4
    margin: tuple[float, float] = (0.06, 0.05)
    max_moved: float = 0.7
    grid: int = 20
    edge: float = 0.006
    reach: float = 0.4
    neighbours: int = 3


@dataclasses.dataclass(frozen=True)
class RegistrationConfig:
    """How far registrations of depth images are trusted: see `depth_edges`.

    Attributes:
        memory (registrations; tuned B): over which disagreement is averaged.
        trust_after (registrations; tuned B): from which on it is known.
    """

    memory: int = 40
    trust_after: int = 6


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """When two places are the same: see `loop_closing`.

    Attributes:
        min_gap (keyframes; tuned L): between this one and one that counts as old.
        min_covisible (landmarks; tuned K): shared ones that make two keyframes neighbours.
        drift (m, m/m; tuned L): of the pose, whatever the path, and for each metre of it.
        drift_angle (rad, rad/m; tuned L): of the direction, the same.
        view_distance (m; tuned L): between keyframes that may still see the same things.
        view_angle (rad; tuned L): between their optical axes.
        max_candidates (keyframes; size): old ones that are voted on.
        max_candidate_landmarks (landmarks; size): capacity of the vote (static shape).
        min_votes (landmarks; tuned L): matched landmarks of one old keyframe that make it worth a
            geometric check.
        group_keyframes (keyframes; size): old keyframes around the best one whose landmarks form
            the old local map.
        max_group_landmarks (landmarks; size): capacity of that map (static shape).
        wide_radius (px; tuned L): of the first guided search around a predicted pose.
        fine_radius (px; tuned K): second one.
        near_radius (px; tuned L): within which a feature's depth is compared with a landmark's.
        min_inliers (landmarks; tuned L): matched old landmarks in each keyframe.
        min_cells (cells; tuned L): of the grid's 24 cells, those that must hold matches.
        min_support (share; tuned L): matched over expected landmarks, relative to the old
            keyframe's own figure.
        max_holes (share; tuned L): share of the cells with expected landmarks in which next to none
            is found.
        max_contradicted (share; tuned L): share of the landmarks with a depth beside them that it
            contradicts.
        small_drift (m, rad; tuned L): of a correction that is likely by odometry alone.
        small_evidence (as those; tuned L): what then takes the place of `min_inliers`,
            `min_support`, `max_holes` and `max_contradicted`: at another viewpoint far fewer
            landmarks are found again.
        confirmations (keyframes; tuned L): that must agree on one correction.
        patience (keyframes; tuned L): without confirmation after which a hypothesis is given up.
        agreement (m, rad; tuned L): by which the keyframes' corrections may differ.
        rival (share; tuned L): a second place with this share of the first one's inliers makes both
            doubtful.
        rest (keyframes; tuned L): after a closure in which no loop is looked for.
        fuse_keyframes (keyframes; size): newest keyframes into which old landmarks are fused.
        max_edges (edges; size): of the pose graph, from a keyframe to its recent past.
        max_loop_edges (edges; size): and to older keyframes it shares landmarks with (former
            loops).
        edge_sigma (m, rad; tuned L): of an edge of `edge_landmarks` shared landmarks.
        edge_landmarks (landmarks; tuned L): see `edge_sigma`; the variance goes with one over the
            number.
        cells (cells; tuned L): columns and rows of the grid in which evidence is counted.
        agreeing_sigmas (sigma; tuned L): of inverse depth within which a depth confirms a landmark,
        differing_sigmas (sigma; tuned L): and beyond which it contradicts it.
        hole_landmarks (landmarks; tuned L): expected in a cell that can be a hole, at least,
        hole_share (share; tuned L): which it is with less than this share of the whole image's
            support.
        align_floor (m; tuned L): least inlier threshold of the pose without a prior.
        hypotheses (samples; size): of its RANSAC.
    """

    min_gap: int = 12
    min_covisible: int = 15
    drift: tuple[float, float] = (0.3, 0.025)
    drift_angle: tuple[float, float] = (0.1, 0.02)
    view_distance: float = 1.5
    view_angle: float = 0.8
    max_candidates: int = 60
    max_candidate_landmarks: int = 4096
    min_votes: int = 15
    group_keyframes: int = 10
    max_group_landmarks: int = 1536
    wide_radius: float = 24.0
    fine_radius: float = 8.0
    near_radius: float = 6.0
    min_inliers: int = 30
    min_cells: int = 6
    min_support: float = 0.6
    max_holes: float = 0.12
    max_contradicted: float = 0.1
    small_drift: tuple[float, float] = (0.3, 0.1)
    small_evidence: tuple[int, float, float, float] = (45, 0.2, 0.5, 0.2)
    confirmations: int = 3
    patience: int = 2
    agreement: tuple[float, float] = (0.1, 0.05)
    rival: float = 0.6
    rest: int = 4
    fuse_keyframes: int = 10
    max_edges: int = 4
    max_loop_edges: int = 2
    edge_sigma: tuple[float, float] = (0.01, 0.005)
    edge_landmarks: int = 50
    cells: tuple[int, int] = (6, 4)
    agreeing_sigmas: float = 4.0
    differing_sigmas: float = 6.0
    hole_landmarks: int = 8
    hole_share: float = 0.25
    align_floor: float = 0.05
    hypotheses: int = 512


@dataclasses.dataclass(frozen=True)
class MergeConfig:
    """When two maps overlap: see `map_joining`.

    Attributes:
        max_disagreement (m, rad; judged): between keyframes that agree on one overlap.
        min_agreeing (keyframes; judged): that must agree on it.
        max_asked (keyframes; size): of a map that are looked for in another one, at most.
    """

    max_disagreement: tuple[float, float] = (0.05, math.radians(2.0))
    min_agreeing: int = 3
    max_asked: int = 100


@dataclasses.dataclass(frozen=True)
class SlamConfig:
    """The frame loop, and the mechanisms' own constants.

    Attributes:
        moving: see `MovingConfig`.
        free_space: see `FreeSpaceConfig`.
        registration: see `RegistrationConfig`.
        loops: see `LoopConfig`.
        pixel_sigma (px; tuned K R): keypoint noise at the start and at most; see `FeatureNoise`.
        min_pixel_sigma (px; tuned K R): the same at least.
        pixel_sigma_factor (ratio; tuned K R): noise over the residuals' standard deviation.
        noise_memory (frames; tuned K R): over which residuals are averaged.
        inverse_depth_sigma (1/m; tuned K R): noise of the depth sensor, several times a Kinect's
            random noise: errors of registration and scale are systematic, and a tight term bends
            the trajectory.
        max_depth (m; tuned K R): depth beyond it is not used.
        planar_radius (px; measured by benchmarks/slam_budget.py): around a feature that must be one
            surface, or it gets no depth.
        match_ratio (ratio; tuned K R): of the best over the second-best descriptor distance.
        max_view_angle (rad; tuned K R): between the mean direction of view and the present one.
        max_scale_change (ratio; tuned K R): of mean and present distance.
        view_margin (px; tuned K R): outside the image, in which landmarks may still be in view.
        coarse_radius (px; tuned K R): search radius around the motion prediction.
        fine_radius (px; tuned K R): search radius around the first pass's pose.
        min_inliers (landmarks; tuned K R): fewer matched landmarks mean that tracking is lost.
        min_inlier_ratio (share; tuned K R): inliers over matches in the first pass below which it
            is repeated by global relocalization.
        local_keyframes (keyframes; size): whose landmarks form the local map.
        max_local_landmarks (landmarks; size): capacity of the local map (static shape).
        few_landmarks (landmarks; tuned L): if fewer agree with a pose, the features of the last
            frame determine it too.
        dense_agreement (share; measured on pairs of frames): pixels that must agree for a pose by
            dense alignment. 1 % of the right poses of redkitchen, freiburg1_rpy and hololens_lounge
            0-94 (up to 24 cm and 17 degrees apart) have less than 0.92 to 0.98.
        dense_overlap (share; measured, as before): of the last image that must be in view.
        dense_deviation (m, rad; theory: a fraction of the search radius): in the worst direction.
        confirming (share, share; measured, as before): such agreement and overlap where fewer than
            `min_inliers` features tell the pose, too; of 152 pairs 84 pass, off by 16 cm at most.
        contradicting_landmarks (landmarks; judged): well-observed ones in view of a pose from dense
            alignment alone; with fewer the map does not contradict it,
        contradicted_share (share; judged): with less of them at the depth where they should be, the
            map contradicts it: the image follows people who cover most of it.
        max_spread (m; tuned K R): standard deviation of a scene coordinate; less certain ones do
            not vote.
        kabsch_threshold (m, 1/m; tuned K R): of inliers, and what is added by the square of the
            distance, as depth noise grows.
        pnp_threshold (px; tuned K R): of inliers where features have no depth.
        hypotheses (samples; size): of RANSAC; twice as many without depth.
        relocalized_factor (ratio; tuned K R): by which the search radius and the inliers needed
            grow after relocalization.
        keyframe_min_gap (frames; tuned K R): between keyframes, at least.
        keyframe_translation (m; tuned K R): to the nearest keyframe, beyond which a frame becomes
            one.
        keyframe_rotation (rad; tuned K R): the same for the direction.
        keyframe_overlap (share; tuned K R): a frame becomes one if it shows less of the most
            similar keyframe's landmarks.
        keyframe_min_tracked (landmarks; tuned W): a frame becomes one as well with fewer tracked
            landmarks
        keyframe_min_new (features; tuned W): and more features that could become landmarks.
        insert_depth (m; tuned K R): nearest and farthest depth at which a landmark is created;
            beyond it only where few are nearer.
        min_near_landmarks (landmarks; tuned W): landmarks a keyframe should make; where so few
            points are near, the nearest far ones make up the number.
        min_covisible (landmarks; tuned K R): shared landmarks that make two keyframes neighbours.
        fuse_neighbours (keyframes; size): that a new keyframe's landmarks are fused with.
        fuse_radius (px; tuned K R): around a landmark, in which it is fused.
        fuse_chi2 (chi-square; theory: 1.5 times the 95 % quantile of three residuals): of pixels
            and inverse depth, above which landmarks are not fused.
        max_fuse_landmarks (landmarks; size): that are fused into a new keyframe, at most.
        max_fused (keyframes; size): that are fused at a time; older ones that wait are adjusted
            only.
        cull_patience (keyframes; tuned K R): after which a landmark that one keyframe alone has
            seen is removed.
        min_bundle_observations (landmarks; tuned K R): that a keyframe must show to be moved by
            bundle adjustment.
        max_bundle_move (m, rad; tuned K R): by which it may move; more means that the adjustment
            failed.
        window_free (keyframes; size): that bundle adjustment moves.
        window_fixed (keyframes; size): that hold the window in place.
        max_window_landmarks (landmarks; size): capacity of bundle adjustment (static shape).
        registered_neighbours (keyframes; size): that a new keyframe's depth image is registered to.
        max_window_edges (edges; size): of such registrations in bundle adjustment.
        max_waiting_loops (keyframes; size): that wait; with more no loop is looked for.
        mapping_lag (frames; size): frames after which the result of a mapping job is taken; see
            `MappingQueue`.
        new_map_after (frames; judged): without a pose, after which a new map begins.
        max_maps (maps; size): that are kept until they can be joined.
        max_landmarks (landmarks; size): capacity of the whole map.
        max_keyframes (keyframes; size): capacity of the whole map; beyond it the least useful ones
            are retired,
        recent_keyframes (keyframes; size): but none of so many newest ones.
        depending_observers (keyframes; tuned K R): up to so many observers a landmark depends on
            each of them: such keyframes are retired last.
        descriptors_per_landmark (descriptors; size): appearances kept per landmark.
    """

    # Noise of features and depth
    pixel_sigma: float = 1.75
    min_pixel_sigma: float = 0.7
    pixel_sigma_factor: float = 2.0
    noise_memory: float = 30.0
    inverse_depth_sigma: float = 0.0075
    # Depth at features
    max_depth: float = 10.0
    planar_radius: float = 5.0
    # Guided matching
    match_ratio: float = 0.9
    max_view_angle: float = 1.05
    max_scale_change: float = 2.0
    view_margin: float = 40.0
    # Tracking
    coarse_radius: float = 20.0
    fine_radius: float = 8.0
    min_inliers: int = 20
    min_inlier_ratio: float = 0.35
    local_keyframes: int = 20
    max_local_landmarks: int = 1536
    # The motion since the last frame
    few_landmarks: int = 100
    dense_agreement: float = 0.9
    dense_overlap: float = 0.4
    dense_deviation: tuple[float, float] = (0.03, 0.02)
    confirming: tuple[float, float] = (0.75, 0.15)
    contradicting_landmarks: int = 20
    contradicted_share: float = 0.5
    # Relocalization
    max_spread: float = 0.15
    kabsch_threshold: tuple[float, float] = (0.04, 0.015)
    pnp_threshold: float = 6.0
    hypotheses: int = 512
    relocalized_factor: float = 2.0
    # Keyframes
    keyframe_min_gap: int = 2
    keyframe_translation: float = 0.15
    keyframe_rotation: float = 0.175
    keyframe_overlap: float = 0.35
    keyframe_min_tracked: int = 100
    keyframe_min_new: int = 70
    insert_depth: tuple[float, float] = (0.3, 4.0)
    min_near_landmarks: int = 100
    # Local mapping
    min_covisible: int = 15
    fuse_neighbours: int = 10
    fuse_radius: float = 4.0
    fuse_chi2: float = 11.7
    max_fuse_landmarks: int = 1536
    max_fused: int = 4
    cull_patience: int = 3
    min_bundle_observations: int = 30
    max_bundle_move: tuple[float, float] = (0.2, math.radians(8.0))
    window_free: int = 8
    window_fixed: int = 20
    max_window_landmarks: int = 3072
    registered_neighbours: int = 6
    max_window_edges: int = 96
    max_waiting_loops: int = 3
    mapping_lag: int = 3
    # Maps
    new_map_after: int = 5
    max_maps: int = 8
    # Size of a map
    max_landmarks: int = 16384
    max_keyframes: int = 320
    recent_keyframes: int = 50
    depending_observers: int = 3
    descriptors_per_landmark: int = 4

    # Mechanisms
    moving: MovingConfig = MovingConfig()
    free_space: FreeSpaceConfig = FreeSpaceConfig()
    registration: RegistrationConfig = RegistrationConfig()
    loops: LoopConfig = LoopConfig()
