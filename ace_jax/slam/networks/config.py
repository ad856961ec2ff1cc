"""Constants of maps that are networks; units and sources as in `slam.config`."""

import dataclasses

# Sizes of the heads that a run can have.
HEAD_OPTIONS = {
    "tri_mlp": {"width": 512, "layers": 1, "cells": 16},
    "homogeneous_mlp": {"width": 256, "blocks": 0},
}


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """A map that is a network, for two CPU cores: see `network_mapping`.

    Attributes:
        input_gain (ratio; tuned K): the first layer's initial weights are multiplied by it.
            Descriptors have unit length, so their entries are far smaller than the unit variance
            that initial weights are made for; with them as they are, training is several times
            slower.
        seeded_answer (activation; tuned K): what a seeded unit (`NetworkMap.seed_units`) answers to
            its own descriptor.
        seeded_support (share; tuned K): share of a frame's features that a seeded unit answers to;
            0: none seeded.
        seeded_first (share; tuned K): share of the units that the first keyframe seeds.
        seeded (share; tuned K): share of the units that each later keyframe seeds, until none is
            left.
        batch (features; size): features in a gradient step.
        steps (steps; size): gradient steps a frame.
        first_steps (steps; size): gradient steps on the first frame.
        final_steps (steps; size): gradient steps after the stream's end, over all keyframes.
        learning_rate (1/step; tuned K): of Adam.
        extent (m; tuned K): half of the extent of TriMLP's planes around the first frame's points.
        depth_range (m; tuned K): (nearest, farthest) depth of points to learn.
        capacity (keyframes; size): keyframes in the buffer.
        window_latest (keyframes; size): newest keyframes in the window.
        window_older (keyframes; size): older keyframes drawn into the window.
        quality_weight (ratio; tuned K): a of the sampling probability 1/|P| + a (1 - lambda).
        hypotheses (samples; size): RANSAC samples to locate a frame.
        inlier_threshold (m, 1/m; tuned K): of inliers, and what is added by the square of the
            distance, as depth noise grows.
        same_pose (m; tuned K): between two poses that count as one.
        inlier_factor (ratio; tuned K): by which the network's pose must explain more landmarks than
            another prediction.
    """

    input_gain: float = 8.0
    seeded_answer: float = 8.0
    seeded_support: float = 0.2
    seeded_first: float = 0.25
    seeded: float = 0.0625
    batch: int = 512
    steps: int = 4
    first_steps: int = 150
    final_steps: int = 400
    learning_rate: float = 3e-3
    extent: float = 6.0
    depth_range: tuple[float, float] = (0.3, 6.0)
    capacity: int = 400
    window_latest: int = 4
    window_older: int = 4
    quality_weight: float = 0.1
    hypotheses: int = 64
    inlier_threshold: tuple[float, float] = (0.04, 0.015)
    same_pose: float = 0.02
    inlier_factor: float = 1.2
