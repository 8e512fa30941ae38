"""The laboratory: sessions, JWTs and the hybrid compared by experiments that are played for real, on this machine."""
