"""A gateway in one process with an authority: what it decides itself, by a clock that the test moves."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keyfob.authority.authority import Authority
from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied, RateLimited
from keyfob.endpoints.check_rules import Rules
from keyfob.http.messages import HttpRequest
from keyfob.revocation import wire
from keyfob.server import serving
from keyfob.server.gateway.asking import Asking, _refusal
from keyfob.server.gateway.checks import GatewayChecks, _proxy_of
from keyfob.server.gateway.settings import GatewaySettings
from keyfob.testing.frozen_clock import FrozenClock
from keyfob.verifier.feed_view import FeedView
from keyfob.verifier.jwks_source import JwksSource

CREDENTIALS = ("gateway", "secret")
ENVIRONMENT = {"KEYFOB_CLIENT_ID": "gateway", "KEYFOB_CLIENT_SECRET": "secret"}


def load(environ: Mapping[str, str] | None = None, **flags: object) -> GatewaySettings:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return GatewaySettings.load(flags=named, environ=ENVIRONMENT if environ is None else environ)


def test_settings_come_from_flags_and_environment(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {
        **ENVIRONMENT,
        "KEYFOB_GATEWAY_AUTHORITY": "https://auth.example",
        "KEYFOB_GATEWAY_MAX_STALENESS": "30s",
        "KEYFOB_GATEWAY_SOCKET": "/run/gateway.sock",
        "KEYFOB_TRUSTED_PROXIES": "127.0.0.1",
        "KEYFOB_WORKERS": "3",
    }
    settings = load(variables, port=9)
    following = settings.following()
    assert (settings.port, settings.workers, str(settings.socket)) == (9, 3, "/run/gateway.sock")
    assert (following.issuer, following.audiences) == ("https://auth.example", None)
    assert following.max_staleness.total_seconds() == 30
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("environ", "flags", "message"),
    [
        (ENVIRONMENT, {}, "--authority"),
        ({}, {"gateway__authority": "https://auth.example"}, "KEYFOB_CLIENT_ID"),
        (ENVIRONMENT, {"gateway__authority": "http://auth.example"}, "https"),
        (
            ENVIRONMENT,
            {"gateway__authority": "https://auth.example", "gateway__max_staleness": "1s"},
            "three heartbeats",
        ),
        (ENVIRONMENT, {"gateway__authority": "https://auth.example", "tls__cert": __file__}, "tls.key"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: Any, environ: Mapping[str, str], flags: dict[str, object], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        load(environ, **flags)


@pytest.mark.parametrize(
    ("path", "asked", "given"),
    [
        ("/check", 60, 60),
        ("/check", 1, 1),
        ("/check/a", 60, 5),
        ("/check/a", 5, 5),
        ("/check/a", 1, 1),
        ("/check/a", None, None),
    ],
)
async def test_only_on_its_own_path_may_more_staleness_be_asked_for(
    path: str, asked: int | None, given: int | None
) -> None:
    from datetime import timedelta

    seen: list[Any] = []

    async def authenticate(_token: str, **given: Any) -> str:
        seen.append(given["max_staleness"])
        return "principal"

    site: Any = SimpleNamespace(
        verifier=SimpleNamespace(authenticate=authenticate),
        max_staleness=timedelta(seconds=5),
        counts_sources=False,
    )
    rules = Rules(max_staleness=None if asked is None else timedelta(seconds=asked))
    await GatewayChecks().check(site, HttpRequest("GET", path, headers=()), token="x", rules=rules)
    assert seen == [None if given is None else timedelta(seconds=given)]


@pytest.mark.parametrize(
    ("headers", "cause"),
    [
        ([], Cause.INSUFFICIENT_SCOPE),
        ([(b"x-keyfob-proxy", b"Bearer x")], Cause.BAD_CREDENTIALS),
        ([(b"x-keyfob-proxy", b"Basic YTpi"), (b"x-keyfob-proxy", b"Basic YTpi")], Cause.BAD_CREDENTIALS),
    ],
)
def test_a_proxy_that_cannot_be_told_is_refused_without_a_question(headers: Any, cause: Cause) -> None:
    with pytest.raises(Denied) as denied:
        _proxy_of(HttpRequest("GET", "/check", headers=headers))
    assert denied.value.cause is cause


@pytest.mark.parametrize(
    ("status", "headers", "error"),
    [
        (401, {"X-Auth-Cause": "revoked"}, Denied),
        (403, {"X-Auth-Cause": "insufficient_scope"}, Denied),
        (429, {"Retry-After": "7"}, RateLimited),
        (429, {"Retry-After": "soon"}, RateLimited),
        (503, {"X-Auth-Cause": "store_unavailable"}, AuthorityUnavailable),
        (500, {}, AuthorityUnavailable),
        (200, {}, AuthorityUnavailable),
        (302, {"Location": "https://evil.example"}, AuthorityUnavailable),
        (401, {"X-Auth-Cause": "no such cause"}, AuthorityUnavailable),
    ],
)
def test_nothing_but_204_is_a_yes(status: int, headers: dict[str, str], error: type[Exception]) -> None:
    answer: Any = SimpleNamespace(status=status, headers=headers)
    assert type(_refusal(answer)) is error


async def test_an_authority_that_is_not_there_is_unavailable_and_after_the_end_nobody_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    asking = Asking(GatewaySettings(authority=f"http://127.0.0.1:{port}", credentials=CREDENTIALS))
    with pytest.raises(AuthorityUnavailable, match="does not answer"):
        await asking.mint(token="x", audience="orders", proxy="Basic YTpi")
    asking.close()
    asking.close()
    with pytest.raises(AuthorityUnavailable, match="closing"):
        await asking.check({"Cookie": "x"})


def test_a_path_that_is_no_free_place_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ConfigurationError, match="no socket"):
        serving.bind_socket(file)
    assert file.read_text() == "mine"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="no socket"):
        serving.bind_socket(link)
    with pytest.raises(ConfigurationError, match="cannot listen"):
        serving.bind_socket(tmp_path / "no-folder" / "socket")
    with pytest.raises(ConfigurationError, match="cannot listen"):
        serving.bind_socket(tmp_path / ("a" * 200))
    with serving.bind_socket(tmp_path / "socket") as listener:
        assert serving.place_of(listener, tls=None) == f"unix:{tmp_path / 'socket'}"
        with pytest.raises(ConfigurationError, match="somebody listens"):
            serving.bind_socket(tmp_path / "socket")
    with serving.bind_socket(tmp_path / "socket") as listener:
        assert listener.family == socket.AF_UNIX


# What the authority minted is looked at before it is handed on


class Minting:
    """An authority in this process, and a gateway's memory of its keys and feed; what is asked of the authority is answered at once."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.asked = 0
        self.answer: str | None = None
        view, keys = FeedView(authority.clock), JwksSource()
        _, key_sets = wire.decode_key_document(authority.feed.key_document())
        keys.anchor(key_sets)
        view.live.replace(authority.feed.live.head, [])
        self.site: Any = SimpleNamespace(
            view=view, keys=keys, verifier=SimpleNamespace(issuer=authority.issuer), asking=self
        )
        self.checks = GatewayChecks()

    async def mint(self, *, token: str, audience: str, proxy: str) -> str:
        """Answer as the authority's `/check` would: who may ask is its business."""
        self.asked += 1
        if self.answer is not None:
            return self.answer
        return (await self.authority.mint(await self.authority.authenticate(token), audience)).text

    async def ask(self, token: str, *, proxy: bytes = b"Basic cHJveHk6eA==", audience: str = "orders") -> str:
        principal = await self.authority.authenticate(token)
        request = HttpRequest("GET", "/check", headers=[(b"x-keyfob-proxy", proxy)])
        minted = await self.checks.mint(
            self.site, request, token=token, principal=principal, audience=audience
        )
        return minted.header[1].decode()

    def hear(self) -> None:
        """Let the gateway know what the authority knows."""
        live = self.authority.feed.live
        self.site.view.live._state = live._state
        self.site.view.live.changes += 1


@pytest.fixture
async def minting():
    clock = FrozenClock()
    async with Authority.open("memory://", issuer="https://auth.example", clock=clock) as authority:
        yield Minting(authority)


async def test_the_authority_is_asked_once_for_each_credential_audience_and_proxy(minting: Minting) -> None:
    alice = (await minting.authority.login("alice", strategy="session")).session_token
    bob = (await minting.authority.login("bob", strategy="session")).session_token
    first = {await minting.ask(alice) for _ in range(3)}
    assert (len(first), minting.asked) == (1, 1)
    others = {
        await minting.ask(bob),
        await minting.ask(alice, audience="stock"),
        await minting.ask(alice, proxy=b"Basic b3RoZXI6eA=="),
    }
    assert (len(others - first), minting.asked) == (3, 4)


async def test_once_the_feed_covers_it_another_is_asked_for(minting: Minting) -> None:
    issued = await minting.authority.login("alice", strategy="session")
    first = await minting.ask(issued.session_token)
    await minting.authority.revoke("client", "proxy")
    minting.hear()
    second = await minting.ask(issued.session_token)
    assert (minting.asked, first != second) == (2, True)
    await minting.authority.set_roles("alice", ["new"])
    minting.hear()
    await minting.ask(issued.session_token)
    assert minting.asked == 3


async def test_a_token_that_the_gateway_knows_to_be_covered_is_handed_to_nobody(minting: Minting) -> None:
    """The authority that answered has not heard of it yet."""
    issued = await minting.authority.login("alice", strategy="session")
    principal = await minting.authority.authenticate(issued.session_token)
    minting.answer = (await minting.authority.mint(principal, "orders")).text
    request = HttpRequest("GET", "/check", headers=[(b"x-keyfob-proxy", b"Basic cHJveHk6eA==")])
    await minting.authority.revoke("session", issued.session_id)
    minting.hear()
    with pytest.raises(Denied) as denied:
        await minting.checks.mint(
            minting.site, request, token=issued.session_token, principal=principal, audience="orders"
        )
    assert denied.value.cause is Cause.REVOKED


async def test_a_token_that_is_not_this_sessions_or_does_not_hold_is_no_answer(minting: Minting) -> None:
    issued = await minting.authority.login("alice", strategy="session")
    other = await minting.authority.authenticate((await minting.authority.login("alice")).session_token)
    principal = await minting.authority.authenticate(issued.session_token)
    good = (await minting.authority.mint(principal, "orders")).text
    for answer in (
        (await minting.authority.mint(other, "orders")).text,
        (await minting.authority.mint(principal, "stock")).text,
        good[:-4] + "AAAA",
        "",
        "x",
    ):
        minting.answer = answer
        with pytest.raises(AuthorityUnavailable):
            await minting.ask(issued.session_token)
    minting.answer = good
    minting.site.keys = JwksSource()  # a key that it has not heard of yet
    with pytest.raises(AuthorityUnavailable):
        await minting.ask(issued.session_token)
    assert minting.site.keys.is_wanting
