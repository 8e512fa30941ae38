"""Keyfob: sessions, JWTs and the hybrid behind one interface, revocable everywhere at once."""
