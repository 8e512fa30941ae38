"""`POST /oauth/revoke` (RFC 7009): every kind of token, whose it must be, and how little is said."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from keyfob.authority.api_keys import ApiKeyOrder
from keyfob.base import base64url
from keyfob.base.errors import Cause, Denied, StoreUnavailable
from keyfob.base.identifiers import SessionId, Strategy
from keyfob.base.opaque import OpaqueKeys, OpaqueKind, OpaqueToken
from keyfob.clients.assertion import ASSERTION_TYPE
from keyfob.clients.registration import Registration
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set

ISSUER = "https://auth.example"
FORM = {"content-type": "application/x-www-form-urlencoded"}
KEY = PrivateKey.generate(Algorithm.ES256)


async def revoke(desk: Any, fields: Any, *, as_: tuple[str, str] | None = None, **options: Any) -> Any:
    """Ask with the form *fields*, as a confidential client or as none."""
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    headers = {**FORM, **options.pop("headers", {})}
    return await desk.ask(
        "POST", "/oauth/revoke", body=body, headers=headers, basic=as_, own_page=False, **options
    )


async def gives_back(desk: Any, client: tuple[str, str], token: str, **more: str) -> None:
    """Revoke *token* as *client*, and see the one answer that there is."""
    assert shown(await revoke(desk, {"token": token, **more}, as_=client)) == SILENCE


def shown(answer: Any) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status, answer.body, sorted(answer.headers)


SILENCE = (
    200,
    b"",
    sorted(
        [
            ("cache-control", "no-store"),
            ("content-length", "0"),
            (
                "content-security-policy",
                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("referrer-policy", "no-referrer"),
            ("strict-transport-security", "max-age=63072000; includeSubDomains"),
            ("vary", "Origin"),
            ("x-content-type-options", "nosniff"),
        ]
    ),
)


async def cause(desk: Any, token: str) -> Cause | None:
    try:
        await desk.authority.authenticate(token)
    except Denied as denied:
        return denied.cause
    return None


async def refresh_cause(desk: Any, token: str) -> Cause | None:
    try:
        await desk.authority.refresh(token)
    except Denied as denied:
        return denied.cause
    return None


async def entries(desk: Any, after: int = 0) -> list[tuple[str, str, str]]:
    found = await desk.authority.store.feed.read_after(after, 1000)
    return [(entry.scope.value, entry.id, entry.reach.value) for entry in found]


def jti_of(token: str) -> str:
    return json.loads(base64url.decode(token.split(".")[1].encode()))["jti"]


async def shop(desk: Any, client_id: str = "shop", *scopes: str) -> tuple[str, str]:
    added = await desk.authority.clients.add(client_id, scopes=scopes, strategies=list(Strategy))
    return client_id, added.secret


async def login(
    desk: Any, strategy: str, client_id: str = "shop", subject: str = "alice", **more: Any
) -> Any:
    return await desk.authority.login(subject, strategy=strategy, client_id=client_id, **more)


# Every kind of token


@pytest.mark.meets("7009-R2")
async def test_a_session_token_ends_its_session(desk: Any) -> None:
    client = await shop(desk)
    mine, other = await login(desk, "session"), await login(desk, "session")
    assert await cause(desk, mine.session_token) is None  # and is cached
    await gives_back(desk, client, mine.session_token)
    assert await entries(desk) == [("session", mine.session_id, "end")]
    assert await cause(desk, mine.session_token) is Cause.REVOKED
    assert await cause(desk, other.session_token) is None


@pytest.mark.meets("7009-R1", "7009-R11")
@pytest.mark.parametrize("generations", [0, 1, 3])
async def test_a_refresh_token_ends_its_session_with_everything_of_it(desk: Any, generations: int) -> None:
    """An earlier one of the chain as well: whoever holds it can only lose (R-01)."""
    client = await shop(desk)
    issued = await login(desk, "hybrid")
    newest = issued
    for _ in range(generations):
        await desk.advance(31)
        newest = await desk.authority.refresh(newest.refresh_token)
    minted = await desk.authority.mint(await desk.authority.authenticate(newest.access_token), "orders")
    await gives_back(desk, client, issued.refresh_token)
    assert await entries(desk) == [("session", issued.session_id, "end")]
    assert await refresh_cause(desk, newest.refresh_token) is Cause.REVOKED
    for token in (issued.access_token, newest.access_token, minted.text):
        assert await cause(desk, token) is Cause.REVOKED


async def test_a_childs_refresh_token_ends_the_child_and_not_the_login_it_came_from(desk: Any) -> None:
    client = await shop(desk)
    parent = await desk.authority.login("alice")
    child = await login(desk, "hybrid", parent_session_id=parent.session_id)
    sibling = await login(desk, "hybrid", parent_session_id=parent.session_id)
    await gives_back(desk, client, child.refresh_token)
    assert await entries(desk) == [("session", child.session_id, "end")]
    assert await cause(desk, child.access_token) is Cause.REVOKED
    assert await cause(desk, sibling.access_token) is None
    assert await cause(desk, parent.session_token) is None


@pytest.mark.meets("7009-R2", "7009-R12")
async def test_an_access_token_ends_alone(desk: Any) -> None:
    client = await shop(desk)
    issued = await login(desk, "hybrid")
    again = await desk.authority.refresh(issued.refresh_token)
    assert await cause(desk, issued.access_token) is None  # and is cached
    await gives_back(desk, client, issued.access_token)
    assert await entries(desk) == [("token", jti_of(issued.access_token), "end")]
    assert await cause(desk, issued.access_token) is Cause.REVOKED
    assert await cause(desk, again.access_token) is None
    assert await refresh_cause(desk, again.refresh_token) is None


@pytest.mark.meets("7009-R12")
async def test_the_only_token_of_a_login_ends_the_login(desk: Any) -> None:
    client = await shop(desk)
    issued = await login(desk, "jwt")
    await gives_back(desk, client, issued.access_token)
    assert await entries(desk) == [("session", issued.session_id, "end")]
    assert await cause(desk, issued.access_token) is Cause.REVOKED
    assert not (await desk.authority.list_sessions("alice")).sessions


@pytest.mark.meets("7009-R2")
async def test_a_machines_token_ends_alone(desk: Any) -> None:
    client = await shop(desk)
    answers = [
        await desk.ask(
            "POST", "/oauth/token", basic=client, body=b"grant_type=client_credentials", headers=FORM
        )
        for _ in range(2)
    ]
    mine, other = (answer.json()["access_token"] for answer in answers)
    await gives_back(desk, client, mine)
    assert await entries(desk) == [("token", jti_of(mine), "end")]
    assert (await cause(desk, mine), await cause(desk, other)) == (Cause.REVOKED, None)


@pytest.mark.meets("7009-R2", "8693-ours")
async def test_an_api_key_ends_with_what_it_was_exchanged_for(desk: Any) -> None:
    client = await shop(desk, "shop", "read")
    key = await desk.authority.api_keys.add_for_service(
        "shop", ApiKeyOrder(name="ci", audience=[ISSUER], scopes=["read"]), actor="test"
    )
    exchanged = await desk.ask(
        "POST",
        "/oauth/token",
        headers=FORM,
        body=urlencode(
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
                "subject_token": key.text,
                "subject_token_type": "urn:keyfob:token-type:api-key",
            }
        ).encode(),
    )
    token = exchanged.json()["access_token"]
    assert await cause(desk, token) is None
    await gives_back(desk, client, key.text)
    assert await entries(desk) == [("session", key.api_key.key_id, "end")]
    assert await cause(desk, key.text) is Cause.REVOKED
    assert await cause(desk, token) is Cause.REVOKED


async def test_what_was_exchanged_for_a_key_ends_without_the_key(desk: Any) -> None:
    client = await shop(desk, "shop", "read")
    key = await desk.authority.api_keys.add_for_service(
        "shop", ApiKeyOrder(name="ci", audience=[ISSUER], scopes=["read"]), actor="test"
    )
    minted = await desk.authority.mint(await desk.authority.authenticate(key.text), "orders")
    await gives_back(desk, client, minted.text)
    assert await entries(desk) == [("token", minted.token_id, "end")]
    assert (await cause(desk, minted.text), await cause(desk, key.text)) == (Cause.REVOKED, None)


async def test_a_token_with_stale_claims_can_still_be_given_back(desk: Any) -> None:
    client = await shop(desk)
    issued = await login(desk, "hybrid", roles=["a"])
    await desk.authority.set_roles("alice", ["b"])
    await gives_back(desk, client, issued.access_token)
    assert (await entries(desk))[-1] == ("token", jti_of(issued.access_token), "end")
    assert await cause(desk, issued.access_token) is Cause.REVOKED


@pytest.mark.meets("7009-2.1b", "7009-R13")
@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "nonsense", "", "é" * 50])
async def test_a_hint_changes_nothing(desk: Any, hint: str) -> None:
    client = await shop(desk)
    for strategy in ("session", "hybrid"):
        issued = await login(desk, strategy)
        await gives_back(
            desk, client, issued.refresh_token or issued.session_token, token_type_hint=hint, further="1"
        )
        assert (await entries(desk))[-1] == ("session", issued.session_id, "end")


# Who may


async def test_a_client_says_who_it_is_in_each_way_of_the_token_endpoint(desk: Any) -> None:
    client_id, secret = await shop(desk)
    keys = json.dumps(jwk_set([KEY.public])).encode()
    await desk.authority.clients.add("robot", public_keys=keys, strategies=list(Strategy))
    now = int(desk.clock.time())
    claims = {"iss": "robot", "sub": "robot", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "once"}
    assertion = {
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": jws.sign(json.dumps(claims).encode(), KEY, typ="JWT"),
    }
    for name, fields, as_ in (
        (client_id, {}, (client_id, secret)),
        (client_id, {"client_id": client_id, "client_secret": secret}, None),
        ("robot", assertion, None),
    ):
        issued = await login(desk, "session", name)
        answer = await revoke(desk, {"token": issued.session_token, **fields}, as_=as_)
        assert shown(answer) == SILENCE
        assert await cause(desk, issued.session_token) is Cause.REVOKED
    issued = await login(desk, "session", "robot")
    answer = await revoke(desk, {"token": issued.session_token, **assertion})  # taken once
    assert (answer.status, answer.json()["error"]) == (401, "invalid_client")
    assert await cause(desk, issued.session_token) is None


@pytest.mark.meets("7009-R8")
async def test_a_public_client_gives_back_its_own_by_its_name(desk: Any) -> None:
    """It holds the token, and there is no more that it could show (RFC 7009, section 2.1)."""
    await shop(desk)
    await desk.authority.clients.add(
        "app", registration=Registration(public=True, redirect_uris=["com.example.app:/signed-in"])
    )
    mine, theirs = await login(desk, "hybrid", "app"), await login(desk, "hybrid")
    for issued in (mine, theirs):
        answer = await revoke(desk, {"token": issued.refresh_token, "client_id": "app"})
        assert shown(answer) == SILENCE
    answer = await revoke(desk, {"token": mine.refresh_token, "client_id": "first-party"})
    assert (answer.status, answer.json()["error"]) == (401, "invalid_client")  # it signs out at /logout
    assert await cause(desk, mine.access_token) is Cause.REVOKED
    assert await cause(desk, theirs.access_token) is None


@pytest.mark.meets("10.4.10", "7009-2.1a", "7009-R8")
async def test_whoever_does_not_prove_who_it_is_ends_nothing(desk: Any) -> None:
    client_id, secret = await shop(desk)
    issued = await login(desk, "session")
    token = {"token": issued.session_token}
    for fields, as_, status, error in (
        (token, None, 401, "invalid_client"),
        (token, (client_id, "wrong"), 401, "invalid_client"),
        (token, ("nobody", secret), 401, "invalid_client"),
        ({**token, "client_id": client_id}, None, 401, "invalid_client"),
        ({**token, "client_id": "nobody"}, None, 401, "invalid_client"),
        ({**token, "client_id": "other"}, (client_id, secret), 400, "invalid_request"),
        (
            {**token, "client_id": client_id, "client_secret": secret},
            (client_id, secret),
            400,
            "invalid_request",
        ),
        ({}, (client_id, secret), 400, "invalid_request"),
        ({"token": ""}, (client_id, secret), 400, "invalid_request"),
        ({"token": "x" * 16_385}, (client_id, secret), 400, "invalid_request"),
        (b"token=a&token=b", (client_id, secret), 400, "invalid_request"),
    ):
        answer = await revoke(desk, fields, as_=as_)
        assert (answer.status, answer.json()["error"]) == (status, error), fields
        assert set(answer.json()) == {"error", "error_description"}
        assert answer.header("cache-control") == "no-store"
        assert status != 401 or answer.header("www-authenticate").startswith("Basic ")
    assert await cause(desk, issued.session_token) is None
    assert await entries(desk) == []


@pytest.mark.meets("OA-09", "7009-R15")
async def test_wrong_credentials_are_slowed_down(desk: Any) -> None:
    client_id, secret = await shop(desk)
    statuses = [(await revoke(desk, {"token": "x"}, as_=(client_id, "wrong"))).status for _ in range(7)]
    assert statuses[:5] == [401] * 5
    assert 429 in statuses
    await gives_back(desk, (client_id, secret), "x")


@pytest.mark.meets("OA-08", "OA-12", "7009-R3", "7009-2.3")
async def test_it_is_asked_by_post_with_nothing_in_the_address(desk: Any) -> None:
    client = await shop(desk)
    issued = await login(desk, "session")
    for method in ("GET", "PUT", "DELETE"):
        answer = await desk.ask(method, "/oauth/revoke", basic=client)
        assert (answer.status, answer.header("allow")) == (405, "OPTIONS, POST")
    answer = await revoke(desk, {"token": "x"}, as_=client, query=f"token={issued.session_token}".encode())
    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")
    answer = await desk.ask("POST", "/oauth/revoke", basic=client, json_body={"token": issued.session_token})
    assert (answer.status, answer.json()["error"]) == (415, "invalid_request")
    answer = await revoke(desk, {"token": "x", "callback": "f"}, as_=client)  # no JSONP
    assert shown(answer) == SILENCE
    assert await cause(desk, issued.session_token) is None


# Attacks


async def everything_of(desk: Any, client_id: str) -> list[str]:
    """Return good tokens of each kind that were issued to *client_id*."""
    tokens = []
    for strategy in ("session", "hybrid", "jwt"):
        issued = await login(desk, strategy, client_id, f"holder-{client_id}")
        tokens += [issued.session_token, issued.refresh_token, issued.access_token]
    key = await desk.authority.api_keys.add_for_service(
        client_id, ApiKeyOrder(name="ci", audience=[ISSUER]), actor="test"
    )
    return [token for token in (*tokens, key.text) if token]


@pytest.mark.meets("7009-R8")
async def test_another_clients_tokens_stay_good_and_nothing_says_so(desk: Any) -> None:
    """R-17."""
    await shop(desk)
    thief = await shop(desk, "thief")
    tokens = await everything_of(desk, "shop")
    for token in tokens:
        await gives_back(desk, thief, token)
    assert await entries(desk) == []
    for token in tokens:
        is_refresh = token.startswith("kfr_")
        assert await (refresh_cause if is_refresh else cause)(desk, token) is None


def tampered(tokens: Iterable[str]) -> list[str]:
    """Each token with its last but one character changed."""
    return [token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1] for token in tokens]


@pytest.mark.meets("7009-R13")
async def test_unknown_foreign_expired_and_malformed_are_one_answer(desk: Any) -> None:
    client = await shop(desk)
    other = await shop(desk, "other")
    foreign = await everything_of(desk, "other")
    own = await everything_of(desk, "shop")
    used = await login(desk, "hybrid", subject="used")
    await desk.authority.logout(used.refresh_token)
    forged = OpaqueToken.mint(OpaqueKind.SESSION, SessionId("b" * 32), OpaqueKeys(b"keys", b"t", b"r")).text()
    unknown = OpaqueToken.mint(
        OpaqueKind.REFRESH, SessionId("c" * 32), desk.authority.keys.current_opaque()
    ).text()
    relabelled = "kfs_" + used.refresh_token[4:]
    for token in (
        *foreign,
        *tampered(own),
        *(used.refresh_token, used.access_token, forged, unknown, relabelled),
        *("x", "a.b.c", "kfs_", "kfr_" + "A" * 98, "kfc_x", other[1], "\N{SNOWMAN}", " "),
    ):
        await gives_back(desk, client, token)
    assert await desk.position() == 1  # the logout
    await desk.advance(timedelta(days=400).total_seconds())
    for token in own:
        await gives_back(desk, client, token)
    assert await desk.position() == 1


@pytest.mark.meets("7009-R16")
async def test_an_answer_costs_the_same_looks_at_the_store_whatever_is_wrong(
    desk: Any, monkeypatch: Any
) -> None:
    """What cannot be told from the answer is not to be told from the time either."""
    client = await shop(desk)
    await shop(desk, "other")
    over = await login(desk, "session", subject="bob")
    await desk.authority.logout(over.session_token)
    foreign = await login(desk, "session", "other")
    unknown = OpaqueToken.mint(
        OpaqueKind.SESSION, SessionId("c" * 32), desk.authority.keys.current_opaque()
    ).text()
    looks = Counter[str]()
    for part in ("sessions", "feed", "clients"):
        for verb in ("find", "head"):
            store = getattr(desk.authority.store, part)
            if hasattr(store, verb):
                monkeypatch.setattr(store, verb, counting(getattr(store, verb), looks, f"{part}.{verb}"))
    seen = []
    for token in (foreign.session_token, over.session_token, unknown, *tampered([foreign.session_token])):
        looks.clear()
        await gives_back(desk, client, token)
        seen.append(dict(looks))
    assert seen[0] == {"clients.find": 1, "feed.head": 1, "sessions.find": 1}
    assert all(each == seen[0] for each in seen)


def counting(verb: Any, looks: Counter[str], name: str) -> Any:
    async def counted(*arguments: Any, **options: Any) -> Any:
        looks[name] += 1
        return await verb(*arguments, **options)

    return counted


async def test_given_back_twice_it_leaves_one_entry(desk: Any) -> None:
    client = await shop(desk)
    for token in [token for token in await everything_of(desk, "shop") if token.startswith(("kf", "ey"))]:
        before = await desk.position()
        await gives_back(desk, client, token)
        after = await desk.position()
        await gives_back(desk, client, token)
        assert await desk.position() == after <= before + 1


async def test_many_at_once_end_a_session_once(desk: Any) -> None:
    client = await shop(desk)
    issued = await login(desk, "hybrid")
    await asyncio.gather(*(gives_back(desk, client, issued.refresh_token) for _ in range(20)))
    assert await entries(desk) == [("session", issued.session_id, "end")]


@pytest.mark.meets("7009-R9")
async def test_a_refresh_at_the_same_time_does_not_survive(desk: Any) -> None:
    """R-11, in either order, many times."""
    client = await shop(desk)
    for _ in range(10):
        issued = await login(desk, "hybrid")
        await desk.advance(31)
        outcomes = await asyncio.gather(
            desk.authority.refresh(issued.refresh_token),
            gives_back(desk, client, issued.refresh_token),
            return_exceptions=True,
        )
        assert outcomes[1] is None
        if not isinstance(outcomes[0], Denied):
            assert await cause(desk, outcomes[0].access_token) is Cause.REVOKED
            assert await refresh_cause(desk, outcomes[0].refresh_token) is Cause.REVOKED
        assert await refresh_cause(desk, issued.refresh_token) is Cause.REVOKED


async def test_after_a_logout_there_is_nothing_left_to_end(desk: Any) -> None:
    client = await shop(desk)
    issued = await login(desk, "hybrid")
    await desk.authority.logout(issued.refresh_token)
    for token in (issued.refresh_token, issued.access_token):
        await gives_back(desk, client, token)
    assert await entries(desk) == [("session", issued.session_id, "end")]


async def test_a_client_that_was_deleted_ends_nothing_and_has_nothing_left(desk: Any) -> None:
    client = await shop(desk)
    issued = await login(desk, "hybrid")
    await desk.authority.clients.delete("shop", actor="test")
    answer = await revoke(desk, {"token": issued.refresh_token}, as_=client)
    assert (answer.status, answer.json()["error"]) == (401, "invalid_client")
    assert await refresh_cause(desk, issued.refresh_token) is Cause.REVOKED


@pytest.mark.meets("7009-R14")
async def test_a_store_that_does_not_answer_is_never_a_success(desk: Any, monkeypatch: Any) -> None:
    """RFC 7009, section 2.2.1: at 503 the client takes it that the token still exists."""
    client = await shop(desk)
    issued = await login(desk, "session")
    with monkeypatch.context() as patch:
        for part, verb in (("feed", "head"), ("sessions", "find"), ("sessions", "end"), ("clients", "find")):

            async def away(*_: Any, **__: Any) -> None:
                raise StoreUnavailable("away")

            patch.setattr(getattr(desk.authority.store, part), verb, away)
            answer = await revoke(desk, {"token": issued.session_token}, as_=client)
            patch.undo()
            assert (answer.status, answer.json()["error"]) == (503, "temporarily_unavailable"), (part, verb)
            assert answer.header("retry-after") is not None
    assert await cause(desk, issued.session_token) is None
    await gives_back(desk, client, issued.session_token)
    assert await cause(desk, issued.session_token) is Cause.REVOKED


async def test_the_audit_says_which_client_gave_back_what(desk: Any) -> None:
    client = await shop(desk)
    hybrid, machine = await login(desk, "hybrid"), await login(desk, "hybrid", subject="bob")
    await gives_back(desk, client, hybrid.refresh_token)
    await gives_back(desk, client, machine.access_token)
    events = (await desk.authority.trail.list(code="token_revoked")).events
    told = sorted((event.actor, event.facts["scope"], event.facts["id"]) for event in events)
    assert told == sorted(
        [
            ("shop", "session", hybrid.session_id),
            ("shop", "token", jti_of(machine.access_token)),
        ]
    )
    assert hybrid.refresh_token not in repr(events)


@pytest.mark.meets("7009-R6/R7", "8414-rev")
async def test_metadata_says_where_it_is(desk: Any) -> None:
    body = (await desk.ask("GET", "/.well-known/oauth-authorization-server")).json()
    assert body["revocation_endpoint"] == f"{ISSUER}/oauth/revoke"
    assert body["revocation_endpoint_auth_methods_supported"] == [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ]
