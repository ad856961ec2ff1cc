"""Checks of recordings, one module for each kind of evidence."""
