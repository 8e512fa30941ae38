"""`GET /advise`: the same questions in a form, without sign-in and without a script."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from html import escape

from keyfob.advice.advice import advise
from keyfob.advice.need import Asked, Need, Question
from keyfob.advice.rules import Rules, read_rules
from keyfob.advice.settings_file import settings_file
from keyfob.advice.told import told
from keyfob.base.errors import ConfigurationError, InvalidRequest
from keyfob.endpoints.route import Parameter, Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.query import parse_query

PATH = "/advise"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b;background:#fff}"
    "fieldset{border:1px solid #bbb;border-radius:6px;margin:0 0 1rem}legend{font-weight:600}"
    "label{display:block}input[type=text]{width:12rem;font:inherit}pre{background:#f4f4f4;padding:1rem;overflow:auto;white-space:pre-wrap}"
    "button{font:inherit;padding:.4rem 1.2rem}.wrong{color:#a00;font-weight:600}"
)
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = (
    (b"content-type", b"text/html; charset=utf-8"),
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'".encode(),
    ),
)


def advise_route(rules: Rules | None = None) -> Route[Site]:
    """Return the route. It reads nothing of the site: what is asked and answered is nobody's secret."""
    known = rules or read_rules()

    async def page(_site: Site, request: HttpRequest) -> HttpResponse:
        """Answer with the form, and with the advice if anything was asked.

        Raises:
            InvalidRequest: a query that cannot be read.
        """
        answers = _answers(known, request.query)
        return HttpResponse(status=200, headers=_HEADERS, body=_page(known, answers).encode())

    return Route(
        method="GET",
        path=PATH,
        endpoint=page,
        summary="Which strategy to use: a form, and the advice",
        query=tuple(
            Parameter(name=question.name, summary=question.text, repeatable=question.kind is Question.SEVERAL)
            for question in known.question
        ),
        response_type="text/html",
        public=True,
    )


def _answers(rules: Rules, query: bytes) -> dict[str, str]:
    names = {question.name: question.kind for question in rules.question}
    answers: dict[str, str] = {}
    for name, value in parse_query(query):
        if name not in names or (name in answers and names[name] is not Question.SEVERAL):
            raise InvalidRequest(
                "invalid_request", f"Unknown parameter, or one twice; known are {', '.join(names)}."
            )
        answers[name] = f"{answers[name]},{value}" if name in answers else value
    return answers


def _page(rules: Rules, answers: Mapping[str, str]) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Keyfob: which strategy?</title><style>{_STYLE}</style></head><body><h1>Which strategy?</h1>"
        f'{_advice(rules, answers)}<form method="get" action="{PATH}">'
        f"{''.join(_field(question, answers) for question in rules.question)}"
        '<button type="submit">Advise</button></form></body></html>'
    )


def _advice(rules: Rules, answers: Mapping[str, str]) -> str:
    if not answers:
        return "<p>Answer what you know; the rest has a default.</p>"
    try:
        advice = advise(Need.of(rules.question, answers), rules)
    except ConfigurationError as error:
        return f'<p class="wrong" role="alert">{escape(str(error))}</p>'
    lines = escape("\n".join(told(advice)))
    return (
        f'<section id="advice"><h2>Advice</h2><pre>{lines}</pre>'
        f'<h2>keyfob.toml</h2><pre id="settings">{escape(settings_file(advice, rules))}</pre></section><h2>Ask again</h2>'
    )


def _field(question: Asked, answers: Mapping[str, str]) -> str:
    said = answers.get(question.name, question.default)
    return f"<fieldset><legend>{escape(question.text)}</legend>{''.join(_inputs(question, said))}</fieldset>"


def _inputs(question: Asked, said: str) -> Iterator[str]:
    name = escape(question.name)
    if not question.choices:
        yield f'<input type="text" name="{name}" value="{escape(said)}" inputmode="decimal" maxlength="20" aria-label="{escape(question.text)}">'
        return
    kind = "checkbox" if question.kind is Question.SEVERAL else "radio"
    chosen = {one.strip() for one in said.split(",")}
    for choice, meaning in question.choices.items():
        checked = " checked" if choice in chosen else ""
        yield f'<label><input type="{kind}" name="{name}" value="{escape(choice)}"{checked}> {escape(meaning)}</label>'
