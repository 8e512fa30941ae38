"""People who sign in at applications by clients that others wrote, over HTTPS: code with PKCE, pushed requests, refresh, device flow."""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from requests_oauthlib import OAuth2Session

from keyfob.authority.authority import Authority
from keyfob.base.errors import Cause, Denied
from keyfob.clients.client import GrantType
from keyfob.clients.registration import Registration
from keyfob.verifier.verifier import Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CALLBACK = "https://shop.example/signed-in"
PASSWORD = "seventeen green llamas"
DEADLINE = 30.0  # seconds until a revocation must have come, on the busiest machine


class Browser:
    """A browser with cookies, in which alice signs in; it stops where a client is to be told something."""

    def __init__(self, site: Any) -> None:
        self.session = requests.Session()
        self.session.verify = str(site.ca)
        self._issuer = site.issuer

    def open(self, url: str) -> str:
        """Follow the pages of the authority, sign in and agree; return where the browser is sent in the end, or the last page."""
        answer = self.session.get(url, allow_redirects=False, timeout=DEADLINE)
        for _ in range(12):
            if answer.is_redirect:
                target = requests.compat.urljoin(answer.url, answer.headers["Location"])
                if not target.startswith(self._issuer):
                    return target
                answer = self.session.get(target, allow_redirects=False, timeout=DEADLINE)
            elif '<form method="post"' in answer.text:
                answer = self.submit(answer)
            else:
                return str(answer.text)
        raise AssertionError(f"going round in circles: {answer.text}")

    def submit(self, page: requests.Response) -> requests.Response:
        """Send the form of *page*: what is filled in, alice's password where it is asked for, and the answer yes."""
        action = re.search(r'<form method="post" action="([^"]+)"', page.text)
        assert action is not None, page.text
        filled = re.findall(r'<input type="(?:hidden|text)" name="(\w+)" value="([^"]*)"', page.text)
        fields = {name: html.unescape(value) for name, value in filled}
        if 'name="password"' in page.text:
            fields |= {"username": "alice", "password": PASSWORD}
        yes = re.search(r'<button[^>]*name="(\w+)" value="(allow|yes)"', page.text)
        if yes is not None:
            fields[yes[1]] = yes[2]
        return self.session.post(
            requests.compat.urljoin(page.url, action[1]),
            data=fields,
            headers={"Sec-Fetch-Site": "same-origin"},
            allow_redirects=False,
            timeout=DEADLINE,
        )


@pytest.fixture(scope="module")
def secret(site: Any) -> str:
    """Alice, and a client at which people sign in; give its secret."""

    async def add(authority: Authority) -> str:
        await authority.accounts.add("alice", PASSWORD)
        added = await authority.clients.add(
            "shop",
            scopes=["openid", "offline_access", "orders:read", "keyfob:introspect"],
            audiences=["orders"],
            grant_types=[
                GrantType.AUTHORIZATION_CODE,
                GrantType.REFRESH_TOKEN,
                GrantType.DEVICE_CODE,
            ],
            registration=Registration(redirect_uris=[CALLBACK], name="The shop"),
        )
        return str(added.secret)

    return str(site.with_authority(add))


@pytest.fixture(scope="module")
def verifier(site: Any) -> Iterator[Verifier]:
    """The resource server `orders`, which follows the authority."""

    async def add(authority: Authority) -> str:
        return str((await authority.clients.add("orders-api", scopes=["keyfob:feed"])).secret)

    following = Verifier.follow(
        site.issuer,
        audience="orders",
        credentials=("orders-api", site.with_authority(add)),
        ca=str(site.ca),
        max_staleness=timedelta(seconds=60),
    )
    with following as verifier:
        yield verifier


@pytest.fixture
def browser(site: Any) -> Iterator[Browser]:
    opened = Browser(site)
    with opened.session:
        yield opened


def metadata_of(site: Any) -> dict[str, Any]:
    return json.loads(site.pool.request("GET", f"{site.issuer}/.well-known/openid-configuration").data)


def denied_soon(verifier: Verifier, token: str) -> Cause:
    """Return why the verifier denies *token*, as soon as it does."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        try:
            verifier.verify(token)
        except Denied as denied:
            return denied.cause
        time.sleep(0.001)
    raise AssertionError("the revocation did not arrive")


@pytest.mark.meets(
    "10.1.2",
    "10.2.1",
    "10.2.2",
    "10.5.1",
    "9700-2.1c",
    "9700-2.1d",
    "9207-2.4a",
    "OIDD-4.3",
    "9126-2",
    "9207-2.3",
    "9207-2.4b",
    "7009-R10",
    "9700-4.4.2b",
    "9700-4.5.3a",
)
def test_openid_client_signs_somebody_in(
    site: Any, secret: str, browser: Browser, verifier: Verifier, run_node: Callable[..., Any]
) -> None:
    world = {
        "issuer": site.issuer,
        "client_id": "shop",
        "client_secret": secret,
        "redirect_uri": CALLBACK,
    }
    pushed = run_node("people.mjs", {**world, "step": "push"})
    assert set(dict(part.split("=") for part in urlsplit(pushed["url"]).query.split("&"))) == {
        "client_id",
        "request_uri",
    }
    callback = browser.open(pushed["url"])
    assert callback.startswith(CALLBACK)
    told = run_node("people.mjs", {**world, **pushed, "step": "back", "callback": callback})
    assert told["wrongIssuer"] is not None
    assert told["wrongState"] is not None
    assert told["wrongVerifier"] == "invalid_grant"
    assert (told["claims"]["iss"], told["claims"]["aud"]) == (site.issuer, "shop")
    assert told["claims"]["nonce"] == pushed["nonce"]
    assert told["introspected"]["active"] is True
    assert told["introspected"]["sub"] == told["claims"]["sub"]
    assert told["refreshedAfterwards"] == "invalid_grant"
    assert denied_soon(verifier, told["access"]) is Cause.REVOKED


@pytest.mark.meets("8628-3.2", "8628-3.2b")
def test_openid_client_lets_a_device_in(
    site: Any, secret: str, browser: Browser, verifier: Verifier, run_node: Callable[..., Any]
) -> None:
    world = {"issuer": site.issuer, "client_id": "shop", "client_secret": secret}
    device = run_node("people.mjs", {**world, "step": "device"})
    assert {"device_code", "user_code", "verification_uri", "expires_in"} <= device.keys()
    assert "The device is in" in browser.open(device["verification_uri_complete"])
    told = run_node("people.mjs", {**world, "step": "poll", "device": device})
    assert told["scope"] == "orders:read"
    assert verifier.verify(told["access"]).client_id == "shop"


@pytest.mark.meets("7009-R11")
def test_authlib_signs_somebody_in_and_stays(
    site: Any, secret: str, browser: Browser, verifier: Verifier
) -> None:
    metadata = metadata_of(site)
    session = AuthlibSession(
        "shop",
        secret,
        scope="openid offline_access orders:read",
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
    )
    session.verify = str(site.ca)
    with session:
        url, state = session.create_authorization_url(
            metadata["authorization_endpoint"], code_verifier="v" * 64, resource="orders", nonce="n0nce"
        )
        callback = browser.open(url)
        token = session.fetch_token(
            metadata["token_endpoint"], authorization_response=callback, state=state, code_verifier="v" * 64
        )
        assert verifier.verify(token["access_token"]).scopes >= {"orders:read"}
        assert token["id_token"].count(".") == 2
        refreshed = session.refresh_token(metadata["token_endpoint"], token["refresh_token"])
        assert verifier.verify(refreshed["access_token"]).client_id == "shop"
        answer = session.revoke_token(metadata["revocation_endpoint"], token=refreshed["refresh_token"])
        assert answer.status_code == 200
        assert denied_soon(verifier, refreshed["access_token"]) is Cause.REVOKED
        assert denied_soon(verifier, token["access_token"]) is Cause.REVOKED


@pytest.mark.meets("9700-2.1.1a")
def test_requests_oauthlib_signs_somebody_in(
    site: Any, secret: str, browser: Browser, verifier: Verifier
) -> None:
    metadata = metadata_of(site)
    with OAuth2Session("shop", redirect_uri=CALLBACK, scope=["orders:read"], pkce="S256") as session:
        session.verify = str(site.ca)
        url, _ = session.authorization_url(metadata["authorization_endpoint"], resource="orders")
        token = session.fetch_token(
            metadata["token_endpoint"],
            authorization_response=browser.open(url),
            client_secret=secret,
            include_client_id=False,
            verify=str(site.ca),
        )
        assert verifier.verify(token["access_token"]).scopes == {"orders:read"}
