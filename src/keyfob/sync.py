"""The same for synchronous callers."""
