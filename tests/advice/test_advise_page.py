"""`GET /advise`: the form, the advice, and nothing that a stranger's answer could do to the page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.advice.page import advise_route
from keyfob.advice.rules import read_rules
from keyfob.base.errors import InvalidRequest
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.server.build import build
from keyfob.server.settings import Settings

RULES = read_rules()


async def page(query: bytes = b"") -> HttpResponse:
    return await advise_route(RULES).endpoint(None, HttpRequest("GET", "/advise", headers=[], query=query))  # type: ignore[arg-type]


async def test_the_form_asks_every_question_with_its_default() -> None:
    text = (await page()).body.decode()
    for question in RULES.question:
        assert f'name="{question.name}"' in text
    assert 'id="advice"' not in text


async def test_answers_are_answered_with_the_advice_and_the_settings() -> None:
    text = (await page(b"services=12&clients=browser&clients=mobile&revocation=on-demand")).body.decode()
    assert 'id="advice"' in text
    assert "mobile: hybrid" in text
    assert "access_lifetime = &quot;300s&quot;" in text
    assert 'value="12"' in text  # what was answered stands in the form


async def test_what_is_no_answer_is_said_and_changes_nothing() -> None:
    text = (await page(b"services=many")).body.decode()
    assert 'role="alert"' in text
    assert "services is a whole number" in text


@pytest.mark.parametrize("query", [b"flavour=vanilla", b"services=1&services=2", b"services=%zz"])
async def test_a_query_that_the_form_cannot_send_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await page(query)


class Tags(HTMLParser):
    """What a browser makes of a page: its tags, and the values of its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fields: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attrs)
        if known.get("type") == "text":
            self.fields[known["name"] or ""] = known["value"] or ""


@given(st.text(alphabet="<>\"'&=/ abc", max_size=30))
async def test_no_answer_becomes_markup(text: str) -> None:
    body = (await page(f"services={quote(text)}&profile={quote(text)}".encode())).body.decode()
    wrong = (await page(b"services=none")).body.decode()
    assert Tags(body).tags == Tags(wrong).tags
    assert Tags(body).fields["services"] == text
    assert "<script" not in body


async def test_the_page_runs_no_script_and_posts_nowhere() -> None:
    (policy,) = (value for name, value in (await page()).headers if name == b"content-security-policy")
    assert policy.startswith(b"default-src 'none'; style-src 'sha256-")
    assert b"form-action 'self'" in policy


async def test_the_server_serves_it_without_sign_in(tmp_path: Path) -> None:
    app = build(Settings(store="memory://", issuer="http://127.0.0.1:8080", master_key=bytes(32)))  # type: ignore[arg-type]
    await app.start()
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/advise", "raw_path": b"/advise", "query_string": b"services=2",
        "headers": [], "client": ("127.0.0.1", 1),
    }  # fmt: skip
    await app(scope, receive, send)  # type: ignore[arg-type]
    await app.stop()
    assert sent[0]["status"] == 200
