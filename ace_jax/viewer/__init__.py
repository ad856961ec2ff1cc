"""Live view of a running job in a Rerun window or recording."""
