"""OAuth 2.1 and OpenID Connect for people: where they sign in, and what they let applications do."""
