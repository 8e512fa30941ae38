"""What can change about a client once it is there. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from keyfob.clients.client import Client
from keyfob.revocation.entry import Entry

MAX_SECRETS = 2
"""Secrets of one client at a time: the one of today, and the one it replaces until every instance of the service has the new one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientChange:
    """A change of what a client shows to say who it is.

    Of the secrets that it has, the newest *keep_secrets* stay (0 to 2); *new_secret* (a digest) comes before them, and pushes out what is
    more than two. *public_keys* take the place of those before; None leaves them.
    """

    keep_secrets: int = MAX_SECRETS
    new_secret: bytes | None = field(default=None, repr=False)
    public_keys: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """The client after a change, and the entry of what was revoked in the same step, if anything was."""

    client: Client
    entry: Entry | None = None


def changed(client: Client, change: ClientChange) -> Client:
    """Return *client* after *change*."""
    kept = client.secret_digests[: change.keep_secrets]
    digests = kept if change.new_secret is None else (change.new_secret, *kept)
    return replace(
        client,
        secret_digests=digests[:MAX_SECRETS],
        public_keys=client.public_keys if change.public_keys is None else change.public_keys,
    )
