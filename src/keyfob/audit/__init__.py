"""The audit trail: what happened, to whom, by whom."""
