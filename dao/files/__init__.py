"""Files and folders that others may read: whole or not there, never written over."""
