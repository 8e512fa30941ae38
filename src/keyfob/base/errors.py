"""Every error that Keyfob raises on purpose.

    KeyfobError
    ├── Denied              the credential is bad or not enough (401, 403; 503 when the verifier is stale)
    ├── RequestRefused      what was asked cannot be done as asked (4xx)
    │   ├── InvalidRequest  the input is malformed (400, 413, 415, 422)
    │   ├── GrantRefused    the token endpoint gives nothing for this (400)
    │   ├── NotFound        404
    │   ├── Conflict        409
    │   └── RateLimited     429, with when to try again
    ├── Unavailable         it could not be found out (503)
    │   ├── StoreUnavailable
    │   │   └── StoreMoved  another store has taken its place
    │   └── AuthorityUnavailable
    └── ConfigurationError  refuses to start

The three branches of design.md section 9 (credential, availability, configuration) are never mixed. Messages never hold a token, a
password or a key.
"""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a check was refused. The values are stable and are what clients see as `code`."""

    NO_CREDENTIAL = "no_credential"
    MALFORMED = "malformed"
    UNSUPPORTED_ALGORITHM = "unsupported_algorithm"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    WRONG_TYPE = "wrong_type"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    REVOKED = "revoked"
    REUSED = "reused"
    STALE_CLAIMS = "stale_claims"
    VERIFIER_STALE = "verifier_stale"
    UNKNOWN_SESSION = "unknown_session"
    IDLE = "idle"
    BAD_CREDENTIALS = "bad_credentials"
    SESSION_LIMIT = "session_limit"
    CROSS_ORIGIN = "cross_origin"
    INSUFFICIENT_SCOPE = "insufficient_scope"
    INSUFFICIENT_ROLE = "insufficient_role"
    REAUTHENTICATION_REQUIRED = "reauthentication_required"
    PROOF_REQUIRED = "proof_required"
    BAD_PROOF = "bad_proof"


class KeyfobError(Exception):
    """The root of all. `code` is stable and may be shown to anybody."""

    code: str = "error"


class Denied(KeyfobError):
    """A refused check.

    `cause` is machine-readable. `detail` is for the log: it may say more than a client should be told, and never holds a secret.
    """

    def __init__(self, cause: Cause | str, detail: str = "") -> None:
        self.cause = Cause(cause)
        self.code = self.cause.value
        self.detail = detail
        super().__init__(f"{self.cause.value}: {detail}" if detail else self.cause.value)

    def __reduce__(self) -> tuple[type[Denied], tuple[str, str]]:
        return (type(self), (self.cause.value, self.detail))


class RequestRefused(KeyfobError):
    """What was asked cannot be done as asked; nothing was changed.

    The message may be shown to whoever asked.
    """

    status: int = 400

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(message)


class InvalidRequest(RequestRefused):
    """The input is malformed. `status` is 400, 413, 415 or 422."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(code, message)
        self.status = status


class GrantRefused(RequestRefused):
    """The token endpoint gives nothing for this. `code` is the error's name there (RFC 6749, section 5.2; RFC 8693, section 2.2.2)."""


class NotFound(RequestRefused):
    """There is no such thing, or not for this caller."""

    status = 404


class Conflict(RequestRefused):
    """It stands already, or has changed in the meantime."""

    status = 409


class RateLimited(RequestRefused):
    """Too many attempts. `retry_after` is in seconds, at least 1."""

    status = 429

    def __init__(self, retry_after: float, message: str = "Too many attempts.") -> None:
        super().__init__("rate_limited", message)
        self.retry_after = max(1.0, retry_after)


class Unavailable(KeyfobError):
    """It could not be found out. Never an answer about the credential. `retry_after` is in seconds."""

    code = "unavailable"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class StoreUnavailable(Unavailable):
    """The store does not answer, is locked, full or read-only. Whether a write under way took effect is not known."""

    code = "store_unavailable"


class StoreMoved(StoreUnavailable):
    """Another store has taken this one's place: whoever still uses it must be restarted with the other."""

    code = "store_moved"


class AuthorityUnavailable(Unavailable):
    """The authority does not answer, or what it answered cannot be trusted."""

    code = "authority_unavailable"


class ConfigurationError(KeyfobError):
    """The configuration is wrong. The message is one line: what, where and how to mend it."""

    code = "configuration"
