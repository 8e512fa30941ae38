"""The request for a token: one POST to the authority, bounded in size and time, with no redirects."""

from __future__ import annotations

import os
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, urlencode

import msgspec
import urllib3
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from keyfob.base import base64url
from keyfob.base.clock import Clock
from keyfob.base.errors import AuthorityUnavailable, Cause, ConfigurationError, Denied
from keyfob.base.identifiers import KeyId
from keyfob.base.opaque import OpaqueKind, kind_of
from keyfob.integrations.service_tokens import FetchedToken
from keyfob.jwt import jws
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey
from keyfob.verifier.settings import require_safe_url

MAX_ANSWER: Final = 64 * 1024  # bytes
ASSERTION_LIFETIME: Final = 60  # seconds
TIMEOUT: Final = 10.0  # seconds for connecting and for the answer to begin
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_API_KEY = "urn:keyfob:token-type:api-key"
_VISIBLE = frozenset(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class SigningClient:
    """A client that signs assertions with a key of its own, whose public part the authority knows (`keyfob client set-keys`)."""

    client_id: str
    key: PrivateKey

    @classmethod
    def from_pem(
        cls, client_id: str, pem: bytes, *, password: bytes | None = None, key_id: str | None = None
    ) -> Self:
        """Take the private key in *pem*: EC P-256 or P-384, Ed25519, or RSA, which signs PS256. The key's id is its thumbprint unless given.

        Raises:
            ConfigurationError: there is no such key in it.
        """
        try:
            material = load_pem_private_key(pem, password)
            if not isinstance(material, ec.EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey):
                raise ConfigurationError("the key of a client is an EC, Ed25519 or RSA key")
            named = None if key_id is None else KeyId(key_id)
            return cls(client_id, PrivateKey.of(material, _algorithm_of(material), key_id=named))
        except (ValueError, TypeError):
            raise ConfigurationError("there is no private key that can be used in the PEM text") from None


Credentials = tuple[str, str] | SigningClient | str
"""A client's id and secret, a client that signs, or an API key (which is exchanged)."""


class _Answer(msgspec.Struct, frozen=True):
    access_token: str
    token_type: str
    expires_in: int


class _Error(msgspec.Struct, frozen=True):
    error: str = ""


class TokenClient:
    """Asks one authority for tokens. Safe to use from several threads."""

    def __init__(
        self,
        issuer: str,
        credentials: Credentials,
        *,
        audience: str | None,
        scopes: Collection[str],
        ca: str | None,
        clock: Clock,
    ) -> None:
        """Take what is asked for each time.

        Raises:
            ConfigurationError: the issuer is no address that is safe to ask, *ca* is no file of certificates, or the credentials are none.
        """
        require_safe_url(issuer)
        if isinstance(scopes, str):
            raise ConfigurationError('scopes is a collection of strings, such as {"orders:read"}')
        self._issuer = issuer
        self._url = issuer.rstrip("/") + "/oauth/token"
        self._credentials = credentials
        self._clock = clock
        self._wanted = {"audience": audience} if audience else {}
        self._wanted |= {"scope": " ".join(sorted(scopes))} if scopes else {}
        if isinstance(credentials, str) and kind_of(credentials) is not OpaqueKind.API_KEY:
            raise ConfigurationError(
                "credentials are (client_id, client_secret), a SigningClient, or an API key (kfk_...)"
            )
        try:
            context = ssl.create_default_context(cafile=ca)
        except OSError as error:  # among them SSLError
            raise ConfigurationError(f"ca={ca!r} cannot be used: {error}") from None
        self._pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False, ssl_context=context)

    def fetch(self) -> FetchedToken:
        """Ask for a token.

        Raises:
            Denied: `bad_credentials`: the authority does not take the client's credentials.
            ConfigurationError: it gives this client nothing for what is asked.
            AuthorityUnavailable: there is no answer, or none that can be used.
        """
        fields, headers = self._authenticated()
        try:
            response = self._pool.request(
                "POST",
                self._url,
                body=urlencode({**fields, **self._wanted}),
                headers={
                    "Content-Type": "application/x-www-form-urlencoded",
                    "Accept": "application/json",
                    "User-Agent": "keyfob-service",
                    **headers,
                },
                redirect=False,
                preload_content=False,
                timeout=urllib3.Timeout(TIMEOUT),
            )
            try:
                raw = response.read(MAX_ANSWER, decode_content=True)
            finally:
                response.close()  # the next one is minutes away
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise AuthorityUnavailable(f"the authority does not answer: {type(error).__name__}") from None
        if response.status == 200:
            return _read(raw)
        raise _refusal(response, raw)

    def close(self) -> None:
        """Close the connection."""
        self._pool.clear()

    def _authenticated(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the fields and headers by which the service says who it is."""
        match self._credentials:
            case str(api_key):
                return {
                    "grant_type": _EXCHANGE,
                    "subject_token": api_key,
                    "subject_token_type": _API_KEY,
                }, {}
            case SigningClient():
                return {
                    "grant_type": "client_credentials",
                    "client_assertion_type": _ASSERTION,
                    "client_assertion": self._assertion(self._credentials),
                }, {}
            case (client_id, secret):
                basic = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
                return {"grant_type": "client_credentials"}, dict(urllib3.make_headers(basic_auth=basic))

    def _assertion(self, client: SigningClient) -> str:
        """Sign a fresh assertion: its audience is the issuer alone (RFC 7523, section 3)."""
        now = int(self._clock.time())
        claims = {
            "iss": client.client_id,
            "sub": client.client_id,
            "aud": self._issuer,
            "iat": now,
            "exp": now + ASSERTION_LIFETIME,
            "jti": base64url.encode(os.urandom(16)),
        }
        return jws.sign(msgspec.json.encode(claims), client.key, typ="client-authentication+jwt")


def _read(raw: bytes) -> FetchedToken:
    try:
        answer = msgspec.json.decode(raw, type=_Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise AuthorityUnavailable("the authority's answer is no token") from None
    is_fit = answer.access_token and _VISIBLE.issuperset(answer.access_token)
    if answer.token_type.lower() != "bearer" or not is_fit or answer.expires_in < 1:
        raise AuthorityUnavailable("the authority's answer is no bearer token")
    return FetchedToken(answer.access_token, float(answer.expires_in))


def _refusal(
    response: urllib3.BaseHTTPResponse, raw: bytes
) -> Denied | ConfigurationError | AuthorityUnavailable:
    """Return what an answer other than 200 is to the service."""
    try:
        name = msgspec.json.decode(raw, type=_Error).error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        name = ""
    shown = name if name.isascii() and name.isprintable() and len(name) < 50 else ""
    if response.status == 401:
        return Denied(Cause.BAD_CREDENTIALS, "the authority does not take these credentials")
    if response.status == 400:
        return ConfigurationError(f"the authority gives no token for this: {shown or 'it does not say why'}")
    after = response.headers.get("Retry-After", "1")
    return AuthorityUnavailable(
        f"the authority answered {response.status}",
        retry_after=float(after) if after.isascii() and after.isdigit() and len(after) < 6 else 1.0,
    )


def _algorithm_of(material: ec.EllipticCurvePrivateKey | Ed25519PrivateKey | RSAPrivateKey) -> Algorithm:
    if isinstance(material, RSAPrivateKey):
        return Algorithm.PS256
    if isinstance(material, Ed25519PrivateKey):
        return Algorithm.EDDSA
    return Algorithm.ES384 if isinstance(material.curve, ec.SECP384R1) else Algorithm.ES256
