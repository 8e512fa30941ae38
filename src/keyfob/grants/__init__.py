"""What a person or a client was granted for a moment or for good: one-time records, consents, and what is still to be delivered."""
