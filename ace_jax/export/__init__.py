"""Deployment: a map as a program that needs JAX, NumPy and OpenCV, but not this package."""
