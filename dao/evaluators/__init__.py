"""The numbers a factory accepts or rejects a model by."""
