"""ID tokens, hints and logout tokens: what the authority signs for OpenID clients alone."""

from __future__ import annotations

from keyfob.authority.backchannel_rules import notice_of
from keyfob.base.clock import Clock
from keyfob.clients.client import Client
from keyfob.grants.delivery import Delivery
from keyfob.keys.key_ring import KeyRing
from keyfob.sessions.session import Session
from keyfob.tokens.id_token import IdTokenHint, issue_id_token, read_hint
from keyfob.tokens.logout_token import issue_logout_token


class IdTokens:
    """Signs and reads them. No I/O."""

    def __init__(self, issuer: str, keys: KeyRing, *, clock: Clock) -> None:
        self._issuer = issuer
        self._keys = keys
        self._clock = clock

    def algorithms(self) -> tuple[str, ...]:
        """Return the algorithms by which ID tokens are signed now."""
        return (self._keys.signer().algorithm.value,)

    def issue(
        self,
        session: Session,
        *,
        nonce: str | None = None,
        access_token: str | None = None,
    ) -> str:
        """Issue the ID token of *session*, a login at a client; *access_token* is the one that is given beside it.

        Raises:
            Denied: `expired`: the session is at its end.
            InvalidRequest: `unfit_claims`.
        """
        return issue_id_token(
            session,
            issuer=self._issuer,
            key=self._keys.signer(),
            now=self._clock.now(),
            nonce=nonce,
            access_token=access_token,
        )

    def read_hint(self, text: str) -> IdTokenHint:
        """Read an `id_token_hint`, expired or not.

        Raises:
            Denied: it is no ID token of this issuer under a key that is still published.
        """
        return read_hint(text, self._keys.public_keys(), issuer=self._issuer)

    def logout_token(self, client: Client, delivery: Delivery) -> str:
        """Issue the logout token that says to *client* what *delivery* says.

        Raises:
            msgspec.DecodeError: the delivery is of another kind.
        """
        notice = notice_of(delivery)
        return issue_logout_token(
            issuer=self._issuer,
            client_id=client.client_id,
            subject=notice.sub,
            session_id=notice.sid,
            key=self._keys.signer(),
            now=self._clock.now(),
        )
