"""A route: one method and path, the endpoint behind it, and what its documentation says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from keyfob.http.headers import PreparedHeaders
from keyfob.http.messages import HttpRequest, HttpResponse, RawHeaders
from keyfob.http.problem import DEFAULT_REFUSAL, Refusal, problem

S = TypeVar("S")
"""What an endpoint is given: the `Site` of an authority, or what a relay has in its place."""
Endpoint = Callable[[S, HttpRequest], Awaitable[HttpResponse]]
WarmAnswer = Callable[[S, RawHeaders, bytes], PreparedHeaders | None]
"""Gives the headers of a 204 from memory, by the headers and the query of a request, or None: then the endpoint is asked. No I/O."""
Finish = Callable[[S, HttpRequest, HttpResponse], Awaitable[HttpResponse]]
"""Completes an answer, whatever it is, by what the request was. It raises nothing."""
RenderError = Callable[[Exception, Refusal], HttpResponse]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a query, for the documentation."""

    name: str
    summary: str
    repeatable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(Generic[S]):
    """One route. `path` may have parts such as `{session_id}`.

    <<<<<<< HEAD
        `request` and `response` are the very structs that the endpoint decodes and encodes; `status` is that of success, and `alternatives`
        are the media types in which it may be asked for instead of `response_type`, which is empty where there is no body. `refusal` says which
        credentials the route takes, `render_error` in which form it refuses. `warm`, where there is one, is asked first, whatever the method.
    =======
        `request` and `response` are the very structs that the endpoint decodes and encodes; `status` is that of success. `refusal` says which
        credentials the route takes, `render_error` in which form it refuses, `finish` adds
        what goes by the request to answer and refusal alike. `warm`, where there is one, is asked first, whatever the method.
    >>>>>>> main
    """

    method: str
    path: str
    endpoint: Endpoint[S]
    summary: str
    status: int = 200
    request: type[msgspec.Struct] | None = None
    response: type[msgspec.Struct] | None = None
    query: tuple[Parameter, ...] = ()
    request_type: str = "application/json"
    response_type: str = "application/json"
    alternatives: tuple[str, ...] = ()
    public: bool = False
    refusal: Refusal = DEFAULT_REFUSAL
    render_error: RenderError = problem
    warm: WarmAnswer[S] | None = None
    finish: Finish[S] | None = None
