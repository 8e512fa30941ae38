"""Signing and secret keys, their phases, and the ring that holds them."""
