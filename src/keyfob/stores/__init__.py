"""The stores: memory and SQLite; none knows another."""
