"""SLAM in a loop of your own.

  python examples/camera_loop.py RECORDING OUT

RECORDING is a path, or live/realsense. Any camera with depth does: see docs/camera.md.
"""

import sys

import ace_jax


def main(recording: str, out: str) -> ace_jax.SlamResult:
    """Tracks all frames and saves what was found."""
    frames = ace_jax.open_recording(recording)
    slam = ace_jax.Slam(frames.camera, seed=1)
    for frame in frames:
        pose = slam.track(frame.rgb, frame.depth, frame.timestamp)
        if pose.world_from_camera is None:
            print(f"{pose.timestamp:.2f} s: {pose.state}, {pose.lost_because or 'no reason known'}")
        elif pose.index % 30 == 0:
            print(
                f"{pose.timestamp:.2f} s: {pose.inliers} inliers, {pose.world_from_camera[:3, 3]}"
            )
    result = slam.finish()
    result.save(out)
    return result


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
