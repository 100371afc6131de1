"""What differs between the four problems, one file each, and nothing else does."""
