"""The demo: a real server, three real services, and what happens to a credential in each strategy."""
