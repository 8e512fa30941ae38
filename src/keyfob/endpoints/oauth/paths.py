"""Where things are, for what leads from one to another."""

from __future__ import annotations

from typing import Final

AUTHORIZE: Final = "/oauth/authorize"
RESUME: Final = "/oauth/resume"
SIGN_IN: Final = "/oauth/sign-in"
CONSENT: Final = "/oauth/consent"
PAR: Final = "/oauth/par"


def path_to(path: str, secret: str) -> str:
    """Return the address of *path* for the request that *secret* finds; it is base64url, and needs no escaping."""
    return f"{path}?request={secret}"
