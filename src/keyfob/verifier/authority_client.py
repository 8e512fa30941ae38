"""The requests that a verifier makes to its authority: blocking, bounded in size and time, no redirects."""

from __future__ import annotations

import ssl
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Final
from urllib.parse import quote

import msgspec
import urllib3

from keyfob.base.errors import AuthorityUnavailable, ConfigurationError
from keyfob.verifier.settings import FollowSettings

MAX_ANSWER: Final = 512 * 1024  # bytes: two key sets of the largest size; everything else is far smaller
_PIECE: Final = 64 * 1024  # bytes read at once


class AuthorityClient:
    """Talks to one authority, and to the relay where there is one. Safe to use from several threads.

    Every method raises `AuthorityUnavailable` where there is no answer, or none that can be used, and `ConfigurationError` where the
    authority refuses the credentials: then asking again will not help.
    """

    def __init__(self, settings: FollowSettings) -> None:
        self._issuer = settings.issuer.rstrip("/")
        self._feed = (settings.feed_url or settings.issuer).rstrip("/")
        self._heartbeat = settings.heartbeat.total_seconds()
        self._client_id = settings.credentials[0] if settings.credentials else None
        self._timeout = settings.request_timeout.total_seconds()
        self._headers = {"User-Agent": "keyfob-verifier"}
        if settings.credentials is not None:
            client_id, secret = (quote(part, safe="") for part in settings.credentials)
            self._headers |= urllib3.make_headers(basic_auth=f"{client_id}:{secret}")
        try:
            context = ssl.create_default_context(cafile=settings.ca)
        except OSError as error:  # among them SSLError
            raise ConfigurationError(f"ca={settings.ca!r} cannot be used: {error}") from None
        self._pool = urllib3.PoolManager(num_pools=2, maxsize=8, retries=False, ssl_context=context)
        self._stream: urllib3.BaseHTTPResponse | None = None

    def keys(self) -> bytes:
        """Read the key sets of the authority: the anchor of trust."""
        return self._answer("GET", f"{self._issuer}/feed/keys")

    def time(self, nonce: str) -> str:
        """Read the authority's time, signed with *nonce*; a relay passes the question on, and can only make it take longer."""
        return _ascii(self._answer("GET", f"{self._feed}/feed/time?nonce={nonce}"))

    def introspect(self, token: str) -> bytes:
        """Ask what *token* is worth (RFC 7662, section 2)."""
        return self._answer(
            "POST",
            f"{self._issuer}/oauth/introspect",
            body=f"token={quote(token, safe='')}".encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )

    def report_seen(self, seen: Sequence[tuple[str, str]]) -> None:
        """Report when these sessions were last used: pairs of session id and moment (RFC 3339)."""
        self._answer(
            "POST",
            f"{self._issuer}/sessions/seen",
            body=msgspec.json.encode(
                {"sessions": [{"session_id": session_id, "at": at} for session_id, at in seen]}
            ),
            headers={"Content-Type": "application/json"},
        )

    def report(self, document: bytes) -> None:
        """Report where the verifier stands (`POST /feed/reports`)."""
        self._answer(
            "POST",
            f"{self._issuer}/feed/reports",
            body=document,
            headers={"Content-Type": "application/json"},
        )

    def hand_back(self, document: bytes) -> None:
        """Hand back what the authority signed (`POST /feed/evidence`)."""
        self._answer(
            "POST",
            f"{self._issuer}/feed/evidence",
            body=document,
            headers={"Content-Type": "application/json"},
        )

    def snapshot(self) -> Generator[bytes, None, None]:
        """Read the snapshot, unpacked, in pieces."""
        with self._open_snapshot() as response, _named_failures():
            yield from response.stream(_PIECE, decode_content=True)

    def packed_snapshot(self) -> Generator[bytes, None, None]:
        """Read the snapshot as it is sent, compressed, in pieces."""
        with self._open_snapshot() as response, _named_failures():
            yield from response.stream(_PIECE, decode_content=False)

    def follow(self, last_event_id: str) -> Generator[bytes, None, None]:
        """Read the event stream after *last_event_id*, in pieces as they come, until it ends.

        Nothing for three heartbeats is a connection that hangs: it fails.
        """
        headers = {"Last-Event-ID": last_event_id, "Accept": "text/event-stream"}
        timeout = 3 * self._heartbeat
        with self._open(f"{self._feed}/feed", read_timeout=timeout, headers=headers) as response:
            self._stream = response
            try:
                with _named_failures():
                    while piece := response.read1(_PIECE, decode_content=False):
                        yield piece
            finally:
                self._stream = None

    def abort(self) -> None:
        """End the event stream from another thread: whoever reads it finds it at its end."""
        stream = self._stream
        if stream is not None:
            with suppress(OSError, ValueError):
                stream.shutdown()

    def close(self) -> None:
        """Close what is open."""
        self.abort()
        self._pool.clear()

    def _open_snapshot(self) -> AbstractContextManager[urllib3.BaseHTTPResponse]:
        return self._open(f"{self._feed}/feed/snapshot", read_timeout=self._timeout)

    def _answer(
        self, method: str, url: str, *, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> bytes:
        with (
            self._open(
                url, read_timeout=self._timeout, method=method, body=body, headers=headers
            ) as response,
            _named_failures(),
        ):
            return b"".join(_bounded(response.stream(_PIECE, decode_content=True)))

    @contextmanager
    def _open(
        self,
        url: str,
        *,
        read_timeout: float,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        with _named_failures():
            response = self._pool.request(
                method,
                url,
                body=body,
                headers={**self._headers, **(headers or {})},
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=self._timeout, read=read_timeout),
            )
        is_whole = False
        try:
            self._require_ok(response, url)
            yield response
            is_whole = True
        finally:
            if is_whole:
                response.release_conn()
            else:
                response.close()

    def _require_ok(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        status = response.status
        if status in {200, 204}:
            return
        if status in {401, 403}:
            who = f"client {self._client_id!r}" if self._client_id else "a verifier without credentials"
            raise ConfigurationError(
                f"{url} refuses {who} ({status}): it needs credentials=(client_id, client_secret) of a client with "
                "scope keyfob:feed; make one with 'keyfob client add NAME --scope keyfob:feed'"
            )
        if status == 404:
            raise AuthorityUnavailable(
                f"{url} is not there (404): is the issuer the address of a keyfob authority?"
            )
        raise AuthorityUnavailable(f"{url} answered {status}", retry_after=_retry_after(response))


@contextmanager
def _named_failures() -> Iterator[None]:
    """Name what the HTTP client and the network raise."""
    try:
        yield
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise AuthorityUnavailable(f"the authority does not answer: {error}") from None


def _bounded(pieces: Iterator[bytes]) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_ANSWER:
            raise AuthorityUnavailable(f"the authority answered more than {MAX_ANSWER} bytes")
        yield piece


def _ascii(raw: bytes) -> str:
    try:
        return raw.decode("ascii")
    except UnicodeDecodeError:
        raise AuthorityUnavailable("the authority's answer is not of the feed's format") from None


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    text = response.headers.get("Retry-After", "1")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 1.0
