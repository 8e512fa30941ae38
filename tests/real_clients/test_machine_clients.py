"""Machines by clients that others wrote, over HTTPS: openid-client and jose on node, Authlib, requests-oauthlib.

They are configured from the metadata alone, as their users would do it; what they refuse by themselves would fail the test.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import requests
from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey
from oauthlib.oauth2 import BackendApplicationClient
from requests_oauthlib import OAuth2Session

from keyfob.authority.authority import Authority
from keyfob.base.errors import Cause, Denied
from keyfob.clients.client import GrantType
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.verifier.verifier import Verifier

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

DEADLINE = 30.0  # seconds until a revocation must have come, on the busiest machine


@dataclass(frozen=True, slots=True)
class Clients:
    """Two clients of the authority: one with a secret, one with a key."""

    secret: str
    key: PrivateKey
    follower: tuple[str, str]


@pytest.fixture(scope="module")
def clients(site: Any) -> Clients:
    key = PrivateKey.generate(Algorithm.ES256)

    async def add(authority: Authority) -> tuple[str, str]:
        scopes = ("orders:read", "orders:write", "keyfob:introspect")
        added = await authority.clients.add("billing", scopes=scopes, audiences=["orders", "stock"])
        await authority.clients.add(
            "robot",
            scopes=scopes,
            audiences=["orders"],
            grant_types=[GrantType.CLIENT_CREDENTIALS],
            public_keys=json.dumps(jwk_set([key.public])).encode(),
        )
        follower = await authority.clients.add("orders", scopes=["keyfob:feed"])
        return str(added.secret), str(follower.secret)

    secret, follower = site.with_authority(add)
    return Clients(secret, key, ("orders", follower))


@pytest.fixture(scope="module")
def verifier(site: Any, clients: Clients) -> Iterator[Verifier]:
    """A resource server that follows the authority, and trusts the CA of the test alone."""
    following = Verifier.follow(
        site.issuer,
        audience="orders",
        credentials=clients.follower,
        ca=str(site.ca),
        max_staleness=timedelta(seconds=60),
    )
    with following as verifier:
        yield verifier


def denied_soon(verifier: Verifier, token: str) -> Cause:
    """Return why the verifier denies *token*, as soon as it does."""
    until = time.monotonic() + DEADLINE
    while time.monotonic() < until:
        try:
            verifier.verify(token)
        except Denied as denied:
            return denied.cause
        time.sleep(0.001)
    raise AssertionError("the revocation did not arrive")


@pytest.fixture(scope="module")
def world(site: Any, clients: Clients) -> dict[str, object]:
    """What the script on node is told."""
    return {
        "issuer": site.issuer,
        "client_id": "billing",
        "client_secret": clients.secret,
        "key_client_id": "robot",
        "private_key": {**private_key(clients.key).as_dict(private=True), "kid": clients.key.key_id},
    }


@pytest.fixture(scope="module")
def told(world: dict[str, object], run_node: Callable[..., Any]) -> Any:
    """What openid-client and jose did."""
    return run_node("machines.mjs", world)


def private_key(key: PrivateKey) -> ECKey:
    """Return *key* as another library has it."""
    pem = key._material.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return ECKey.import_key(pem)


# openid-client and jose


@pytest.mark.meets("9700-2.6a", "8414-3.3")
def test_openid_client_gets_tokens_in_each_way(told: Any) -> None:
    assert told["tokens"].keys() == {"client_secret_basic", "client_secret_post", "private_key_jwt"}
    for token in told["tokens"].values():
        assert (token["type"].lower(), token["expires_in"], token["scope"]) == ("bearer", 600, "orders:read")


def test_jose_checks_a_token_with_the_published_keys(told: Any, site: Any) -> None:
    payload = told["verified"]["payload"]
    assert (payload["iss"], payload["sub"], payload["aud"]) == (site.issuer, "billing", "orders")
    assert told["verified"]["protectedHeader"]["typ"] == "at+jwt"
    assert told["wrongAudience"]["code"] == "ERR_JWT_CLAIM_VALIDATION_FAILED"


@pytest.mark.meets("9701-b")
def test_openid_client_introspects_plain_and_signed(told: Any) -> None:
    assert told["introspected"]["active"] is True
    assert told["introspected"]["sub"] == "billing"
    assert told["signed"] == told["introspected"]


@pytest.mark.meets("7009-R4/R5")
def test_openid_client_gives_a_token_back_and_no_other(told: Any) -> None:
    assert (told["revoked"], told["revokedTwice"]) == (None, None)
    assert told["afterwards"] == {"active": False}
    assert told["others"]["active"] is True


def test_openid_client_hears_what_is_wrong(told: Any) -> None:
    assert told["wrongSecret"]["status"] == 401
    assert told["wrongSecret"]["code"] == "OAUTH_WWW_AUTHENTICATE_CHALLENGE"
    assert (told["wrongScope"]["error"], told["wrongScope"]["status"]) == ("invalid_scope", 400)


@pytest.mark.meets("7009-R9")
def test_what_node_gave_back_is_denied_by_a_verifier_that_follows(told: Any, verifier: Verifier) -> None:
    assert denied_soon(verifier, told["tokens"]["client_secret_basic"]["text"]) is Cause.REVOKED
    assert verifier.verify(told["tokens"]["client_secret_post"]["text"]).subject == "billing"


@pytest.mark.meets("7009-R17")
def test_openid_client_does_not_speak_to_a_server_it_does_not_trust(
    world: dict[str, object], run_node: Callable[..., Any]
) -> None:
    """RFC 7009, section 5: the client makes sure whose endpoint it is."""
    with pytest.raises(AssertionError, match=r"(?i)certificate"):
        run_node("machines.mjs", world, ca=None)


# Authlib


class ShortLived(PrivateKeyJWT):
    """Signs for the issuer, for a minute, with a jti of its own each time.

    Authlib's own default is the address of the endpoint, for an hour: with that, another authority could play the assertion here.
    """

    def sign(self, auth: Any, token_endpoint: str) -> str:
        self.claims = {"exp": int(time.time()) + 60}
        return str(super().sign(auth, token_endpoint))


def metadata_of(site: Any) -> dict[str, Any]:
    return json.loads(site.pool.request("GET", f"{site.issuer}/.well-known/oauth-authorization-server").data)


def authlib_session(site: Any, **options: Any) -> AuthlibSession:
    session = AuthlibSession(scope="orders:read", **options)
    session.verify = str(site.ca)
    return session


@pytest.mark.meets("7009-R9", "7662-R003")
@pytest.mark.parametrize("way", ["client_secret_basic", "client_secret_post", "private_key_jwt"])
def test_authlib_gets_introspects_and_gives_back(
    site: Any, clients: Clients, verifier: Verifier, way: str
) -> None:
    metadata = metadata_of(site)
    assert way in metadata["token_endpoint_auth_methods_supported"]
    if way == "private_key_jwt":
        session = authlib_session(
            site,
            client_id="robot",
            client_secret=private_key(clients.key),
            token_endpoint_auth_method=way,
            revocation_endpoint_auth_method=way,
        )
        session.register_client_auth_method(ShortLived(metadata["issuer"], alg="ES256"))
    else:
        session = authlib_session(
            site,
            client_id="billing",
            client_secret=clients.secret,
            token_endpoint_auth_method=way,
            revocation_endpoint_auth_method=way,
        )
    with session:
        token = session.fetch_token(
            metadata["token_endpoint"], grant_type="client_credentials", audience="orders"
        )
        assert verifier.verify(token["access_token"]).scopes == {"orders:read"}
        told = session.introspect_token(metadata["introspection_endpoint"], token=token["access_token"])
        assert told.json()["active"] is True, told.json()
        answer = session.revoke_token(
            metadata["revocation_endpoint"], token=token["access_token"], token_type_hint="refresh_token"
        )
        assert (answer.status_code, answer.content) == (200, b"")
        assert denied_soon(verifier, token["access_token"]) is Cause.REVOKED
        again = session.introspect_token(metadata["introspection_endpoint"], token=token["access_token"])
        assert again.json() == {"active": False}


def test_authlib_hears_what_is_wrong(site: Any, clients: Clients) -> None:
    metadata = metadata_of(site)
    with (
        authlib_session(site, client_id="billing", client_secret="wrong") as session,
        pytest.raises(OAuthError, match="invalid_client"),
    ):
        session.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
    with authlib_session(site, client_id="billing", client_secret=clients.secret) as session:
        session.scope = "everything"
        with pytest.raises(OAuthError, match="invalid_scope"):
            session.fetch_token(
                metadata["token_endpoint"], grant_type="client_credentials", audience="orders"
            )


# requests-oauthlib


def test_requests_oauthlib_gets_uses_and_gives_back(site: Any, clients: Clients, verifier: Verifier) -> None:
    metadata = metadata_of(site)
    client = BackendApplicationClient(client_id="billing", scope=["orders:read"])
    with OAuth2Session(client=client) as session:
        session.verify = str(site.ca)
        token = session.fetch_token(
            metadata["token_endpoint"], client_secret=clients.secret, audience="orders", verify=str(site.ca)
        )
        assert (token["token_type"], token["scope"]) == ("Bearer", ["orders:read"])
        assert verifier.verify(token["access_token"]).subject == "billing"
        address, headers, body = client.prepare_token_revocation_request(
            metadata["revocation_endpoint"], token["access_token"], token_type_hint="access_token"
        )
        answer = requests.post(
            address,
            data=body,
            headers=headers,
            auth=("billing", clients.secret),
            verify=str(site.ca),
            timeout=DEADLINE,
        )
        assert (answer.status_code, answer.content) == (200, b"")
        assert denied_soon(verifier, token["access_token"]) is Cause.REVOKED


@pytest.mark.meets("7009-R17")
def test_none_of_them_speaks_to_a_server_it_does_not_trust(site: Any, clients: Clients) -> None:
    address = f"{site.issuer}/oauth/token"
    with AuthlibSession("billing", clients.secret) as session, pytest.raises(requests.exceptions.SSLError):
        session.fetch_token(address, grant_type="client_credentials")
    client = BackendApplicationClient(client_id="billing")
    with OAuth2Session(client=client) as session, pytest.raises(requests.exceptions.SSLError):
        session.fetch_token(address, client_secret=clients.secret)
