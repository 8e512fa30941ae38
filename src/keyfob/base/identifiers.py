"""Identifiers: what a log may show."""

from __future__ import annotations

import hmac
import os
from datetime import datetime
from enum import StrEnum
from typing import NewType

from keyfob.base.clock import to_seconds

Subject = NewType("Subject", str)
ClientId = NewType("ClientId", str)
SessionId = NewType("SessionId", str)
KeyId = NewType("KeyId", str)
TokenId = NewType("TokenId", str)
Timeline = NewType("Timeline", str)
Position = NewType("Position", int)
Issuer = NewType("Issuer", str)

FIRST_PARTY = ClientId("first-party")
"""The built-in client: the application's own pages and apps."""

MAX_IDENTIFIER = 255  # characters: the longest subject or client id (RFC 9068 sets none; OpenID Connect Core, section 2, sets 255 for sub)
_SECONDS_A_DAY = 86_400
_CONTROL = frozenset(map(chr, [*range(0x20), 0x7F]))


class Strategy(StrEnum):
    """How a login is carried from request to request."""

    SESSION = "session"
    JWT = "jwt"
    HYBRID = "hybrid"


def new_session_id(salt: bytes, subject: Subject, ends_at: datetime) -> SessionId:
    """Make the id of a new session: 32 hex digits.

    32 bits of HMAC-SHA-256(*salt*, *subject*), so that all of a subject lies together; 16 bits of the day of *ends_at*, the absolute
    end, so that rows leave by partition; 80 random bits. *salt* is the store's.
    """
    shard = shard_of(salt, subject)
    day = (to_seconds(ends_at) // _SECONDS_A_DAY) & 0xFFFF
    return SessionId((shard + day.to_bytes(2, "big") + os.urandom(10)).hex())


def shard_of(salt: bytes, subject: str) -> bytes:
    """Return the 4 bytes that every session id of *subject* begins with. *salt* is the store's."""
    return hmac.digest(salt, subject.encode(), "sha256")[:4]


def new_visitor() -> Subject:
    """Make the subject of a visitor: nobody's, and never the same twice."""
    return Subject("visitor_" + os.urandom(16).hex())


def is_session_id(text: str) -> bool:
    """Say whether *text* has the form of a session id: 32 lower-case hex digits."""
    return len(text) == 32 and not set(text) - set("0123456789abcdef")


def is_identifier(text: str) -> bool:
    """Say whether *text* can be a subject or a client id: 1 to 255 characters, no control characters, no lone surrogates."""
    if not 0 < len(text) <= MAX_IDENTIFIER or not _CONTROL.isdisjoint(text):
        return False
    return not any("\ud800" <= character <= "\udfff" for character in text)
