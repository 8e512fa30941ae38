"""What the observations of each experiment say: pure functions, apart from the playing."""
