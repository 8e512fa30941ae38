"""What looks like a secret of ours, left out of whatever is written down."""

from __future__ import annotations

import re

REDACTED = "[redacted]"

# Opaque tokens, API keys and client secrets by their prefix; compact JWSs by their first part; password hashes; what stands in an
# Authorization header.
_SECRETS = re.compile(
    r"\bkf[a-z]_[A-Za-z0-9_-]{20,}|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*|\$argon2[a-z]*\$\S+"
    r"|\b(?:Basic|Bearer)\s+[A-Za-z0-9+/._~=-]{8,}",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Return *text* with whatever looks like a credential of ours left out. Done twice it changes nothing."""
    return _SECRETS.sub(REDACTED, text)
