"""The session record: one login of one subject at one client, or one API key."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from keyfob.base.identifiers import ClientId, Position, SessionId, Strategy, Subject
from keyfob.base.opaque import OpaqueKind, TokenDigest


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One login, or one API key.

    A row exists for every login in every strategy. `kind` is the kind of opaque token that the row answers to: `SESSION`, `REFRESH`,
    `API_KEY`, or None for the strategy `jwt`, which has none; it and not the token's prefix decides. An API key is a row as well, so that
    whatever checks, caches or ends sessions does the same with keys: `label` is its name. Of its subject's roles a session has those in
    `role_limit`; None, as for every login of the deployment's own: all. `digest` and `generation` are those of the
    current secret; `chain_generation` is where its chain of derivations began. `previous_digest` is the session token before a renewal,
    good until `previous_until`. `expires_at` is the absolute end and never moves. `idle_timeout` None means no idle limit.
    `ended_position` is 0 where the end left no entry of its own. `parent_client_id` is the client of the parent, so that whatever is made
    from the session says by whose end it is over as well.

    One is made for every request that no cache answers, so it is a `Struct`, which takes a quarter of the time of a frozen dataclass. A
    changed copy is made by `msgspec.structs.replace`.
    """

    session_id: SessionId
    subject: Subject
    client_id: ClientId
    strategy: Strategy
    kind: OpaqueKind | None
    digest: TokenDigest | None
    created_at: datetime
    expires_at: datetime
    last_seen_at: datetime
    auth_time: datetime
    idle_timeout: timedelta | None
    as_of: Position
    generation: int = 0
    chain_generation: int = 0
    parent_session_id: SessionId | None = None
    parent_client_id: ClientId | None = None
    audience: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    amr: tuple[str, ...] = ()
    acr: str | None = None
    persistent: bool = False
    user_agent: str = ""
    address: str = ""
    rotated_at: datetime | None = None
    replayed_since_rotation: bool = False
    replayed_rotations: int = 0
    window_closed: bool = False
    previous_digest: TokenDigest | None = None
    previous_until: datetime | None = None
    ended_at: datetime | None = None
    ended_position: Position | None = None
    label: str = ""
    role_limit: tuple[str, ...] | None = None

    @property
    def is_delegated(self) -> bool:
        """Say whether it is what somebody let a client of others do: its scopes say what that is, and their account is not part of it."""
        return self.role_limit is not None and not self.is_api_key

    @property
    def is_api_key(self) -> bool:
        """Say whether it is an API key, and no login."""
        return self.kind is OpaqueKind.API_KEY
