"""What a user would pick instead of Keyfob, each with the same application: sign in, then ask who one is. `make bench-peers`."""
