"""Sessions: record, policy, rules, store and service."""
