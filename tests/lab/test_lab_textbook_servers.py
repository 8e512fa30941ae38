"""The textbook's servers are honest: each refuses what its design refuses, and accepts what its design cannot refuse."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey
from keyfob.lab.asgi import Routes
from keyfob.lab.setups import Design
from keyfob.lab.textbook.checks import AUDIENCE, Claims, JwtCheck, check_of
from keyfob.lab.textbook.desk import Desk, DeskSettings
from keyfob.lab.textbook.records import RecordsUnavailable, SqliteRecords
from keyfob.lab.textbook.remote_records import RemoteRecords, StoreProtocol
from keyfob.lab.textbook.sign_in import SESSION_SECONDS, SignIn
from keyfob.testing.frozen_clock import FrozenClock

ISSUER = "http://127.0.0.1:1"
DESIGNS: tuple[Design, ...] = ("session", "jwt", "blocklist", "hybrid")
WITH_JWT: tuple[Design, ...] = ("jwt", "blocklist", "hybrid")


@dataclass
class Answered:
    status: int
    body: Any
    cookies: dict[str, str] = field(default_factory=dict)
    set_cookies: list[str] = field(default_factory=list)


class Shop:
    """A desk in this process, and a browser in front of it that keeps cookies."""

    def __init__(self, design: Design, folder: Path, *, is_defended: bool = True) -> None:
        self.clock = FrozenClock()
        self.key = PrivateKey.generate(Algorithm.ES256)
        self.records = SqliteRecords(folder / f"{design}.db")
        records = None if design == "jwt" else self.records
        self.sign_in = SignIn(
            design=design, issuer=ISSUER, key=self.key, access_seconds=600, records=records, clock=self.clock
        )
        jwt = JwtCheck({self.key.key_id: self.key.public}, ISSUER, self.clock)
        settings = DeskSettings(
            design=design,
            access_seconds=600,
            accounts={"alice": "right"},
            admin="boss",
            is_defended=is_defended,
        )
        check = check_of(design, jwt=jwt, records=records, clock=self.clock)
        self.routes: Routes = Desk(settings, self.sign_in, check).routes()
        self.cookies: dict[str, str] = {}
        self.token = ""
        self.csrf = ""

    async def ask(
        self, method: str, path: str, body: Mapping[str, object] | None = None, **headers: str
    ) -> Answered:
        sent = {b"content-type": b"application/json"}
        if self.cookies:
            sent[b"cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items()).encode()
        if self.token:
            sent[b"authorization"] = f"Bearer {self.token}".encode()
        sent |= {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        messages: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": json.dumps(body or {}).encode()}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "headers": list(sent.items()), "query_string": b"",
        }  # fmt: skip
        await self.routes(scope, receive, send)
        raw = messages[1]["body"]
        lines = [value.decode() for name, value in messages[0]["headers"] if name == b"set-cookie"]
        pairs = dict(line.split(";", 1)[0].split("=", 1) for line in lines)
        return Answered(messages[0]["status"], json.loads(raw) if raw else None, pairs, lines)

    async def log_in(self) -> Answered:
        answer = await self.ask("POST", "/login", {"username": "alice", "password": "right"})
        assert answer.status == 200
        self.cookies |= answer.cookies
        self.token = answer.body.get("access_token", "")
        self.csrf = answer.body.get("csrf_token", "")
        return answer

    async def is_in(self) -> bool:
        return (await self.ask("GET", "/orders")).status == 204

    async def log_out(self) -> None:
        assert (await self.ask("POST", "/logout", x_csrf_token=self.csrf)).status == 204

    async def end_alice(self) -> None:
        assert (await self.ask("POST", "/end", {"username": "alice"}, x_admin="boss")).status == 204


@pytest.fixture
def open_shop(tmp_path: Path) -> Any:
    opened: list[Shop] = []

    def open_one(design: Design, **options: bool) -> Shop:
        opened.append(Shop(design, tmp_path, **options))
        return opened[-1]

    yield open_one
    for shop in opened:
        shop.records.close()


@pytest.mark.parametrize("design", DESIGNS)
async def test_a_login_needs_the_password_and_opens_the_shop(open_shop: Any, design: Design) -> None:
    shop = open_shop(design)
    assert not await shop.is_in()
    for wrong in ({"username": "alice", "password": "wrong"}, {"username": "bob", "password": "right"}, {}):
        assert (await shop.ask("POST", "/login", wrong)).status == 401
    await shop.log_in()
    assert await shop.is_in()


async def test_cookies_have_the_attributes_that_their_design_promises(open_shop: Any) -> None:
    session = (await open_shop("session").log_in()).set_cookies
    refresh = (await open_shop("hybrid").log_in()).set_cookies
    assert [line.split("; ", 1)[1] for line in session] == ["Path=/; HttpOnly; Secure; SameSite=Lax"]
    assert [line.split("; ", 1)[1] for line in refresh] == ["Path=/; HttpOnly; Secure; SameSite=Strict"]
    assert (await open_shop("jwt").log_in()).set_cookies == []


@pytest.mark.parametrize(
    ("design", "survives"), [("session", False), ("jwt", True), ("blocklist", False), ("hybrid", True)]
)
async def test_what_was_copied_survives_the_sign_out_where_the_design_cannot_help_it(
    open_shop: Any, design: Design, survives: bool
) -> None:
    shop = open_shop(design)
    await shop.log_in()
    await shop.log_out()
    assert await shop.is_in() is survives


@pytest.mark.parametrize(
    ("design", "survives"), [("session", False), ("jwt", True), ("blocklist", False), ("hybrid", True)]
)
async def test_whoever_is_ended_cannot_come_back_and_keeps_only_what_nothing_can_end(
    open_shop: Any, design: Design, survives: bool
) -> None:
    shop = open_shop(design)
    await shop.log_in()
    await shop.end_alice()
    assert await shop.is_in() is survives
    assert (await shop.ask("POST", "/refresh")).status == 401
    assert (await shop.ask("POST", "/login", {"username": "alice", "password": "right"})).status == 401


@pytest.mark.parametrize("design", DESIGNS)
async def test_whoever_is_ended_while_the_password_is_hashed_does_not_come_in(
    open_shop: Any, design: Design
) -> None:
    shop = open_shop(design)
    login, _ = await asyncio.gather(
        shop.ask("POST", "/login", {"username": "alice", "password": "right"}), shop.end_alice()
    )
    assert login.status == 401


async def test_only_the_administrator_ends_somebody_or_reads_the_ledger(open_shop: Any) -> None:
    shop = open_shop("session")
    await shop.log_in()
    for headers in ({}, {"x_admin": "bos"}):
        assert (await shop.ask("POST", "/end", {"username": "alice"}, **headers)).status == 403
        assert (await shop.ask("GET", "/ledger", **headers)).status == 403
    assert (await shop.ask("POST", "/end", {"username": "bob"}, x_admin="boss")).status == 404
    assert await shop.is_in()


@pytest.mark.parametrize("design", WITH_JWT)
async def test_an_access_token_ends_at_the_instant_of_its_expiry(open_shop: Any, design: Design) -> None:
    shop = open_shop(design)
    await shop.log_in()
    shop.clock.advance(599)
    assert await shop.is_in()
    shop.clock.advance(1)
    assert not await shop.is_in()


async def test_a_session_ends_at_the_instant_of_its_limit(open_shop: Any) -> None:
    shop = open_shop("session")
    await shop.log_in()
    shop.clock.advance(SESSION_SECONDS - 1)
    assert await shop.is_in()
    shop.clock.advance(1)
    assert not await shop.is_in()


@pytest.mark.parametrize("design", WITH_JWT)
async def test_a_token_of_another_key_issuer_or_audience_is_refused(open_shop: Any, design: Design) -> None:
    shop = open_shop(design)
    now = int(shop.clock.time())
    good = Claims(iss=ISSUER, sub="alice", aud=AUDIENCE, iat=now, exp=now + 60, jti="1")
    other = PrivateKey.generate(Algorithm.ES256, shop.key.key_id)
    for claims, key, accepted in (
        (good, shop.key, True),
        (good, other, False),
        (msgspec.structs.replace(good, iss="http://127.0.0.1:2"), shop.key, False),
        (msgspec.structs.replace(good, aud="other"), shop.key, False),
    ):
        shop.token = jws.sign(msgspec.json.encode(claims), key, typ="JWT")
        assert await shop.is_in() is accepted
    shop.token = jws.sign(msgspec.json.encode(good), shop.key, typ="at+jwt")
    assert not await shop.is_in()


async def test_a_refresh_token_is_good_once_and_its_family_ends_when_it_comes_back(open_shop: Any) -> None:
    shop = open_shop("hybrid")
    await shop.log_in()
    first = dict(shop.cookies)
    answer = await shop.ask("POST", "/refresh")
    assert answer.status == 200
    shop.cookies = first
    assert (await shop.ask("POST", "/refresh")).body == {"code": "reused"}
    shop.cookies = answer.cookies
    assert (await shop.ask("POST", "/refresh")).body == {"code": "unknown_session"}


async def test_of_two_who_refresh_at_once_one_is_given_a_token(open_shop: Any) -> None:
    shop = open_shop("hybrid")
    await shop.log_in()
    answers = await asyncio.gather(*(shop.ask("POST", "/refresh") for _ in range(5)))
    assert [answer.status for answer in answers].count(200) == 1


async def test_a_transfer_by_cookie_needs_the_token_of_the_session(open_shop: Any) -> None:
    shop, other = open_shop("session"), open_shop("session")
    await shop.log_in()
    await other.log_in()
    for csrf in ("", "0" * 64, other.csrf):
        assert (await shop.ask("POST", "/transfer", x_csrf_token=csrf)).status == 403
        assert (await shop.ask("POST", "/logout", x_csrf_token=csrf)).status == 403
    assert (await shop.ask("POST", "/transfer", x_csrf_token=shop.csrf)).status == 200
    assert (await shop.ask("POST", "/transfer", {"csrf_token": shop.csrf})).status == 200
    assert (await shop.ask("GET", "/ledger", x_admin="boss")).body == {"transfers": ["alice", "alice"]}
    assert (await shop.ask("GET", "/transfer")).status == 405


async def test_the_control_lets_anything_through(open_shop: Any) -> None:
    shop = open_shop("session", is_defended=False)
    answer = await shop.log_in()
    assert "SameSite=None" in answer.set_cookies[0]
    assert (await shop.ask("POST", "/transfer")).status == 200
    assert (await shop.ask("GET", "/transfer")).status == 200


# The store


@pytest.fixture
async def remote(tmp_path: Path) -> AsyncIterator[tuple[RemoteRecords, asyncio.Server]]:
    records = SqliteRecords(tmp_path / "store.db")
    server = await asyncio.get_running_loop().create_server(lambda: StoreProtocol(records), "127.0.0.1", 0)
    calling = RemoteRecords(server.sockets[0].getsockname()[1])
    yield calling, server
    await calling.close()
    server.close()
    await server.wait_closed()
    records.close()


async def test_the_store_behind_a_socket_says_what_the_store_in_a_file_says(remote: Any) -> None:
    records, _ = remote
    await records.add("session", "one", subject="alice", family="", expires_at=10.0)
    assert await records.find("session", "one", now=9.9) == "alice"
    assert await records.find("session", "one", now=10.0) is None
    assert await records.find("refresh", "one", now=9.0) is None
    await records.end_subject("session", "bob")
    assert await records.find("session", "one", now=9.0) == "alice"
    await records.end_subject("session", "alice")
    assert await records.find("session", "one", now=9.0) is None


async def test_of_many_who_take_one_record_the_first_alone_is_first(remote: Any) -> None:
    records, _ = remote
    await records.add("refresh", "one", subject="alice", family="f", expires_at=10.0)
    taken = await asyncio.gather(*(records.take("refresh", "one", now=1.0) for _ in range(20)))
    assert [one.first for one in taken].count(True) == 1
    assert await records.take("refresh", "two", now=1.0) is None


async def test_every_call_over_the_socket_is_counted_as_a_query_and_as_a_network_call(remote: Any) -> None:
    records, _ = remote
    for _ in range(3):
        await records.find("session", "one", now=0.0)
    assert records.counts == {"store_queries": 3, "network_calls": 3}


async def test_a_store_that_goes_away_fails_the_calls_under_way_and_those_after(remote: Any) -> None:
    records, server = remote
    await records.find("session", "one", now=0.0)
    server.close()
    server.close_clients() if hasattr(server, "close_clients") else await records.close()
    await server.wait_closed()
    with pytest.raises(RecordsUnavailable):
        await records.find("session", "one", now=0.0)


async def test_a_call_that_is_under_way_when_the_store_goes_away_fails() -> None:
    def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    records = RemoteRecords(server.sockets[0].getsockname()[1])
    with pytest.raises(RecordsUnavailable):
        await asyncio.wait_for(records.find("session", "one", now=0.0), 30)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("design", ["session", "blocklist"])
async def test_a_service_whose_store_is_away_says_503_and_never_yes(open_shop: Any, design: Design) -> None:
    shop = open_shop(design)
    await shop.log_in()
    shop.records.close()
    answer = await shop.ask("GET", "/orders")
    assert (answer.status, answer.body) == (503, {"code": "store_unavailable"})
