"""The responses that several endpoints give."""

from __future__ import annotations

import msgspec

from keyfob.http.headers import JSON, NO_STORE, PUBLIC, Header
from keyfob.http.messages import HttpResponse

NO_CONTENT = HttpResponse(status=204, headers=(NO_STORE,))

_encode = msgspec.json.Encoder().encode


def json_answer(body: object, *headers: Header, status: int = 200) -> HttpResponse:
    """Answer with *body* (a struct or what msgspec encodes) as JSON that nobody may cache."""
    return HttpResponse(status=status, headers=(JSON, NO_STORE, *headers), body=_encode(body))


def public_document(body: object) -> HttpResponse:
    """Answer with *body* as JSON that anybody may read, from any origin, and cache for minutes."""
    return HttpResponse(status=200, headers=(JSON, *PUBLIC), body=_encode(body))
