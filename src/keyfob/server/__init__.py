"""The server: settings, where its parts meet, the ASGI application."""
