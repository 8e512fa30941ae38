"""The keys of the records of grants, the same in every store."""

from __future__ import annotations

from keyfob.grants.one_time import OneTimeKind


def one_time_key(kind: OneTimeKind, digest: bytes) -> str:
    """Return the key of a one-time record."""
    return f"{kind.value} {digest.hex()}"


def one_time_place(key: str) -> tuple[str, bytes]:
    """Return kind and digest of the key of a one-time record."""
    kind, _, digest = key.partition(" ")
    return kind, bytes.fromhex(digest)


def consents_of(subject: str) -> str:
    """Return what the keys of the consents of *subject*, and of nobody else, begin with."""
    return f"{len(subject.encode())}:{subject}"


def consent_place(key: str) -> tuple[str, str]:
    """Return subject and client of the key of a consent.

    Raises:
        ValueError: it is none.
    """
    length, _, rest = key.partition(":")
    raw = rest.encode()
    return raw[: int(length)].decode(), raw[int(length) :].decode()
