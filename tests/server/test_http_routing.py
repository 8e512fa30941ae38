"""A path is one route or none; a method is what the method line says."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.base.errors import NotFound
from keyfob.endpoints.answers import NO_CONTENT
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import MethodNotAllowed
from keyfob.server.routing import MAX_PATH, Router


async def endpoint(_site: Site, _request: HttpRequest) -> HttpResponse:
    return NO_CONTENT


def route(method: str, path: str) -> Route:
    return Route(method=method, path=path, endpoint=endpoint, summary="")


ROUTER = Router(
    [
        route("GET", "/a"),
        route("POST", "/a"),
        route("*", "/check"),
        route("*", "/check/{rest}"),
        route("DELETE", "/s/{id}"),
        route("GET", "/u/{user}/roles"),
    ]
)


def find(method: str, raw: str) -> tuple[str, dict[str, str]]:
    from urllib.parse import unquote

    match = ROUTER.find(method, unquote(raw), raw.encode())
    return match.route.path, dict(match.parameters)


@pytest.mark.parametrize(
    ("method", "path", "template", "parameters"),
    [
        ("GET", "/a", "/a", {}),
        ("HEAD", "/a", "/a", {}),
        ("POST", "/a", "/a", {}),
        ("PATCH", "/check", "/check", {}),
        ("ANYTHING", "/check/x/y", "/check/{rest}", {}),
        ("GET", "/check/%ff/" + "x" * MAX_PATH, "/check/{rest}", {}),
        ("GET", "/check/", "/check/{rest}", {}),
        ("DELETE", "/s/1", "/s/{id}", {"id": "1"}),
        ("DELETE", "/s/a%2Fb", "/s/{id}", {"id": "a/b"}),
        ("GET", "/u/%C3%BC/roles", "/u/{user}/roles", {"user": "ü"}),
    ],
)
def test_a_route_is_found(method: str, path: str, template: str, parameters: dict[str, str]) -> None:
    assert find(method, path) == (template, parameters)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/b",
        "/a/",
        "//a",
        "/A",
        "/a/x.css",
        "/s",
        "/s/",
        "/s/1/2",
        "/u//roles",
        "/u/%ff/roles",
        "/checks",
        "/s/" + "x" * MAX_PATH,
    ],
)
def test_another_path_is_none(path: str) -> None:
    with pytest.raises(NotFound):
        find("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/a", ("GET", "HEAD", "POST")),
        ("get", "/a", ("GET", "HEAD", "POST")),
        ("GET", "/s/1", ("DELETE",)),
    ],
)
def test_another_method_is_told_which_are_there(method: str, path: str, allowed: tuple[str, ...]) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        find(method, path)
    assert refused.value.allowed == allowed


def test_two_routes_for_one_request_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two routes"):
        Router([route("GET", "/a"), route("GET", "/a")])


@given(st.text(max_size=8), st.text(max_size=30), st.binary(max_size=30))
def test_any_path_is_found_or_refused(method: str, path: str, raw_path: bytes) -> None:
    with suppress(NotFound, MethodNotAllowed):
        ROUTER.find(method, path, raw_path)
