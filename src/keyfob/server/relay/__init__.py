"""`keyfob relay`: follows one feed and serves it on, so that the verifiers of a region cost the authority one connection."""
