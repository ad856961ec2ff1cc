"""ACE as in its paper: an MLP on ACE's own encoder (Brachmann et al., CVPR 2023).

Command (the weights once, then a map and its queries):
  python -m ace_jax.weights download ace
  python -m ace_jax.mapping --seq 7scenes/redkitchen --split train --data_root ~/data \\
      --config experiments/ace.py --out runs/ace.safetensors
  python -m ace_jax.relocalize --map runs/ace.safetensors --seq 7scenes/redkitchen --split test \\
      --data_root ~/data --out runs/ace

Settings: 8M patches of 512 channels (8.4 GB), 16 passes in batches of 5120, one-cycle to 5e-3.
Time: the paper maps a scene in 5 minutes on one GPU. Not for a CPU: `--config ace_cpu` is.
Result: a map of 4 MB. Not measured by us: the encoder's weights could not be had where this was
written. Head, losses, schedule and encoder equal the official ones' values (tests/); the same head
on XFeat features is measured in docs/relocalization-figures.md.
"""

from ace_jax.mapping.presets.ace import get_config

__all__ = ["get_config"]
