"""Headers that every response carries, made once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from keyfob.http.messages import HttpResponse

Header = tuple[bytes, bytes]
# A token, and text without control characters (RFC 9110, sections 5.1 and 5.5).
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

NO_STORE: Header = (b"cache-control", b"no-store")
JSON: Header = (b"content-type", b"application/json")
CLEAR_SITE_DATA: Header = (b"clear-site-data", b'"cache", "storage"')
PUBLIC: tuple[Header, ...] = (
    (b"cache-control", b"public, max-age=300"),
    (b"access-control-allow-origin", b"*"),
    (b"cross-origin-resource-policy", b"cross-origin"),
)
"""For documents that anybody may read from anywhere: key sets and metadata. No credential ever takes part."""

_REFERRER: Header = (b"referrer-policy", b"no-referrer")
_ALWAYS: tuple[Header, ...] = (
    (b"x-content-type-options", b"nosniff"),
    _REFERRER,
    (b"cross-origin-opener-policy", b"same-origin"),
)
_CSP: Header = (
    b"content-security-policy",
    b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
)
_CORP: Header = (b"cross-origin-resource-policy", b"same-origin")
_HSTS: Header = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")


@dataclass(frozen=True, slots=True)
class PreparedHeaders:
    """Headers of an answer without a body that is given many times, and the very octets of its head but for what the server adds."""

    status: int
    headers: tuple[Header, ...]
    lines: bytes

    @classmethod
    def of(cls, headers: tuple[Header, ...], *, status: int = 204) -> Self:
        """Prepare *headers*, whose names are in lower case.

        Raises:
            ValueError: one of them would end its line, or is no header at all: nothing looks at the lines again.
        """
        for name, value in headers:
            if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
                raise ValueError("a header that would not stay one line")
        return cls(status, headers, b"".join(b"%b: %b\r\n" % header for header in headers))


class SecurityHeaders:
    """Completes the headers of a response.

    HSTS goes by the issuer's scheme, which is configured; what a proxy says of the scheme is not asked.
    """

    def __init__(self, issuer: str) -> None:
        self._always = (*_ALWAYS, _HSTS) if issuer.startswith("https:") else _ALWAYS

    def complete(self, response: HttpResponse) -> list[Header]:
        """Return the headers of *response* with what each response must have; what it states itself is left alone.

        Nothing is cached unless the response says so.
        """
        stated = {name for name, _ in response.headers}
        headers = [*response.headers, *self._always]
        if _REFERRER[0] in stated:
            headers.remove(_REFERRER)
        headers.extend(header for header in (NO_STORE, _CSP, _CORP) if header[0] not in stated)
        if response.stream is None and response.status != 204:
            headers.append((b"content-length", b"%d" % len(response.body)))
        return headers
