"""The four stages, on one skeleton."""
