"""`keyfob client` and `keyfob api-key`: secrets, keys, and what each of them says."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from typer.testing import CliRunner

from keyfob.authority.authority import Authority
from keyfob.base.errors import Denied
from keyfob.cli.commands import commands
from keyfob.server.opening import open_authority
from keyfob.server.settings import Settings

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("KEYFOB_")]:
        monkeypatch.delenv(name)


def done(*arguments: str) -> str:
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("keyfob: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def document(*arguments: str) -> Any:
    return json.loads(done(*arguments, "--json"))


def with_store(work: Callable[[Authority], Awaitable[T]]) -> T:
    async def opened_and_closed() -> T:
        async with open_authority(Settings()) as authority:
            return await work(authority)

    return asyncio.run(opened_and_closed())


def is_good(secret: str) -> bool:
    async def work(authority: Authority) -> bool:
        try:
            await authority.clients.authenticate("billing", secret)
        except Denied:
            return False
        return True

    return with_store(work)


def pem(key: Any) -> bytes:
    raw: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return raw


def test_a_secret_is_rotated_and_replaced() -> None:
    first = document("client", "add", "billing")["client_secret"]
    text = done("client", "rotate-secret", "billing")
    assert "goes on until the next rotation" in text
    (second,) = re.findall(r"kfc_[A-Za-z0-9_-]+", text)
    assert [is_good(first), is_good(second)] == [True, True]
    third = document("client", "rotate-secret", "billing")["client_secret"]
    assert [is_good(one) for one in (first, second, third)] == [False, True, True]
    text = done("client", "rotate-secret", "billing", "--compromised", "--reason", "in a log")
    assert "everything of billing ended (entry 1, end)" in text
    (fourth,) = re.findall(r"kfc_[A-Za-z0-9_-]+", text)
    assert [is_good(one) for one in (second, third, fourth)] == [False, False, True]
    shown = done("client", "show", "billing")
    assert re.search(r"secrets: +1\n", shown)
    for secret in (first, second, third, fourth):
        assert secret not in shown
    assert "no such client" in refused("client", "rotate-secret", "nobody")
    assert "no such client" in refused("client", "rotate-secret", "nobody", "--compromised")
    assert "no such client" in refused("client", "show", "nobody")


def test_a_client_is_added_with_keys_and_given_others(tmp_path: Path) -> None:
    Path("one.pem").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    added = document(
        *("client", "add", "robot", "--public-keys", "one.pem", "--lifetime", "60"),
        *("--grant", "client_credentials", "--grant", "token-exchange"),
    )
    assert (added["client_secret"], added["secrets"], added["access_lifetime"]) == (None, 0, 60.0)
    assert len(added["key_ids"]) == 1
    assert len(added["grant_types"]) == 2
    assert "client_secret" not in done("client", "add", "other", "--public-keys", "one.pem")
    Path("rsa.pem").write_bytes(pem(generate_private_key(65537, 2048)))
    assert re.search(r"robot signs with: \S+; secrets: 0", done("client", "set-keys", "robot", "rsa.pem"))
    assert document("client", "show", "robot")["key_ids"] != added["key_ids"]
    for name, content in (
        (
            "private.pem",
            b"-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n",
        ),
        ("x25519.pem", pem(x25519.X25519PrivateKey.generate())),
        ("weak.pem", pem(generate_private_key(65537, 1024))),
        ("empty", b""),
        ("none.json", b'{"keys":[]}'),
        ("oct.json", b'{"kty":"oct","k":"AAAA"}'),
    ):
        Path(name).write_bytes(content)
        assert "public keys" in refused("client", "set-keys", "robot", name), name
    assert "cannot be read" in refused("client", "set-keys", "robot", "nowhere.pem")
    assert "cannot be read" in refused("client", "add", "x", "--public-keys", "nowhere.pem")


def test_api_keys_are_made_listed_and_revoked() -> None:
    done("client", "add", "ci", "--scope", "orders:write")
    text = done(
        "api-key", "add", "deploy", "--client", "ci", "--audience", "orders", "--scope", "orders:write"
    )
    (key,) = re.findall(r"kfk_[A-Za-z0-9_-]+", text)
    own = document(
        "api-key",
        "add",
        "laptop",
        "--user",
        "somebody",
        "--audience",
        "orders",
        "--role",
        "buyer",
        "--days",
        "3",
    )
    assert own["api_key"].startswith("kfk_")
    assert (own["subject"], own["roles"]) == ("somebody", ["buyer"])
    listed = document("api-key", "list")
    assert {one["name"] for one in listed} == {"deploy", "laptop"}
    assert [one["name"] for one in document("api-key", "list", "--client", "ci")] == ["deploy"]
    assert [one["name"] for one in document("api-key", "list", "--user", "somebody")] == ["laptop"]
    table = done("api-key", "list")
    assert "orders:write" in table
    for shown in (table, json.dumps(listed)):
        assert key not in shown
        assert own["api_key"] not in shown

    async def whose(authority: Authority) -> str:
        return (await authority.authenticate(key, audience="orders")).subject

    assert with_store(whose) == "ci"
    assert "(entry 1, end)" in done("api-key", "revoke", own["key_id"], "--reason", "lost")
    assert "over already" in refused("api-key", "revoke", own["key_id"])
    assert [one["name"] for one in document("api-key", "list")] == ["deploy"]
    done("revoke", "client", "ci")
    assert "there are no API keys" in done("api-key", "list")
    with pytest.raises(Denied, match="revoked"):
        with_store(whose)


def test_a_key_has_one_owner_and_stays_within_it() -> None:
    done("client", "add", "ci", "--audience", "orders")
    add = ("api-key", "add", "x", "--audience", "orders")
    assert "--user or --client" in refused(*add)
    assert "--user or --client" in refused(*add, "--user", "a", "--client", "ci")
    assert "no such client" in refused(*add, "--client", "nobody")
    assert "insufficient_scope" in refused(*add, "--client", "ci", "--scope", "a")
    assert "wrong_audience" in refused("api-key", "add", "x", "--audience", "stock", "--client", "ci")
    assert "seconds" in refused(*add, "--client", "ci", "--days", "400")
    assert "no such API key" in refused("api-key", "revoke", "0" * 32)
    assert "no such API key" in refused("api-key", "revoke", "nonsense")


def test_a_client_at_which_people_sign_in_is_added() -> None:
    shop = document(
        *("client", "add", "shop", "--redirect-uri", "https://shop.example/cb", "--name", "The shop"),
        *("--post-logout-redirect-uri", "https://shop.example/bye", "--first-party", "--require-par"),
        *("--backchannel-logout-uri", "https://shop.example/ended", "--backchannel-logout-session-required"),
        *("--cors-origin", "https://shop.example"),
    )
    assert shop["grant_types"] == ["authorization_code", "refresh_token"]
    assert shop["client_secret"].startswith("kfc_")
    shown = document("client", "show", "shop")
    assert (shown["redirect_uris"], shown["name"]) == (["https://shop.example/cb"], "The shop")
    assert shown["post_logout_redirect_uris"] == ["https://shop.example/bye"]
    assert shown["backchannel_logout_uri"] == "https://shop.example/ended"
    assert shown["cors_origins"] == ["https://shop.example"]
    assert (shown["first_party"], shown["public"], shown["require_par"]) == (True, False, True)
    assert shown["backchannel_logout_session_required"]
    assert "https://shop.example/cb" in done("client", "show", "shop")
    app = done("client", "add", "app", "--public", "--redirect-uri", "http://localhost/cb")
    assert "client_secret" not in app
    assert "127.0.0.1" in app
    assert "no secret" in refused("client", "rotate-secret", "app")
    assert "URI" in refused("client", "add", "x", "--redirect-uri", "http://shop.example/cb")
    assert "redirect URI" in refused("client", "add", "x", "--grant", "authorization_code")
    tv = document("client", "add", "tv", "--public", "--grant", "device_code", "--grant", "refresh_token")
    assert tv["grant_types"][0] == "refresh_token"
