"""Similarity of matching descriptors by type: thresholds for SLAM, mapping and relocalization.

Tuned on 7-Scenes redkitchen and synthetic rooms. Entries of RootSIFT descriptors are not negative,
so that any two of them are similar and the threshold on their cosine is higher: with 0.75, wide
steps (every tenth frame of redkitchen) fuse different points, 4.4 cm of error; with 0.85 and 0.9
the error is 1.9 cm.
"""

import dataclasses

from ace_jax.features import registry


@dataclasses.dataclass(frozen=True)
class Similarity:
    """Constants of one kind of descriptors.

    Attributes:
        min_cosine: least cosine of a match while tracking, views being close.
        mapping_min_cosine: least cosine of two views of one landmark of a map.
        temperature: inverse temperature of landmark attention while tracking.
        mapping_temperature: the same in a map; None: measured on the mapping images.
        max_scale_change: how many times as large or as small a thing may look to be recognised.
            SIFT's descriptors follow the scale; 2.2 to 4 are equally good (castle).
    """

    min_cosine: float = 0.75
    mapping_min_cosine: float = 0.8
    temperature: float = 80.0
    mapping_temperature: float | None = None
    max_scale_change: float = 1.7


_ROOT_SIFT = Similarity(0.9, 0.9, 160.0, 300.0)
_KINDS = {
    "blobs": _ROOT_SIFT,
    # Of the preset `cpu`: these keep as many right matches of validation rooms as RootSIFT's do,
    # and weigh the second best as much.
    "learned_blobs": Similarity(0.82, 0.82, 100.0, 190.0),
    "sift": dataclasses.replace(_ROOT_SIFT, max_scale_change=3.0),
    "superpoint": Similarity(mapping_min_cosine=0.75),
    "xfeat": Similarity(mapping_temperature=130.0),
    "xfeat_blobs": Similarity(mapping_temperature=130.0),
    "xfeat_dense": Similarity(mapping_temperature=100.0),
}


def similarity(features: str) -> Similarity:
    """The constants for the extractor called `features`: ours, or its attribute `similarity`."""
    known = _KINDS.get(features)
    if known is not None:
        return known
    return getattr(registry.factory(features), "similarity", Similarity())
