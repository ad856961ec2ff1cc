"""Cameras, rigid motions and robust pose solvers: pure functions on arrays."""
