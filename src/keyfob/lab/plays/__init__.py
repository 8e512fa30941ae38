"""How each experiment is played: everything that talks to servers and browsers, and nothing that judges."""
