"""API keys: made by people and administrators, checked like sessions, exchanged for access tokens, revoked."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from keyfob.authority.api_key_policy import ApiKeyPolicy
from keyfob.base import base64url
from keyfob.base.errors import Denied
from keyfob.clients.client import GrantType

ISSUER = "https://auth.example"
FORM = {"content-type": "application/x-www-form-urlencoded"}
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
KEY_TYPE = "urn:keyfob:token-type:api-key"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


async def admin_makes(desk: Any, token: str, **fields: Any) -> Any:
    body = {"name": "deploy", "audience": ["orders"], **fields}
    answer = await desk.ask("POST", "/admin/api/api-keys", json_body=body, bearer=token)
    assert answer.status == 201, answer.body
    return answer.json()


async def service_key(desk: Any, admin: str, *scopes: str, client_id: str = "ci", **fields: Any) -> Any:
    await desk.client(client_id, *scopes)
    return await admin_makes(desk, admin, client_id=client_id, scopes=list(scopes), **fields)


async def exchange(desk: Any, key: str, *, basic: Any = None, **fields: str) -> Any:
    body = {"grant_type": EXCHANGE, "subject_token": key, "subject_token_type": KEY_TYPE, **fields}
    return await desk.ask("POST", "/oauth/token", body=urlencode(body).encode(), headers=FORM, basic=basic)


def error_of(answer: Any) -> tuple[int, str]:
    assert answer.header("cache-control") == "no-store"
    return answer.status, answer.json()["error"]


async def cause(desk: Any, token: str) -> str | None:
    answer = await desk.ask("GET", "/session", bearer=token)
    return None if answer.status == 200 else answer.code


def claims_of(token: str) -> dict[str, Any]:
    return json.loads(base64url.decode(token.split(".")[1].encode()))


async def test_a_key_is_shown_once_and_checked_like_a_session(desk: Any) -> None:
    made = await service_key(desk, await desk.admin(), "orders:write")
    key = made["api_key"]
    assert key.startswith("kfk_")
    for path, expected in (("/check?scope=orders:write", 204), ("/check?scope=other", 403)):
        assert (await desk.ask("GET", path, bearer=key)).status == expected
    body = (await desk.ask("GET", "/session", bearer=key)).json()
    assert (body["subject"], body["client_id"], body["session_id"]) == ("ci", "ci", made["key_id"])
    assert (body["scopes"], body["audience"], body["roles"]) == (["orders:write"], ["orders"], [])
    assert (body["auth_time"], body["strategy"]) == (None, None)
    admin = await desk.access_token("root")
    listed = (await desk.ask("GET", "/admin/api/api-keys", bearer=admin)).json()["api_keys"]
    assert [one["key_id"] for one in listed] == [made["key_id"]]
    assert "api_key" not in listed[0]
    assert key not in json.dumps(listed)


async def test_introspection_says_what_a_key_is_worth(desk: Any) -> None:
    made = await service_key(desk, await desk.admin(), "a")
    verifier = await desk.client("orders", "keyfob:introspect", audiences=("orders",))
    stranger = await desk.client("stock", "keyfob:introspect", audiences=("stock",))

    async def ask(who: Any, token: str) -> Any:
        body = urlencode({"token": token}).encode()
        return (await desk.ask("POST", "/oauth/introspect", body=body, headers=FORM, basic=who)).json()

    answer = await ask(verifier, made["api_key"])
    assert (answer["active"], answer["sub"], answer["scope"]) == (True, "ci", "a")
    assert (answer["token_type"], answer["sid"]) == ("api_key", made["key_id"])
    assert "auth_time" not in answer
    assert "idle_exp" not in answer
    assert await ask(stranger, made["api_key"]) == {"active": False}
    await desk.authority.api_keys.revoke(made["key_id"], actor="root")
    assert await ask(verifier, made["api_key"]) == {"active": False}


@pytest.mark.meets("8693-2.1b")
async def test_a_key_ends_in_every_way_that_a_session_does(desk: Any) -> None:
    admin = await desk.admin()
    account = await desk.user("alice")
    ways = {
        "itself": lambda made: desk.ask("DELETE", f"/admin/api/api-keys/{made['key_id']}", bearer=admin),
        "as a session": lambda made: desk.authority.revoke("session", made["key_id"]),
        "its subject": lambda made: desk.authority.revoke("subject", made["subject"]),
        "everything": lambda made: desk.authority.revoke("everything"),
        "logout with it": lambda made: desk.ask("POST", "/logout", bearer=made["api_key"]),
    }
    for name, end in ways.items():
        made = await admin_makes(desk, admin, user="alice")
        token = (await exchange(desk, made["api_key"])).json()["access_token"]
        assert made["subject"] == account.subject
        assert [await cause(desk, one) for one in (made["api_key"], token)] == [None, None], name
        before = await desk.position()
        await end(made)
        assert await desk.position() == before + 1, name
        assert [await cause(desk, one) for one in (made["api_key"], token)] == ["revoked"] * 2, name
        assert error_of(await exchange(desk, made["api_key"])) == (400, "invalid_request")
        if name == "everything":
            admin = await desk.access_token("root")


async def test_a_service_key_ends_with_its_client(desk: Any) -> None:
    admin = await desk.admin()
    made = await service_key(desk, admin)
    token = (await exchange(desk, made["api_key"])).json()["access_token"]
    await desk.authority.revoke("client", "ci")
    assert [await cause(desk, one) for one in (made["api_key"], token)] == ["revoked"] * 2
    again = await admin_makes(desk, admin, client_id="ci")
    assert await cause(desk, again["api_key"]) is None
    await desk.authority.clients.delete("ci", actor="root")
    assert await cause(desk, again["api_key"]) == "revoked"
    assert error_of(await exchange(desk, again["api_key"])) == (400, "invalid_request")


@pytest.mark.meets("8693-ours")
async def test_a_key_ends_at_its_end_and_its_tokens_before_it(desk: Any) -> None:
    made = await service_key(desk, await desk.admin(), expires_in=100)
    await desk.advance(40)
    answer = await exchange(desk, made["api_key"])
    assert answer.json()["expires_in"] == 60
    await desk.advance(59)
    assert await cause(desk, made["api_key"]) is None
    await desk.advance(1)
    assert await cause(desk, made["api_key"]) == "expired"
    assert error_of(await exchange(desk, made["api_key"])) == (400, "invalid_request")


async def test_a_key_is_never_idle_and_its_last_use_is_kept(desk: Any) -> None:
    made = await service_key(desk, await desk.admin())
    admin = await desk.access_token("root")
    listing = (await desk.ask("GET", "/admin/api/api-keys?client=ci", bearer=admin)).json()
    assert listing["api_keys"][0]["last_used_at"] is None
    await desk.advance(80 * 86_400)
    assert await cause(desk, made["api_key"]) is None
    await desk.authority.activity.write()
    (key,) = (await desk.authority.api_keys.list("ci")).api_keys
    assert key.last_used_at == desk.clock.now()


# Exchange.


@pytest.mark.meets("8693-2.2")
async def test_a_key_is_exchanged_for_a_token_that_belongs_to_it(desk: Any) -> None:
    made = await service_key(desk, await desk.admin(), "a", "b")
    answer = await exchange(desk, made["api_key"], audience="orders", scope="a")
    assert answer.status == 200
    assert answer.header("cache-control") == "no-store"
    body = answer.json()
    assert (body["issued_token_type"], body["token_type"]) == (ACCESS_TOKEN, "Bearer")
    assert body["scope"] == "a"
    claims = claims_of(body["access_token"])
    assert (claims["sub"], claims["sid"], claims["aud"]) == ("ci", made["key_id"], "orders")
    assert "auth_time" not in claims


@pytest.mark.meets("8693-2.2.2", "8693-ours")
async def test_an_exchange_never_gives_more_than_the_key_has(desk: Any) -> None:
    made = await service_key(desk, await desk.admin(), "a", audience=["orders", "stock"])
    both = claims_of((await exchange(desk, made["api_key"])).json()["access_token"])
    assert both["aud"] == ["orders", "stock"]
    for fields, error in (
        ({"scope": "b"}, "invalid_scope"),
        ({"scope": "a keyfob:admin"}, "invalid_scope"),
        ({"audience": "payments"}, "invalid_target"),
        ({"resource": ISSUER}, "invalid_target"),
        ({"actor_token": made["api_key"], "actor_token_type": KEY_TYPE}, "invalid_request"),
        ({"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}, "invalid_request"),
        ({"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}, "invalid_request"),
        ({"subject_token_type": ""}, "invalid_request"),
        ({"subject_token": ""}, "invalid_request"),
    ):
        assert error_of(await exchange(desk, made["api_key"], **fields)) == (400, error), fields


@pytest.mark.meets("8693-2.1a", "8693-2.1b")
async def test_nothing_but_a_genuine_key_is_exchanged(desk: Any) -> None:
    await desk.user("alice")
    made = await service_key(desk, await desk.admin())
    key = made["api_key"]
    grant = (await desk.login(transport="body", strategy="hybrid")).json()
    session = (await desk.login(transport="body", strategy="session")).json()
    others = (
        grant["access_token"],
        grant["refresh_token"],
        session["session_token"],
        "kfk_" + session["session_token"][4:],
        "kfk_",
        key[:-1],
        key + "A",
        key[:30] + ("A" if key[30] != "A" else "B") + key[31:],
    )
    for text in others:
        for kind in (KEY_TYPE, ACCESS_TOKEN):
            answer = await exchange(desk, text, subject_token_type=kind)
            assert error_of(answer) == (400, "invalid_request"), text[:12]
    assert (await exchange(desk, key, subject_token_type=ACCESS_TOKEN)).status == 200


async def test_a_token_from_an_exchange_is_never_exchanged_again(desk: Any) -> None:
    made = await service_key(desk, await desk.admin())
    token = (await exchange(desk, made["api_key"])).json()["access_token"]
    assert error_of(await exchange(desk, token, subject_token_type=ACCESS_TOKEN)) == (400, "invalid_request")


@pytest.mark.meets("8693-5")
async def test_a_client_exchanges_its_own_keys_alone(desk: Any) -> None:
    admin = await desk.admin()
    clients = desk.authority.clients
    own = await clients.add("ci", grant_types=(GrantType.TOKEN_EXCHANGE,))
    other = await clients.add("other", grant_types=(GrantType.TOKEN_EXCHANGE,))
    made = await admin_makes(desk, admin, client_id="ci")
    assert (await exchange(desk, made["api_key"], basic=("ci", own.secret))).status == 200
    answer = await exchange(desk, made["api_key"], basic=("other", other.secret))
    assert error_of(answer) == (400, "invalid_request")
    # Whoever names itself proves it: a wrong secret is no way back to being nobody.
    assert error_of(await exchange(desk, made["api_key"], basic=("ci", "kfc_x"))) == (401, "invalid_client")
    assert error_of(await exchange(desk, made["api_key"], client_id="ci")) == (401, "invalid_client")


async def test_an_exchanged_token_has_the_as_of_of_the_read_and_not_of_the_answer(
    desk: Any, monkeypatch: Any
) -> None:
    made = await service_key(desk, await desk.admin())
    checks = desk.authority._parts.checks
    read = checks.read

    async def slowly(text: str, **options: Any) -> Any:
        principal = await read(text, **options)
        await desk.authority.revoke("subject", "ci", reach="claims")
        return principal

    monkeypatch.setattr(checks, "read", slowly)
    token = (await exchange(desk, made["api_key"])).json()["access_token"]
    monkeypatch.undo()
    assert await cause(desk, token) == "stale_claims"
    fresh = (await exchange(desk, made["api_key"])).json()["access_token"]
    assert await cause(desk, fresh) is None


# Roles.


async def test_a_key_has_the_roles_that_were_named_while_its_owner_has_them(desk: Any) -> None:
    admin = await desk.admin()
    await desk.user("alice", roles=("buyer", "payer"))
    bare = await admin_makes(desk, admin, user="alice")
    key = await admin_makes(desk, admin, user="alice", roles=["payer", "boss"])

    async def roles(text: str) -> list[str]:
        return (await desk.ask("GET", "/session", bearer=text)).json()["roles"]

    assert await roles(bare["api_key"]) == []
    assert await roles(key["api_key"]) == ["payer"]
    token = (await exchange(desk, key["api_key"])).json()["access_token"]
    assert await roles(token) == ["payer"]
    await desk.authority.set_roles(key["subject"], ["buyer"])
    assert await roles(key["api_key"]) == []
    assert await cause(desk, token) == "stale_claims"


async def test_a_key_of_somebody_disabled_is_refused_and_none_is_made(desk: Any) -> None:
    admin = await desk.admin()
    await desk.user("alice")
    made = await admin_makes(desk, admin, user="alice")
    await desk.authority.accounts.disable(made["subject"], actor="root")
    assert await cause(desk, made["api_key"]) == "revoked"
    body = {"name": "x", "audience": ["orders"], "user": "alice"}
    assert (await desk.ask("POST", "/admin/api/api-keys", json_body=body, bearer=admin)).code == "revoked"


@pytest.mark.meets("9700-4.15.1b")
async def test_a_service_has_no_roles_even_where_a_subject_is_called_like_it(desk: Any) -> None:
    admin = await desk.admin()
    await desk.authority.set_roles("ci", ["keyfob:admin"])
    made = await service_key(desk, admin, audience=[ISSUER])
    assert (await desk.ask("GET", "/admin/api/clients", bearer=made["api_key"])).code == "insufficient_role"
    with pytest.raises(Exception, match="not called as its client"):
        await desk.authority.login("ci", client_id="ci")
    body = {"name": "x", "audience": ["a"], "client_id": "ci", "roles": ["r"]}
    assert (
        await desk.ask("POST", "/admin/api/api-keys", json_body=body, bearer=admin)
    ).code == "invalid_role"


# Where a key is no credential.


async def test_a_key_is_no_login(desk: Any) -> None:
    admin = await desk.admin()
    await desk.user("alice")
    made = await admin_makes(desk, admin, user="alice", audience=[ISSUER])
    token = (await exchange(desk, made["api_key"])).json()["access_token"]
    for credential in (made["api_key"], token):
        for method, path, body in (
            ("GET", "/sessions", None),
            ("GET", "/api-keys", None),
            ("POST", "/api-keys", {"name": "x", "audience": ["a"]}),
            ("DELETE", f"/api-keys/{made['key_id']}", None),
            ("POST", "/password", {"current": "correct horse battery", "new": "another long password"}),
        ):
            answer = await desk.ask(method, path, json_body=body, bearer=credential)
            assert answer.code == "reauthentication_required", path
        answer = await desk.ask("GET", "/check?max_auth_age=86400", bearer=credential)
        assert answer.header("x-auth-cause") == "reauthentication_required"
    assert (await desk.ask("POST", "/refresh", json_body={"refresh_token": made["api_key"]})).status == 401
    with pytest.raises(Denied):
        await desk.authority.renew(await desk.authority.authenticate(made["api_key"]))
    assert await cause(desk, made["api_key"]) is None


async def test_a_key_logs_nobody_else_out(desk: Any) -> None:
    admin = await desk.admin()
    await desk.user("alice")
    session = (await desk.login(transport="body", strategy="session")).json()["session_token"]
    made = await admin_makes(desk, admin, user="alice", audience=[ISSUER])
    for devices in ("others", "all"):
        answer = await desk.ask("POST", "/logout", json_body={"devices": devices}, bearer=made["api_key"])
        assert answer.status == 204
        assert [await cause(desk, one) for one in (session, made["api_key"])] == [None, None]


async def test_a_key_in_a_cookie_is_refused(desk: Any) -> None:
    made = await service_key(desk, await desk.admin())
    for _ in range(2):
        answer = await desk.ask("GET", "/check", cookie=f"__Host-session={made['api_key']}")
        assert answer.header("x-auth-cause") == "wrong_type"
        await desk.ask("GET", "/check", bearer=made["api_key"])


async def test_no_list_of_devices_shows_a_key_and_no_login_ends_one(desk: Any) -> None:
    admin = await desk.admin()
    await desk.user("alice")
    made = await admin_makes(desk, admin, user="alice")
    session = (await desk.login(transport="body", strategy="session")).json()["session_token"]
    devices = (await desk.ask("GET", "/sessions", bearer=session)).json()["sessions"]
    assert made["key_id"] not in {one["session_id"] for one in devices}
    everybody = (await desk.ask("GET", "/admin/api/sessions", bearer=admin)).json()["sessions"]
    assert made["key_id"] not in {one["session_id"] for one in everybody}


# People's own keys.


@pytest.fixture
def left_to_people(desk: Any, monkeypatch: Any) -> None:
    policy = ApiKeyPolicy(scopes=frozenset({"orders:read"}), per_subject=2)
    monkeypatch.setattr(desk.authority.api_keys, "_policy", policy)


OWN = {"name": "laptop", "audience": ["orders"], "scopes": ["orders:read"]}


@pytest.mark.meets("10.4.9")
@pytest.mark.usefixtures("left_to_people")
async def test_people_make_list_and_end_keys_of_their_own(desk: Any) -> None:
    await desk.user("alice")
    await desk.user("bob")
    alice, bob = await desk.cookie("alice", strategy="session"), await desk.cookie("bob", strategy="session")
    answer = await desk.ask("POST", "/api-keys", json_body=OWN, cookie=alice)
    assert answer.status == 201, answer.body
    made = answer.json()
    assert await cause(desk, made["api_key"]) is None
    (listed,) = (await desk.ask("GET", "/api-keys", cookie=alice)).json()["api_keys"]
    assert (listed["key_id"], listed["name"]) == (made["key_id"], "laptop")
    assert (await desk.ask("GET", "/api-keys", cookie=bob)).json()["api_keys"] == []
    assert (await desk.ask("DELETE", f"/api-keys/{made['key_id']}", cookie=bob)).code == "no_api_key"
    own_session = (await desk.ask("GET", "/session", cookie=alice)).json()["session_id"]
    assert (await desk.ask("DELETE", f"/api-keys/{own_session}", cookie=alice)).code == "no_api_key"
    assert (await desk.ask("DELETE", f"/api-keys/{made['key_id']}", cookie=alice)).status == 204
    assert (await desk.ask("DELETE", f"/api-keys/{made['key_id']}", cookie=alice)).code == "no_api_key"
    assert await cause(desk, made["api_key"]) == "revoked"


@pytest.mark.usefixtures("left_to_people")
async def test_another_origin_makes_no_key(desk: Any) -> None:
    await desk.user("alice")
    cookie = await desk.cookie("alice", strategy="session")
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        answer = await desk.ask("POST", "/api-keys", json_body=OWN, cookie=cookie, headers=headers)
        assert answer.code == "cross_origin"
    answer = await desk.ask("POST", "/api-keys", json_body=OWN, cookie=cookie, own_page=False)
    assert answer.code == "cross_origin"


@pytest.mark.usefixtures("left_to_people")
async def test_people_choose_among_the_scopes_that_are_left_to_them(desk: Any) -> None:
    await desk.user("alice")
    cookie = await desk.cookie("alice", strategy="session")
    for scope in ("orders:write", "keyfob:admin"):
        answer = await desk.ask("POST", "/api-keys", json_body={**OWN, "scopes": [scope]}, cookie=cookie)
        assert (answer.status, answer.code) == (403, "insufficient_scope")
    answer = await desk.ask("POST", "/api-keys", json_body={**OWN, "roles": ["keyfob:admin"]}, cookie=cookie)
    assert (answer.status, answer.code) == (403, "insufficient_role")
    for wrong in (
        {"scopes": ["keyfob:nonsense"]},
        {"name": "a\nb"},
        {"name": ""},
        {"audience": []},
        {"expires_in": 0},
        {"expires_in": 366 * 86_400},
    ):
        answer = await desk.ask("POST", "/api-keys", json_body={**OWN, **wrong}, cookie=cookie)
        assert answer.status == 422, wrong


@pytest.mark.usefixtures("left_to_people")
async def test_only_who_signed_in_a_short_while_ago_makes_a_key(desk: Any) -> None:
    await desk.user("alice")
    cookie = await desk.cookie("alice", strategy="session")
    await desk.advance(15 * 60)
    assert (await desk.ask("POST", "/api-keys", json_body=OWN, cookie=cookie)).status == 201
    await desk.advance(1)
    answer = await desk.ask("POST", "/api-keys", json_body=OWN, cookie=cookie)
    assert (answer.status, answer.code) == (401, "reauthentication_required")


@pytest.mark.usefixtures("left_to_people")
async def test_there_is_a_limit_to_keys_however_many_are_made_at_once(desk: Any) -> None:
    await desk.user("alice")
    cookie = await desk.cookie("alice", strategy="session")
    answers = await asyncio.gather(
        *(desk.ask("POST", "/api-keys", json_body=OWN, cookie=cookie) for _ in range(5))
    )
    assert sorted(answer.status for answer in answers) == [201, 201, 409, 409, 409]
    assert (await desk.ask("GET", "/session", cookie=cookie)).status == 200


@pytest.mark.usefixtures("left_to_people")
async def test_a_session_that_ends_while_it_makes_a_key_leaves_none(desk: Any, monkeypatch: Any) -> None:
    await desk.user("alice")
    cookie = await desk.cookie("alice", strategy="session")
    session_id = (await desk.ask("GET", "/session", cookie=cookie)).json()["session_id"]
    keys = desk.authority.api_keys
    add = keys.add_for_subject
    made: list[Any] = []

    async def slowly(*arguments: Any, **options: Any) -> Any:
        made.append(await add(*arguments, **options))
        await desk.authority.revoke("session", session_id)
        return made[0]

    monkeypatch.setattr(keys, "add_for_subject", slowly)
    answer = await desk.ask("POST", "/api-keys", json_body=OWN, cookie=cookie)
    assert (answer.status, answer.code) == (401, "revoked")
    assert await cause(desk, made[0].text) == "revoked"


@pytest.mark.usefixtures("left_to_people")
async def test_a_cut_off_before_the_key_stands_leaves_none(desk: Any, monkeypatch: Any) -> None:
    account = await desk.user("alice")
    cookie = await desk.cookie("alice", strategy="session")
    keys = desk.authority.api_keys
    source = keys._claims_source

    async def slowly(subject: Any, client_id: Any) -> Any:
        claims = await source(subject, client_id)
        await desk.authority.revoke("subject", account.subject)
        return claims

    monkeypatch.setattr(keys, "_claims_source", slowly)
    answer = await desk.ask("POST", "/api-keys", json_body=OWN, cookie=cookie)
    assert (answer.status, answer.code) == (401, "revoked")
    assert (await keys.list(account.subject)).api_keys == []


async def test_a_key_of_a_service_stays_within_its_client(desk: Any) -> None:
    admin = await desk.admin()
    await desk.client("ci", "a", audiences=("orders",))
    for fields, status, code in (
        ({"scopes": ["b"]}, 403, "insufficient_scope"),
        ({"audience": ["stock"]}, 401, "wrong_audience"),
        ({"client_id": "nobody"}, 404, "no_client"),
        ({"client_id": "first-party"}, 422, "invalid_request"),
        ({"user": "root"}, 422, "invalid_request"),
    ):
        body = {"name": "x", "audience": ["orders"], "client_id": "ci", **fields}
        answer = await desk.ask("POST", "/admin/api/api-keys", json_body=body, bearer=admin)
        assert (answer.status, answer.code) == (status, code), fields
    answer = await desk.ask(
        "POST", "/admin/api/api-keys", json_body={"name": "x", "audience": ["a"]}, bearer=admin
    )
    assert answer.status == 422
    await desk.user("alice")
    nobody = await desk.access_token("alice")
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", "/" + "0" * 32)):
        answer = await desk.ask(method, f"/admin/api/api-keys{path}", json_body={}, bearer=nobody)
        assert answer.code == "insufficient_role"


# The admin's clients.


async def test_an_administrator_rotates_secrets_and_sets_keys(desk: Any) -> None:
    admin = await desk.admin()
    client_id, first = await desk.client("billing")
    path = "/admin/api/clients/billing"
    shown = (await desk.ask("GET", path, bearer=admin)).json()
    assert (shown["secrets"], shown["key_ids"], shown["grant_types"]) == (1, [], ["client_credentials"])
    assert first not in json.dumps(shown)
    given = await desk.ask("POST", f"{path}/secrets", bearer=admin)
    assert (given.status, given.json()["secrets"], given.json()["position"]) == (201, 2, None)
    for secret in (first, given.json()["client_secret"]):
        assert (await desk.authority.clients.authenticate(client_id, secret)).client_id == client_id
    body = {"compromised": True, "reason": "in a log"}
    given = await desk.ask("POST", f"{path}/secrets", json_body=body, bearer=admin)
    assert (given.json()["secrets"], given.json()["position"]) == (1, await desk.position())
    with pytest.raises(Denied):
        await desk.authority.clients.authenticate(client_id, first)
    jwks = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}
    answer = await desk.ask("PUT", f"{path}/keys", json_body={"jwks": jwks}, bearer=admin)
    assert (answer.json()["secrets"], len(answer.json()["key_ids"])) == (0, 1)
    private = {"keys": [{**jwks["keys"][0], "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}]}
    for wrong in (private, {"keys": []}, {"keys": [{"kty": "oct", "k": "AAAA"}]}, {}):
        answer = await desk.ask("PUT", f"{path}/keys", json_body={"jwks": wrong}, bearer=admin)
        assert answer.status == 422, wrong
    assert (await desk.ask("POST", "/admin/api/clients/nobody/secrets", bearer=admin)).code == "no_client"
    assert (await desk.ask("GET", "/admin/api/clients/nobody", bearer=admin)).code == "no_client"
    body = {"client_id": "robot", "jwks": jwks, "access_lifetime": 60}
    added = await desk.ask("POST", "/admin/api/clients", json_body=body, bearer=admin)
    assert (added.status, added.json()["client_secret"], added.json()["access_lifetime"]) == (201, None, 60.0)
