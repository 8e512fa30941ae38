"""The sessions of Django at the authority: each function is one journey on its event loop.

A visitor who has not signed in has a visit (`keyfob.authority.visits`): it keeps data, and opens no door. Signing in makes a session of the
user's subject and ends the visit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from keyfob.authority.authority import Authority
from keyfob.authority.sign_in import Device, SignIn
from keyfob.base.errors import Cause, Denied, StoreUnavailable
from keyfob.base.identifiers import SessionId, Strategy
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.integrations.django.session_content import Content, SessionCodec, joined
from keyfob.sessions.session import Session

MAX_ATTEMPTS: Final = (
    32  # writes of one session that others overtake: each such loss is a success of somebody else
)
_AT_ONCE = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A session as it was read or written: `version` and `packed` are what the store has. `token` None: it is another request's, only borrowed."""

    session_id: SessionId
    token: str | None = field(repr=False)
    version: int = 0
    packed: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who signs in: `attempt` began before anything was read about the subject, where that could be done."""

    subject: str
    audiences: tuple[str, ...] = ()
    device: Device | None = None
    attempt: SignIn | None = None
    amr: Iterable[str] = ("pwd",)
    auth_time: datetime | None = None


async def begin(authority: Authority, *, as_of: int | None = None) -> SignIn:
    """Begin an attempt to sign in, before anything is read about the subject; *as_of* where the subject signed in before that position."""
    return await authority.sign_in(as_of=as_of).__aenter__()


async def read(authority: Authority, token: str, codec: SessionCodec) -> Opened | None:
    """Return the live session of *token* and what it keeps; None for any other token, and for one whose time has run out, which ends here.

    Raises:
        Unavailable: it could not be found out.
    """
    session_id = await _session_id(authority, token)
    if session_id is None:
        return None
    opened = await read_by_id(authority, session_id, codec, token=token)
    if opened is None:
        await authority.logout(token)
    return opened


async def read_by_id(
    authority: Authority, session_id: SessionId, codec: SessionCodec, *, token: str | None = None
) -> Opened | None:
    """Return a live session whose content has not run out; None for any other."""
    found = await authority.read_data(session_id)
    if found is None:
        return None
    content = codec.unpack(found.data, session_id)
    if content is not None and content.expires_at <= authority.clock.time():
        return None
    return Opened(session_id=session_id, token=token, version=found.version, packed=found.data)


async def open_for_person(
    authority: Authority, person: Person, content: Content, codec: SessionCodec, *, former: str | None
) -> Opened:
    """Sign *person* in: a new session that keeps *content*, in place of that of the token *former*.

    Raises:
        Denied: `revoked` if the subject was cut off since the attempt began; else as `SignIn.login`.
        SessionTooLarge: nothing was changed.
    """
    codec.pack(content, "0" * 32)
    attempt = person.attempt or await begin(authority)
    issued = await attempt.login(
        person.subject,
        strategy=Strategy.SESSION,
        audience=(authority.issuer, *person.audiences),
        device=person.device,
        amr=person.amr,
        auth_time=person.auth_time,
    )
    opened = Opened(session_id=issued.session_id, token=issued.session_token)
    return await _filled(authority, opened, content, codec, former=former)


async def open_for_visitor(
    authority: Authority, content: Content, codec: SessionCodec, *, former: str | None
) -> Opened:
    """Make a session that keeps *content* for somebody who has not signed in, in place of that of the token *former*.

    Raises:
        SessionTooLarge: nothing was changed.
    """
    codec.pack(content, "0" * 32)
    visit = await authority.visits.begin()
    opened = Opened(session_id=visit.session_id, token=visit.token)
    return await _filled(authority, opened, content, codec, former=former)


async def _filled(
    authority: Authority, opened: Opened, content: Content, codec: SessionCodec, *, former: str | None
) -> Opened:
    written = await write(authority, opened, content, codec)
    if written is None:
        raise Denied(Cause.REVOKED, "ended while it was being made")
    if former is not None:
        await authority.logout(former)
    return written


async def write(authority: Authority, opened: Opened, content: Content, codec: SessionCodec) -> Opened | None:
    """Write *content*; None, and nothing written, if the session is over.

    What another request has written since *opened* was read stays, entry by entry, but for the entries that this one has changed.

    Raises:
        SessionTooLarge: nothing was written.
        StoreUnavailable: the store does not answer, or others were always faster.
    """
    session_id, version, result = opened.session_id, opened.version, content.kept
    base = codec.kept(opened.packed, session_id)
    for _ in range(MAX_ATTEMPTS):
        packed = codec.pack(Content(result, content.expires_at), session_id)
        now = authority.clock.now()
        if await authority.store.sessions.write_data(session_id, packed, version=version, now=now):
            return Opened(session_id=session_id, token=opened.token, version=version + 1, packed=packed)
        found = await authority.read_data(session_id)
        if found is None:
            return None
        version = found.version
        result = joined(content.kept, base=base, theirs=codec.kept(found.data, session_id))
    raise StoreUnavailable("the session is written by too many requests at once")


async def renew(authority: Authority, token: str) -> str | None:
    """Give the session of *token* a new token, at which the old one is good no longer; None if it is over, or was given one by another."""
    try:
        session = await _session(authority, token)
        _, successor, entry = await authority.sessions.renew(session, window=_AT_ONCE)
    except Denied:
        return None
    await authority.endings.applied(entry)
    return successor.text()


async def end(authority: Authority, token: str) -> None:
    """End the session of *token*, with an entry; what is no live one is left alone.

    Raises:
        Unavailable: it could not be found out, or not be made durable.
    """
    await authority.logout(token)


async def end_by_id(authority: Authority, session_id: SessionId) -> None:
    """End a session that the caller has only borrowed."""
    await authority.endings.end_session(session_id, code="logout", actor="django")


async def _session_id(authority: Authority, token: str) -> SessionId | None:
    """Return the id of the live session of *token*, and note that it is used."""
    if kind_of(token) is not OpaqueKind.SESSION:
        visit = await authority.visits.find(token)
        return None if visit is None else visit.session_id
    try:
        return (await authority.authenticate(token)).session_id
    except Denied:
        return None


async def _session(authority: Authority, text: str) -> Session:
    """Return the session of a token of either kind, read from the store.

    Raises:
        Denied: it is none of ours, or over.
    """
    if kind_of(text) is OpaqueKind.ANONYMOUS:
        return await authority.visits.require(text)
    return (await authority.sessions.check(authority.sessions.parse(text, OpaqueKind.SESSION))).session
