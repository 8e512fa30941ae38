"""`examples/sign_in_client.py` beside a real server: people sign in at one and are known at the other, until the one says otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import urllib3

from keyfob.clients.registration import Registration
from keyfob.testing import chromium

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

EXAMPLES = Path(__file__).parents[2] / "examples"
PASSWORD = "seventeen green llamas"
FORM = "application/x-www-form-urlencoded"


class Browser:
    """As much of a browser as the pages need: cookies by host and port, redirects, and forms that name their own origin."""

    def __init__(self) -> None:
        self._http = urllib3.PoolManager(retries=False, timeout=30.0)
        self.cookies: dict[str, dict[str, str]] = {}
        self.visited: list[str] = []

    def open(self, url: str, *, form: dict[str, str] | None = None) -> Any:
        """Load *url*, wherever it leads."""
        for _ in range(12):
            answer = self._load(url, form)
            self.visited.append(url)
            location = answer.headers.get("location")
            if location is None:
                self.url = url
                return answer
            url, form = url[: url.index("/", 8)] + location if location.startswith("/") else location, None
        raise AssertionError(f"it never arrives: {self.visited}")

    def _load(self, url: str, form: dict[str, str] | None) -> Any:
        host = urlsplit(url).netloc
        held = self.cookies.setdefault(host, {})
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in held.items())} if held else {}
        if form is not None:
            headers |= {"content-type": FORM, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
        body = None if form is None else urlencode(form).encode()
        answer = self._http.request(
            "GET" if form is None else "POST", url, body=body, headers=headers, redirect=False
        )
        for header in answer.headers.getlist("set-cookie"):
            name, _, value = header.partition(";")[0].partition("=")
            held[name] = value.strip('"')
        return answer

    def submit(self, page: Any, **fields: str) -> Any:
        """Send the form of *page*."""
        text = page.data.decode()
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text)
        action = re.search(r'action="(/[^"]*)"', text)
        assert action is not None, text
        origin = self.url[: self.url.index("/", 8)]
        return self.open(
            origin + action[1], form={**{name: unescape(value) for name, value in hidden}, **fields}
        )


class Both:
    """A server and the example."""

    def __init__(self, authority: Any, home: str) -> None:
        self.authority = authority
        self.home = home

    def revoke(self, name: str) -> None:
        async def work(authority: Any) -> None:
            account = await authority.accounts.find(name)
            await authority.revoke("subject", account.subject)

        self.authority.with_authority(work)


@pytest.fixture
def both(deploy: Callable[..., Any], eventually: Any) -> Iterator[Both]:
    authority, place = deploy(feed_heartbeat="0.5"), deploy()
    home = f"http://127.0.0.1:{place.port}"
    authority.add_users("alice")

    async def add(opened: Any) -> str:
        registration = Registration(name="The shop", redirect_uris=[f"{home}/signed-in"], require_par=True)
        added = await opened.clients.add(
            "shop", scopes=["orders:read", "keyfob:feed"], audiences=["shop"], registration=registration
        )
        return str(added.secret)

    secret = authority.with_authority(add)
    authority.start()
    with (place.folder / "shop.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "uvicorn", "sign_in_client:app", "--log-level", "error"),
                *("--port", str(place.port)),
            ],
            cwd=EXAMPLES,
            env={
                **os.environ,
                "ISSUER": authority.url,
                "CLIENT_ID": "shop",
                "CLIENT_SECRET": secret,
                "HERE": home,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        eventually(lambda: _answers(place.api), "the example answers", within=40.0)
        yield Both(authority, home)
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _answers(api: Any) -> bool:
    try:
        return api.get("/signed-in").status == 400
    except api.NoAnswer:
        return False


def test_somebody_signs_in_allows_it_and_is_known_until_they_are_revoked(both: Both, eventually: Any) -> None:
    browser = Browser()
    page = browser.open(both.home)
    assert urlsplit(browser.url).path == "/oauth/sign-in"
    page = browser.submit(page, username="alice", password=PASSWORD)
    assert urlsplit(browser.url).path == "/oauth/consent"
    assert "The shop" in page.data.decode()
    page = browser.submit(page, answer="allow")
    assert browser.url.startswith(both.home)
    assert re.fullmatch(r"Hello usr_\w+, you may orders:read\.", page.data.decode())
    assert not [url for url in browser.visited if "access_token" in url]

    again = Browser()
    again.cookies = {
        urlsplit(both.authority.url).netloc: browser.cookies[urlsplit(both.authority.url).netloc]
    }
    assert again.open(both.home).data == page.data  # signed in, and asked before: nothing is shown
    assert not [url for url in again.visited if "sign-in" in url or "consent" in url]

    both.revoke("alice")
    eventually(lambda: b"Hello" not in browser.open(both.home).data, "the example knows it", within=20.0)
    assert urlsplit(browser.url).path == "/oauth/sign-in"


def test_an_answer_of_another_journey_or_authority_is_refused(both: Both) -> None:
    """O-10, O-12: the client's half of the defence."""
    victim, thief = Browser(), Browser()
    for browser in (victim, thief):
        browser.open(both.home)
    page = thief.open(thief.url)
    page = thief.submit(page, username="alice", password=PASSWORD)
    thief.submit(page, answer="allow")
    callback = next(url for url in thief.visited if "/signed-in?code=" in url)
    assert victim.open(callback).status == 400
    assert victim.open(both.home).status == 200
    fresh = Browser()
    fresh.open(both.home)
    assert fresh.open(re.sub("iss=[^&]*", "iss=https%3A%2F%2Fevil.example", callback)).status == 400


@pytest.mark.skipif(chromium.installed() is None, reason="Chromium is not installed")
def test_a_real_browser_goes_the_whole_way(both: Both) -> None:
    """The policy of the pages lets their forms lead to the client, and the browser names our origin with them."""
    program = chromium.installed()
    assert program is not None
    with chromium.chromium(program) as browser:
        page = browser.page()
        page.open(both.home)
        page.wait_for("location.pathname === '/oauth/sign-in' && document.forms.length === 1")
        page.evaluate(
            f"document.forms[0].username.value = 'alice'; document.forms[0].password.value = '{PASSWORD}';"
            "document.forms[0].querySelector('button').click()"
        )
        page.wait_for("location.pathname === '/oauth/consent' && document.forms.length === 1")
        page.evaluate("document.querySelector('button[value=allow]').click()")
        page.wait_for(f"location.href === '{both.home}/' && document.body.innerText.startsWith('Hello usr_')")
