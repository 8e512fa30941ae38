"""Warm answers as they leave a connection: the same as uvicorn would write, in the same order, and only where nothing else is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import uvicorn

from keyfob.server import connection
from keyfob.server.connection import AT_ONCE, Connection

DEADLINE = 20.0
HEAD_END = b"\r\n\r\n"


class Watched(Connection):
    """A connection that says how many of its answers went the short way."""

    short = 0

    def _answer_warm(self) -> bool:
        answered = super()._answer_warm()
        self.short += answered
        return answered


@dataclass
class Wire:
    """A server of the desk's application, and one warm session."""

    desk: object
    port: int
    session: str
    csrf: str
    made: list[Watched] = field(default_factory=list)

    def request(self, start: str = "GET /check HTTP/1.1", *more: str) -> bytes:
        lines = [
            start,
            "Host: x",
            "X-Forwarded-Method: GET",
            f"Cookie: __Host-session={self.session}",
            *more,
        ]
        return "\r\n".join([*lines, "", ""]).encode()

    async def send(self, *pieces: bytes, answers: int) -> list[bytes]:
        """Send *pieces* on one connection, and return as many *answers*; none of them has a body."""
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            for piece in pieces:
                writer.write(piece)
            found = [await reader.readuntil(HEAD_END) for _ in range(answers)]
            writer.close()
            await writer.wait_closed()
            return found

    async def until_closed(self, *pieces: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            for piece in pieces:
                writer.write(piece)
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    @property
    def short(self) -> int:
        """How many answers of the latest connection went the short way."""
        return self.made[-1].short


@pytest.fixture
async def wire(desk) -> AsyncIterator[Wire]:
    await desk.user(roles=("buyer",))
    login = (await desk.login(transport="body")).json()
    config = uvicorn.Config(
        desk.app,
        http=Watched,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
    )
    config.load()
    server = uvicorn.Server(config)
    made: list[Watched] = []

    def accept() -> Watched:
        made.append(Watched(config=config, server_state=server.server_state, app_state={}))
        return made[-1]

    listener = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    wire = Wire(desk, listener.sockets[0].getsockname()[1], login["session_token"], login["csrf_token"], made)
    # The first is read, which in memory makes nobody wait; the second comes from the cache of sessions; from there on it is remembered.
    for _ in range(2):
        (answer,) = await wire.send(wire.request(), answers=1)
        assert answer.startswith(b"HTTP/1.1 204 ")
        assert wire.short == 1
    yield wire
    listener.close()
    await listener.wait_closed()


async def test_a_warm_check_is_answered_from_its_head(wire: Wire) -> None:
    (answer,) = await wire.send(wire.request(), answers=1)
    assert wire.short == 1
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")


async def test_both_ways_write_the_same_octets(wire: Wire) -> None:
    short, long = await wire.send(
        wire.request(), wire.request("GET /check HTTP/1.1", "Content-Length: 0"), answers=2
    )
    assert wire.short == 1
    assert short == long


async def test_the_headers_that_the_server_always_sends_are_there(wire: Wire) -> None:
    wire.made[-1].server_state.default_headers = [(b"date", b"today"), (b"server", b"x")]
    (answer,) = await wire.send(wire.request(), answers=1)
    assert wire.short == 1
    assert b"date: today\r\nserver: x\r\n" in answer


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE", "OPTIONS"])
async def test_any_method_is_answered_and_the_next_request_is_read(wire: Wire, method: str) -> None:
    answers = await wire.send(wire.request(f"{method} /check HTTP/1.1") * 2, answers=2)
    assert wire.short == 2
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 204"}


@pytest.mark.parametrize(
    ("start", "more", "status"),
    [
        ("POST /check HTTP/1.1", ("Content-Length: 4",), b"204"),
        ("POST /check HTTP/1.1", ("Transfer-Encoding: chunked",), b"204"),
        ("GET /check HTTP/1.1", ("Upgrade: websocket", "Connection: upgrade"), b"204"),
        ("GET /%63heck HTTP/1.1", (), b"204"),
        ("GET /check?role=buyer#role=owner HTTP/1.1", (), b"204"),
        ("GET /check?role=owner HTTP/1.1", (), b"403"),
        ("GET /check/ HTTP/1.1", (), b"204"),
    ],
)
async def test_what_is_not_plain_goes_the_long_way(
    wire: Wire, start: str, more: tuple[str, ...], status: bytes
) -> None:
    answers = await wire.send(wire.request(), wire.request(start, *more), answers=2)
    assert wire.short == 1
    assert [answer[9:12] for answer in answers] == [b"204", status]


async def test_an_expectation_is_met_the_long_way(wire: Wire) -> None:
    (answer,) = await wire.send(wire.request("GET /check HTTP/1.1", "Expect: 100-continue"), answers=1)
    assert wire.short == 0
    assert answer.startswith(b"HTTP/1.1 204 ")


@pytest.mark.parametrize(
    ("start", "more"),
    [
        ("GET /check HTTP/1.0", ()),
        ("GET /check HTTP/1.0", ("Connection: keep-alive",)),
        ("GET /check HTTP/1.1", ("Connection: close",)),
    ],
)
async def test_a_connection_that_is_not_to_be_kept_is_closed(
    wire: Wire, start: str, more: tuple[str, ...]
) -> None:
    answer = await wire.until_closed(wire.request(start, *more))
    assert wire.short == 0
    assert b"connection: close\r\n" in answer


async def test_connection_keep_alive_is_plain(wire: Wire) -> None:
    await wire.send(wire.request("GET /check HTTP/1.1", "Connection: keep-alive"), answers=1)
    assert wire.short == 1


async def test_answers_keep_the_order_of_their_requests(wire: Wire) -> None:
    absent = b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n"
    answer = await wire.until_closed(
        wire.request()
        + absent
        + wire.request()
        + absent
        + wire.request("GET /check HTTP/1.1", "Connection: close")
    )
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"204", b"404", b"204", b"404", b"204"]
    assert wire.short == 1, "nothing overtakes an answer that is under way"


async def test_a_flood_in_one_piece_gives_the_others_a_turn(wire: Wire) -> None:
    count = AT_ONCE * 3
    answers = await wire.send(wire.request() * count, answers=count)
    assert {answer[:12] for answer in answers} == {b"HTTP/1.1 204"}
    assert wire.short <= AT_ONCE


async def test_the_request_after_a_short_answer_may_come_in_pieces(wire: Wire) -> None:
    request = wire.request()
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(request + request[:30])
        assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 204 ")
        writer.write(request[30:])
        assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 204 ")
        writer.close()
        await writer.wait_closed()
    assert wire.short == 2


async def test_an_idle_connection_is_closed_after_a_short_answer(wire: Wire) -> None:
    wire.made[-1].config.timeout_keep_alive = 0
    assert (await wire.until_closed(wire.request())).startswith(b"HTTP/1.1 204 ")
    assert wire.short == 1


async def test_half_a_head_after_a_short_answer_is_bounded_too(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.1)
    answer = await wire.until_closed(wire.request() + b"GET /ch")
    assert wire.short == 1
    assert b"HTTP/1.1 408 " in answer


async def test_an_ended_session_is_refused_on_the_same_connection(wire: Wire) -> None:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(wire.request())
        assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 204 ")
        assert wire.short == 1
        await wire.desk.authority.logout(wire.session)
        writer.write(wire.request())
        assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 401 ")
        assert wire.short == 1
        writer.close()
        await writer.wait_closed()


async def test_a_server_that_stops_answers_nothing_from_memory(wire: Wire) -> None:
    await wire.desk.app.close_streams()
    (answer,) = await wire.send(wire.request(), answers=1)
    assert wire.short == 0
    assert answer.startswith(b"HTTP/1.1 503 ")


async def test_short_answers_are_counted(wire: Wire) -> None:
    before = wire.desk.app._metrics.answers["/check", 204]
    await wire.send(wire.request() * 3, answers=3)
    assert wire.short == 3
    assert wire.desk.app._metrics.answers["/check", 204] == before + 3


@pytest.mark.parametrize(
    ("name", "value"), [("limit_concurrency", 1_000), ("root_path", "/mounted"), ("config.access_log", True)]
)
async def test_what_uvicorn_is_told_to_do_is_left_to_uvicorn(wire: Wire, name: str, value: object) -> None:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(wire.request())
        await reader.readuntil(HEAD_END)
        place = wire.made[-1].config if name.startswith("config.") else wire.made[-1]
        setattr(place, name.removeprefix("config."), value)
        writer.write(wire.request())
        await reader.readuntil(HEAD_END)
        writer.close()
        await writer.wait_closed()
    assert wire.short == 1


async def test_a_client_that_does_not_read_is_waited_for(wire: Wire) -> None:
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(wire.request())
        await reader.readuntil(HEAD_END)
        wire.made[-1].flow.pause_writing()  # as the transport does when its buffer is full
        writer.write(wire.request())
        while wire.made[-1].cycle is None:
            await asyncio.sleep(0)
        wire.made[-1].flow.resume_writing()
        await reader.readuntil(HEAD_END)
        writer.close()
        await writer.wait_closed()
    assert wire.short == 1


async def test_nothing_is_counted_as_answered_on_a_connection_that_closes(wire: Wire) -> None:
    async with asyncio.timeout(DEADLINE):
        _, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(wire.request())
        while wire.short == 0:
            await asyncio.sleep(0)
        made = wire.made[-1]
        made.transport.close()
        made.data_received(wire.request())
        writer.close()
        await writer.wait_closed()
    assert wire.short == 1


async def test_a_request_under_way_is_not_cut_off_by_the_wait_for_the_next(wire: Wire) -> None:
    wire.made[-1].config.timeout_keep_alive = 0
    login = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    async with asyncio.timeout(DEADLINE):
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(wire.request() + login)
        assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 204 ")
        # Another connection's answer: by now the loop has run every timer that was due.
        await wire.until_closed(wire.request("GET /check HTTP/1.1", "Connection: close"))
        writer.write(b"{}")
        assert (await reader.readuntil(HEAD_END)).startswith(b"HTTP/1.1 4")
        writer.close()
        await writer.wait_closed()
