"""One file per way that pictures and labels lie on disk."""
