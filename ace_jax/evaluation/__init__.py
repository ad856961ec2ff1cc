"""Trajectory metrics, plots and reports."""
