"""Tokens for people at clients: for a code (RFC 6749, section 4.1.3), and for a refresh token (section 6).

For a code:

1. The client says who it is; a public one only names itself.
2. The code is found, and its use is right (`authorization_code.require_right`). A wrong use changes nothing.
3. Whatever may fail is done before the code is taken: the subject may sign in, the client is there.
4. The code is taken. A second right use ends what the first gave (RFC 6749, section 4.1.2).
5. The session that it gives is written into the code, then made, a child of the browser's login, with the `as_of` of the code: whatever
   ended the login, the subject or the client since the code was given ends this too (design.md, precondition 3).
6. The code is looked at again: a second use that came in between saw no session yet, so it is ended here. After this look such a use finds
   the session in the code, and ends it there. Nobody has the tokens before. So is the session: what ended it while it was made ends this.

A refresh is bound to its client and gives at most the scopes of the session. With `offline_access` the session is a login of its own; else
it is over with the browser's login, and keeps that from idling out, as any use does.

An ID token names a session that is over with the browser's login, so that the client is told of its end. With `offline_access` that is one
beside the client's own login, and has no token: signing out ends it, and what works without the user goes on
(OpenID Connect Back-Channel Logout 1.0, section 2.7).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import Final, assert_never

import msgspec
from msgspec.structs import replace as replace_struct

from keyfob.audit.trail import Trail
from keyfob.authority.claims import TodaysClaims
from keyfob.authority.client_logins import Origin, login_at, login_beside
from keyfob.authority.endings import Endings
from keyfob.authority.redemption import Redemption
from keyfob.base.clock import Clock
from keyfob.base.errors import Cause, Denied, GrantRefused
from keyfob.base.identifiers import Position, SessionId, Strategy
from keyfob.base.opaque import OpaqueToken
from keyfob.clients.client import Client, GrantType
from keyfob.grants import scope
from keyfob.grants.authorization_code import AuthorizationCode, CodeUse, not_good, require_right
from keyfob.grants.one_time import OneTime, OneTimeKind
from keyfob.grants.secret import digest_of, is_secret
from keyfob.grants.store import Amended, ConsentStore, GrantStore, Taken, TakenBefore
from keyfob.revocation.feed import Feed
from keyfob.sessions.activity import Activity
from keyfob.sessions.policy import SessionPolicy
from keyfob.sessions.rules import idle_limit
from keyfob.sessions.session import Session
from keyfob.sessions.sessions import Sessions
from keyfob.sessions.store import Holder, SessionStore
from keyfob.tokens.access_token import AccessToken
from keyfob.tokens.grant import SubjectClaims, grant_of_session
from keyfob.tokens.issuer import Issuer
from keyfob.tokens.refresh import Refresh, Refreshed, TheftDetected, window_closed


@dataclass(frozen=True, slots=True, kw_only=True)
class UserGranted:
    """What a client gets for somebody who signed in at it: `nonce` is that of the authorization request, where a code was exchanged.

    `scopes` are those of the access token. `identity` is the session that an ID token is about, None where there is to be none.
    """

    session: Session
    access_token: AccessToken
    refresh_token: str | None = field(repr=False)
    scopes: frozenset[str]
    nonce: str | None = None
    identity: Session | None = None


class UserTokens:
    """Gives clients the tokens of the people who signed in at them. Every method raises `StoreUnavailable` when the store does not answer."""

    def __init__(
        self,
        sessions: Sessions,
        refresh: Refresh,
        *,
        grants: GrantStore,
        consents: ConsentStore,
        store: SessionStore,
        claims: TodaysClaims,
        issuing: Issuer,
        endings: Endings,
        activity: Activity,
        trail: Trail,
        feed: Feed,
        policy: SessionPolicy,
        clock: Clock,
    ) -> None:
        self._sessions = sessions
        self._refresh = refresh
        self._grants = grants
        self._consents = consents
        self._store = store
        self._claims = claims
        self._issuing = issuing
        self._endings = endings
        self._activity = activity
        self._trail = trail
        self._feed = feed
        self._policy = policy
        self._clock = clock

    async def for_code(self, client: Client, use: CodeUse, *, origin: Origin) -> UserGranted:
        """Exchange a code for the tokens of a session at *client*, which has said who it is.

        Raises:
            GrantRefused: `unauthorized_client`; `invalid_grant` for a code that is unknown, over, used before, of another client, or not
                used right, and where what it rests on was ended meanwhile.
        """
        # 1 and 2.
        require_grant(client, GrantType.AUTHORIZATION_CODE)
        record = await self._find(use.secret)
        if record is None:
            raise not_good()
        code = _body(record)
        require_right(code, use, client.client_id)
        right = Redemption(
            record=record, code=code, as_of=record.as_of, read=_body, write=msgspec.json.encode
        )
        return await self.redeem(client, right, origin=origin)

    async def redeem(self, client: Client, right: Redemption, *, origin: Origin) -> UserGranted:
        """Take a record whose use by *client* is *right*, and give what it stands for; a second use ends that.

        Raises:
            GrantRefused: `invalid_grant`: it was used before, or what it rests on was ended meanwhile.
        """
        code, record = right.code, right.record
        # 3. Where the subject may not sign in any more the code is taken all the same: a second use must show.
        ready = await self._ready(code)
        # 4.
        match await self._grants.take(record.kind, record.digest, now=self._clock.now()):
            case Taken(taken) if ready is not None:
                pass
            case TakenBefore(before):
                await self._end_given(right.read(before))
                raise not_good()
            case _:
                raise not_good()
        # 5 and 6.
        made = await self._make_sessions(client, right, taken, ready=ready, origin=origin)
        try:
            granted = self._granted(
                made.session,
                None if made.token is None else made.token.text(),
                as_of=right.as_of,
                ready=ready,
                client=client,
                scopes=code.scopes,
                nonce=code.nonce,
            )
        except Denied as denied:  # less than a second is left of the login
            raise not_good() from denied
        return granted if made.beside is None else replace(granted, identity=made.beside)

    async def for_refresh_token(
        self, client: Client, text: str, *, asked_scope: str | None = None, origin: Origin
    ) -> UserGranted:
        """Exchange a refresh token of *client*, which has said who it is; *asked_scope* narrows the access token, and that alone.

        Repeated within the replay window it gives the same refresh token again. A token of another client is refused, and nothing changes.

        Raises:
            GrantRefused: `unauthorized_client`, `invalid_scope`; `invalid_grant` for a token that is unknown, over or another client's, and
                for an earlier one of the chain: then the session was ended.
        """
        require_grant(client, GrantType.REFRESH_TOKEN)
        try:
            presented = await self._refresh.present(text)
        except Denied as denied:
            raise _not_good() from denied
        session = presented.session
        if session.client_id != client.client_id:
            raise _not_good()
        scopes = scope.narrowed(asked_scope, frozenset(session.scopes))
        try:
            ready = await self._ready_for(session, presented.holder)
            granted = self._granted(
                session, None, as_of=presented.as_of, ready=ready, client=client, scopes=scopes
            )
            # Whatever may fail comes before the rotation; nobody has the access token before that has succeeded.
            outcome = await self._refresh.rotate(presented, address=origin.address)
        except Denied as denied:
            raise _not_good() from denied
        match outcome:
            case TheftDetected(entry=entry):
                await self._endings.applied(entry)
                raise _not_good()
            case Refreshed():
                return await self._refreshed(granted, outcome)
            case _:
                assert_never(outcome)

    async def _refreshed(self, granted: UserGranted, outcome: Refreshed) -> UserGranted:
        session, now = outcome.session, self._clock.now()
        if outcome.closed_window:
            await self._trail.record(window_closed(session, now))
        if session.parent_session_id is not None:
            self._activity.note(session.parent_session_id, now)
        return replace(granted, session=session, refresh_token=outcome.token.text())

    async def _find(self, secret: str) -> OneTime | None:
        if not is_secret(secret):
            return None
        return await self._grants.find(OneTimeKind.CODE, digest_of(secret), now=self._clock.now())

    async def _ready(self, code: AuthorizationCode) -> _Ready | None:
        """Return what a session for *code* needs; None where its subject may not sign in, or its login is over."""
        try:
            subject_claims = await self._claims.source(code.subject, code.client_id)
            return _Ready(subject_claims, await self._live(code.session_id))
        except Denied:
            return None

    async def _ready_for(self, session: Session, holder: Holder | None) -> _Ready:
        subject_claims = await self._claims.of(session, holder)
        parent = session.parent_session_id
        return _Ready(subject_claims, session if parent is None else await self._live(parent))

    async def _live(self, session_id: SessionId) -> Session:
        found = await self._store.find(session_id)
        if found is None:
            raise Denied(Cause.UNKNOWN_SESSION, "the login is gone")
        self._sessions.require_live(found.session, self._clock.now())
        return found.session

    async def _make_sessions(
        self, client: Client, right: Redemption, taken: OneTime, *, ready: _Ready, origin: Origin
    ) -> _Made:
        """Make the session that *code* gives, and the one beside it, in the order of 5 and 6."""
        code = right.code
        now = self._clock.now()
        login = login_at(
            client,
            code,
            browser=ready.login,
            session_ids=self._sessions,
            longest=now + self._policy.lifetimes[Strategy.HYBRID].absolute,
            as_of=right.as_of,
            origin=origin,
        )
        beside = login_beside(login, code, browser=ready.login, session_ids=self._sessions)
        given = replace(
            code, given=login.session_id, given_beside=None if beside is None else beside.session_id
        )
        noted = await self._grants.amend(
            taken.kind,
            taken.digest,
            version=taken.version,
            body=right.write(given),
            now=self._clock.now(),
        )
        if not isinstance(noted, Amended):
            raise not_good()
        try:
            created = [await self._sessions.create(one) for one in (login, beside) if one is not None]
        except Denied as denied:
            await self._end_given(given)
            raise not_good() from denied
        for entry in chain.from_iterable(one.ended for one in created):
            await self._endings.applied(entry)
        after = await self._grants.find(taken.kind, taken.digest, now=self._clock.now())
        if after is None or after.reused_at is not None:
            await self._end_given(given)
            raise not_good()
        if not await self._is_allowed(client, code, taken.kind):
            await self._end_given(given, event="consent_withdrawn")
            raise not_good()
        # What ended it while it was being made may not have seen it, and then nobody would tell the client of it.
        try:
            for one in created:
                await self._live(one.session.session_id)
        except Denied as denied:
            await self._end_given(given)
            raise not_good() from denied
        return _Made(created[0].session, created[0].token, created[1].session if beside is not None else None)

    def _granted(
        self,
        session: Session,
        refresh_token: str | None,
        *,
        as_of: Position,
        ready: _Ready,
        client: Client,
        scopes: frozenset[str],
        nonce: str | None = None,
    ) -> UserGranted:
        """Put together what *session* gives: the one place that every grant for people passes through.

        The access token outlives neither the session nor the browser's login, as that stands if it is not used again.
        """
        now = self._clock.now()
        grant = grant_of_session(session, ready.subject_claims, used_at=now)
        token = self._issuing.issue(
            replace_struct(grant, scopes=scopes, ends_at=min(grant.ends_at, _end_of(ready.login, now))),
            as_of=as_of,
            timeline=self._feed.live.head.timeline,
            now=now,
            lifetime=client.access_lifetime,
        )
        names_session = scope.OPENID in scopes and session.parent_session_id is not None
        return UserGranted(
            session=session,
            access_token=token,
            refresh_token=refresh_token,
            scopes=scopes,
            nonce=nonce,
            identity=session if names_session else None,
        )

    async def _is_allowed(self, client: Client, code: AuthorizationCode, kind: OneTimeKind) -> bool:
        """Say whether the user still allows it. Asked once the session stands: whoever takes consent back later finds it, and ends it."""
        if client.first_party or kind is not OneTimeKind.CODE:
            return True
        consent = await self._consents.find(code.subject, client.client_id)
        return consent is not None and code.scopes <= consent.scopes

    async def _end_given(self, code: AuthorizationCode, *, event: str = "code_reused") -> None:
        """End what the first use of *code* gave, if it has given anything yet."""
        for session_id in (code.given, code.given_beside):
            if session_id is not None:
                await self._endings.end_session(session_id, code=event, actor="system")


@dataclass(frozen=True, slots=True)
class _Ready:
    """What is known of the subject today, and the login that bounds what is granted: the browser's, or the session's own."""

    subject_claims: SubjectClaims
    login: Session


@dataclass(frozen=True, slots=True)
class _Made:
    """What a code gave: a session with its token, if it has one, and the session beside it that an ID token names, if that is another."""

    session: Session
    token: OpaqueToken | None
    beside: Session | None


_code_decoder: Final = msgspec.json.Decoder(AuthorizationCode)


def _body(record: OneTime) -> AuthorizationCode:
    return _code_decoder.decode(record.body)


def _end_of(login: Session, now: datetime) -> datetime:
    """Return when *login*, used at *now*, is over if it is not used again."""
    limit = idle_limit(login)
    return login.expires_at if limit is None else min(login.expires_at, now + limit)


def require_grant(client: Client, grant_type: GrantType) -> None:
    """Refuse a *client* that may not ask for this.

    Raises:
        GrantRefused: `unauthorized_client`.
    """
    if grant_type not in client.grant_types:
        raise GrantRefused("unauthorized_client", "This client may not use this grant type.")


def _not_good() -> GrantRefused:
    return GrantRefused("invalid_grant", "The refresh token is not good.")
