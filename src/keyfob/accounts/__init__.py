"""Accounts: login names, passwords and roles."""
