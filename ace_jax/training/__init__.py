"""Training: losses, patch buffer, schedules, checkpoints."""
