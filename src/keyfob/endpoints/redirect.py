"""Going on to another page of our own, and to no other."""

from __future__ import annotations

import re

from keyfob.base.errors import InvalidRequest
from keyfob.http.headers import NO_STORE, Header
from keyfob.http.messages import HttpResponse

# One slash at the start and not two (a browser reads `//host`, `/\host` and `/<tab>/host` as another host), then visible ASCII alone.
_PATH = re.compile(r"/(?![/\\])[!-~]*")


def same_origin_path(path: str) -> str:
    r"""Return *path* if every browser reads it as a path of the same origin; an empty one stands for `/`.

    Raises:
        InvalidRequest: 422: another origin, a relative path, a backslash, white space, or anything but visible ASCII.
    """
    if not path:
        return "/"
    if _PATH.fullmatch(path) is None or "\\" in path:
        raise InvalidRequest(
            "invalid_request", "next is a path of this origin, such as /account.", status=422
        )
    return path


def see_other(path: str, *headers: Header) -> HttpResponse:
    """Answer 303, so that whatever was posted is not posted again. *path* comes from `same_origin_path`."""
    return HttpResponse(status=303, headers=((b"location", path.encode("ascii")), NO_STORE, *headers))
