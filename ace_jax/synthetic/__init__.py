"""Procedural rooms and their jitted renderer."""
