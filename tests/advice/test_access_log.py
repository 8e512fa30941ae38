"""What an access log says of the traffic."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyfob.advice.access_log import MAX_LINE, MINUTES, read_access_log
from keyfob.advice.need import ClientKind

FIREFOX = b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def line(
    minute: int = 0,
    *,
    request: bytes = b"GET /orders?page=2 HTTP/1.1",
    status: int = 200,
    agent: bytes | None = FIREFOX,
) -> bytes:
    at = b"24/Nov/2026:%02d:%02d:07 +0100" % (minute // 60 % 24, minute % 60)
    combined = b"" if agent is None else b' "-" "' + agent + b'"'
    return b'192.0.2.7 - alice [%b] "%b" %d 512%b\n' % (at, request, status, combined)


LOGIN = b"POST /login HTTP/1.1"


def test_rates_are_those_of_the_busiest_minute() -> None:
    lines = [line(1)] * 60 + [line(2)] * 120 + [line(2, request=LOGIN)] * 6 + [line(3)]
    traffic = read_access_log(lines)
    assert (traffic.requests, traffic.logins) == (126 / 60, 6 / 60)
    assert (traffic.lines, traffic.malformed) == (187, 0)


@pytest.mark.parametrize(
    ("request_line", "status", "logins"),
    [
        (LOGIN, 204, 1), (LOGIN, 303, 1), (LOGIN, 401, 0), (b"GET /login HTTP/1.1", 200, 0),
        (b"POST /login?next=%2F HTTP/1.1", 200, 1), (b"POST /log HTTP/1.1", 200, 0), (b"POST /enter HTTP/1.1", 200, 0),
    ],
)  # fmt: skip
def test_a_login_is_a_post_to_a_login_path_that_was_not_refused(
    request_line: bytes, status: int, logins: int
) -> None:
    assert round(read_access_log([line(request=request_line, status=status)]).logins * 60) == logins


def test_login_paths_can_be_named() -> None:
    assert read_access_log([line(request=b"POST /enter HTTP/1.1")], login_paths=["/enter"]).logins > 0


@pytest.mark.parametrize(
    ("agent", "kind"),
    [
        (FIREFOX, ClientKind.BROWSER), (b"okhttp/5.1.0", ClientKind.MOBILE), (b"Shop/3 CFNetwork/3826 Darwin/25", ClientKind.MOBILE),
        (b"python-requests/2.32", ClientKind.MACHINE), (b"curl/8.14", ClientKind.MACHINE), (b"", ClientKind.BROWSER), (None, ClientKind.BROWSER),
    ],
)  # fmt: skip
def test_agents_tell_kinds_of_clients(agent: bytes | None, kind: ClientKind) -> None:
    assert read_access_log([line(agent=agent)]).clients == (kind,)


def test_what_is_no_line_is_counted_and_nothing_else() -> None:
    odd = [
        b"",
        b"\n",
        b"hello\n",
        b"\xff\xfe" * 40,
        line()[:40],
        b"x" * (MAX_LINE + 1),
        line().replace(b"[", b"("),
    ]
    traffic = read_access_log([*odd, line()])
    assert (traffic.lines, traffic.malformed) == (len(odd) + 1, len(odd))
    assert traffic.requests == 1 / 60


@pytest.mark.parametrize(("longer", "malformed"), [(-1, 0), (0, 0), (1, 1)])
def test_a_line_is_read_up_to_its_longest(longer: int, malformed: int) -> None:
    padding = MAX_LINE + longer - len(line(agent=b""))
    assert read_access_log([line(agent=b"a" * padding)]).malformed == malformed


def test_a_log_without_a_request_answers_nothing() -> None:
    assert read_access_log([]).answers() == {}
    assert read_access_log([b"hello\n"]).answers() == {}


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_are_read(lines: list[bytes]) -> None:
    traffic = read_access_log(lines)
    assert traffic.malformed <= traffic.lines == len(lines)


def many(count: int) -> Iterator[bytes]:
    for number in range(count):
        day, minute = divmod(number, 1440)
        yield (
            b'192.0.2.7 - - [%02d/Nov/%04d:%02d:%02d:07 +0100] "GET /%d HTTP/1.1" 200 5 "-" "Agent/%d"\n'
            % (day % 28 + 1, 1000 + day // 28 % 9000, minute // 60, minute % 60, number, number)
        )


def test_memory_is_flat_whatever_the_log_holds() -> None:
    tracemalloc.start()
    try:
        peaks = []
        for count in (MINUTES, 2 * MINUTES):  # each line of a minute, a path and an agent of its own
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            read_access_log(many(count))
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2


def test_progress_is_told_in_bytes() -> None:
    told: list[int] = []
    lines = [line()] * 50_000
    read_access_log(lines, tell=told.append)
    assert told == sorted(told)
    assert len(told) == 3
    assert told[-1] == sum(map(len, lines))
