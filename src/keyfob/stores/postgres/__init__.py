"""Sessions, accounts, keys and the feed in PostgreSQL: one primary, any number of authorities."""
