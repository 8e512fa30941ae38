"""The advisor: which strategy for whom, computed from `rules.toml` and explained. Pure, but for reading that file and access logs."""
