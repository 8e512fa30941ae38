"""Between records and the rows of a relational store: the same columns and the same bytes in SQLite and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from keyfob.base.clock import from_micros, to_micros
from keyfob.base.errors import StoreUnavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import ClientId, Position, SessionId, Strategy, Subject
from keyfob.base.opaque import OpaqueKind, TokenDigest
from keyfob.clients.client import Client, GrantType
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.sessions.session import Session
from keyfob.sessions.store import UNRECORDED, Holder

Value = str | bytes | int | None
Row = tuple[Value, ...]
SessionRow = tuple[
    bytes, Subject, ClientId, TokenDigest | None, int, Position, int, int, int, int | None, bytes | None, int, int | None,
    int | None, Position | None, bytes,
]  # fmt: skip
EntryRow = tuple[int, int, str, str, str, str | None, int | None, bytes]

SESSION_COLUMNS = (
    "s.session_id, s.subject, s.client_id, s.digest, s.generation, s.as_of, s.created_at, s.expires_at, s.last_seen_at,"
    " s.idle_timeout, s.parent_session_id, s.replays, s.rotated_at, s.ended_at, s.ended_position, s.details"
)
SESSION_WIDTH = 16
ENTRY_COLUMNS = "position, at, scope, id, reach, spared, until, chain"
CLIENT_COLUMNS = "client_id, created_at, secret_digests, scopes, strategies, default_strategy, audiences, access_lifetime, details"
DIGEST = 32  # bytes of a secret's digest
EVENT_COLUMNS = "at, code, actor, subject, session_id, client_id, address, reason, facts"

# The bits of `replays`: the lowest two are flags, the rest is a count.
_REPLAYED, _WINDOW_CLOSED, _COUNT_SHIFT = 1, 2, 2
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = from_micros(0)
_ID_LENGTH = 32  # hex digits
_NUL, _REPLACEMENT = "\0", "\N{REPLACEMENT CHARACTER}"
_SCOPES = {scope.value: scope for scope in Scope}
_REACHES = {reach.value: reach for reach in Reach}


class DamagedRow(StoreUnavailable):
    """A row holds what was never written into it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the database is damaged ({what}); stop every process that uses it and restore a backup"
        )


class _Details(msgspec.Struct, frozen=True, array_like=True):
    """What no statement looks at, and only a renewal changes. New fields go behind the last one, with a default."""

    strategy: Strategy
    kind: OpaqueKind | None
    persistent: bool
    auth_time: int
    chain_generation: int
    previous_digest: TokenDigest | None
    previous_until: int | None
    audience: tuple[str, ...]
    scopes: tuple[str, ...]
    amr: tuple[str, ...]
    acr: str | None
    user_agent: str
    address: str
    label: str = ""
    role_limit: tuple[str, ...] | None = None
    parent_client_id: ClientId | None = None


class _ClientDetails(msgspec.Struct, frozen=True, array_like=True):
    """What no statement looks at of a client. New fields go behind the last one, with a default."""

    public_keys: bytes = b""
    grant_types: tuple[GrantType, ...] = (GrantType.CLIENT_CREDENTIALS,)
    name: str = ""
    redirect_uris: tuple[str, ...] = ()
    post_logout_redirect_uris: tuple[str, ...] = ()
    backchannel_logout_uri: str | None = None
    backchannel_logout_session_required: bool = False
    cors_origins: tuple[str, ...] = ()
    first_party: bool = False
    public: bool = False
    require_par: bool = False


_client_details = msgspec.msgpack.Decoder(_ClientDetails)
_details = msgspec.msgpack.Decoder(_Details)
_names = msgspec.json.Decoder(frozenset[str])
_facts = msgspec.json.Decoder(dict[str, str | int])


def span(micros: int | None) -> timedelta | None:
    """Return the timedelta of *micros*."""
    return None if micros is None else timedelta(microseconds=micros)


def span_micros(span: timedelta | None) -> int | None:
    """Return *span* in whole microseconds."""
    return None if span is None else span // _MICROSECOND


def moment(micros: int | None) -> datetime | None:
    """Return the moment of *micros*."""
    return None if micros is None else from_micros(micros)


def moment_micros(moment: datetime | None) -> int | None:
    """Return *moment* in microseconds since the epoch."""
    return None if moment is None else to_micros(moment)


def session_key(session_id: SessionId | None) -> bytes | None:
    """Return the key of a row; None, which no row has, for what has not the form of a session id."""
    if session_id is None or len(session_id) != _ID_LENGTH:
        return None
    try:
        key = bytes.fromhex(session_id)
    except ValueError:
        return None
    return key if key.hex() == session_id else None  # upper case and blanks are no ids


def names(text: str) -> frozenset[str]:
    """Return the set that `names_text` wrote."""
    try:
        return _names.decode(text)
    except msgspec.DecodeError:
        raise DamagedRow("a set of names") from None


def holder_from(roles: str | None, disabled_at: int | None) -> Holder:
    """Return what the record of a subject says; *roles* None: there is no record."""
    return UNRECORDED if roles is None else Holder(names(roles), disabled_at is not None)


def names_text(names: Iterable[str]) -> str:
    """Return *names* as JSON, sorted."""
    return msgspec.json.encode(sorted(names)).decode()


def session_from(row: SessionRow) -> Session:
    """Return the session of a row that begins with `SESSION_COLUMNS`.

    It is on the path of each request that no cache answers.
    """
    (
        key, subject, client_id, digest, generation, as_of, created_at, expires_at, last_seen_at,
        idle_timeout, parent, replays, rotated_at, ended_at, ended_position, packed, *_,
    ) = row  # fmt: skip
    try:
        details = _details.decode(packed)
    except msgspec.DecodeError:
        raise DamagedRow("the details of a session") from None
    return Session(
        session_id=SessionId(key.hex()),
        subject=subject,
        client_id=client_id,
        strategy=details.strategy,
        kind=details.kind,
        digest=digest,
        created_at=_EPOCH + timedelta(0, 0, created_at),
        expires_at=_EPOCH + timedelta(0, 0, expires_at),
        last_seen_at=_EPOCH + timedelta(0, 0, last_seen_at),
        auth_time=_EPOCH + timedelta(0, 0, details.auth_time),
        idle_timeout=None if idle_timeout is None else timedelta(0, 0, idle_timeout),
        as_of=as_of,
        generation=generation,
        chain_generation=details.chain_generation,
        parent_session_id=None if parent is None else SessionId(parent.hex()),
        audience=details.audience,
        scopes=details.scopes,
        amr=details.amr,
        acr=details.acr,
        persistent=details.persistent,
        user_agent=details.user_agent,
        address=details.address,
        rotated_at=moment(rotated_at),
        replayed_since_rotation=bool(replays & _REPLAYED),
        replayed_rotations=replays >> _COUNT_SHIFT,
        window_closed=bool(replays & _WINDOW_CLOSED),
        previous_digest=details.previous_digest,
        previous_until=moment(details.previous_until),
        ended_at=moment(ended_at),
        ended_position=ended_position,
        label=details.label,
        role_limit=details.role_limit,
        parent_client_id=details.parent_client_id,
    )


def session_to(session: Session) -> Row:
    """Return the row of *session*, in the order of `SESSION_COLUMNS`."""
    return (
        session_key(session.session_id),
        session.subject,
        session.client_id,
        session.digest,
        session.generation,
        session.as_of,
        to_micros(session.created_at),
        to_micros(session.expires_at),
        to_micros(session.last_seen_at),
        span_micros(session.idle_timeout),
        session_key(session.parent_session_id),
        replays(session),
        moment_micros(session.rotated_at),
        moment_micros(session.ended_at),
        session.ended_position,
        details(session),
    )


def replays(session: Session) -> int:
    """Return what is known of replays as one number."""
    return (
        session.replayed_rotations << _COUNT_SHIFT
        | session.window_closed * _WINDOW_CLOSED
        | session.replayed_since_rotation * _REPLAYED
    )


def details(session: Session) -> bytes:
    """Return the details of *session* as MessagePack."""
    return msgspec.msgpack.encode(
        _Details(
            strategy=session.strategy,
            kind=session.kind,
            persistent=session.persistent,
            auth_time=to_micros(session.auth_time),
            chain_generation=session.chain_generation,
            previous_digest=session.previous_digest,
            previous_until=moment_micros(session.previous_until),
            audience=session.audience,
            scopes=session.scopes,
            amr=session.amr,
            acr=session.acr,
            user_agent=session.user_agent,
            address=session.address,
            label=session.label,
            role_limit=session.role_limit,
            parent_client_id=session.parent_client_id,
        )
    )


def client_to(client: Client) -> Row:
    """Return the row of *client*, in the order of `CLIENT_COLUMNS`."""
    return (
        client.client_id,
        to_micros(client.created_at),
        b"".join(client.secret_digests),
        names_text(client.scopes),
        names_text(strategy.value for strategy in client.strategies),
        client.default_strategy.value,
        names_text(client.audiences),
        span_micros(client.access_lifetime),
        msgspec.msgpack.encode(
            _ClientDetails(
                public_keys=client.public_keys,
                grant_types=tuple(sorted(client.grant_types)),
                name=client.name,
                redirect_uris=tuple(sorted(client.redirect_uris)),
                post_logout_redirect_uris=tuple(sorted(client.post_logout_redirect_uris)),
                backchannel_logout_uri=client.backchannel_logout_uri,
                backchannel_logout_session_required=client.backchannel_logout_session_required,
                cors_origins=tuple(sorted(client.cors_origins)),
                first_party=client.first_party,
                public=client.public,
                require_par=client.require_par,
            )
        ),
    )


def client_from(row: Iterable[Any]) -> Client:
    """Return the client of a row of `CLIENT_COLUMNS`. One that an earlier version wrote has no details."""
    client_id, created_at, digests, scopes, strategies, default, audiences, lifetime, packed = row
    try:
        details = _client_details.decode(packed) if packed else _ClientDetails()
    except msgspec.DecodeError:
        raise DamagedRow("the details of a client") from None
    return Client(
        client_id=ClientId(client_id),
        created_at=from_micros(created_at),
        secret_digests=tuple(digests[start : start + DIGEST] for start in range(0, len(digests), DIGEST)),
        scopes=names(scopes),
        strategies=frozenset(map(Strategy, names(strategies))),
        default_strategy=Strategy(default),
        audiences=names(audiences),
        access_lifetime=span(lifetime),
        public_keys=details.public_keys,
        grant_types=frozenset(details.grant_types),
        name=details.name,
        redirect_uris=frozenset(details.redirect_uris),
        post_logout_redirect_uris=frozenset(details.post_logout_redirect_uris),
        backchannel_logout_uri=details.backchannel_logout_uri,
        backchannel_logout_session_required=details.backchannel_logout_session_required,
        cors_origins=frozenset(details.cors_origins),
        first_party=details.first_party,
        public=details.public,
        require_par=details.require_par,
    )


def check_digests(digests: Iterable[bytes]) -> None:
    """Refuse a digest that has not 32 bytes.

    Raises:
        ValueError: one has not.
    """
    if any(len(digest) != DIGEST for digest in digests):
        raise ValueError(f"a digest has {DIGEST} bytes")


def entry_from(row: EntryRow) -> Entry:
    """Return the entry of a row of `ENTRY_COLUMNS`."""
    position, at, scope, id_, reach, spared, until, chain = row
    return Entry(
        position=Position(position),
        at=_EPOCH + timedelta(0, 0, at),
        scope=_SCOPES[scope],
        id=id_,
        reach=_REACHES[reach],
        spared=None if spared is None else SessionId(spared),
        until=moment(until),
        chain=chain,
    )


def entry_to(entry: Entry) -> Row:
    """Return the row of *entry*, in the order of `ENTRY_COLUMNS`."""
    return (
        entry.position,
        to_micros(entry.at),
        entry.scope.value,
        entry.id,
        entry.reach.value,
        entry.spared,
        moment_micros(entry.until),
        entry.chain,
    )


def event_to(event: Event) -> Row:
    """Return the row of *event*, in the order of `EVENT_COLUMNS`; its texts as every database can keep them."""
    return (
        to_micros(event.at),
        event.code,
        _kept(event.actor),
        _kept(event.subject),
        _kept(event.session_id),
        _kept(event.client_id),
        _kept(event.address),
        _kept(event.reason),
        msgspec.json.encode(event.facts).decode() if event.facts else None,
    )


def event_from(row: Row) -> Event:
    """Return the event of a row of `EVENT_COLUMNS`."""
    at, code, actor, subject, session_id, client_id, address, reason, facts = row
    return Event(
        at=from_micros(cast("int", at)),
        code=cast("str", code),
        actor=cast("str", actor),
        subject=cast("Subject | None", subject),
        session_id=cast("SessionId | None", session_id),
        client_id=cast("ClientId | None", client_id),
        address=cast("str | None", address),
        reason=cast("str | None", reason),
        facts=_facts.decode(cast("str", facts)) if facts is not None else {},
    )


def _kept(text: str | None) -> str | None:
    """Return *text* without NUL and lone surrogates: nobody looks it up, and an audit trail that moves must stay the same."""
    if text is None or (text.isascii() and _NUL not in text):
        return text
    return text.encode("utf-8", "replace").decode().replace(_NUL, _REPLACEMENT)
