"""What a browser or a program calls itself."""

from __future__ import annotations

from keyfob.http.messages import HttpRequest


def user_agent(request: HttpRequest) -> str:
    """Return what calls itself so in *request*, to be shown in lists: printable ASCII alone."""
    values = request.all(b"user-agent")
    text = values[0].decode("latin-1") if values else ""
    return "".join(character if " " <= character <= "~" else "?" for character in text[:256])
