"""Whatever bytes come: never a fault, never a change, never a word about what exists."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyfob.endpoints.table import routes
from keyfob.http.messages import MAX_BODY

ALL = sorted({(route.method, route.path) for route in routes()})
WRITING = [(method, path) for method, path in ALL if method in {"POST", "PUT", "DELETE"}]
# The one has no body, and of the other nothing need be there.
READING = [
    (method, path)
    for method, path in WRITING
    if method != "DELETE" and path not in {"/oauth/userinfo", "/oauth/logout"}
]
MACHINES = {
    "/sessions/seen",
    "/oauth/device_authorization",
    "/oauth/introspect",
    "/oauth/par",
    "/oauth/revoke",
    "/oauth/token",
    "/feed/reports",
    "/feed/evidence",
}
PAGES = {route.path for route in routes() if route.response_type == "text/html"}
"""Where people are, who are told in HTML."""
SETTINGS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

NAMES = st.sampled_from(
    [
        b"authorization",
        b"cookie",
        b"content-type",
        b"content-length",
        b"origin",
        b"sec-fetch-site",
        b"x-csrf-token",
        b"x-forwarded-method",
        b"x-forwarded-for",
        b"x-keyfob-proxy",
        b"last-event-id",
        b"user-agent",
        b"x",
    ]
)
VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"application/json",
            b"application/x-www-form-urlencoded",
            b"Bearer a.b.c",
            b"Bearer eyJhbGciOiJub25lIn0.e30.",
            b"Basic YTpi",
            b"Basic Og==",
            b"__Host-session=x",
            b"__Host-session=" + b"kfs_" + b"A" * 98,
            b"__Host-refresh=" + b"kfr_" + b"A" * 98,
            b"same-origin",
            b"https://auth.example",
            b"GET",
            b"10",
        ]
    ),
)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "username",
                    "password",
                    "devices",
                    "refresh_token",
                    "scope",
                    "id",
                    "roles",
                    "name",
                    "sessions",
                    "at",
                    "csrf_token",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
BODIES = st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode("utf-8", "replace"))


def concrete(path: str, part: str) -> str:
    for name in ("{session_id}", "{user}", "{client_id}", "{key_id}", "{rest}"):
        path = path.replace(name, part)
    return path


async def state(desk) -> object:
    store = desk.authority.store
    return (
        await desk.position(),
        [session.session_id for session in (await desk.authority.list_sessions()).sessions],
        list((await desk.authority.accounts.list()).accounts),
        await desk.authority.clients.list(),
        await store.keys.all(),
    )


@SETTINGS
@given(
    st.sampled_from(ALL),
    HEADERS,
    st.binary(max_size=30) | st.sampled_from([b"limit=1", b"role=a", b"mint=a", b"nonce=0123456789abcdef"]),
    BODIES,
    st.sampled_from(["x", "%ff", "%00", "0" * 32, "..", "%2F", "é"]),
)
async def test_a_stranger_causes_no_fault_and_no_change(desk, route, headers, query, body, part: str) -> None:
    await desk.authority.accounts.find("alice") or await desk.user()
    before = await state(desk)
    method, path = route
    if path == "/feed" and any(name == b"authorization" for name, _ in headers):
        headers = [pair for pair in headers if pair[0] != b"authorization"]
    answer = await desk.ask(
        "GET" if method == "*" else method,
        concrete(path, part),
        headers=headers,
        query=query,
        body=body,
        own_page=False,
    )
    assert answer.status < 500
    assert await state(desk) == before
    if answer.status >= 400 and path not in PAGES:
        assert answer.json().get("code") or answer.json()["error"]
    assert "set-cookie" not in dict(answer.headers) or path == "/logout"


@SETTINGS
@given(
    st.sampled_from(WRITING),
    BODIES,
    st.sampled_from([b"application/json", b"application/x-www-form-urlencoded", b"text/plain"]),
    st.binary(max_size=20),
)
async def test_an_administrator_with_nonsense_in_hand_causes_no_fault(
    desk, route, body, content_type, query
) -> None:
    if not await desk.authority.accounts.find("root"):
        await desk.user("root", roles=("keyfob:admin",))
    issued = await desk.authority.login((await desk.authority.accounts.find("root")).subject, strategy="jwt")
    method, path = route
    headers = [(b"content-type", content_type)]
    answer = await desk.ask(
        method, concrete(path, "nobody"), bearer=issued.access_token, headers=headers, body=body, query=query
    )
    assert answer.status < 500


@pytest.mark.parametrize(("method", "path"), READING)
@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"null", b'{"x":1}', b"\xff", b"[" * 5000, b'{"a":' * 500, b"x" * (MAX_BODY + 1)]
)
async def test_a_malformed_body_is_told_so(desk, method: str, path: str, body: bytes) -> None:
    admin = await desk.admin()
    client = await desk.client("orders", "keyfob:feed")
    before = await state(desk)
    is_machine = path in MACHINES
    form = path.startswith(("/oauth/", "/device"))
    answer = await desk.ask(
        method,
        concrete(path, "root"),
        bearer=None if is_machine else admin,
        basic=client if is_machine else None,
        body=body,
        headers={"content-type": "application/x-www-form-urlencoded" if form else "application/json"},
    )
    bodiless = answer.status in {200, 204, 401, 404} and body in {b"", b"{}"}
    assert answer.status in {400, 413, 422} or bodiless
    assert await state(desk) == before


@pytest.mark.parametrize(("method", "path"), [*READING, ("POST", "/oauth/logout")])
async def test_another_content_type_is_415(desk, method: str, path: str) -> None:
    """C-12: what a page of another origin can send without asking first is no JSON."""
    admin = await desk.admin()
    client = await desk.client("orders", "keyfob:feed")
    before = await state(desk)
    is_machine = path in MACHINES
    answer = await desk.ask(
        method,
        concrete(path, "root"),
        bearer=None if is_machine else admin,
        basic=client if is_machine else None,
        body=b'{"devices":"all"}',
        headers={"content-type": "text/plain"},
    )
    assert answer.status == 415
    assert await state(desk) == before
