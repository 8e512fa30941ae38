"""The cross-origin guard: whether a browser's page of another origin is behind a request.

In order, the first that speaks decides:
1. a safe method changes nothing and is let through;
2. `Sec-Fetch-Site` other than `same-origin` or `none` refuses (so do two of them; `same-site` too: a sibling host is another origin);
3. `Origin` that is not one of our own refuses, `null` too;
4. neither header is there (a browser too old, or no browser) and a cookie is the credential: a CSRF token bound to the session must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from keyfob.base.errors import Cause, Denied

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OWN_SITE = frozenset({b"same-origin", b"none"})


def is_vouched_for(
    method: str, *, site: Sequence[bytes], origin: Sequence[bytes], own_origins: frozenset[bytes]
) -> bool:
    """Say whether method or browser vouch for a request; if not, and a cookie is the credential, a CSRF token must (step 4).

    *site* and *origin* are all values of `Sec-Fetch-Site` and `Origin`.

    Raises:
        Denied: `cross_origin`: the browser says that another origin is behind it.
    """
    if method in SAFE_METHODS:
        return True
    if site and (len(site) > 1 or site[0] not in _OWN_SITE):
        raise Denied(Cause.CROSS_ORIGIN, "Sec-Fetch-Site names another site")
    if origin and (len(origin) > 1 or origin[0] not in own_origins):
        raise Denied(Cause.CROSS_ORIGIN, "Origin is not our own")
    return bool(site or origin)


def own_origins(*urls: str) -> frozenset[bytes]:
    """Return the origins of *urls*, as browsers write them in `Origin`.

    A loopback address stands for all of them on its port: on one's own machine they are the same server.
    """
    origins = set()
    for url in urls:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        port = "" if parts.port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f":{parts.port}"
        for name in _LOOPBACK if host in _LOOPBACK else (host,):
            origins.add(f"{parts.scheme}://{name}{port}".encode("ascii"))
    return frozenset(origins)
