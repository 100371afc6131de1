"""Annotation files as they are found in the world, read into one plain form that boxes and masks are made of."""
