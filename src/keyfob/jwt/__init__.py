"""Compact JWS as JWTs use it: pure, no I/O."""
