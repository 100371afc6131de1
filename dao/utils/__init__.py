"""What every room may use: processes, checkpoints, logs, pictures."""
