"""Clients: the applications that hold credentials."""
