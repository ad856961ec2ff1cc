"""Query pre-training as in ACE-G (ICCV 2025), whose authors did not release theirs; in four sizes.

Command (run again on the same folder, it goes on where it was interrupted):
  python -m ace_jax.pretrain --config experiments/pretrain.py --workdir runs/pretrain
  python -m ace_jax.pretrain --config experiments/pretrain.py:small --workdir runs/small
  python -m ace_jax.pretrain --config experiments/pretrain.py:cpu --workdir runs/cpu
  python -m ace_jax.pretrain --config experiments/pretrain.py:smoke --workdir runs/smoke
Use (the transformer that comes out is what the map-code presets take):
  python -m ace_jax.mapping --seq folder/kitchen --config ace_g_cpu --config.features.name=sift \\
      --config.code.weights=runs/cpu/transformer.safetensors --out kitchen.safetensors

paper (default): random codes of 4096 vectors, six blocks of width 512, DINOv2 ViT-L, Laplace loss;
  ScanNet through TFDS (build it first, docs/datasets.md) and rooms. Needs many accelerators.
  Time: docs/scaling.md estimates it. Result: not run by us.
small: codes of 2048 landmarks, four blocks of width 384, DINOv2 ViT-S, rooms. One GPU.
  Time: hours, estimated. Result: not run by us.
cpu: codes of up to 4096 landmarks, two blocks of width 128, SIFT keypoints at 640x480, rooms.
  Time: hours on two shared cores, most of it rendering (the first time).
  Result: not run to its end since it takes keypoints (docs/pretraining.md has earlier figures).
smoke: SIFT, tiny, 60 steps: that everything runs.
  Time: one to two minutes on two cores. Result: a report; a transformer that has learned little.
"""

from ace_jax.pretrain.presets import get_config

__all__ = ["get_config"]
