"""The variants of pre-training: `paper`, `small`, `cpu`, `smoke`."""

import ml_collections

from ace_jax.errors import UserError
from ace_jax.pretrain import config as settings


def get_config(variant: str = "paper") -> ml_collections.ConfigDict:
    """The configuration of a variant.

    Raises:
        UserError: there is no such variant.
    """
    variants = {"paper": paper, "small": small, "cpu": cpu, "smoke": smoke}
    if variant not in variants:
        raise UserError(f"no variant {variant!r} of pre-training; there are {', '.join(variants)}")
    return variants[variant]()


def cpu() -> ml_collections.ConfigDict:
    """An hour on two cores: SIFT, codes of up to 4096 landmarks, procedural rooms."""
    return settings.base()


def smoke() -> ml_collections.ConfigDict:
    """Two minutes on two cores, rendering included: that everything runs, not that it learns."""
    config = cpu()
    # SIFT needs no weights.
    config.features.name = "sift"
    config.features.options = ml_collections.ConfigDict(
        {"image_size": (160, 120), "max_features": 128}
    )
    config.patches_per_image = 64
    config.views.update(mapping=6, held_out=2, query=3)
    config.sources.rooms.image_size = config.validation.source.image_size = (160, 120)
    config.steps = 60
    config.pool.update(scenes=2, shortest_life=30, longest_life=50, ahead=1)
    config.code.update(size=256, least=64)
    config.transformer.update(dim=128, tau=200.0)
    config.mapping.patches = config.query.patches = 64
    config.support.update(first=2, steps=20)
    config.transformer_optimizer.warmup = 10
    config.validation.update(every=30, scenes=2, steps=10)
    return config


def small() -> ml_collections.ConfigDict:
    """Hours on one GPU: DINOv2 ViT-S, codes of 2048 landmarks, procedural rooms at 640x480."""
    config = cpu()
    config.features.name = "dinov2_vits14_reg"
    config.features.options = ml_collections.ConfigDict(
        {"normalization": "ace_g", "normalize": True, "dtype": "bfloat16"}
    )
    config.steps = 60_000
    config.views.update(mapping=32, held_out=8, query=16)
    config.patches_per_image = 1024
    config.sources.rooms.image_size = config.validation.source.image_size = (640, 480)
    config.pool.update(scenes=32, shortest_life=200, longest_life=600, ahead=16)
    config.code.update(size=2048, least=256)
    config.transformer.update(dim=384, blocks=4, tau=20.0, dtype="bfloat16")
    config.mapping.patches = config.query.patches = 1024
    config.support.update(first=8, steps=5000)
    config.validation.update(every=2000, scenes=32, steps=100)
    return config


def paper() -> ml_collections.ConfigDict:
    """The paper's form at its scale: DINOv2 ViT-L, random codes of 4096, many accelerators.

    Data of the paper: ScanNet, ScanNet++, ARKitScenes, MapFree, BlendedMVS, WildRGB-D, about 29,500
    scenes; here ScanNet through TFDS, and rooms. Sizes of batch and pool are ours where the paper
    leaves them open.
    """
    config = small()
    config.features.name = "dinov2_vitl14_reg"
    config.features.options = ml_collections.ConfigDict(
        {"normalization": "ace_g", "dtype": "bfloat16"}
    )
    config.sources = ml_collections.ConfigDict(
        {
            "scannet": settings.tfds("scannet", weight=0.7),
            "rooms": settings.procedural(0.3, image_size=(640, 480), difficulty=settings.VARIED),
        }
    )
    config.code.update(form="random", size=4096, least=0)
    config.transformer = ml_collections.ConfigDict(
        {"dim": 512, "blocks": 6, "heads": 8, "dtype": "bfloat16"}
    )
    config.loss = "laplace"
    config.steps = 400_000
    config.pool.update(scenes=256, shortest_life=500, longest_life=2000, ahead=64)
    config.mapping.update(patches=4096, dropout=0.1, transformer_every=4)
    config.query.update(patches=4096, dropout=0.1)
    config.transformer_optimizer.update(learning_rate=2e-4, warmup=2000)
    config.codes_optimizer.update(learning_rate=2e-3, weight_decay=0.01)
    config.validation.update(every=5000, scenes=64, steps=1000)
    config.checkpoint_seconds = 900.0
    return config
