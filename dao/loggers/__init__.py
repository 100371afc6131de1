"""Where a run writes its curves."""
