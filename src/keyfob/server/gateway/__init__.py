"""`keyfob gateway`: `/check` alone, answered by a verifier beside a proxy; no store, no private key."""
