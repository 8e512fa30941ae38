"""The checking side: public keys, the feed and caches; no store, no private key."""
