"""The check of an access token, as far as it needs no feed (RFC 9068, section 4).

In this order; the first that fails names the cause (contract.md):

1. size and form                                        `malformed`
2. the type is `at+jwt`                                 `wrong_type`
3. the algorithm is known                               `unsupported_algorithm`
4. the key is known                                     `unknown_key`
5. the algorithm is the key's                           `unsupported_algorithm`
6. the signature                                        `bad_signature`
7. the shape of the claims                              `malformed`
8. the issuer, exactly                                  `wrong_issuer`
9. an audience, exactly                                 `wrong_audience`
10. not before `nbf`, `iat` at most 60 s ahead          `not_yet_valid`
11. before `exp`                                        `expired`
12. no key that the holder would have to prove          `proof_required`

Steps 1 to 6 are `jws.verify_signed`. The feed rule, staleness and the policy of the route come after, in `Verifier`.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import UTC, datetime
from functools import lru_cache

from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import KeyId
from keyfob.base.principal import Principal
from keyfob.jwt import jws
from keyfob.jwt.claims import read_claims
from keyfob.jwt.jwk import PublicKey
from keyfob.jwt.shared_secret import SharedSecret

ACCESS_TOKEN_TYPE = "at+jwt"  # (RFC 9068, section 2.1)
MAX_AHEAD = 60  # seconds that `iat` may lie in the future: the clocks of two machines
_moment = datetime.fromtimestamp


# The memories of pure functions: few audiences, scopes and sets of roles stand in very many tokens, and verdicts that share them are smaller.
@lru_cache(maxsize=256)
def _audience(claim: str | tuple[str, ...]) -> tuple[str, ...]:
    return (claim,) if isinstance(claim, str) else claim


@lru_cache(maxsize=256)
def _names(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(names)


@lru_cache(maxsize=256)
def _scopes(scope: str | None) -> frozenset[str]:
    return frozenset(scope.split(" ")) if scope else frozenset()


def check_access_token(
    token: str,
    *,
    keys: Mapping[KeyId, PublicKey],
    issuer: str,
    audiences: Set[str] | None,
    now: float,
) -> Principal:
    """Check *token* with the public *keys* of *issuer* at *now* (seconds since the epoch) and return its principal.

    *audiences* are those that this service answers to; None takes any audience of the issuer. A token is good at exactly `nbf`, and no
    longer at exactly `exp`; at exactly 60 s ahead `iat` is still taken. There is no leeway.

    Raises:
        Denied: with the cause of the first check that fails; see the module.
    """
    payload, key_id = jws.verify_signed(token, keys, typ=ACCESS_TOKEN_TYPE)
    return _checked(payload, key_id, issuer, audiences, now)


def check_shared_token(
    token: str, *, secret: SharedSecret, issuer: str, audiences: Set[str] | None, now: float
) -> Principal:
    """Do as `check_access_token` with the shared secret of this process, and HS256 as the only algorithm.

    Raises:
        Denied: as `check_access_token`.
    """
    payload, key_id = jws.verify_shared(token, secret, typ=ACCESS_TOKEN_TYPE)
    return _checked(payload, key_id, issuer, audiences, now)


def _checked(payload: bytes, key_id: KeyId, issuer: str, audiences: Set[str] | None, now: float) -> Principal:
    # 7. The shape.
    claims, others = read_claims(payload)
    # 8. The issuer.
    if claims.iss != issuer:
        raise Denied(Cause.WRONG_ISSUER, f"not of {issuer}")
    # 9. The audience.
    audience = _audience(claims.aud)
    if audiences is not None and audiences.isdisjoint(audience):
        raise Denied(Cause.WRONG_AUDIENCE, "for other services")
    # 10. and 11. The times.
    issued, expires, authenticated = claims.iat, claims.exp, claims.auth_time
    if issued > now + MAX_AHEAD or (claims.nbf is not None and claims.nbf > now):
        raise Denied(Cause.NOT_YET_VALID, f"now is {now:.0f}, iat {issued}, nbf {claims.nbf}")
    if expires <= now:
        raise Denied(Cause.EXPIRED, f"{now - expires:.0f} s ago")
    # 12. A bound token in the hands of somebody who proves nothing may be a stolen one (RFC 9449, section 7.2).
    if claims.cnf is not None:
        raise Denied(Cause.PROOF_REQUIRED, "bound to a key, and nothing here checks a proof")
    return Principal(
        subject=claims.sub,
        client_id=claims.client_id,
        strategy=claims.strategy,
        audience=audience,
        issued_at=_moment(issued, UTC),
        expires_at=_moment(expires, UTC),
        as_of=claims.as_of,
        session_id=claims.sid,
        roles=_names(claims.roles),
        scopes=_scopes(claims.scope),
        auth_time=None if authenticated is None else _moment(authenticated, UTC),
        amr=claims.amr,
        acr=claims.acr,
        claims=others,
        timeline=claims.tl,
        token_id=claims.jti,
        parent_session_id=claims.psid,
        parent_client_id=claims.pcid,
        key_id=key_id,
        path="signature",
    )
