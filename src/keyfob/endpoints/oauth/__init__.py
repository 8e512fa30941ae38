"""The endpoints of OAuth and OpenID Connect at which people are: one file a route."""
