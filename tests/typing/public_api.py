"""What a user's type checker sees of the public names. It is checked by mypy, and never run.

An unused `type: ignore` is an error too: each of those here says that a mistake is found.
"""
# mypy: disallow-any-expr

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import assert_type

import keyfob
import keyfob.sync
from keyfob import Authority, Cause, Denied, Device, Entry, Issued, Principal, Strategy, Verifier
from keyfob.sessions.store import SessionPage
from keyfob.tokens.access_token import AccessToken


async def logs_in(authority: Authority) -> None:
    issued = await authority.login(
        "alice",
        strategy="hybrid",
        audience=["orders", "stock"],
        roles=["buyer"],
        device=Device(user_agent="curl", address="192.0.2.1"),
    )
    assert_type(issued, Issued)
    assert_type(issued.access_token, str | None)
    assert_type(issued.refresh_token, str | None)
    assert_type(issued.session_token, str | None)
    assert_type(issued.expires_in, int | None)
    assert_type(issued.expires_at, datetime)
    assert_type(issued.strategy, Strategy)
    session_id: str = issued.session_id
    assert_type(await authority.refresh(issued.refresh_token or ""), Issued)
    assert_type(await authority.list_sessions("alice"), SessionPage)
    async with authority.sign_in() as attempt:
        assert_type(await attempt.login("alice", strategy=Strategy.JWT), Issued)
    authority.csrf_matches(session_id, authority.csrf_token(session_id))


async def opens() -> None:
    authority = await Authority.open("memory://", issuer="https://auth.example")
    assert_type(authority, Authority)
    await authority.close()
    async with keyfob.Authority.open(
        "sqlite:///keyfob.db",
        issuer="https://auth.example",
        master_key=bytes(32),
        access_lifetime=timedelta(minutes=5),
        policy=keyfob.SessionPolicy(sessions_per_subject=3, at_limit=keyfob.AtLimit.DENY),
    ) as opened:
        assert_type(opened, Authority)


async def checks(authority: Authority, token: str) -> None:
    principal = await authority.authenticate(token, audience="orders", roles={"buyer"})
    assert_type(principal, Principal)
    assert_type(principal.roles, frozenset[str])
    assert_type(principal.scopes, frozenset[str])
    assert_type(principal.audience, tuple[str, ...])
    assert_type(principal.auth_time, datetime | None)
    assert_type(principal.claims, Mapping[str, object])
    assert_type(principal.explain(), str)
    subject: str = principal.subject
    as_of: int = principal.as_of
    assert_type(await authority.introspect(token), Mapping[str, object])
    assert_type(await authority.mint(principal, "stock"), AccessToken)
    print(subject, as_of)


async def revokes(authority: Authority, token: str) -> None:
    assert_type(await authority.logout(token, devices="others"), Entry | None)
    preview = await authority.preview_revocation("subject", "alice", reach="end")
    assert_type(preview.worst, timedelta)
    assert_type(preview.sessions, int)
    entry = await authority.revoke("subject", "alice", reach="end", reason="stolen laptop")
    assert_type(entry, Entry)
    assert_type(entry.at, datetime)
    position: int = entry.position
    assert_type(await authority.set_roles("alice", ["seller"]), Entry | None)
    print(position)


def verifies(jwks: Mapping[str, object], token: str) -> None:
    verifier = Verifier.from_jwks(jwks, issuer="https://auth.example", audience="orders")
    assert_type(verifier, Verifier)
    try:
        principal = verifier.verify(token, max_staleness=timedelta(seconds=3), on_stale="deny", scopes={"a"})
        assert_type(principal, Principal)
    except Denied as denied:
        assert_type(denied.cause, Cause)
        assert_type(denied.code, str)
    assert_type(verifier.is_level, bool)
    assert_type(verifier.stats().denials, Mapping[str, int])


async def follows(token: str) -> None:
    async with Verifier.follow(
        "https://auth.example",
        audience={"orders"},
        credentials=("orders", "secret"),
        on_stale="accept",
        accept_within=timedelta(minutes=1),
    ) as verifier:
        assert_type(verifier, Verifier)
        principal = await verifier.authenticate(token, on_stale="introspect")
        assert_type(principal, Principal)
        async with verifier.guard(principal) as guard:
            guard.renew(token)
    with Verifier.follow("https://auth.example", audience="orders") as blocking:
        assert_type(blocking.authenticate_blocking(token), Principal)


def blocks() -> None:
    with keyfob.sync.Authority.open("memory://", issuer="https://auth.example") as authority:
        assert_type(authority, keyfob.sync.Authority)
        issued = authority.login("alice", strategy="session")
        assert_type(issued, Issued)
        assert_type(authority.authenticate(issued.session_token or ""), Principal)
        assert_type(authority.revoke("everything"), Entry)


async def mistakes(authority: Authority, verifier: Verifier) -> None:
    await authority.login("alice", audiences=["orders"])  # type: ignore[call-arg]
    await authority.login("alice", persistent="yes")  # type: ignore[arg-type]
    await authority.logout("token", devices="some")  # type: ignore[arg-type]
    Authority.open("memory://", issuer="https://auth.example", lifetime=5)  # type: ignore[call-arg]
    Authority.open("memory://")  # type: ignore[call-arg]
    verifier.verify("token", on_stale="introspect")  # type: ignore[arg-type]
    verifier.verify(b"token")  # type: ignore[arg-type]
    Verifier.follow("https://auth.example", audience="orders", staleness=5)  # type: ignore[call-arg]
    Verifier.from_jwks({}, issuer="https://auth.example")  # type: ignore[call-arg]
