"""Whether what a client asks for is allowed already, or the user has to be asked. Pure."""

from __future__ import annotations

from typing import Protocol


class Allowed(Protocol):
    """What is asked of a client's record here."""

    @property
    def first_party(self) -> bool: ...
    def is_assured_at(self, uri: str, /) -> bool: ...


def is_allowed(
    scopes: frozenset[str], client: Allowed, *, redirect_uri: str, consented: frozenset[str] | None
) -> bool:
    """Say whether *client* may have *scopes* sent to *redirect_uri* without a word of the user, who *consented* to some before; None: to nothing,
    not even to signing in there.

    A public client at an address that any app on the device can claim is asked about each time, whatever was said before: nobody can tell
    who it is (RFC 8252, section 8.6). Else a client of the deployment's own is never asked about.
    """
    if not client.is_assured_at(redirect_uri):
        return False
    return client.first_party or (consented is not None and scopes <= consented)
