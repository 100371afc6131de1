"""Pictures from disk to batches: datasets, splits, transforms, samplers, loaders, and the check of a whole set."""

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the internet for a newer version at import
