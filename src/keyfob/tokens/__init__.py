"""Access tokens and refresh rotation."""
