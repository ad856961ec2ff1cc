"""SLAM on real images and real depth, with the options of the command."""

import pytest

from ace_jax.data.registry import open_sequence
from ace_jax.slam.run import SystemOptions, create_system, run


def test_redkitchen(shared_dir, tmp_path):
    weights = shared_dir / "weights"
    if not (weights / "xfeat.onnx").is_file():
        pytest.skip(f"no xfeat.onnx in {weights}")
    data = shared_dir / "data"
    source = open_sequence(
        "7scenes/redkitchen/seq-01",
        data,
        max_frames=40,
        poses=data / "7scenes/redkitchen/seq-01-sfm-pseudo-gt.txt",
    )
    system = create_system(source, SystemOptions(weights_dir=str(weights)))
    metrics = run(source, system, tmp_path).metrics
    assert metrics["coverage"] == 1.0
    assert metrics["ate_rmse_m"] < 0.02
    assert metrics["ate_live_rmse_m"] < 0.02
    assert metrics["recompilations"] == 0
