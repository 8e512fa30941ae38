"""`GET /healthz`, `GET /readyz`: for whoever runs the server."""

from __future__ import annotations

import msgspec

from keyfob.base.errors import Unavailable
from keyfob.endpoints.answers import json_answer
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse

MAX_STALENESS = 5.0
"""Seconds behind the feed at which this process stops saying that it is ready: the default of a verifier."""


class Health(msgspec.Struct, frozen=True):
    """`status` is `ok` or `ready`."""

    status: str


async def healthz(_site: Site, _request: HttpRequest) -> HttpResponse:
    """Say that the process answers; nothing else is looked at, so that an outage of the store restarts nobody."""
    return json_answer(Health("ok"))


async def readyz(site: Site, _request: HttpRequest) -> HttpResponse:
    """Say that requests can be served: the store answers, and this process is level with the feed.

    Raises:
        Unavailable: one of them is not so.
    """
    await site.authority.store.feed.head()
    if site.authority.feed.staleness() > MAX_STALENESS:
        raise Unavailable("this process is not level with the feed")
    return json_answer(Health("ready"))


ROUTES = tuple(
    Route(method="GET", path=path, endpoint=endpoint, summary=summary, response=Health, public=True)
    for path, endpoint, summary in (
        ("/healthz", healthz, "The process answers"),
        ("/readyz", readyz, "Requests can be served"),
    )
)
