"""The claims of an access token are typed, bounded, and read in one way."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import Strategy
from keyfob.jwt import claims as module
from keyfob.jwt.claims import MAX_LIFETIME, MAX_MOMENT, AccessClaims, read_claims

NOW = 1_800_000_000
REQUIRED: dict[str, object] = {
    "iss": "https://auth.example",
    "sub": "alice",
    "aud": "orders",
    "exp": NOW + 600,
    "iat": NOW,
    "jti": "t1",
    "client_id": "first-party",
    "as_of": 7,
}
OPTIONAL: dict[str, object] = {
    "tl": "0011223344556677",
    "sid": "ab" * 16,
    "psid": "cd" * 16,
    "pcid": "first-party",
    "strategy": "hybrid",
    "scope": "orders:read orders:write",
    "roles": ["buyer"],
    "auth_time": NOW - 5,
    "amr": ["pwd"],
    "acr": "2",
    "nbf": NOW,
    "cnf": {"jkt": "x"},
}
FULL = REQUIRED | OPTIONAL


def encoded(claims: object, *, spaces: bool = False) -> bytes:
    return json.dumps(claims, separators=None if spaces else (",", ":")).encode()


def refused(payload: bytes) -> None:
    with pytest.raises(Denied) as caught:
        read_claims(payload)
    assert caught.value.cause is Cause.MALFORMED


def test_the_required_claims_are_enough() -> None:
    claims, others = read_claims(encoded(REQUIRED))
    assert (claims.sub, claims.aud, claims.as_of, claims.roles, claims.sid) == (
        "alice",
        "orders",
        7,
        (),
        None,
    )
    assert dict(others) == {}


@pytest.mark.parametrize("spaces", [False, True])
def test_every_claim_is_read_however_it_is_written(spaces: bool) -> None:
    claims, others = read_claims(encoded(FULL, spaces=spaces))
    assert claims.strategy is Strategy.HYBRID
    assert claims.roles == ("buyer",)
    assert claims.cnf == {"jkt": "x"}
    assert not others
    assert read_claims(encoded(dict(reversed(FULL.items())), spaces=spaces)) == (claims, others)


def test_our_own_tokens_take_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = msgspec.json.encode(msgspec.convert(FULL, AccessClaims))

    def slow(_: bytes) -> None:
        raise AssertionError

    monkeypatch.setattr(module, "_other_claims", slow)
    assert read_claims(payload)[0].sub == "alice"


def test_claims_of_the_application_are_given_apart_and_cannot_be_changed() -> None:
    claims, others = read_claims(encoded({**FULL, "org": {"id": 7}, "email": "a@example.org"}))
    assert others == {"org": {"id": 7}, "email": "a@example.org"}
    assert claims.sub == "alice"
    with pytest.raises(TypeError):
        others["org"] = 1  # type: ignore[index]


@pytest.mark.parametrize("name", REQUIRED)
def test_each_required_claim_is_required(name: str) -> None:
    refused(encoded({other: value for other, value in FULL.items() if other != name}))


@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize("name", FULL)
def test_null_is_not_the_same_as_absent(name: str, spaces: bool) -> None:
    refused(encoded({**FULL, name: None}, spaces=spaces))


MOMENTS = ["exp", "iat", "auth_time", "nbf"]
TEXTS = ["iss", "sub", "jti", "client_id", "tl", "sid", "psid", "pcid", "scope", "acr"]


@pytest.mark.parametrize("name", [*MOMENTS, "as_of"])
@pytest.mark.parametrize("spaces", [False, True])
@pytest.mark.parametrize(
    "value",
    ["1800000600", "", True, False, -1, 2**63, 2**64, 10**30, 1800000600.5, 1800000600.0, [], [1], {}, -0.0],
)
def test_a_number_is_a_whole_number_in_range(name: str, value: object, spaces: bool) -> None:
    refused(encoded({**FULL, name: value}, spaces=spaces))


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "NaN", "Infinity", "1E2", "0x10", "1.8e9", "01", "1800000600.0000"]
)
@pytest.mark.parametrize("name", MOMENTS)
def test_a_number_in_another_notation_is_refused(name: str, text: str) -> None:
    refused(encoded({**FULL, name: "?"}).replace(b'"?"', text.encode()))


@pytest.mark.parametrize("name", MOMENTS)
def test_a_moment_in_milliseconds_is_refused(name: str) -> None:
    refused(encoded({**FULL, name: NOW * 1000}))


def test_a_moment_is_at_most_the_end_of_the_year_9999() -> None:
    late = {**FULL, "iat": MAX_MOMENT - 1, "exp": MAX_MOMENT}
    assert read_claims(encoded(late))[0].exp == MAX_MOMENT
    refused(encoded({**late, "exp": MAX_MOMENT + 1}))


def test_a_lifetime_is_at_most_24_hours() -> None:
    for lifetime in (-5, 0, 1, MAX_LIFETIME - 1, MAX_LIFETIME):
        assert read_claims(encoded({**FULL, "exp": NOW + lifetime}))
    refused(encoded({**FULL, "exp": NOW + MAX_LIFETIME + 1}))


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", ["", 5, True, [], ["x"], {}, "x" * 5000])
def test_a_text_is_a_text_in_range(name: str, value: object) -> None:
    refused(encoded({**FULL, name: value}))


@pytest.mark.parametrize("name", ["sub", "jti", "client_id", "tl", "sid", "psid", "pcid", "acr"])
def test_a_name_is_read_up_to_255_characters(name: str) -> None:
    for length in (1, 254, 255):
        assert read_claims(encoded({**FULL, name: "é" * length}))
    refused(encoded({**FULL, name: "x" * 256}))


@pytest.mark.parametrize("aud", ["orders", ["orders"], ["orders", "stock"], ["x"] * 32])
def test_an_audience_is_a_text_or_a_list_of_texts(aud: object) -> None:
    read_claims(encoded({**FULL, "aud": aud}))


@pytest.mark.parametrize(
    "aud", ["", [], [1], [["orders"]], {}, {"orders": 1}, 5, True, [""], [None], ["x"] * 33]
)
def test_another_audience_is_refused(aud: object) -> None:
    refused(encoded({**FULL, "aud": aud}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("roles", "buyer"),
        ("roles", [1]),
        ("roles", [""]),
        ("roles", ["x"] * 257),
        ("roles", {"buyer": True}),
        ("amr", "pwd"),
        ("amr", ["x"] * 17),
        ("strategy", "magic"),
        ("strategy", "HYBRID"),
        ("cnf", "x"),
        ("cnf", []),
        ("scope", ["orders:read"]),
    ],
)
def test_what_has_another_shape_is_refused(name: str, value: object) -> None:
    refused(encoded({**FULL, name: value}))


@pytest.mark.parametrize("name", ["sub", "client_id", "jti", "sid", "psid", "pcid", "tl", "acr", "scope"])
@pytest.mark.parametrize("bad", ["a\nb", "a\0", "\ud800", "a\x1bb"])
@pytest.mark.parametrize("spaces", [False, True])
def test_no_claim_can_write_into_a_log(name: str, bad: str, spaces: bool) -> None:
    refused(encoded({**FULL, name: bad}, spaces=spaces))


@pytest.mark.parametrize("name", ["aud", "roles", "amr"])
def test_no_item_of_a_list_can_write_into_a_log(name: str) -> None:
    refused(encoded({**FULL, name: ["good", "bad\r\n"]}))


def test_quotes_and_backslashes_in_names_are_read() -> None:
    odd = {**FULL, "sub": 'a"b\\c', "roles": ['"'], "aud": ["\\"]}
    for payload in (encoded(odd), msgspec.json.encode(msgspec.convert(odd, AccessClaims))):
        assert read_claims(payload)[0].sub == 'a"b\\c'


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        encoded(FULL)[:-1],
        encoded(FULL) + b"}",
        b"\xef\xbb\xbf" + encoded(FULL),
        encoded(FULL).decode().encode("utf-16"),
        encoded(FULL)[:-1] + b',"sub":"admin"}',
        encoded(FULL)[:-1] + b',"sub":"alice"}',
        encoded(FULL)[:-1] + b',"\\u0073ub":"admin"}',
        encoded(FULL)[:-1] + b',"x":{"a":1,"a":1}}',
        encoded(FULL)[:-1] + b',"x":1,"x":1}',
        encoded(FULL)[:-1] + b',"x":"\xff"}',
        encoded(FULL)[:-1] + b',"x":NaN}',
        encoded(FULL)[:-1] + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        encoded(FULL)[:-1] + b',"x":' + b"[" * 20 + b"]" * 20 + b"}",
        encoded(FULL)[:-1] + b',"x":' + b"9" * 4000 + b"}",
        encoded(FULL)[:-1] + b',"cnf":{}}',
        encoded({**FULL, "cnf": {"jwk": "?"}}).replace(b'"?"', b'{"a":1,"a":2}'),
        encoded({**FULL, "cnf": {"jkt": "?"}}).replace(b'"?"', b'"x","jkt":"x"'),
    ],
)
def test_what_has_no_single_reading_is_refused(payload: bytes) -> None:
    refused(payload)


_EXTRA = st.dictionaries(
    st.text("ab:\u00e9 ", min_size=1, max_size=3),
    st.one_of(st.integers(-5, 5), st.text(max_size=4), st.none()),
    max_size=3,
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.permutations(sorted(FULL)),
    _EXTRA,
    st.lists(st.sampled_from(sorted(FULL)), max_size=1),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:")]),
)
def test_a_name_that_stands_twice_is_always_seen(
    order: list[str], extra: dict[str, object], twice: list[str], separators: tuple[str, str]
) -> None:
    comma, colon = separators
    members = (
        [(name, FULL[name]) for name in order] + list(extra.items()) + [(name, FULL[name]) for name in twice]
    )
    text = comma.join(
        f"{json.dumps(name, ensure_ascii=False)}{colon}{json.dumps(value)}" for name, value in members
    )
    payload = f"{{{text}}}".encode()
    if twice:
        refused(payload)
    else:
        claims, others = read_claims(payload)
        assert others == extra
        assert claims == msgspec.convert(FULL, AccessClaims)
