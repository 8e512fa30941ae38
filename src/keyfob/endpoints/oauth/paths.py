"""Where things are, for what leads from one to another."""

from __future__ import annotations

from typing import Final

AUTHORIZE: Final = "/oauth/authorize"
RESUME: Final = "/oauth/resume"
SIGN_IN: Final = "/oauth/sign-in"
CONSENT: Final = "/oauth/consent"
PAR: Final = "/oauth/par"
DEVICE_AUTHORIZATION: Final = "/oauth/device_authorization"
DEVICE: Final = "/device"
DEVICE_ANSWER: Final = "/device/answer"
DEVICE_SIGN_IN: Final = "/device/sign-in"
HAND_OFF: Final = "/oauth/hand-off"


def path_to(path: str, secret: str) -> str:
    """Return the address of *path* for the request that *secret* finds; it is base64url, and needs no escaping."""
    return f"{path}?request={secret}"
