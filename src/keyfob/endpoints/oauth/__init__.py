"""The endpoints of OAuth and OpenID Connect; errors are as their RFCs say."""
