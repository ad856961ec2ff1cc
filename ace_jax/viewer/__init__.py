"""The live view: what a run sees, thinks and costs, in a Rerun window or recording."""
