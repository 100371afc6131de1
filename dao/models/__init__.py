"""Networks by task; mathematics only, no trainer, logger or config."""
