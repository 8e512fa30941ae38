"""An authority's feed over real HTTP, for verifiers to follow: the real `Feed` on the memory store, with switches for faults."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from datetime import timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from keyfob.base.clock import SystemClock
from keyfob.base.events import Event
from keyfob.base.identifiers import SessionId
from keyfob.base.opaque import OpaqueKeys, OpaqueKind, OpaqueToken
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.revocation.entry import Reach, Scope
from keyfob.revocation.feed import Feed
from keyfob.revocation.feed_settings import FeedSettings
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.wire import KeySets
from keyfob.stores.memory import open_memory_store
from keyfob.verifier.verifier import Verifier

HEARTBEAT = timedelta(seconds=0.2)
DEADLINE = 15.0  # seconds until a test gives up waiting
CREDENTIALS = ("orders", "s3cret/+")
_CLOSE = b"HTTP/1.1 %d %s\r\nConnection: close\r\n"


class ShiftedClock:
    """The machine's clock, ahead by `wall` and `boot` seconds."""

    def __init__(self, wall: float = 0.0, boot: float = 0.0) -> None:
        self._system = SystemClock()
        self.wall = wall
        self.boot = boot

    def now(self):
        return self._system.now() + timedelta(seconds=self.wall)

    def time(self) -> float:
        return self._system.time() + self.wall

    def elapsed(self) -> float:
        return self._system.elapsed() + self.boot

    def pass_by(self, seconds: float) -> None:
        """As if so many seconds had passed without a heartbeat."""
        self.wall += seconds
        self.boot += seconds


class FeedServer:
    """Serves one feed on a port of the loopback interface, in a thread."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = ShiftedClock()
        self.access_key = PrivateKey.generate(Algorithm.ES256)
        self.feed_key = PrivateKey.generate(Algorithm.EDDSA)
        self.key_sets = self.sets()
        self.store = open_memory_store(self.clock)
        self.requests: list[tuple[str, str]] = []
        self.answers: dict[str, dict] = {}
        self.seen: list[dict] = []
        self.reports: list[dict] = []
        self.status: dict[str, int] = {}
        self.tamper: Callable[[bytes], bytes] = lambda frames: frames
        self.tamper_snapshot: Callable[[bytes], bytes] = lambda raw: raw
        self.tamper_time: Callable[[bytes], bytes] = lambda raw: raw
        self.key_document: Callable[[], bytes] = lambda: self.feed.key_document()
        self.hangs = False
        self.certificate = ""
        self.release = threading.Event()
        self.release.set()
        self._port = 0
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(self._start())
        self.issuer = f"{'https' if tls else 'http'}://127.0.0.1:{self._port}"
        self.feed._frames.issuer = self.issuer

    def sets(self) -> KeySets:
        return KeySets(access=jwk_set([self.access_key.public]), feed=jwk_set([self.feed_key.public]))

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(DEADLINE)

    async def _start(self) -> None:
        await self.store.feed.extend_retention(credential=timedelta(minutes=10), session=timedelta(hours=12))
        self.feed = await Feed.start(
            self.store.feed,
            issuer=f"http://127.0.0.1:{self._port}",
            sign=lambda payload, typ: jws.sign(payload, self.feed_key, typ=typ),
            key_sets=lambda: self.key_sets,
            clock=self.clock,
            settings=FeedSettings(heartbeat=HEARTBEAT),
        )
        await self._listen()

    async def _listen(self) -> None:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self.server.sockets[0].getsockname()[1]

    async def _stop_listening(self) -> None:
        self.server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    def stop(self) -> None:
        """Be gone, as after a kill."""
        self.run(self._stop_listening())

    def resume(self) -> None:
        """Listen again, on the same port."""
        self.run(self._listen())

    def cut(self) -> None:
        """Cut every connection that stands."""

        async def cut() -> None:
            for writer in list(self._writers):
                writer.transport.abort()

        self.run(cut())

    def close(self) -> None:
        self.release.set()
        self.run(self._stop_listening())
        self.run(self.feed.close())
        self.run(asyncio.sleep(0))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(DEADLINE)
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self._answer(reader, writer)
            await writer.drain()
        self._writers.discard(writer)
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = raw.split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        url = urlsplit(target)
        self.requests.append((method, url.path))
        if url.path in self.status:
            self._reply(writer, self.status[url.path], b"{}")
            return
        if url.path != "/feed/keys" and not self._is_authorised(headers):
            self._reply(writer, 401, b"{}")
            return
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match url.path:
            case "/feed/keys":
                self._reply(writer, 200, self.key_document())
            case "/feed/time":
                self._reply(writer, 200, self.tamper_time(self.feed.signed_time(query["nonce"])))
            case "/feed/snapshot":
                raw_snapshot = self.tamper_snapshot(await self.feed.snapshot())
                self._reply(writer, 200, raw_snapshot, b"Content-Encoding: gzip\r\n")
            case "/feed":
                await self._stream(writer, headers.get("last-event-id"))
            case "/oauth/introspect":
                await asyncio.to_thread(self.release.wait, DEADLINE)
                token = parse_qs(body.decode())["token"][0]
                self._reply(writer, 200, json.dumps(self.answers.get(token, {"active": False})).encode())
            case "/sessions/seen":
                self.seen += msgspec.json.decode(body)["sessions"]
                self._reply(writer, 204, b"")
            case "/feed/reports":
                self.reports.append(msgspec.json.decode(body))
                self._reply(writer, 204, b"")
            case _:
                self._reply(writer, 404, b"{}")

    def _is_authorised(self, headers: dict[str, str]) -> bool:
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(encoded).decode().partition(":")
        return scheme == "Basic" and (unquote(name), unquote(secret)) == CREDENTIALS

    def _reply(self, writer: asyncio.StreamWriter, status: int, body: bytes, headers: bytes = b"") -> None:
        writer.write(_CLOSE % (status, b"X") + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def _stream(self, writer: asyncio.StreamWriter, last_event_id: str | None) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        async with aclosing(self.feed.follow(last_event_id)) as frames:
            async for piece in frames:
                while self.hangs:
                    await asyncio.sleep(0.01)
                sent = self.tamper(piece)
                if sent:
                    writer.write(b"%x\r\n%s\r\n" % (len(sent), sent))
                    await writer.drain()
        writer.write(b"0\r\n\r\n")

    # What happens at the authority

    def revoke(self, scope: Scope, name: str = "", reach: Reach = Reach.END, spared: str | None = None):
        revocation = Revocation(
            scope=scope,
            id=name,
            reach=reach,
            spared=None if spared is None else SessionId(spared),
            event=Event(at=self.clock.now(), code="revoked"),
        )
        return self.run(self.store.sessions.end(revocation, now=self.clock.now())).entry

    def token(self, **changes) -> str:
        now = int(self.clock.time())
        claims = {
            "iss": self.issuer,
            "sub": "alice",
            "aud": "orders",
            "exp": now + 600,
            "iat": now,
            "jti": "j1",
            "client_id": "web",
            "as_of": self.feed.live.head.position,
            "tl": self.feed.live.head.timeline,
            "sid": "a" * 32,
            "auth_time": now,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jws.sign(msgspec.json.encode(claims), self.access_key, typ="at+jwt")

    def opaque(self, **changes) -> str:
        """Make a session token, with what introspection says of it."""
        now = int(self.clock.time())
        keys = OpaqueKeys(b"keys", b"tag", b"rotate")
        session_id = changes.get("sid") or "b" * 32
        token = OpaqueToken.mint(OpaqueKind.SESSION, SessionId(session_id), keys).text()
        answer = {
            "active": True,
            "iss": self.issuer,
            "sub": "alice",
            "client_id": "web",
            "aud": ["orders"],
            "exp": now + 43_200,
            "iat": now - 100,
            "as_of": self.feed.live.head.position,
            "tl": self.feed.live.head.timeline,
            "sid": "b" * 32,
            "strategy": "session",
            "roles": ["buyer"],
            "scope": "read write",
            "idle_exp": now + 1_800,
            "auth_time": now - 100,
            "department": "books",
            **changes,
        }
        self.answers[token] = {name: value for name, value in answer.items() if value is not None}
        return token

    def asked(self, path: str) -> int:
        return sum(asked == path for _, asked in self.requests)


def wait_for(verifier: Verifier, predicate: Callable[[], bool]) -> None:
    """Wait until *predicate* holds, looking at every heartbeat and every connection; fail at the deadline."""
    verifier._view.wait_for(predicate, timeout=DEADLINE)
    assert predicate()


def until(predicate: Callable[[], bool]) -> None:
    """Look until *predicate* holds; fail at the deadline."""
    deadline = time.monotonic() + DEADLINE
    pause = threading.Event()
    while not predicate():
        assert time.monotonic() < deadline
        pause.wait(0.005)


@pytest.fixture
def server() -> Iterator[FeedServer]:
    server = FeedServer()
    yield server
    server.close()


@pytest.fixture
def tls_server(tmp_path) -> Iterator[FeedServer]:
    """A server with a certificate of its own, which lies at `certificate`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "keyfob test")])
    now = SystemClock().now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    chain, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    chain.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, private)
    server = FeedServer(context)
    server.certificate = str(chain)
    yield server
    server.close()


@pytest.fixture
def verifier_clock() -> ShiftedClock:
    return ShiftedClock()


@pytest.fixture
def new_verifier(server, verifier_clock) -> Iterator[Callable[..., Verifier]]:
    made = []

    def make(**options) -> Verifier:
        chosen = {
            "audience": "orders",
            "credentials": CREDENTIALS,
            "heartbeat": HEARTBEAT,
            "clock": verifier_clock,
            **options,
        }
        verifier = Verifier.follow(server.issuer, **chosen)
        made.append(verifier)
        return verifier

    yield make
    for verifier in made:
        verifier.close()


@pytest.fixture
def verifier(new_verifier) -> Verifier:
    verifier = new_verifier()
    verifier.start()
    verifier.wait_until_level()
    return verifier


@pytest.fixture
def waits():
    return wait_for


@pytest.fixture
def eventually():
    return until
