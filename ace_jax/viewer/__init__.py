"""Live view of a running job in a Rerun window or recording."""

WINDOW = "window"  # the value of `--rerun` that asks for a window instead of a file
