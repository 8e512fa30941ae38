"""`POST /oauth/token`: client credentials, client authentication, and what is refused."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

import jwt
from keyfob.base import base64url
from keyfob.clients.assertion import ASSERTION_TYPE
from keyfob.endpoints import token
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set

ISSUER = "https://auth.example"
FORM = {"content-type": "application/x-www-form-urlencoded"}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
KEY = PrivateKey.generate(Algorithm.ES256)


async def post(desk: Any, fields: Any = (), **options: Any) -> Any:
    headers = {**FORM, **options.pop("headers", {})}
    body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
    return await desk.ask("POST", "/oauth/token", body=body, headers=headers, **options)


async def by_secret(desk: Any, client: tuple[str, str], **fields: str) -> Any:
    return await post(desk, {"grant_type": "client_credentials", **fields}, basic=client)


async def signing_client(desk: Any, client_id: str = "robot", key: PrivateKey = KEY, **more: Any) -> str:
    keys = json.dumps(jwk_set([key.public])).encode()
    await desk.authority.clients.add(client_id, public_keys=keys, **more)
    return client_id


def assertion(
    desk: Any, client_id: str = "robot", key: PrivateKey = KEY, typ: str = "JWT", **claims: Any
) -> str:
    now = int(desk.clock.time())
    members = {
        "iss": client_id,
        "sub": client_id,
        "aud": ISSUER,
        "iat": now,
        "exp": now + 60,
        "jti": base64url.encode(str(claims).encode()),
        **claims,
    }
    kept = {name: value for name, value in members.items() if value is not ...}
    return jws.sign(json.dumps(kept).encode(), key, typ=typ)


async def by_assertion(desk: Any, text: str, **fields: str) -> Any:
    return await post(
        desk,
        {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": text,
            **fields,
        },
    )


def error_of(answer: Any) -> tuple[int, str]:
    assert answer.header("cache-control") == "no-store"
    assert set(answer.json()) == {"error", "error_description"}
    return answer.status, answer.json()["error"]


@pytest.mark.meets("OA-13", "OA-25", "9700-4.15.1b")
async def test_a_client_gets_a_token_of_its_own(desk: Any) -> None:
    client = await desk.client("billing", "orders:read", "orders:write", audiences=("orders",))
    answer = await by_secret(desk, client)
    assert answer.status == 200
    assert answer.header("cache-control") == "no-store"
    assert answer.header("pragma") == "no-cache"
    body = answer.json()
    assert body.keys() == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == (
        "Bearer",
        600,
        "orders:read orders:write",
    )
    principal = await desk.authority.authenticate(body["access_token"], audience="orders")
    assert (principal.subject, principal.client_id, principal.session_id) == ("billing", "billing", None)
    assert principal.is_service
    assert principal.scopes == {"orders:read", "orders:write"}
    assert (principal.roles, principal.auth_time, principal.strategy) == (frozenset(), None, None)


async def test_the_token_is_as_rfc_9068_says(desk: Any) -> None:
    client = await desk.client("billing", "a", audiences=("orders",))
    token = (await by_secret(desk, client)).json()["access_token"]
    head, payload, _ = token.split(".")
    assert json.loads(base64url.decode(head.encode()))["typ"] == "at+jwt"
    claims = json.loads(base64url.decode(payload.encode()))
    assert claims.keys() == {"iss", "sub", "aud", "exp", "iat", "jti", "client_id", "as_of", "tl", "scope"}
    assert (claims["iss"], claims["sub"], claims["aud"]) == (ISSUER, "billing", "orders")


@pytest.mark.meets("7523-3d", "7523bis-e")
@pytest.mark.parametrize("way", ["basic", "post", "assertion"])
async def test_each_way_of_saying_who_one_is_works(desk: Any, way: str) -> None:
    if way == "assertion":
        await signing_client(desk)
        answer = await by_assertion(desk, assertion(desk))
    else:
        client_id, secret = client = await desk.client("billing")
        fields = {"client_id": client_id, "client_secret": secret} if way == "post" else {}
        answer = await post(
            desk, {"grant_type": "client_credentials", **fields}, basic=client if way == "basic" else None
        )
    assert answer.status == 200, answer.body


@pytest.mark.meets("OA-16")
async def test_a_wrong_secret_is_refused_with_a_challenge(desk: Any) -> None:
    client_id, secret = await desk.client("billing")
    for wrong in (("billing", secret[:-1]), ("billing", secret + "A"), ("other", secret), ("usr_x", secret)):
        answer = await by_secret(desk, wrong, scope="")
        assert error_of(answer) == (401, "invalid_client")
        assert answer.header("www-authenticate") == 'Basic realm="keyfob", charset="UTF-8"'
    other = await desk.client("other")
    assert error_of(await by_secret(desk, (client_id, other[1]))) == (401, "invalid_client")


@pytest.mark.meets("10.4.10")
async def test_nobody_gets_a_token_without_saying_who_it_is(desk: Any) -> None:
    await desk.client("billing")
    for fields in ({}, {"client_id": "billing"}, {"client_id": "billing", "client_secret": ""}):
        answer = await post(desk, {"grant_type": "client_credentials", **fields})
        assert error_of(answer) == (401, "invalid_client")


@pytest.mark.meets("OA-07")
async def test_two_ways_at_once_are_refused(desk: Any) -> None:
    client_id, secret = client = await desk.client("billing")
    await signing_client(desk)
    text = assertion(desk)
    for fields, basic in (
        ({"client_id": client_id, "client_secret": secret}, client),
        ({"client_assertion": text, "client_assertion_type": ASSERTION_TYPE}, client),
        (
            {"client_secret": secret, "client_assertion": text, "client_assertion_type": ASSERTION_TYPE},
            None,
        ),
        ({"client_id": "other"}, client),
        ({"client_assertion": text}, None),
        ({"client_assertion_type": ASSERTION_TYPE}, None),
        ({"client_assertion": text, "client_assertion_type": "urn:saml2"}, None),
    ):
        answer = await post(desk, {"grant_type": "client_credentials", **fields}, basic=basic)
        assert error_of(answer) == (400, "invalid_request")


@pytest.mark.meets("OA-10")
@pytest.mark.parametrize(
    "body",
    [
        b"grant_type=client_credentials&grant_type=client_credentials",
        b"grant_type=client_credentials&scope=a&scope=",
        b"grant_type=client_credentials&scope=&scope=",
        b"",
        b"grant_type=",
        b"grant_type=%zz",
        b"grant_type=client_credentials&audience=" + b"a" * 256,
    ],
)
async def test_what_is_there_twice_or_unreadable_is_refused(desk: Any, body: bytes) -> None:
    client = await desk.client("billing", "a")
    assert error_of(await post(desk, body, basic=client)) == (400, "invalid_request")


@pytest.mark.meets("OA-10")
async def test_an_unknown_parameter_is_ignored_and_an_empty_one_is_absent(desk: Any) -> None:
    client = await desk.client("billing", "a")
    answer = await by_secret(desk, client, scope="", audience="", made_up="x")
    assert answer.status == 200
    assert answer.json()["scope"] == "a"


@pytest.mark.meets("OA-08")
async def test_parameters_in_the_address_are_refused(desk: Any) -> None:
    client = await desk.client("billing")
    answer = await post(desk, {"grant_type": "client_credentials"}, basic=client, query=b"client_secret=x")
    assert error_of(answer) == (400, "invalid_request")
    assert (await desk.ask("GET", "/oauth/token")).status == 405
    answer = await desk.ask(
        "POST", "/oauth/token", json_body={"grant_type": "client_credentials"}, basic=client
    )
    assert answer.status == 415


@pytest.mark.meets("10.4.4", "9700-2.4")
@pytest.mark.parametrize(
    "grant_type", ["password", "implicit", "token", "code", "Client_Credentials", "Authorization_Code"]
)
async def test_other_grant_types_do_not_exist(desk: Any, grant_type: str) -> None:
    client = await desk.client("billing")
    answer = await post(desk, {"grant_type": grant_type}, basic=client)
    assert error_of(answer) == (400, "unsupported_grant_type")


@pytest.mark.meets("10.4.4")
async def test_a_grant_that_is_not_the_clients_is_refused(desk: Any) -> None:
    added = await desk.authority.clients.add("web", grant_types=())
    answer = await by_secret(desk, ("web", added.secret))
    assert error_of(answer) == (400, "unauthorized_client")
    client = await desk.client("billing")
    answer = await post(
        desk,
        {
            "grant_type": EXCHANGE,
            "subject_token": "kfk_x",
            "subject_token_type": "urn:keyfob:token-type:api-key",
        },
        basic=client,
    )
    assert error_of(answer) == (400, "unauthorized_client")


@pytest.mark.meets("10.4.11", "OA-14", "OA-15", "9700-2.3a")
async def test_scopes_are_the_clients_or_fewer(desk: Any) -> None:
    client = await desk.client("billing", "a", "b", audiences=("orders",))
    answer = await by_secret(desk, client, scope="b")
    assert answer.json()["scope"] == "b"
    for scope in ("c", "a c", "a  b", " a", 'a"', "keyfob:admin"):
        assert error_of(await by_secret(desk, client, scope=scope)) == (400, "invalid_scope")
    bare = await desk.client("bare")
    assert "scope" not in (await by_secret(desk, bare)).json()


@pytest.mark.meets("9700-2.3c")
async def test_scopes_of_the_authority_go_to_the_authority_alone(desk: Any) -> None:
    client = await desk.client("ops", "keyfob:admin", "a", audiences=("orders", ISSUER))
    assert (await by_secret(desk, client)).json()["scope"] == "a keyfob:admin"
    assert (await by_secret(desk, client, audience="orders")).json()["scope"] == "a"
    answer = await by_secret(desk, client, audience="orders", scope="keyfob:admin")
    assert error_of(answer) == (400, "invalid_scope")
    token = (await by_secret(desk, client)).json()["access_token"]
    assert (await desk.ask("GET", "/admin/api/clients", bearer=token)).status == 200


@pytest.mark.meets("9700-2.3b", "9700-4.9.3a", "9700-4.10.2")
async def test_audiences_are_the_clients(desk: Any) -> None:
    one = await desk.client("one", audiences=("orders",))
    two = await desk.client("two", audiences=("orders", "stock"))
    free = await desk.client("free")
    for client, asked, granted in (
        (one, {}, "orders"),
        (one, {"audience": "orders"}, "orders"),
        (two, {"resource": "stock"}, "stock"),
        (two, {"resource": "stock", "audience": "stock"}, "stock"),
        (free, {}, ISSUER),
        (free, {"audience": "anything"}, "anything"),
    ):
        token = (await by_secret(desk, client, **asked)).json()["access_token"]
        assert (await desk.authority.authenticate(token)).audience == (granted,)
    for client, asked in (
        (one, {"audience": "stock"}),
        (one, {"audience": ISSUER}),
        (two, {}),
        (two, {"audience": "orders", "resource": "stock"}),
    ):
        assert error_of(await by_secret(desk, client, **asked)) == (400, "invalid_target")


async def test_a_client_has_its_own_token_lifetime(desk: Any) -> None:
    added = await desk.authority.clients.add("short", access_lifetime=timedelta(seconds=90))
    answer = await by_secret(desk, ("short", added.secret))
    assert answer.json()["expires_in"] == 90
    await desk.advance(89)
    await desk.authority.authenticate(answer.json()["access_token"])
    await desk.advance(1)
    assert (await desk.ask("GET", "/session", bearer=answer.json()["access_token"])).code == "expired"


async def test_a_compromised_service_is_cut_off_at_once(desk: Any) -> None:
    client = await desk.client("billing")
    token = (await by_secret(desk, client)).json()["access_token"]
    assert (await desk.ask("GET", "/session", bearer=token)).status == 200
    await desk.authority.revoke("client", "billing")
    assert (await desk.ask("GET", "/session", bearer=token)).code == "revoked"
    # Its secret is another matter: a new token is good, until the secret is replaced.
    again = (await by_secret(desk, client)).json()["access_token"]
    assert (await desk.ask("GET", "/session", bearer=again)).status == 200
    given = await desk.authority.clients.replace_credentials("billing", actor="root")
    assert (await desk.ask("GET", "/session", bearer=again)).code == "revoked"
    assert error_of(await by_secret(desk, client)) == (401, "invalid_client")
    assert (await by_secret(desk, ("billing", given.secret))).status == 200


async def test_a_revocation_while_the_token_is_made_ends_the_token(desk: Any, monkeypatch: Any) -> None:
    client = await desk.client("billing")
    authentication = desk.authority.client_authentication
    authenticate = authentication.authenticate

    async def slowly(credentials: Any, *, address: str) -> Any:
        found = await authenticate(credentials, address=address)
        await desk.authority.revoke("client", "billing")
        return found

    monkeypatch.setattr(authentication, "authenticate", slowly)
    token = (await by_secret(desk, client)).json()["access_token"]
    assert (await desk.ask("GET", "/session", bearer=token)).code == "revoked"


async def test_a_deleted_client_gets_and_has_nothing(desk: Any) -> None:
    client = await desk.client("billing")
    token = (await by_secret(desk, client)).json()["access_token"]
    await desk.authority.clients.delete("billing", actor="root")
    assert (await desk.ask("GET", "/session", bearer=token)).code == "revoked"
    assert error_of(await by_secret(desk, client)) == (401, "invalid_client")


async def test_secrets_rotate_without_downtime_and_two_at_most(desk: Any) -> None:
    first = (await desk.client("billing"))[1]
    second = (await desk.authority.clients.rotate_secret("billing", actor="root")).secret
    token = (await by_secret(desk, ("billing", first))).json()["access_token"]
    assert (await by_secret(desk, ("billing", second))).status == 200
    third = (await desk.authority.clients.rotate_secret("billing", actor="root")).secret
    assert error_of(await by_secret(desk, ("billing", first))) == (401, "invalid_client")
    for good in (second, third):
        assert (await by_secret(desk, ("billing", good))).status == 200
    assert (await desk.ask("GET", "/session", bearer=token)).status == 200


@pytest.mark.meets("OA-09", "7662-R019")
async def test_wrong_secrets_are_slowed_down_and_the_right_one_is_not(desk: Any) -> None:
    client = await desk.client("billing")
    for _ in range(5):
        assert error_of(await by_secret(desk, ("billing", "kfc_wrong"))) == (401, "invalid_client")
    answer = await by_secret(desk, ("billing", "kfc_wrong"))
    assert error_of(answer) == (429, "temporarily_unavailable")
    assert answer.header("retry-after") == "1"
    # Another id from the same address waits too; another address does not; nobody can lock the service out.
    assert (await by_secret(desk, ("other", "kfc_wrong"))).status == 429
    assert (
        await post(
            desk, {"grant_type": "client_credentials"}, basic=("billing", "kfc_wrong"), peer="198.51.100.1"
        )
    ).status == 401
    assert (await by_secret(desk, client)).status == 200
    introspected = await desk.ask(
        "POST", "/oauth/introspect", body=b"token=x", headers=FORM, basic=("billing", "kfc_wrong")
    )
    assert introspected.status == 429


# Assertions: private_key_jwt.


@pytest.mark.meets("10.4.16", "7523-3b")
async def test_an_assertion_is_taken_once_however_many_come_at_once(desk: Any) -> None:
    await signing_client(desk)
    text = assertion(desk)
    answers = await asyncio.gather(*(by_assertion(desk, text) for _ in range(6)))
    assert sorted(answer.status for answer in answers)[:1] == [200]
    assert [answer.status for answer in answers].count(200) == 1
    await desk.advance(59)
    assert error_of(await by_assertion(desk, text))[1] in {"invalid_client", "temporarily_unavailable"}


@pytest.mark.meets("7523bis-a", "7523bis-b")
async def test_an_assertion_for_another_authority_or_endpoint_is_refused(desk: Any) -> None:
    await signing_client(desk)
    for audience in (
        f"{ISSUER}/oauth/token",
        f"{ISSUER}/",
        "https://evil.example",
        [ISSUER, "https://evil.example"],
        [],
        None,
        ...,
    ):
        answer = await by_assertion(desk, assertion(desk, aud=audience))
        await desk.advance(300)
        assert error_of(answer) == (401, "invalid_client"), audience
    assert (await by_assertion(desk, assertion(desk, aud=[ISSUER]))).status == 200


@pytest.mark.meets("7523-3a", "7523bis-c")
@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "other"},
        {"sub": "other"},
        {"sub": ...},
        {"iss": ...},
        {"jti": ...},
        {"jti": ""},
        {"jti": 7},
        {"exp": ...},
        {"exp": None},
        {"exp": True},
        {"exp": "9999999999"},
        {"exp": 1.5e9},
    ],
)
async def test_an_assertion_that_lacks_something_is_refused(desk: Any, claims: dict[str, Any]) -> None:
    await signing_client(desk)
    assert error_of(await by_assertion(desk, assertion(desk, **claims))) == (401, "invalid_client")


@pytest.mark.meets("7523-3a")
async def test_the_moments_of_an_assertion_have_limits(desk: Any) -> None:
    await signing_client(desk)
    now = int(desk.clock.time())
    for claims, status in (
        ({"exp": now}, 401),
        ({"exp": now + 1}, 200),
        ({"exp": now + 360}, 200),
        ({"exp": now + 361}, 401),
        ({"iat": now + 60}, 200),
        ({"iat": now + 61}, 401),
        ({"nbf": now + 60}, 200),
        ({"nbf": now + 61}, 401),
        ({"nbf": -1}, 401),
        ({"iat": ...}, 200),
    ):
        answer = await by_assertion(desk, assertion(desk, **claims))
        assert answer.status == status, claims


@pytest.mark.meets("7523-3c")
async def test_only_keys_of_that_client_sign_for_it(desk: Any) -> None:
    other = PrivateKey.generate(Algorithm.EDDSA)
    await signing_client(desk)
    await signing_client(desk, "other", other)
    assert (await by_assertion(desk, assertion(desk, "other", other))).status == 200
    for make in (
        lambda: assertion(desk, key=other),
        lambda: assertion(desk, key=PrivateKey.generate(Algorithm.ES256, KEY.key_id)),
        lambda: assertion(desk)[:-4] + "AAAA",
        lambda: assertion(desk, typ="at+jwt"),
        lambda: assertion(desk, "nobody"),
        lambda: "a.b.c",
        lambda: ".." * 3,
    ):
        answer = await by_assertion(desk, make())
        await desk.advance(301)
        assert error_of(answer) == (401, "invalid_client")
    answer = await by_assertion(desk, assertion(desk), client_id="other")
    assert error_of(answer) == (401, "invalid_client")
    assert (await by_assertion(desk, assertion(desk, jti="named"), client_id="robot")).status == 200


async def test_a_key_without_an_id_serves_where_it_is_the_only_one(desk: Any) -> None:
    await signing_client(desk)
    head = base64url.encode(b'{"alg":"ES256"}')
    payload = assertion(desk).split(".")[1]
    text = f"{head}.{payload}"
    signed = f"{text}.{base64url.encode(KEY.sign(text.encode()))}"
    assert (await by_assertion(desk, signed)).status == 200
    two = json.dumps(jwk_set([KEY.public, PrivateKey.generate(Algorithm.ES256).public])).encode()
    await desk.authority.clients.set_keys("robot", two, actor="root")
    text = f"{head}.{assertion(desk, jti='two').split('.')[1]}"
    signed = f"{text}.{base64url.encode(KEY.sign(text.encode()))}"
    assert (await by_assertion(desk, signed)).status == 401


@pytest.mark.meets("10.4.16", "9700-2.5b")
async def test_keys_rotate_and_take_the_place_of_secrets(desk: Any) -> None:
    client = await desk.client("billing")
    keys = json.dumps(jwk_set([KEY.public])).encode()
    await desk.authority.clients.set_keys("billing", keys, actor="root", keep_secrets=1)
    assert (await by_secret(desk, client)).status == 200
    assert (await by_assertion(desk, assertion(desk, "billing"))).status == 200
    await desk.authority.clients.set_keys("billing", keys, actor="root")
    assert error_of(await by_secret(desk, client)) == (401, "invalid_client")
    assert (await by_assertion(desk, assertion(desk, "billing", jti="2"))).status == 200
    await desk.authority.clients.replace_credentials("billing", actor="root")
    assert (await by_assertion(desk, assertion(desk, "billing", jti="3"))).status == 401


@pytest.mark.parametrize("algorithm", list(Algorithm))
async def test_assertions_are_signed_with_every_algorithm_of_ours(desk: Any, algorithm: Algorithm) -> None:
    key = PrivateKey.generate(algorithm)
    await signing_client(desk, key=key)
    assert (await by_assertion(desk, assertion(desk, key=key))).status == 200


async def test_other_libraries_sign_for_the_endpoint_and_check_what_it_gives(desk: Any) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    await desk.authority.clients.add("robot", public_keys=public, scopes=["a"], audiences=["orders"])
    now = int(desk.clock.time())
    claims = {"iss": "robot", "sub": "robot", "aud": ISSUER, "iat": now, "exp": now + 60, "jti": "1"}
    answer = await by_assertion(desk, jwt.encode(claims, private, algorithm="ES256"))
    assert answer.status == 200, answer.body
    keys = KeySet.import_key_set((await desk.ask("GET", "/.well-known/jwks.json")).json())
    token = joserfc_jwt.decode(answer.json()["access_token"], keys)
    assert token.header["typ"] == "at+jwt"
    assert (token.claims["sub"], token.claims["aud"], token.claims["scope"]) == ("robot", "orders", "a")


async def test_the_metadata_says_what_the_token_endpoint_takes(desk: Any) -> None:
    body = (await desk.ask("GET", "/.well-known/oauth-authorization-server")).json()
    assert body["token_endpoint"] == f"{ISSUER}/oauth/token"
    assert set(body["grant_types_supported"]) == {grant_type.value for grant_type in token.GRANT_TYPES}
    assert body["token_endpoint_auth_methods_supported"] == [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ]
    assert "ES256" in body["token_endpoint_auth_signing_alg_values_supported"]
    assert "none" not in body["token_endpoint_auth_signing_alg_values_supported"]


@pytest.mark.meets("OA-17")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fields=st.dictionaries(
        st.sampled_from(
            [
                "grant_type",
                "scope",
                "audience",
                "client_id",
                "client_secret",
                "subject_token",
                "client_assertion",
            ]
        ),
        st.text(max_size=40),
        max_size=5,
    )
)
async def test_whatever_is_sent_the_answer_is_one_of_the_protocols(desk: Any, fields: dict[str, str]) -> None:
    try:
        body = urlencode(fields).encode()
    except UnicodeEncodeError:
        body = b"scope=%ff"
    answer = await post(desk, body)
    assert answer.status in {400, 401, 429}
    described = answer.json()["error_description"]
    assert all(
        character in "\x20\x21" or "\x23" <= character <= "\x5b" or "\x5d" <= character <= "\x7e"
        for character in described
    )
