"""The warm path of `/check` only ever says what the whole way would say: two applications on one authority, one of them warm."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyfob.authority.authority import Authority
from keyfob.endpoints.warm_checks import MAX_REMEMBERED, WarmChecks
from keyfob.server.build import application
from keyfob.tokens.grant import SubjectClaims

COOKIE, BEARER = b"cookie", b"authorization"


@dataclass
class Pair:
    """The same request to a warm application and to one that has never seen anything."""

    desk: object
    session: str
    jwt: str
    csrf: str

    @property
    def cookie(self) -> tuple[bytes, bytes]:
        return COOKIE, b"__Host-session=" + self.session.encode()

    @property
    def bearer(self) -> tuple[bytes, bytes]:
        return BEARER, b"Bearer " + self.jwt.encode()

    async def warm(self) -> None:
        for query in (b"", b"role=buyer", b"role=buyer&role=auditor", b"max_auth_age=60"):
            for headers in ([self.cookie, (b"x-forwarded-method", b"GET")], [self.bearer]):
                answer = await self.desk.ask("GET", "/check", headers=headers, query=query, own_page=False)
                assert answer.status == 204

    async def compare(self, headers: list[tuple[bytes, bytes]], query: bytes = b"") -> int:
        answers = []
        for app in (self.desk.app, await cold(self.desk)):
            self.desk.app, before = app, self.desk.app
            try:
                answers.append(
                    await self.desk.ask("GET", "/check", headers=headers, query=query, own_page=False)
                )
            finally:
                self.desk.app = before
        assert (answers[0].status, answers[0].headers, answers[0].body) == (
            answers[1].status,
            answers[1].headers,
            answers[1].body,
        )
        return answers[0].status


async def cold(desk):
    async def opened():
        return desk.authority

    app = application(opened, issuer=desk.authority.issuer)
    await app.start()
    app._warm.clear()  # whatever is asked is asked of the endpoint
    return app


@pytest.fixture
async def pair(desk) -> Pair:
    await desk.user(roles=("buyer", "auditor"))
    login = (await desk.login(transport="body")).json()
    made = Pair(desk, login["session_token"], await desk.access_token(), login["csrf_token"])
    await made.warm()
    return made


async def test_a_warm_check_does_not_ask_the_endpoint(pair, monkeypatch) -> None:
    async def never(*_args: object, **_more: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(pair.desk.authority, "authenticate", never)
    for headers in ([pair.cookie, (b"x-forwarded-method", b"GET")], [pair.bearer]):
        for query in (b"", b"role=buyer"):
            answer = await pair.desk.ask("GET", "/check", headers=headers, query=query, own_page=False)
            assert answer.status == 204
            assert answer.header("x-auth-roles") == "auditor buyer"


async def test_what_is_asked_once_takes_no_memory(desk, monkeypatch) -> None:
    remembered: list[str] = []
    monkeypatch.setattr(WarmChecks, "remember", lambda *_args, token, **_more: remembered.append(token))
    await desk.user()
    login = (await desk.login(transport="body")).json()
    made = Pair(desk, login["session_token"], await desk.access_token(), login["csrf_token"])
    for headers in ([made.cookie, (b"x-forwarded-method", b"GET")], [made.bearer]):
        await desk.ask("GET", "/check", headers=headers, own_page=False)
    assert remembered == []
    for headers in ([made.cookie, (b"x-forwarded-method", b"GET")], [made.bearer]):
        await desk.ask("GET", "/check", headers=headers, own_page=False)
    assert remembered == [made.session, made.jwt]


async def test_a_credential_that_was_never_seen_is_answered_without_a_task(pair) -> None:
    pair.desk.app = await fresh(pair.desk)
    for headers in ([pair.cookie, (b"x-forwarded-method", b"GET")], [pair.bearer]):
        answer = pair.desk.app.warm_answer("/check", headers, b"")
        assert answer is not None
        assert (b"x-auth-roles", b"auditor buyer") in answer.headers
        assert await pair.compare(headers) == 204


@pytest.mark.parametrize(
    "query", [b"mint=orders", b"status=200", b"role=clerk", b"role=buyer", b"rol=buyer", b"max_auth_age=60"]
)
async def test_what_may_have_to_wait_is_left_to_the_endpoint(pair, query: bytes) -> None:
    app = await fresh(pair.desk)
    assert app.warm_answer("/check", [pair.bearer], query) is None


async def test_nothing_is_minted_without_the_address_of_who_asks(pair) -> None:
    """The rules of the query are known, and the proxy says who it is: but a wrong secret must count against its address."""
    proxy = await pair.desk.client("proxy", "keyfob:check", audiences=("orders",))
    named = (b"x-keyfob-proxy", b"Basic " + base64.b64encode(":".join(proxy).encode()))
    pair.desk.app = await fresh(pair.desk)
    other = (await pair.desk.login(transport="body")).json()["session_token"]
    mine = (COOKIE, b"__Host-session=" + other.encode())
    get = (b"x-forwarded-method", b"GET")
    asked = await pair.desk.ask(
        "GET", "/check", headers=[mine, get, named], query=b"mint=orders", own_page=False
    )
    assert asked.status == 204
    assert pair.desk.app.warm_answer("/check", [pair.cookie, get, named], b"mint=orders") is None


async def test_only_a_yes_is_given_without_a_task(pair) -> None:
    app = await fresh(pair.desk)
    for headers in (
        [],
        [pair.cookie],
        [pair.cookie, pair.bearer, (b"x-forwarded-method", b"GET")],
        [(BEARER, b"Bearer " + pair.session[:-1].encode())],
    ):
        assert app.warm_answer("/check", headers, b"") is None
    principal = await pair.desk.authority.authenticate(pair.session)
    await pair.desk.authority.revoke("subject", principal.subject)
    assert app.warm_answer("/check", [pair.cookie, (b"x-forwarded-method", b"GET")], b"") is None
    assert app.warm_answer("/check", [pair.bearer], b"") is None


async def test_claims_that_come_from_elsewhere_are_never_asked_for_without_a_task(desk) -> None:
    asked: list[str] = []

    async def source(subject: str, client_id: str) -> SubjectClaims:
        asked.append(subject)
        return SubjectClaims(roles=frozenset({"buyer"}))

    async with Authority.open("memory://", issuer=desk.authority.issuer, claims_source=source) as other:
        login = await other.login("alice")
        app = await fresh(desk, authority=other)
        asked.clear()
        get = (b"x-forwarded-method", b"GET")
        cookie = (COOKIE, b"__Host-session=" + login.session_token.encode())
        assert app.warm_answer("/check", [cookie, get], b"") is None
        assert asked == []


async def fresh(desk, *, authority=None):
    async def opened():
        return authority or desk.authority

    app = application(opened, issuer=desk.authority.issuer)
    await app.start()
    return app


METHODS = [
    [],
    [b"x-forwarded-method:POST"],
    [b"x-original-method:DELETE"],
    [b"x-forwarded-method:get"],
    [b"x-forwarded-method:GET", b"x-original-method:POST"],
    [b"x-forwarded-method:HEAD", b"x-original-method:PUT"],
    [b"x-forwarded-method:POST", b"x-original-method:GET"],
    [b"x-original-method:PATCH", b"x-forwarded-method:OPTIONS"],
    [b"x-forwarded-method:GET", b"x-forwarded-method:POST"],
    [b"x-forwarded-method:PUT", b"x-forwarded-method:GET"],
    [b"x-original-method:GET", b"x-original-method:DELETE"],
    [b"x-original-method:PATCH", b"x-original-method:GET"],
]


@pytest.mark.parametrize("method", METHODS)
async def test_a_warm_cookie_is_guarded_like_any(pair, method: list[bytes]) -> None:
    headers = [tuple(line.split(b":")) for line in method]
    assert await pair.compare([pair.cookie, *headers]) == 403
    assert await pair.compare([*headers, pair.cookie]) == 403


async def test_warm_credentials_at_once_are_refused(pair) -> None:
    get = (b"x-forwarded-method", b"GET")
    for headers in (
        [pair.cookie, pair.bearer, get],
        [pair.bearer, pair.cookie, get],
        [pair.bearer, pair.bearer],
        [pair.cookie, pair.cookie, get],
        [pair.cookie, (COOKIE, b"__Host-session=x"), get],
        [pair.bearer, (BEARER, b"Bearer x")],
        [pair.bearer, (BEARER, b"")],
    ):
        assert await pair.compare(headers) == 401


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (b"role=buyer", 204),
        (b"role=admin", 403),
        (b"scope=orders", 403),
        (b"max_auth_age=60", 401),
        (b"rol=buyer", 400),
        (b"mint=orders", 403),
        (b"role=buyer&mint=orders", 403),
    ],
)
async def test_a_warm_credential_still_obeys_the_query(pair, query: bytes, status: int) -> None:
    await pair.desk.advance(61)
    for _ in range(2):
        assert await pair.compare([pair.bearer], query) == status


async def test_a_warm_credential_is_refused_by_the_check_after_its_revocation(pair) -> None:
    get = (b"x-forwarded-method", b"GET")
    principal = await pair.desk.authority.authenticate(pair.session)
    await pair.desk.authority.set_roles(principal.subject, ["clerk"])
    assert await pair.compare([pair.cookie, get], b"role=buyer") == 403
    assert await pair.compare([pair.cookie, get]) == 204
    assert await pair.compare([pair.bearer]) == 401
    await pair.desk.authority.revoke("subject", principal.subject)
    assert await pair.compare([pair.cookie, get]) == 401


async def test_a_warm_credential_runs_out(pair) -> None:
    get = (b"x-forwarded-method", b"GET")
    await pair.desk.advance(600)
    assert await pair.compare([pair.bearer]) == 401
    await pair.desk.advance(1200)
    assert await pair.compare([pair.cookie, get]) == 401


async def test_an_unsafe_method_is_warm_where_the_browser_vouches_and_never_by_a_csrf_token(
    pair, monkeypatch
) -> None:
    post = (b"x-forwarded-method", b"POST")
    own, token = (b"sec-fetch-site", b"same-origin"), (b"x-csrf-token", pair.csrf.encode())
    for voucher in (own, token):
        assert await pair.compare([pair.cookie, post, voucher]) == 204
    assert await pair.compare([pair.cookie, post]) == 403
    assert await pair.compare([pair.cookie, post, own, (b"origin", b"https://evil.example")]) == 403
    assert await pair.compare([pair.cookie, post, (b"x-csrf-token", b"wrong")]) == 403
    assert await pair.compare([pair.cookie, post, (b"sec-fetch-site", b"cross-site")]) == 403

    async def never(*_args: object, **_more: object) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(pair.desk.authority, "authenticate", never)
    answer = await pair.desk.ask("GET", "/check", headers=[pair.cookie, post, own], own_page=False)
    assert answer.status == 204


async def test_headers_that_come_as_lists_are_answered_too(pair) -> None:
    headers = [list(pair.cookie), [b"x-forwarded-method", b"GET"]]
    assert await pair.compare(headers) == 204


async def test_a_very_long_cookie_header_is_answered_and_not_remembered(pair) -> None:
    long = (COOKIE, pair.cookie[1] + b"; a=" + b"x" * MAX_REMEMBERED)
    get = (b"x-forwarded-method", b"GET")
    for _ in range(2):
        assert await pair.compare([long, get]) == 204


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_whatever_the_request_both_say_the_same(pair, data) -> None:
    pieces = [
        pair.cookie,
        pair.bearer,
        (BEARER, b"Bearer " + pair.session.encode()),
        (BEARER, b"bearer " + pair.jwt.encode()),
        (COOKIE, pair.cookie[1] + b"; a=1"),
        (COOKIE, b"__Host-session=" + pair.jwt.encode()),
        (COOKIE, pair.bearer[1]),
        (BEARER, pair.cookie[1]),
        (b"x-forwarded-method", b"GET"),
        (b"x-forwarded-method", b"POST"),
        (b"x-original-method", b"GET"),
        (b"x-original-method", b"DELETE"),
        (b"sec-fetch-site", b"same-origin"),
        (b"sec-fetch-site", b"cross-site"),
        (b"origin", b"https://evil.example"),
        (b"x-csrf-token", pair.csrf.encode()),
        (b"x-csrf-token", b"x"),
    ]
    headers = data.draw(st.lists(st.sampled_from(pieces), max_size=5))
    query = data.draw(
        st.sampled_from(
            [
                b"",
                b"role=buyer",
                b"role=x",
                b"role=buyer&role=auditor",
                b"max_auth_age=60",
                b"max_staleness=0",
                b"%",
                b"mint=a",
            ]
        )
    )
    await pair.compare(headers, query)
