"""Training: loop, checkpoints, objectives and tasks."""
