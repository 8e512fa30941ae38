"""What a refused client is told to do next helps, over the whole application: each cause that a client can meet, and its way out."""

from __future__ import annotations

import pytest

from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey


async def hybrid(desk, **fields):
    answer = await desk.login("alice", strategy="hybrid", transport="body", **fields)
    return answer.json()


async def refused(desk, token: str | None = None, *, path: str = "/session", **fields):
    answer = await desk.ask("GET", path, bearer=token, **fields)
    body = answer.json()
    assert answer.header("x-auth-cause") == body["code"]
    return body["code"], body["next"]


async def refreshed(desk, login) -> str:
    answer = await desk.ask("POST", "/refresh", json_body={"refresh_token": login["refresh_token"]})
    assert answer.status == 200, answer.body
    return answer.json()["access_token"]


async def test_a_refresh_helps_where_it_is_said_to(desk) -> None:
    await desk.user("alice", roles=("buyer",))
    login = await hybrid(desk)
    subject, token = login["subject"], login["access_token"]

    await desk.authority.set_roles(subject, [])
    assert await refused(desk, token) == ("stale_claims", "refresh")
    token = await refreshed(desk, login)
    assert (await desk.ask("GET", "/session", bearer=token)).json()["roles"] == []

    await desk.advance(11 * 60)
    assert await refused(desk, token) == ("expired", "refresh")
    login = await hybrid(desk)
    token = login["access_token"]

    key = desk.authority.keys.signer().key_id
    await desk.authority.revoke("key", key)
    assert await refused(desk, token) == ("unknown_key", "refresh")
    token = await refreshed(desk, login)
    assert (await desk.ask("GET", "/session", bearer=token)).status == 200


async def test_a_login_is_asked_for_where_nothing_else_helps(desk) -> None:
    await desk.user("alice")
    for scope in ("session", "subject", "client", "everything"):
        login = await hybrid(desk)
        target = {
            "session": login["session_id"],
            "subject": login["subject"],
            "client": "first-party",
            "everything": "",
        }[scope]
        await desk.authority.revoke(scope, target)
        assert await refused(desk, login["access_token"]) == ("revoked", "login")
        answer = await desk.ask("POST", "/refresh", json_body={"refresh_token": login["refresh_token"]})
        assert (answer.status, answer.code, answer.json()["next"]) == (401, "revoked", "login")
    assert await refused(desk) == ("no_credential", "login")
    assert await refused(desk, "x") == ("malformed", "login")
    login = await hybrid(desk)
    assert await refused(desk, login["refresh_token"]) == ("wrong_type", "login")


async def test_a_session_whose_roles_changed_needs_nothing(desk) -> None:
    await desk.user("alice", roles=("buyer",))
    login = (await desk.login("alice", transport="body")).json()
    token = login["session_token"]
    assert (await desk.ask("GET", "/session", bearer=token)).json()["roles"] == ["buyer"]
    await desk.authority.set_roles(login["subject"], ["keyfob:admin"])
    assert (await desk.ask("GET", "/session", bearer=token)).json()["roles"] == ["keyfob:admin"]
    await desk.authority.set_roles(login["subject"], [])
    assert await refused(desk, token, path="/admin/api/users") == ("insufficient_role", None)
    await desk.advance(30 * 60)
    assert await refused(desk, token) == ("idle", "login")


async def test_a_token_without_a_refresh_token_is_told_to_log_in(desk) -> None:
    await desk.user("alice", roles=("buyer",))
    login = (await desk.login("alice", strategy="jwt")).json()
    await desk.authority.set_roles(login["subject"], [])
    assert await refused(desk, login["access_token"]) == ("stale_claims", "login")
    await desk.advance(11 * 60)
    assert await refused(desk, login["access_token"]) == ("expired", "login")


async def test_nothing_helps_a_token_for_other_services(desk) -> None:
    await desk.user("alice")
    login = await hybrid(desk, audience="orders")
    assert await refused(desk, login["access_token"], path="/sessions") == ("wrong_audience", None)


async def test_a_forger_learns_no_way_in(desk) -> None:
    await desk.user("alice")
    token = (await hybrid(desk))["access_token"]
    header, payload, signature = token.split(".")
    broken = signature[:-2] + ("A" if signature[-2] != "A" else "B") + signature[-1]
    assert await refused(desk, f"{header}.{payload}.{broken}") == ("bad_signature", "login")
    forged = jws.sign(b'{"strategy":"hybrid"}', PrivateKey.generate(Algorithm.ES256), typ="at+jwt")
    # It says of itself that it could be refreshed: a hint that nobody checks, and that gets nobody in.
    assert await refused(desk, forged) == ("unknown_key", "refresh")
    assert (await desk.ask("POST", "/refresh", json_body={"refresh_token": forged})).status == 401


@pytest.mark.parametrize("path", ["/session", "/sessions", "/admin/api/users", "/check"])
async def test_every_route_names_the_cause(desk, path: str) -> None:
    await desk.user("alice")
    login = await hybrid(desk)
    await desk.authority.revoke("subject", login["subject"])
    answer = await desk.ask("GET", path, bearer=login["access_token"])
    assert (answer.status, answer.header("x-auth-cause")) == (401, "revoked")
    assert 'error_description="revoked"' in (answer.header("www-authenticate") or "")
    metrics = (await desk.ask("GET", "/metrics")).body.decode()
    assert 'keyfob_refusals_total{cause="revoked"} 1.0' in metrics


async def test_an_answer_explains_which_path_gave_it_and_why(desk) -> None:
    await desk.user("alice")
    login = await hybrid(desk)
    session = (await desk.login("alice", transport="body")).json()["session_token"]
    said = []
    for token in (login["access_token"], session):
        for _ in range(2):
            said.append((await desk.authority.authenticate(token)).explain())
    paths = ("signature", "verdict cache", "session", "session cache")
    reasons = (
        "its signature and claims hold,",
        "its signature and claims held when it was first seen,",
        "its session stands in the store,",
        "its session was read before,",
    )
    for line, path, why in zip(said, paths, reasons, strict=True):
        assert line.startswith(f"{path}: ")
        assert why in line
        assert f"subject {login['subject']}" in line
        assert "nothing that is known of the feed after position 0 covers it" in line
