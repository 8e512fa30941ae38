"""Lists that come in pages: the two parameters that all of them take."""

from __future__ import annotations

from dataclasses import dataclass

from keyfob.endpoints.route import Parameter
from keyfob.http.messages import HttpRequest
from keyfob.http.query import once, parse_query, whole_number

MAX_LIMIT, DEFAULT_LIMIT = 200, 50

PAGING = (
    Parameter(name="after", summary="`next` of the page before"),
    Parameter(name="limit", summary=f"how many at most: 1 to {MAX_LIMIT}, {DEFAULT_LIMIT} by default"),
)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is asked for, and what else the query says."""

    after: str | None
    limit: int
    rest: dict[str, str]


def read_page(request: HttpRequest, *, also: frozenset[str] = frozenset()) -> PageRequest:
    """Read the query of a list, which may have `after`, `limit` and the parameters in *also*.

    Raises:
        InvalidRequest: another parameter, one twice, or a limit out of bounds.
    """
    fields = once(parse_query(request.query), allowed=frozenset({"after", "limit"}) | also)
    limit = fields.pop("limit", None)
    return PageRequest(
        after=fields.pop("after", None) or None,
        limit=DEFAULT_LIMIT if limit is None else whole_number(limit, name="limit", low=1, high=MAX_LIMIT),
        rest=fields,
    )
