"""All files of a finished run."""

import dataclasses
from pathlib import Path
from typing import Any

from ace_jax.data import registered_depth
from ace_jax.data.frame import FrameSource
from ace_jax.data.pose_writers import write_trajectory_tum
from ace_jax.evaluation.trajectory import Trajectory
from ace_jax.files import write_json
from ace_jax.localization.scene_map import save_map
from ace_jax.slam.landmark_slam import LandmarkSlam
from ace_jax.slam.reporting import outputs
from ace_jax.slam.reporting.explored import SampledFrames
from ace_jax.slam.reporting.losses import losses, maps_of
from ace_jax.slam.reporting.other_maps import other_maps, write_other_maps
from ace_jax.slam.reporting.report import write_report
from ace_jax.slam.sessions.session import with_session


def write_results(
    source: FrameSource,
    system: LandmarkSlam,
    out: Path,
    frame_seconds: list[float],
    frames: int,
    seed: int,
    extra: dict[str, Any],
    samples: SampledFrames,
) -> dict[str, Any]:
    """Writes trajectories, maps, points, picture, metrics and report; returns the metrics.

    Args:
        source: the recording.
        system: after the run.
        out: the folder.
        frame_seconds: processing time of each frame, in order.
        frames: how many there were.
        seed: of the run.
        extra: further metrics.
        samples: what frames saw.
    """
    live = Trajectory(*system.live_trajectory())
    final = Trajectory(*system.final_trajectory())
    write_trajectory_tum(out / "trajectory_live.tum", live.timestamps, live.world_from_camera)
    write_trajectory_tum(out / "trajectory.tum", final.timestamps, final.world_from_camera)
    outputs.write_points_ply(out / "points.ply", *system.points())
    scene_map = system.scene_map()
    map_bytes = save_map(out / "map.safetensors", scene_map, half=True)
    if system.landmark_map.keyframes:
        save_map(
            out / "session.safetensors", with_session(scene_map, system.landmark_map), half=True
        )
    write_other_maps(out, other_maps(system))
    poses = source.poses()
    reference = None if poses is None else Trajectory(source.timestamps(), poses)
    stage_ms = system.times.by_stage()
    metrics = outputs.trajectory_metrics(
        sequence=source.name,
        frames=frames,
        estimate=final,
        live=live,
        ground_truth=reference,
        frame_seconds=frame_seconds,
        stage_ms=stage_ms,
        map_bytes=map_bytes,
        head=scene_map.head,
        features=system.extractor.name,
        seed=seed,
    )
    metrics.update(extra | registered_depth.facts(source))
    metrics["loops_closed"] = len(system.mapping.closures)
    metrics["keyframes"] = len(system.landmark_map.keyframes)
    metrics["maps"] = maps_of(system.atlas, system.frames)
    metrics["lost"] = [dataclasses.asdict(loss) for loss in losses(system.frames)]
    write_json(out / "metrics.json", metrics)
    outputs.plot_trajectory(out / "trajectory.png", final, reference, title=source.name)
    outputs.plot_trajectory(out / "trajectory.pdf", final, reference)
    write_report(out, source, system, samples, metrics, frame_seconds, stage_ms, reference)
    return metrics
