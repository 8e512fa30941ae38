"""Requests and logins per second, and kinds of clients, from an access log in common or combined format.

Memory is flat: what is kept are two counters for each of the latest minutes. Lines that are none are counted, never fatal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from keyfob.advice.need import ClientKind

MAX_LINE = 16_384
"""Bytes of a line: what is longer is counted as none."""
MINUTES = 50_000
"""Minutes whose counts are kept apart: five weeks."""
DEFAULT_LOGIN_PATHS = ("/login", "/signin", "/sign-in", "/oauth/token", "/token", "/auth/login", "/api/login")
_TELL_EVERY = 20_000  # lines

# host ident user [10/Oct/2000:13:55:36 -0700] "GET /path HTTP/1.0" 200 2326 "referrer" "agent"
_LINE = re.compile(
    rb'\S+ \S+ .*?\[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d):\d\d [+-]\d{4}\] "([A-Z]+) ([^ "]*)[^"]*" (\d{3}) \S+(?: "[^"]*" "([^"]*)")?'
)
_MACHINE = re.compile(
    rb"curl|wget|python|go-http|java/|libwww|node-fetch|axios|bot|grpc|prometheus|kube-probe", re.IGNORECASE
)
_MOBILE = re.compile(rb"okhttp|cfnetwork|dart|alamofire|reactnative|dalvik", re.IGNORECASE)

Tell = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a log says. Rates are means over the busiest minute."""

    lines: int
    malformed: int
    requests: float
    logins: float
    clients: tuple[ClientKind, ...]

    def answers(self) -> dict[str, str]:
        """Return it as answers to the questions; none where the log holds no request."""
        if self.lines == self.malformed:
            return {}
        return {
            "requests": f"{self.requests:.6g}",
            "logins": f"{self.logins:.6g}",
            "clients": ",".join(self.clients),
        }


class _Minutes:
    """Counts by minute, bounded: of more than `MINUTES` minutes only the busiest count and the latest minute are kept."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._past = 0

    def count(self, minute: bytes) -> None:
        if minute not in self._counts and len(self._counts) >= MINUTES:
            self._past = self.busiest
            self._counts.clear()
        self._counts[minute] = self._counts.get(minute, 0) + 1

    @property
    def busiest(self) -> int:
        return max(self._past, max(self._counts.values(), default=0))


def read_access_log(
    lines: Iterable[bytes], *, login_paths: Iterable[str] = DEFAULT_LOGIN_PATHS, tell: Tell = lambda _: None
) -> Traffic:
    """Read *lines* of a log; a POST to one of *login_paths* that was answered with less than 400 is a login.

    *tell* is called now and then with how many bytes were read.
    """
    paths = frozenset(path.encode() for path in login_paths)
    requests, logins = _Minutes(), _Minutes()
    agents: dict[bytes, ClientKind] = {}
    seen: set[ClientKind] = set()
    number = malformed = octets = 0
    for number, line in enumerate(lines, 1):
        octets += len(line)
        if number % _TELL_EVERY == 0:
            tell(octets)
        match = _LINE.match(line) if len(line) <= MAX_LINE else None
        if match is None:
            malformed += 1
            continue
        minute, method, target, status, agent = match.groups()
        requests.count(minute)
        if method == b"POST" and status < b"400" and target.partition(b"?")[0] in paths:
            logins.count(minute)
        if len(seen) < len(ClientKind):
            seen.add(_kind(agent, agents))
    tell(octets)
    return Traffic(
        lines=number,
        malformed=malformed,
        requests=requests.busiest / 60,
        logins=logins.busiest / 60,
        clients=tuple(kind for kind in ClientKind if kind in seen),
    )


def _kind(agent: bytes | None, known: dict[bytes, ClientKind]) -> ClientKind:
    """Return which kind of client *agent* is; an unknown one is a browser, whose answer is the strictest about scripts."""
    if not agent:
        return ClientKind.BROWSER
    kind = known.get(agent)
    if kind is None:
        kind = ClientKind.BROWSER
        if _MOBILE.search(agent):
            kind = ClientKind.MOBILE
        elif _MACHINE.search(agent):
            kind = ClientKind.MACHINE
        if len(known) < 1000:
            known[agent] = kind
    return kind
