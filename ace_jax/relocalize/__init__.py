"""Relocalization: a map and an image in, a camera pose out."""
