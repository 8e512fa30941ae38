"""The feed of revocations and the one rule."""
