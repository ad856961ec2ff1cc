"""The live view: what a run sees, thinks and costs, in a Rerun window or recording."""

WINDOW = "window"  # the value of `--rerun` that asks for a window instead of a file
