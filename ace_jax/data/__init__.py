"""Readers of recordings: one module per format, one registry of names."""
