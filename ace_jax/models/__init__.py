"""Flax modules: encoders, transformer, scene coordinate heads."""
