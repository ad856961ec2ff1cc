"""Constants of loop closing, with units."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """When two places are the same. Pixel figures are for an image 640 wide.

    Attributes:
        min_gap: keyframes between this one and one that counts as old.
        min_covisible: shared landmarks that make two keyframes neighbours already.
        drift: metres by which the pose may be off whatever the path, and per metre of it.
        drift_angle: the same for the direction, radians, and radians per metre.
        view_distance: metres between keyframes that may still see the same things.
        view_angle: radians between their optical axes.
        max_candidates: old keyframes that are voted on.
        max_candidate_landmarks: capacity of the vote (static shape).
        min_votes: matched landmarks of one old keyframe that make it worth a geometric check.
        group_keyframes: old keyframes around the best one whose landmarks form the old local map.
        max_group_landmarks: capacity of that map (static shape).
        wide_radius: first guided search around a predicted pose, pixels.
        fine_radius: second one, pixels.
        near_radius: pixels within which a feature's depth speaks about a landmark.
        min_inliers: matched old landmarks in each keyframe.
        min_cells: of the grid's 24 cells, those that must hold matches.
        min_support: matched over expected landmarks, relative to the old keyframe's own figure.
        max_holes: share of the cells with expected landmarks in which next to none is found.
        max_contradicted: share of the landmarks with a depth beside them that it contradicts.
        small_drift: metres and radians of a correction that odometry alone nearly vouches for.
        small_evidence: what then takes the place of `min_inliers`, `min_support`, `max_holes` and
            `max_contradicted`: at another viewpoint far fewer landmarks are found again.
        confirmations: keyframes that must agree on one correction.
        patience: keyframes without confirmation after which a hypothesis is given up.
        agreement: metres and radians by which the keyframes' corrections may differ.
        rival: a second place with this share of the first one's inliers makes both doubtful.
        rest: keyframes after a closure in which none is looked for.
        fuse_keyframes: newest keyframes into which old landmarks are fused.
        max_edges: pose graph edges of a keyframe to its recent past.
        max_loop_edges: and to older keyframes it shares landmarks with (former loops).
        edge_sigma: metres and radians of an edge of `edge_landmarks` shared landmarks.
        edge_landmarks: see `edge_sigma`; the variance goes with one over the number.
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
