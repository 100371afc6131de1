"""Pictures from disk to batches: datasets, splits, transforms, samplers, loaders, and the check of a whole set."""
