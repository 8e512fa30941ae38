"""Keyfob: sessions, JWTs and the hybrid behind one interface, revocable everywhere within milliseconds.

The names are loaded when first used (PEP 562), so a verifier alone needs no database driver, no password hash and no framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keyfob.authority.api_key_policy import ApiKeyPolicy
    from keyfob.authority.api_keys import ApiKeyOrder
    from keyfob.authority.authority import Authority
    from keyfob.authority.issued import Issued
    from keyfob.authority.sign_in import Device
    from keyfob.authority.strategies import Transport
    from keyfob.base.errors import (
        AuthorityUnavailable,
        Cause,
        ConfigurationError,
        Conflict,
        Denied,
        InvalidRequest,
        KeyfobError,
        NotFound,
        RateLimited,
        RequestRefused,
        StoreUnavailable,
        Unavailable,
    )
    from keyfob.base.identifiers import Strategy
    from keyfob.base.principal import Principal
    from keyfob.revocation.entry import Entry, Reach, Scope
    from keyfob.sessions.policy import AtLimit, Lifetimes, SessionPolicy
    from keyfob.tokens.grant import SubjectClaims
    from keyfob.verifier.verifier import Verifier

__version__ = "0.1.0"

_HOMES = {
    "ApiKeyOrder": "keyfob.authority.api_keys",
    "ApiKeyPolicy": "keyfob.authority.api_key_policy",
    "AtLimit": "keyfob.sessions.policy",
    "Authority": "keyfob.authority.authority",
    "AuthorityUnavailable": "keyfob.base.errors",
    "Cause": "keyfob.base.errors",
    "ConfigurationError": "keyfob.base.errors",
    "Conflict": "keyfob.base.errors",
    "Denied": "keyfob.base.errors",
    "Device": "keyfob.authority.sign_in",
    "Entry": "keyfob.revocation.entry",
    "InvalidRequest": "keyfob.base.errors",
    "Issued": "keyfob.authority.issued",
    "KeyfobError": "keyfob.base.errors",
    "Lifetimes": "keyfob.sessions.policy",
    "NotFound": "keyfob.base.errors",
    "Principal": "keyfob.base.principal",
    "RateLimited": "keyfob.base.errors",
    "Reach": "keyfob.revocation.entry",
    "RequestRefused": "keyfob.base.errors",
    "Scope": "keyfob.revocation.entry",
    "SessionPolicy": "keyfob.sessions.policy",
    "StoreUnavailable": "keyfob.base.errors",
    "Strategy": "keyfob.base.identifiers",
    "SubjectClaims": "keyfob.tokens.grant",
    "Transport": "keyfob.authority.strategies",
    "Unavailable": "keyfob.base.errors",
    "Verifier": "keyfob.verifier.verifier",
}

__all__ = [
    "ApiKeyOrder",
    "ApiKeyPolicy",
    "AtLimit",
    "Authority",
    "AuthorityUnavailable",
    "Cause",
    "ConfigurationError",
    "Conflict",
    "Denied",
    "Device",
    "Entry",
    "InvalidRequest",
    "Issued",
    "KeyfobError",
    "Lifetimes",
    "NotFound",
    "Principal",
    "RateLimited",
    "Reach",
    "RequestRefused",
    "Scope",
    "SessionPolicy",
    "StoreUnavailable",
    "Strategy",
    "SubjectClaims",
    "Transport",
    "Unavailable",
    "Verifier",
    "__version__",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'keyfob' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
