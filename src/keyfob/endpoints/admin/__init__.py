"""The admin API, for principals with the role or scope `keyfob:admin` and the authority as their audience."""
