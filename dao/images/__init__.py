"""Picture files: finding them on disk, and turning each into pixels, whatever its format. Torch-free."""
