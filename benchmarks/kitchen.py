"""The recording that most benchmarks use: 7-Scenes redkitchen, sequence 1, with its SfM poses."""

from pathlib import Path
from typing import Any

SEQUENCE = "7scenes/redkitchen/seq-01"
SFM_POSES = f"{SEQUENCE}-sfm-pseudo-gt.txt"
FOCAL = 525.505  # of the colour camera as in these poses, pixels


def with_sfm_poses(root: Path) -> dict[str, Any]:
    """Options of `open_sequence` and `open_frames` for the SfM reference under a data root."""
    return {"poses": root / SFM_POSES, "focal": FOCAL}
