"""From a method and a path to a route. Nothing but the method line is asked: method overrides in headers or forms are ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from keyfob.base.errors import NotFound
from keyfob.endpoints.route import Route
from keyfob.http.problem import MethodNotAllowed

S = TypeVar("S")

ANY_METHOD = "*"
REST = "{rest}"
"""As the last part of a path: whatever follows, even what is no text at all."""
MAX_PATH = 2048  # bytes

_Methods = dict[str, Route[S]]
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Match(Generic[S]):
    """A route, and the parts of the path that its template names."""

    route: Route[S]
    parameters: Mapping[str, str]


class Router(Generic[S]):
    """Finds routes. A path matches as a whole, with every slash; `GET` answers `HEAD` too."""

    def __init__(self, routes: Iterable[Route[S]]) -> None:
        self._exact: dict[str, _Methods[S]] = {}
        self._prefixes: dict[bytes, _Methods[S]] = {}
        self._templates: dict[tuple[str, ...], _Methods[S]] = {}
        for route in routes:
            methods = self._methods_at(route.path)
            if route.method in methods:
                raise ValueError(f"two routes for {route.method} {route.path}")
            methods[route.method] = route
        self._found = {
            (method, path): Match(route, _NOTHING)
            for path, methods in self._exact.items()
            for method, route in _with_head(methods).items()
        }

    def _methods_at(self, path: str) -> _Methods[S]:
        if path.endswith(REST):
            return self._prefixes.setdefault(path.removesuffix(REST).encode("ascii"), {})
        if "{" in path:
            return self._templates.setdefault(tuple(path.split("/")[1:]), {})
        return self._exact.setdefault(path, {})

    def find(self, method: str, path: str, raw_path: bytes) -> Match[S]:
        """Return the route of *method* and *path*; *raw_path* is the path before percent-decoding, in which an escaped slash separates nothing.

        Raises:
            NotFound: no route has this path.
            MethodNotAllowed: one has, for other methods.
        """
        found = self._found.get((method, path))
        return found if found is not None else self._search(method, path, raw_path)

    def _search(self, method: str, path: str, raw_path: bytes) -> Match[S]:
        methods, parameters = self._exact.get(path), _NOTHING
        if methods is None:
            methods, parameters = self._by_template(raw_path)
        route = _with_head(methods).get(method) or methods.get(ANY_METHOD)
        if route is None:
            raise MethodNotAllowed(sorted(_with_head(methods)))
        return Match(route, parameters)

    def _by_template(self, raw_path: bytes) -> tuple[_Methods[S], Mapping[str, str]]:
        for prefix, methods in self._prefixes.items():
            if raw_path.startswith(prefix):
                return methods, _NOTHING
        parts = _parts(raw_path)
        for template, methods in self._templates.items():
            parameters = _matched(template, parts)
            if parameters is not None:
                return methods, parameters
        raise NotFound("not_found", "There is nothing at this path.")


def _with_head(methods: _Methods[S]) -> _Methods[S]:
    return {**methods, "HEAD": methods["GET"]} if "GET" in methods else methods


def _parts(raw_path: bytes) -> list[str]:
    """Return the decoded parts of a path; none for one that cannot be decoded, which then matches nothing."""
    if len(raw_path) > MAX_PATH or not raw_path.startswith(b"/"):
        return []
    try:
        return [unquote_to_bytes(part).decode("utf-8") for part in raw_path[1:].split(b"/")]
    except UnicodeDecodeError:
        return []


def _matched(template: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    if len(parts) != len(template):
        return None
    parameters: dict[str, str] = {}
    for expected, part in zip(template, parts, strict=True):
        if expected.startswith("{"):
            if not part:
                return None
            parameters[expected[1:-1]] = part
        elif expected != part:
            return None
    return parameters
