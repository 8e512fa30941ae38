"""The designs of the textbook, as small honest servers: each does what its design promises, well, and no more."""
