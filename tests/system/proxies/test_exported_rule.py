"""An exported file applies the one rule: real proxies say of random tokens under random entries what `LiveEntries` says."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from keyfob.base.identifiers import ClientId, Position, SessionId, Subject, Timeline, TokenId
from keyfob.base.principal import Principal
from keyfob.revocation.entry import CHAIN_START, Entry, Head, Reach, Scope
from keyfob.revocation.live_entries import LiveEntries
from keyfob.server.export.envoy_routes import envoy_routes
from keyfob.server.export.exported import Exported
from keyfob.server.export.nginx_map import MAX_SPARING, as_nginx_map

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

TIMELINE = "5f0c8a1e9d3b7742"
NOW = datetime.now(UTC)
SESSIONS = [f"{number:032x}" for number in range(1, 7)]
# Names that a careless writer would break on; two differ in nothing but case.
SUBJECTS = [
    "usr_a",
    "default",
    "~^.*$",
    "\\include",
    'quo"te',
    "$msec",
    "volatile",
    "Ünïcode",
    "a" * 255,
    "hostnames",
    "x;y",
    "semi}colon{",
]
CLIENTS = ["first-party", "*.example.com", ".dot", "app"]
TOKENS = ["jti-a", "jti-B", "~jti"]
POSITIONS = [1, 9, 10, 11, 99, 100, 101, 998, 999, 1000, 1041, 1042, 2**32, 2**32 + 1, 2**62]
MAX_POSITION = 2**53  # what JSON numbers, and Envoy's claims, carry exactly


def entry(
    position: int, scope: Scope, name: str, reach: Reach = Reach.END, spared: str | None = None
) -> Entry:
    return Entry(
        position=Position(position),
        at=NOW,
        scope=scope,
        id=name,
        reach=reach,
        until=None,
        chain=CHAIN_START,
        spared=None if spared is None else SessionId(spared),
    )


MARK = MAX_POSITION - 10


def some_entries(chance: random.Random) -> list[Entry]:
    ids = {Scope.SESSION: SESSIONS, Scope.SUBJECT: SUBJECTS, Scope.CLIENT: CLIENTS, Scope.TOKEN: TOKENS}
    made = []
    for _ in range(chance.randrange(0, 24)):
        scope = chance.choice(list(ids))
        spared = chance.choice(SESSIONS) if scope is Scope.SUBJECT and chance.random() < 0.5 else None
        position = chance.choice(POSITIONS) + chance.randrange(2)
        made.append(entry(position, scope, chance.choice(ids[scope]), chance.choice(list(Reach)), spared))
    if chance.random() < 0.3:
        made.append(entry(chance.choice(POSITIONS[:4]), Scope.EVERYTHING, "", chance.choice(list(Reach))))
    return list({each.position: each for each in made}.values())


def some_principal(chance: random.Random) -> Principal:
    as_of = max(0, chance.choice(POSITIONS) + chance.randrange(-1, 3))
    return Principal(
        subject=Subject(chance.choice(SUBJECTS)),
        client_id=ClientId(chance.choice(CLIENTS)),
        strategy=None,
        audience=("orders",),
        issued_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
        as_of=Position(as_of),
        session_id=SessionId(chance.choice(SESSIONS)) if chance.random() < 0.9 else None,
        parent_session_id=SessionId(chance.choice(SESSIONS)) if chance.random() < 0.3 else None,
        parent_client_id=ClientId(chance.choice(CLIENTS)) if chance.random() < 0.3 else None,
        token_id=TokenId(chance.choice(TOKENS)),
        timeline=Timeline(TIMELINE if chance.random() < 0.97 else "another"),
    )


def exported(entries: Sequence[Entry], *, good_for: float = 600.0) -> Exported:
    return Exported(
        issuer="https://auth.example",
        timeline=TIMELINE,
        position=max((each.position for each in entries), default=0),
        entries=tuple(sorted(entries, key=lambda each: each.position)),
        level_at=NOW,
        good_until=datetime.now(UTC) + timedelta(seconds=good_for),
        is_level=good_for > 0,
    )


def expected(entries: Sequence[Entry], principal: Principal) -> str:
    live = LiveEntries()
    live.replace(Head(timeline=Timeline(TIMELINE), position=Position(2**63 - 1), chain=CHAIN_START), entries)
    cause = live.cause(principal)
    return "" if cause is None else cause.value


def claims_of(principal: Principal) -> dict[str, str]:
    claims = {
        "sub": principal.subject,
        "sid": principal.session_id or "",
        "psid": principal.parent_session_id or "",
        "pcid": principal.parent_client_id or "",
        "client": principal.client_id,
        "jti": principal.token_id or "",
        "kid": principal.key_id or "",
        "tl": principal.timeline or "",
        "as_of": str(principal.as_of),
    }
    return {name: value for name, value in claims.items() if value}


def test_nginx_says_of_every_token_what_a_verifier_says(nginx: Any) -> None:
    chance = random.Random(8)
    seen: set[str] = set()
    for _ in range(12):
        entries = some_entries(chance)
        with nginx.with_file(as_nginx_map(exported(entries))) as ask:
            for _ in range(150):
                principal = some_principal(chance)
                wanted = expected(entries, principal)
                seen.add(wanted)
                assert ask(claims_of(principal)) == wanted, (entries, principal)
    assert seen == {"", "revoked", "stale_claims"}


def test_nginx_applies_an_entry_of_a_key_whatever_the_position(nginx: Any) -> None:
    principal = replace_claims(kid="key-1", as_of=str(2**62))
    with nginx.with_file(as_nginx_map(exported([entry(1, Scope.KEY, "key-1")]))) as ask:
        assert ask(principal) == "revoked"
        assert ask(principal | {"kid": "key-2"}) == ""


def replace_claims(**claims: str) -> dict[str, str]:
    return claims_of(some_principal(random.Random(1))) | {"tl": TIMELINE} | claims


@pytest.mark.parametrize("as_of", ["", "-1", "01", "1e3", "1.0", " 1", "0x10", "9" * 20, "1,2", "10;5"])
def test_nginx_takes_no_token_without_a_position_in_digits(nginx: Any, as_of: str) -> None:
    with nginx.with_file(as_nginx_map(exported([]))) as ask:
        claims = {name: value for name, value in replace_claims(as_of=as_of).items() if value}
        assert ask(replace_claims(as_of="0")) == ""
        # A header's value loses the spaces around it before nginx sees it.
        assert ask(claims) == ("" if as_of == " 1" else "malformed")
        del claims["tl"]
        assert ask(claims | {"as_of": "0"}) == "revoked"
        assert ask({}) == "malformed"


def test_nginx_refuses_by_itself_once_the_file_is_too_old(nginx: Any, eventually: Any) -> None:
    for good_for in (0.0, -5.0):
        with nginx.with_file(as_nginx_map(exported([], good_for=good_for))) as ask:
            assert ask(replace_claims()) == "verifier_stale"
    with nginx.with_file(as_nginx_map(exported([], good_for=2.5))) as ask:
        assert ask(replace_claims()) == ""
        eventually(lambda: ask(replace_claims()) == "verifier_stale", "too old", within=10)


def test_nginx_denies_a_spared_session_rather_than_too_little(nginx: Any) -> None:
    """Past what is told apart, the oldest entries that spare somebody cover whoever is as old."""
    spares = [f"{number:032x}" for number in range(100, 100 + MAX_SPARING + 4)]
    entries = [
        entry(10 + number, Scope.SUBJECT, "usr_a", spared=spared) for number, spared in enumerate(spares)
    ]
    with nginx.with_file(as_nginx_map(exported(entries))) as ask:
        last = replace_claims(sub="usr_a", sid=spares[-1], psid="", as_of=str(10 + len(spares) - 2))
        assert ask({name: value for name, value in last.items() if value}) == ""
        for number, spared in enumerate(spares):
            told = ask(replace_claims(sub="usr_a", sid=spared, as_of=str(8 + number)))
            assert told == "revoked"


def test_envoy_says_of_every_token_what_a_verifier_says(
    find_program: Any, a_free_port: int, tmp_path: Path, eventually: Any
) -> None:
    binary = find_program("envoy")
    template = {
        "name": "web",
        "virtual_hosts": [
            {
                "name": "all",
                "domains": ["*"],
                "routes": [
                    {"name": "keyfob-denials"},
                    {"match": {"prefix": "/"}, "direct_response": {"status": 204}},
                ],
            }
        ],
    }

    write = envoy_routes(json.dumps(template).encode())
    routes = tmp_path / "routes.json"
    (tmp_path / "envoy.json").write_text(json.dumps(_envoy(a_free_port, routes)))
    chance = random.Random(9)
    first = [each for each in some_entries(chance) if each.position < MAX_POSITION]
    routes.write_bytes(write(exported(first)))
    names = {
        name: f"x-keyfob-{name.replace('_', '-')}"
        for name in ("sub", "sid", "psid", "pcid", "jti", "tl", "as_of")
    } | {"client": "x-keyfob-client-id"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                "-c",
                str(tmp_path / "envoy.json"),
                "--concurrency",
                "1",
                "--disable-hot-restart",
                "-l",
                "warning",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def ask(claims: dict[str, str]) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", a_free_port, timeout=10)
        connection.putrequest("GET", "/")
        for name, value in claims.items():
            if name in names:
                connection.putheader(names[name], value.encode())
        connection.endheaders()
        answer = connection.getresponse()
        connection.close()
        return answer.getheader("x-auth-cause") or ""

    def answers() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text()
        with suppress(OSError):
            return ask(replace_claims(tl="another")) == "revoked"
        return False

    try:
        eventually(answers, "Envoy serves")
        for round_ in range(4):
            entries = (
                first
                if round_ == 0
                else [*some_entries(chance), entry(MARK + round_, Scope.TOKEN, f"round-{round_}")]
            )
            entries = [each for each in entries if each.position < MAX_POSITION]
            if round_:
                new = tmp_path / "new.json"
                new.write_bytes(write(exported(entries)))
                new.replace(routes)
                # Nothing but the mark of this very file covers what knows that much: not the file before, either.
                marked = replace_claims(jti=f"round-{round_}", as_of=str(MARK))
                eventually(lambda claims=marked: ask(claims) == "revoked", "the new file is in force")
            for _ in range(100):
                principal = some_principal(chance)
                principal = principal if principal.as_of < MAX_POSITION else replace_position(principal, 7)
                assert ask(claims_of(principal)) == expected(entries, principal), (entries, principal)
        for as_of in ("", "-1", "1e3", "0x1", "01"):
            claims = {name: value for name, value in replace_claims(as_of=as_of).items() if value}
            assert ask(claims) == "malformed"
        new = tmp_path / "new.json"
        new.write_bytes(write(exported([], good_for=0)))
        new.replace(routes)
        eventually(lambda: ask(replace_claims(as_of="0")) == "verifier_stale", "stale")
    finally:
        process.terminate()
        process.wait(10)


def replace_position(principal: Principal, position: int) -> Principal:
    from msgspec.structs import replace as changed

    return changed(principal, as_of=Position(position))


def _envoy(port: int, routes: Path) -> dict[str, Any]:
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "web",
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
        "rds": {
            "route_config_name": "web",
            "config_source": {"resource_api_version": "V3", "path_config_source": {"path": str(routes)}},
        },
    }
    return {
        "node": {"id": "test", "cluster": "test"},
        "static_resources": {
            "listeners": [
                {
                    "name": "web",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "envoy.filters.network.http_connection_manager",
                                    "typed_config": manager,
                                }
                            ]
                        }
                    ],
                }
            ]
        },
    }
