"""`GET /openapi.json`: the routes, written from the very structs that the endpoints decode and encode."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from importlib.metadata import version

import msgspec

from keyfob.endpoints.answers import public_document
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse
from keyfob.http.problem import Challenge, OAuthErrorBody, ProblemBody, problem

PATH = "/openapi.json"
_PAGE = "text/html"
_REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"\{(\w+)\}")
_SECURITY: dict[Challenge, list[dict[str, list[str]]]] = {
    Challenge.BEARER: [{"bearer": []}, {"cookie": []}],
    Challenge.BASIC: [{"basic": []}],
    Challenge.EITHER: [{"basic": []}, {"bearer": []}],
}

Json = dict[str, object]


def openapi_route(routes: Sequence[Route[Site]]) -> Route[Site]:
    """Return the route that shows *routes*, and itself."""
    shown: list[Json] = []

    async def show(_site: Site, _request: HttpRequest) -> HttpResponse:
        return public_document(shown[0])

    own = Route(method="GET", path=PATH, endpoint=show, summary="This document", public=True)
    shown.append(openapi_document((*routes, own)))
    return own


def openapi_document(routes: Iterable[Route[Site]]) -> Json:
    """Return the OpenAPI 3.1 document of *routes*."""
    documented = [route for route in routes if route.method != "*" or not route.path.endswith("/{rest}")]
    structs = [ProblemBody, OAuthErrorBody]
    structs += [shape for route in documented for shape in (route.request, route.response) if shape]
    _, schemas = msgspec.json.schema_components(dict.fromkeys(structs), ref_template=_REF)
    paths: dict[str, Json] = {}
    for route in documented:
        method = "get" if route.method == "*" else route.method.lower()
        paths.setdefault(route.path, {})[method] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Keyfob", "version": version("keyfob")},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "__Host-session"},
            },
        },
    }


def _operation(route: Route[Site]) -> Json:
    operation: Json = {
        "summary": route.summary,
        "operationId": _operation_id(route),
        "parameters": _parameters(route),
        "responses": _responses(route),
        "security": [] if route.public else _SECURITY[route.refusal.challenge],
    }
    if route.request is not None:
        content = {route.request_type: {"schema": _ref(route.request)}}
        operation["requestBody"] = {"required": bool(_required(route.request)), "content": content}
    return operation


def _responses(route: Route[Site]) -> Json:
    if route.response_type == _PAGE:
        good: Json = {
            "200": {"description": "A page.", "content": {_PAGE: {}}},
            "303": {"description": "Somewhere else."},
        }
    else:
        good = {str(route.status): _success(route)}
    content = _refusal_content(route)
    refused = {
        str(status): {"description": HTTPStatus(status).phrase, "content": content}
        for status in _refusals(route)
    }
    return {**good, **refused}


def _success(route: Route[Site]) -> Json:
    good: Json = {"description": "Done."}
    if route.response is not None:
        good["content"] = {route.response_type: {"schema": _ref(route.response)}}
    elif route.status != 204 and route.response_type:
        good["content"] = {media_type: {} for media_type in (route.response_type, *route.alternatives)}
    return good


def _refusal_content(route: Route[Site]) -> Json:
    """Return in which form the route refuses: a problem, an error of OAuth, or a page."""
    if route.render_error is problem:
        return {"application/problem+json": {"schema": _ref(ProblemBody)}}
    if route.response_type == _PAGE:
        return {_PAGE: {}}
    return {"application/json": {"schema": _ref(OAuthErrorBody)}}


def _refusals(route: Route[Site]) -> list[int]:
    """Return with which status the route may refuse: 503 while the store does not answer, the rest by what it takes."""
    statuses = {400, 503}
    if not route.public or route.response_type == _PAGE:
        statuses |= {401, 403}
    if route.query or route.response_type == _PAGE or _PARAMETER.search(route.path):
        statuses |= {404}
    if route.method in {"POST", "PUT"}:
        statuses |= {413, 415}
    if route.query or route.request is not None:
        statuses |= {422}
    if route.method not in {"GET", "*"}:
        statuses |= {403, 404, 409, 429}
    return sorted(statuses)


def _parameters(route: Route[Site]) -> list[Json]:
    in_path: list[Json] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    in_query: list[Json] = [
        {
            "name": parameter.name,
            "in": "query",
            "description": parameter.summary,
            "schema": {"type": "array", "items": {"type": "string"}}
            if parameter.repeatable
            else {"type": "string"},
        }
        for parameter in route.query
    ]
    return in_path + in_query


def _operation_id(route: Route[Site]) -> str:
    words = re.sub(r"[^a-z0-9]+", "_", route.path.lower()).strip("_")
    return f"{'any' if route.method == '*' else route.method.lower()}_{words}"


def _ref(shape: type[msgspec.Struct]) -> Json:
    return {"$ref": _REF.format(name=shape.__name__)}


def _required(shape: type[msgspec.Struct]) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(shape) if field.required]
