"""ACE-G in five minutes: a map code under the frozen, pre-trained transformer (ICCV 2025).

Command (the weights once, then a map and its queries):
  python -m ace_jax.weights download dinov2_vitl14_reg
  python -m ace_jax.weights download ace_g
  python -m ace_jax.mapping --seq 7scenes/redkitchen --split train --data_root ~/data \\
      --config experiments/ace_g_5min.py --out runs/ace_g.safetensors
  python -m ace_jax.relocalize --map runs/ace_g.safetensors --seq 7scenes/redkitchen \\
      --split test --data_root ~/data --out runs/ace_g

Settings: 4M patches of 1024 channels (8.2 GB), 1000 steps of 40,960 patches, code of 4096 vectors.
Time: the paper's name says it, for one GPU; not for a CPU.
Result: a map that holds the code alone. Not measured by us, for want of the weights; transformer,
losses and schedule equal the official ones' values (tests/).
"""

from ace_jax.mapping.presets.ace_g_5min import get_config

__all__ = ["get_config"]
