"""Mapping: posed images in, one map file out."""
