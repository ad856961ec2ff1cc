"""ACE-G in 25 minutes: as `ace_g_5min.py`, with more patches and steps.

Command (weights as for `ace_g_5min.py`):
  python -m ace_jax.mapping --seq 7scenes/redkitchen --split train --data_root ~/data \\
      --config experiments/ace_g_25min.py --out runs/ace_g.safetensors
  python -m ace_jax.relocalize --map runs/ace_g.safetensors --seq 7scenes/redkitchen \\
      --split test --data_root ~/data --out runs/ace_g

Settings: 8M patches of 1024 channels (16.6 GB), 4000 steps of 51,200 patches.
Time: 25 minutes in the paper, on one GPU; not for a CPU.
Result: as for `ace_g_5min.py`.
"""

from ace_jax.mapping.presets.ace_g_25min import get_config

__all__ = ["get_config"]
