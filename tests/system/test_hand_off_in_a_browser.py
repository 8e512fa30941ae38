"""A real browser goes from one origin to another with a hand-off: what the target sees, and what it does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
import urllib3

from keyfob.authority.authority import Authority
from keyfob.clients.client import GrantType
from keyfob.clients.registration import Registration
from keyfob.testing.chromium import chromium, installed

PASSWORD = "seventeen green llamas"
HAND_OFF = GrantType.HAND_OFF

pytestmark = pytest.mark.skipif(installed() is None, reason="there is no Chromium here")


class Target(HTTPServer):
    """The other domain: it keeps what it was sent, and says that somebody has arrived."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Arrival)
        self.seen: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def uri(self) -> str:
        return f"http://localhost:{self.server_port}/arrive"


class Arrival(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Target)
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers, body))
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>arrived</title>")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def listening() -> Iterator[Target]:
    target = Target()
    thread = threading.Thread(target=target.serve_forever, daemon=True)
    thread.start()
    try:
        yield target
    finally:
        target.shutdown()
        target.server_close()
        thread.join(10)


def test_the_secret_is_in_no_address_and_the_target_is_told_who_sends_it(deploy: Callable[..., Any]) -> None:
    """O-23, O-24, in a real browser."""
    program = installed()
    assert program is not None
    site = deploy()
    site.add_users("alice")
    with listening() as target, chromium(program) as browser:

        async def add(authority: Authority) -> str:
            registration = Registration(redirect_uris=(target.uri,), first_party=True)
            added = await authority.clients.add(
                "other", registration=registration, grant_types=(HAND_OFF,), scopes=("orders:read",)
            )
            return str(added.secret)

        secret = site.with_authority(add)
        site.start()
        page = browser.page()
        page.open(f"{site.url}/device")
        page.evaluate(
            f"document.querySelector('[name=username]').value = 'alice';"
            f"document.querySelector('[name=password]').value = '{PASSWORD}';"
            "document.querySelector('button').click()"
        )
        page.wait_for("document.querySelector('[name=user_code]:not([type=hidden])') !== null")
        place = urlencode({"client_id": "other", "redirect_uri": target.uri})
        page.open(f"{site.url}/oauth/hand-off?{place}")
        page.evaluate("void setTimeout(() => document.querySelector('button').click(), 0)")
        page.wait_for("document.title === 'arrived'")
        assert page.evaluate("location.href") == target.uri
        assert page.evaluate("document.referrer") in {f"{site.url}/", ""}

    ((path, headers, body),) = target.seen
    assert path == "/arrive"
    assert headers["origin"] == site.url
    assert headers.get("referer", "") in {f"{site.url}/", ""}
    assert "cookie" not in headers
    carried = {name: values[0] for name, values in parse_qs(body.decode()).items()}
    assert carried.keys() == {"hand_off", "iss"}
    fields = {"grant_type": HAND_OFF.value, "hand_off": carried["hand_off"], "redirect_uri": target.uri}
    answer = urllib3.request(
        "POST",
        f"{site.url}/oauth/token",
        body=urlencode(fields),
        headers={
            "content-type": "application/x-www-form-urlencoded",
            **urllib3.make_headers(basic_auth=f"other:{secret}"),
        },
    )
    assert answer.status == 200, answer.data
    assert answer.json()["scope"] == "orders:read"
    log = "".join(path.read_text("utf-8") for path in site.folder.glob("server-*"))
    assert carried["hand_off"] not in log
