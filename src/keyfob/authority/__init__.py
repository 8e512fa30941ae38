"""The issuing side: it owns the store and the private keys."""
