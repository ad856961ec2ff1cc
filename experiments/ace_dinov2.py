"""ACE-DINOv2: ACE's head on DINOv2 features, the baseline of the ACE-G paper.

Command (the weights once, then a map and its queries):
  python -m ace_jax.weights download dinov2_vitl14_reg
  python -m ace_jax.mapping --seq 7scenes/redkitchen --split train --data_root ~/data \\
      --config experiments/ace_dinov2.py --out runs/ace_dinov2.safetensors
  python -m ace_jax.relocalize --map runs/ace_dinov2.safetensors --seq 7scenes/redkitchen \\
      --split test --data_root ~/data --out runs/ace_dinov2

Settings: as `ace.py`, with 4M patches of 1024 channels (8.2 GB) and a wider head.
Time: some minutes on one GPU; not for a CPU.
Result: a map of about 10 MB. Not measured by us, for want of the weights; the encoder equals the
official one on random weights (tests/).
"""

from ace_jax.mapping.presets.ace_dinov2 import get_config

__all__ = ["get_config"]
