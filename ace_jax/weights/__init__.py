"""Pretrained weights: safe reading, conversion, cache and checksums."""
