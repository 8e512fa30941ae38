"""The live entries as routes of Envoy, in a file that it follows (RDS from a path): a token that one covers is answered by the route itself.

Envoy's `jwt_authn` verifies the token, copies claims into headers (`claim_to_headers`) and has the route chosen anew (`clear_route_cache`).
The routes compare those headers: `as_of` as a number, so the rule is applied as it stands.

The file is a copy of the deployment's own RouteConfiguration, in which a route named `keyfob-denials` is replaced by those for the entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from keyfob.base.errors import ConfigurationError
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.server.export.exported import Exported, Write

MARKER: Final = "keyfob-denials"
"""The name of the route that is replaced."""
_PREFIX: Final = "x-keyfob-"
_CAUSES: Final = {Reach.END: "revoked", Reach.CLAIMS: "stale_claims"}
_HEADERS: Final[Mapping[Scope, tuple[str, ...]]] = {
    Scope.SESSION: ("sid", "psid"),
    Scope.SUBJECT: ("sub",),
    Scope.CLIENT: ("client-id", "pcid"),
    Scope.TOKEN: ("jti",),
    Scope.EVERYTHING: ("as-of",),  # matched as a number alone
}
_ROUTES_TYPE: Final = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


def envoy_routes(template: bytes) -> Write:
    """Return what writes the file for *template*, a RouteConfiguration in JSON.

    Raises:
        ConfigurationError: it is none, or has no route of the name that is replaced.
    """
    try:
        configuration = msgspec.json.decode(template, type=dict[str, Any])
        marked = sum(_is_marker(route) for host in configuration["virtual_hosts"] for route in host["routes"])
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError):
        raise ConfigurationError("the template is no RouteConfiguration of Envoy in JSON") from None
    if not marked:
        raise ConfigurationError(f"the template has no route named {MARKER}, in whose place the denials go")

    def write(exported: Exported) -> bytes:
        denials = list(_denials(exported))
        hosts = [
            {
                **host,
                "routes": [
                    each for route in host["routes"] for each in (denials if _is_marker(route) else (route,))
                ],
            }
            for host in configuration["virtual_hosts"]
        ]
        resource = {**configuration, "@type": _ROUTES_TYPE, "virtual_hosts": hosts}
        version = f"{exported.timeline}:{exported.position}:{'level' if exported.is_level else 'stale'}"
        return msgspec.json.encode({"version_info": version, "resources": [resource]}) + b"\n"

    return write


def _is_marker(route: Mapping[str, object]) -> bool:
    return route.get("name") == MARKER


def _denials(exported: Exported) -> Iterator[dict[str, object]]:
    if not exported.is_level:
        yield _denial([], status=503, cause="verifier_stale")
        return
    yield _denial(
        [_not(_matches("as-of", {"safe_regex": {"regex": "0|[1-9][0-9]{0,17}"}}))], cause="malformed"
    )
    yield _denial([_not(_exact("tl", exported.timeline))], cause="revoked")
    for reach in (Reach.END, Reach.CLAIMS):  # in the order of the contract
        for entry in exported.entries:
            if entry.scope is Scope.KEY:
                continue
            for header in _HEADERS[entry.scope] if entry.reach is reach else ():
                yield _denial(_covered(entry, header), cause=_CAUSES[reach])


def _covered(entry: Entry, header: str) -> list[dict[str, object]]:
    """Return what the headers of a covered token match; a range includes its start and not its end."""
    matched: list[dict[str, object]] = [
        {"name": _PREFIX + "as-of", "range_match": {"start": "0", "end": str(entry.position)}}
    ]
    if entry.scope is not Scope.EVERYTHING:
        matched.append(_exact(header, entry.id))
    if entry.spared is not None:
        matched += [_not(_exact(name, entry.spared)) for name in ("sid", "psid")]
    return matched


def _exact(name: str, value: str) -> dict[str, object]:
    return _matches(name, {"exact": value})


def _matches(name: str, match: Mapping[str, object]) -> dict[str, object]:
    return {"name": _PREFIX + name, "string_match": match, "treat_missing_header_as_empty": True}


def _not(header: Mapping[str, object]) -> dict[str, object]:
    return {**header, "invert_match": True}


def _denial(headers: list[dict[str, object]], *, cause: str, status: int = 401) -> dict[str, object]:
    return {
        "match": {"prefix": "/", "headers": headers},
        "direct_response": {"status": status},
        "response_headers_to_add": [{"header": {"key": "x-auth-cause", "value": cause}}],
    }
