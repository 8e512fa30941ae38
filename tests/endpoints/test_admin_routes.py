"""The admin API: who may use it, what it answers, and that each cause of revocation leaves exactly one entry."""

from __future__ import annotations

import pytest

from keyfob.base.errors import InvalidRequest

USER = {"subject", "name", "roles", "created_at", "password_changed_at", "disabled_at"}
ENTRY = {"position", "at", "scope", "id", "reach", "except", "until", "chain"}
ROUTES = [
    ("GET", "/admin/api/users"),
    ("POST", "/admin/api/users"),
    ("GET", "/admin/api/users/alice"),
    ("DELETE", "/admin/api/users/alice"),
    ("POST", "/admin/api/users/alice/disable"),
    ("POST", "/admin/api/users/alice/enable"),
    ("PUT", "/admin/api/users/alice/roles"),
    ("PUT", "/admin/api/users/alice/password"),
    ("GET", "/admin/api/sessions"),
    ("DELETE", "/admin/api/sessions/" + "0" * 32),
    ("POST", "/admin/api/revocations"),
    ("GET", "/admin/api/clients"),
    ("POST", "/admin/api/clients"),
    ("DELETE", "/admin/api/clients/orders"),
    ("GET", "/admin/api/keys"),
    ("POST", "/admin/api/keys/rotate"),
    ("POST", "/admin/api/keys/x/revoke"),
    ("GET", "/admin/api/audit"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_only_an_administrator_gets_in(desk, method: str, path: str) -> None:
    await desk.user(roles=("buyer",))
    await desk.user("root", roles=("keyfob:admin",))
    assert (await desk.ask(method, path)).code == "no_credential"
    assert (await desk.ask(method, path, bearer=await desk.access_token())).code == "insufficient_role"
    assert (await desk.ask(method, path, cookie=await desk.cookie())).code == "insufficient_role"
    elsewhere = await desk.access_token("root", audience="orders")
    assert (await desk.ask(method, path, bearer=elsewhere)).code == "wrong_audience"
    elsewhere = await desk.cookie("root", audience="orders")
    assert (await desk.ask(method, path, cookie=elsewhere)).code == "wrong_audience"
    client = await desk.client("machine", "keyfob:admin")
    assert (await desk.ask(method, path, basic=client)).code == "malformed"
    assert await desk.position() == 0


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[0] != "GET"])
async def test_another_origin_rides_no_administrators_cookie(desk, method: str, path: str) -> None:
    await desk.user("root", roles=("keyfob:admin",))
    cookie = await desk.cookie("root")
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        assert (await desk.ask(method, path, cookie=cookie, headers=headers)).code == "cross_origin"
    body = {
        "/admin/api/users": {"name": "bob", "password": "staple of the horse"},
        "/admin/api/users/alice/roles": {"roles": []},
        "/admin/api/users/alice/password": {"password": "staple of the horse"},
        "/admin/api/revocations": {"scope": "everything"},
        "/admin/api/clients": {"client_id": "new"},
    }.get(path)
    answer = await desk.ask(method, path, cookie=cookie, json_body=body, own_page=False)
    assert answer.code == "cross_origin"
    assert await desk.position() == 0


async def test_a_scope_is_as_good_as_the_role(desk) -> None:
    issued = await desk.authority.login("robot", strategy="jwt", scopes=["keyfob:admin"])
    assert (await desk.ask("GET", "/admin/api/users", bearer=issued.access_token)).status == 200


async def test_an_administrator_who_is_demoted_is_out_at_once(desk) -> None:
    root = await desk.user("root", roles=("keyfob:admin",))
    cookie, token = await desk.cookie("root"), await desk.access_token("root")
    await desk.authority.set_roles(root.subject, [])
    assert (await desk.ask("GET", "/admin/api/users", cookie=cookie)).code == "insufficient_role"
    assert (await desk.ask("GET", "/admin/api/users", bearer=token)).code == "stale_claims"


async def test_users_are_added_listed_and_shown(desk) -> None:
    admin = await desk.admin()
    body = {"name": "Zoë", "password": "staple of the horse", "roles": ["b", "a"]}
    added = await desk.ask("POST", "/admin/api/users", bearer=admin, json_body=body)
    assert (added.status, set(added.json())) == (201, USER)
    assert (added.json()["name"], added.json()["roles"]) == ("zoë", ["a", "b"])
    listed = await desk.ask("GET", "/admin/api/users", bearer=admin)
    assert set(listed.json()) == {"users", "next"}
    assert [user["name"] for user in listed.json()["users"]] == ["root", "zoë"]
    for who in (added.json()["subject"], "zoë", "Zo%C3%AB"):
        shown = await desk.ask("GET", f"/admin/api/users/{who}", bearer=admin)
        assert shown.json() == added.json()
    taken = await desk.ask("POST", "/admin/api/users", bearer=admin, json_body=body)
    assert (taken.status, taken.code) == (409, "name_taken")


@pytest.mark.parametrize("who", ["nobody", "usr_" + "a" * 26, "%00", "%20", "..", "a%2Fb", "x" * 300])
@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("POST", "/disable", None),
        ("POST", "/enable", None),
        ("PUT", "/roles", {"roles": []}),
        ("PUT", "/password", {"password": "staple of the horse"}),
    ],
)
async def test_a_user_that_is_not_there_is_404(desk, who: str, method: str, rest: str, body) -> None:
    admin = await desk.admin()
    answer = await desk.ask(method, f"/admin/api/users/{who}{rest}", bearer=admin, json_body=body)
    assert answer.status == 404
    assert await desk.position() == 0


async def test_roles_change_at_once_and_leave_one_entry(desk) -> None:
    admin = await desk.admin()
    account = await desk.user(roles=("buyer",))
    token = await desk.access_token(strategy="hybrid")
    answer = await desk.ask(
        "PUT",
        "/admin/api/users/alice/roles",
        bearer=admin,
        json_body={"roles": ["auditor"], "reason": "moved"},
    )
    assert (answer.status, answer.json()["roles"]) == (200, ["auditor"])
    assert await desk.position() == 1
    assert (await desk.ask("GET", "/check?role=buyer", bearer=token)).code == "stale_claims"
    again = await desk.ask(
        "PUT", "/admin/api/users/alice/roles", bearer=admin, json_body={"roles": ["auditor"]}
    )
    assert (again.status, await desk.position()) == (200, 1)
    audit = (
        await desk.ask("GET", f"/admin/api/audit?subject={account.subject}&code=roles_changed", bearer=admin)
    ).json()
    assert [event["reason"] for event in audit["events"]] == ["moved"]


async def test_a_subject_without_an_account_has_roles_too(desk) -> None:
    admin = await desk.admin()
    await desk.authority.login("external", strategy="jwt", roles=["a"])
    answer = await desk.ask(
        "PUT", "/admin/api/users/external/roles", bearer=admin, json_body={"roles": ["b"]}
    )
    assert (answer.status, answer.json()["roles"], answer.json()["name"]) == (200, ["b"], None)


@pytest.mark.parametrize(
    ("method", "rest", "body", "status"),
    [
        ("DELETE", "", None, 204),
        ("POST", "/disable", None, 200),
        ("POST", "/disable", {"reason": "left"}, 200),
        ("PUT", "/password", {"password": "staple of the horse"}, 204),
    ],
)
async def test_what_ends_a_user_ends_it_everywhere_with_one_entry(
    desk, method: str, rest: str, body, status: int
) -> None:
    admin = await desk.admin()
    await desk.user()
    cookie, token = await desk.cookie(), await desk.access_token()
    answer = await desk.ask(method, f"/admin/api/users/alice{rest}", bearer=admin, json_body=body)
    assert answer.status == status
    assert await desk.position() == 1
    for credential in ({"cookie": cookie}, {"bearer": token}):
        assert (await desk.ask("GET", "/session", **credential)).code == "revoked"


async def test_a_disabled_user_comes_back_when_enabled(desk) -> None:
    admin = await desk.admin()
    await desk.user()
    shown = await desk.ask("POST", "/admin/api/users/alice/disable", bearer=admin)
    assert shown.json()["disabled_at"] is not None
    login = {"username": "alice", "password": "correct horse battery"}
    assert (await desk.ask("POST", "/login", json_body=login)).status == 401
    shown = await desk.ask("POST", "/admin/api/users/alice/enable", bearer=admin)
    assert shown.json()["disabled_at"] is None
    assert (await desk.ask("POST", "/login", json_body=login)).status == 200


async def test_sessions_are_listed_and_ended(desk) -> None:
    admin = await desk.admin()
    await desk.user()
    login = await desk.login()
    cookie = f"__Host-session={login.cookies()['__Host-session']}"
    listed = (await desk.ask("GET", "/admin/api/sessions?user=alice", bearer=admin)).json()
    assert [session["session_id"] for session in listed["sessions"]] == [login.json()["session_id"]]
    assert len((await desk.ask("GET", "/admin/api/sessions", bearer=admin)).json()["sessions"]) == 2
    path = f"/admin/api/sessions/{login.json()['session_id']}"
    assert [(await desk.ask("DELETE", path, bearer=admin)).status for _ in range(2)] == [204, 204]
    assert await desk.position() == 1
    assert (await desk.ask("GET", "/session", cookie=cookie)).code == "revoked"
    assert (await desk.ask("DELETE", "/admin/api/sessions/" + "0" * 32, bearer=admin)).status == 404
    assert (await desk.ask("GET", "/admin/api/sessions?user=nobody", bearer=admin)).status == 404


@pytest.mark.parametrize(
    ("body", "reach"),
    [
        ({"scope": "subject", "id": "alice"}, "end"),
        ({"scope": "subject", "id": "alice", "reach": "claims", "reason": "profile"}, "claims"),
        ({"scope": "token", "id": "jti"}, "end"),
        ({"scope": "session", "id": "0" * 32}, "end"),
        ({"scope": "client", "id": "orders"}, "end"),
        ({"scope": "everything"}, "end"),
    ],
)
async def test_a_revocation_is_201_with_its_entry(desk, body, reach: str) -> None:
    admin = await desk.admin()
    answer = await desk.ask("POST", "/admin/api/revocations", bearer=admin, json_body=body)
    entry = answer.json()
    assert (answer.status, set(entry)) == (201, ENTRY)
    assert (entry["position"], entry["scope"], entry["id"], entry["reach"]) == (
        1,
        body["scope"],
        body.get("id", ""),
        reach,
    )
    assert len(entry["chain"]) == 64


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"scope": "galaxy", "id": "x"}, 422),
        ({"scope": "subject"}, 422),
        ({"scope": "everything", "id": "x"}, 422),
        ({"scope": "session", "id": "x"}, 422),
        ({"scope": "token", "id": "x", "reach": "claims"}, 422),
        ({"scope": "subject", "id": "x" * 256}, 422),
        ({"scope": "subject", "id": "a\nb"}, 422),
        ({"scope": "key", "id": "nokey"}, 404),
        ({"scope": "subject", "id": "x", "reach": "maybe"}, 422),
        ({"scope": "subject", "id": "x", "position": 9}, 422),
    ],
)
async def test_a_revocation_that_cannot_be_is_refused(desk, body, status: int) -> None:
    admin = await desk.admin()
    assert (await desk.ask("POST", "/admin/api/revocations", bearer=admin, json_body=body)).status == status
    assert await desk.position() == 0


async def test_revoking_everything_ends_the_administrator_too(desk) -> None:
    admin = await desk.admin()
    await desk.ask("POST", "/admin/api/revocations", bearer=admin, json_body={"scope": "everything"})
    assert (await desk.ask("GET", "/admin/api/users", bearer=admin)).code == "revoked"


async def test_clients_are_added_listed_and_deleted(desk) -> None:
    admin = await desk.admin()
    body = {
        "client_id": "orders",
        "scopes": ["keyfob:feed"],
        "audiences": ["orders"],
        "strategies": ["jwt", "hybrid"],
    }
    added = await desk.ask("POST", "/admin/api/clients", bearer=admin, json_body=body)
    shown = {"client_id", "created_at", "scopes", "audiences", "strategies", "default_strategy"}
    shown |= {"grant_types", "access_lifetime", "secrets", "key_ids", "name", "redirect_uris"}
    shown |= {"post_logout_redirect_uris", "backchannel_logout_uri", "backchannel_logout_session_required"}
    shown |= {"cors_origins", "first_party", "public", "require_par"}
    assert (added.status, set(added.json())) == (201, shown | {"client_secret"})
    assert added.json()["default_strategy"] == "jwt"
    listed = (await desk.ask("GET", "/admin/api/clients", bearer=admin)).json()
    assert [set(client) for client in listed["clients"]] == [shown]
    secret = added.json()["client_secret"]
    assert (await desk.ask("GET", "/feed/snapshot", basic=("orders", secret))).status == 200
    assert (await desk.ask("DELETE", "/admin/api/clients/orders", bearer=admin)).status == 204
    assert (await desk.ask("GET", "/feed/snapshot", basic=("orders", secret))).code == "bad_credentials"
    assert (await desk.ask("DELETE", "/admin/api/clients/orders", bearer=admin)).status == 404
    assert await desk.position() == 1
    for bad in (
        {"client_id": "usr_x"},
        {"client_id": "a b"},
        {"client_id": "first-party"},
        {"client_id": "x", "scopes": ["keyfob:x"]},
    ):
        assert (await desk.ask("POST", "/admin/api/clients", bearer=admin, json_body=bad)).status == 422


async def test_a_client_at_which_people_sign_in_is_added(desk) -> None:
    admin = await desk.admin()
    body = {
        "client_id": "shop",
        "scopes": ["openid"],
        "name": "The shop",
        "redirect_uris": ["https://shop.example/signed-in"],
        "post_logout_redirect_uris": ["https://shop.example/bye"],
        "backchannel_logout_uri": "https://shop.example/ended",
        "backchannel_logout_session_required": True,
        "cors_origins": ["https://shop.example"],
        "first_party": True,
        "require_par": True,
    }
    added = await desk.ask("POST", "/admin/api/clients", bearer=admin, json_body=body)
    assert added.status == 201, added.body
    shown = (await desk.ask("GET", "/admin/api/clients/shop", bearer=admin)).json()
    assert {name: shown[name] for name in body} == body
    assert shown["grant_types"] == ["authorization_code", "refresh_token"]
    assert (shown["public"], shown["secrets"]) == (False, 1)
    app = {"client_id": "app", "public": True, "redirect_uris": ["com.example.app:/signed-in"]}
    added = (await desk.ask("POST", "/admin/api/clients", bearer=admin, json_body=app)).json()
    assert (added["client_secret"], added["secrets"], added["public"]) == (None, 0, True)
    for bad in (
        {"redirect_uris": ["http://shop.example/x"]},
        {"redirect_uris": ["https://shop.example/x"], "grant_types": ["client_credentials"]},
        {"grant_types": ["authorization_code"]},
        {"public": True, "grant_types": ["client_credentials"]},
        {"cors_origins": ["https://shop.example/"]},
    ):
        refused = await desk.ask(
            "POST", "/admin/api/clients", bearer=admin, json_body={"client_id": "x", **bad}
        )
        assert refused.status == 422, bad
    for path, wanted in (("secrets", {}), ("keys", {"jwks": {"keys": [{"kty": "EC"}]}})):
        method = "POST" if path == "secrets" else "PUT"
        given = await desk.ask(method, f"/admin/api/clients/app/{path}", bearer=admin, json_body=wanted)
        assert given.status == 422, path


async def test_keys_are_listed_rotated_and_revoked(desk) -> None:
    admin = await desk.admin()
    listed = (await desk.ask("GET", "/admin/api/keys", bearer=admin)).json()["keys"]
    assert {key["purpose"] for key in listed} == {"access", "feed", "opaque", "csrf"}
    assert all(
        set(key) == {"key_id", "purpose", "algorithm", "created_at", "activates_at", "revoked_at"}
        for key in listed
    )
    rotated = await desk.ask("POST", "/admin/api/keys/rotate", bearer=admin, json_body={"purpose": "access"})
    assert rotated.status == 201
    assert len(rotated.json()["keys"]) == len(listed) + 1
    (key_id,) = [key["key_id"] for key in listed if key["purpose"] == "access"]
    revoked = await desk.ask("POST", f"/admin/api/keys/{key_id}/revoke", bearer=admin)
    assert (revoked.status, set(revoked.json()), revoked.json()["until"]) == (201, ENTRY, None)
    assert (await desk.ask("GET", "/admin/api/users", bearer=admin)).status == 401


async def test_the_audit_trail_tells_who_did_what_and_no_secret(desk) -> None:
    admin = await desk.admin()
    await desk.user()
    await desk.ask(
        "POST", "/admin/api/users/alice/disable", bearer=admin, json_body={"reason": "left \x1b[31m"}
    )
    answer = await desk.ask("GET", "/admin/api/audit?limit=5", bearer=admin)
    assert set(answer.json()) == {"events", "next"}
    (event,) = [event for event in answer.json()["events"] if event["code"] == "account_disabled"]
    assert set(event) == {
        "at",
        "code",
        "actor",
        "subject",
        "session_id",
        "client_id",
        "address",
        "reason",
        "facts",
    }
    assert event["actor"].startswith("usr_")
    assert "\x1b" not in event["reason"]
    assert admin.encode() not in answer.body
    assert (await desk.ask("GET", "/admin/api/audit?who=x", bearer=admin)).status == 400
    assert (await desk.ask("GET", "/admin/api/audit?subject=", bearer=admin)).status == 400


@pytest.mark.parametrize("after", ["Bob", "a" * 600, "usr_x", "%20a", "%F0%9F%98%80%E2%80%8B", "%E2%80%AEa"])
async def test_a_cursor_of_users_that_no_page_gave_is_refused(desk, after: str) -> None:
    admin = await desk.admin()
    answer = await desk.ask("GET", "/admin/api/users", query=f"after={after}".encode(), bearer=admin)
    assert (answer.status, answer.code) == (400, "bad_cursor")


async def test_lists_are_bounded_for_callers_of_the_library_too(desk) -> None:
    for limit in (1, 1000):
        await desk.authority.list_sessions(limit=limit)
        await desk.authority.accounts.list(limit=limit)
    for limit in (0, -1, 1001):
        for listed in (desk.authority.list_sessions, desk.authority.accounts.list):
            with pytest.raises(InvalidRequest):
                await listed(limit=limit)
