"""Configurations by name, one file each with `get_config()`."""
