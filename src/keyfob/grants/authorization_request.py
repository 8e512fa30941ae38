"""The authorization request: what a client asks the user's browser to bring to `/oauth/authorize`, or pushes beforehand. Pure.

1. Where the answer goes: a redirect URI of the client. Until that is known nothing is sent anywhere; the user is told instead.
2. No parameter is there twice, and none asks for what there is not (`request`, `registration`).
3. `response_type` is `code`; the client is one that takes codes, and pushes its requests where it must.
4. PKCE with `S256`, for every client.
5. The scopes and the audience are the client's.
6. What it asks of the login (`prompting`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final, Protocol

from keyfob.base.errors import GrantRefused, InvalidRequest
from keyfob.base.identifiers import ClientId, Subject
from keyfob.grants import pkce, scope, target
from keyfob.grants.parameters import Parameters
from keyfob.grants.prompting import Prompt, read_max_age, read_prompts

MAX_STATE: Final = 1024  # characters
MAX_NONCE: Final = 255  # characters
MAX_HINT: Final = 4096  # characters
MAX_NAME: Final = 255  # characters
_VISIBLE: Final = re.compile(r"[ -~]+")  # what a state is made of (RFC 6749, appendix A.5)
_NOT_THERE: Final = {
    "request": "request_not_supported",
    "request_uri": "request_uri_not_supported",
    "registration": "registration_not_supported",
}
"""What there is not, by its parameter, and how the client is told (OpenID Connect Core 1.0, section 3.1.2.6)."""


class Way(StrEnum):
    """How a request came: with the user's browser, or from its client itself over a connection of its own (RFC 9126)."""

    BROWSER = "browser"
    PUSHED = "pushed"


class Asking(Protocol):
    """What is asked of a client's record here."""

    @property
    def client_id(self) -> ClientId: ...
    @property
    def scopes(self) -> frozenset[str]: ...
    @property
    def audiences(self) -> frozenset[str]: ...
    @property
    def redirect_uris(self) -> frozenset[str]: ...
    @property
    def require_par(self) -> bool: ...
    @property
    def takes_codes(self) -> bool: ...
    def returns_to(self, uri: str, /) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an answer goes: a redirect URI that is the client's, and the `state` that the client finds its own request by."""

    redirect_uri: str
    state: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRequest:
    """A request that is in order.

    `redirect_uri_named` says that the client named its redirect URI, and must name it again with the code. `scopes` and `audience` are what
    the code will give. `prompts`, `max_age` and `hinted` (whom `id_token_hint` is about) are for `prompting`.
    """

    client_id: ClientId
    redirect_uri: str
    redirect_uri_named: bool
    challenge: str
    scopes: frozenset[str]
    audience: str
    state: str | None = None
    nonce: str | None = None
    prompts: frozenset[Prompt] = frozenset()
    max_age: timedelta | None = None
    hinted: Subject | None = None
    login_hint: str = ""
    acr_values: tuple[str, ...] = ()

    @property
    def place(self) -> Place:
        """Return where the answer goes."""
        return Place(redirect_uri=self.redirect_uri, state=self.state)


def place_of(parameters: Parameters, client: Asking) -> Place:
    """Return where the answer to a request of *client* goes.

    Raises:
        InvalidRequest: `invalid_redirect_uri`: none that is the client's. Nothing may be sent anywhere.
    """
    if "redirect_uri" in parameters.repeated:
        raise _no_place()
    named = parameters.get("redirect_uri")
    if named is None and len(client.redirect_uris) != 1:
        raise _no_place()
    uri = next(iter(client.redirect_uris)) if named is None else named
    if not client.returns_to(uri):
        raise _no_place()
    state = parameters.get("state")
    is_fit = state is not None and len(state) <= MAX_STATE and _VISIBLE.fullmatch(state) is not None
    return Place(redirect_uri=uri, state=state if is_fit else None)


def read_request(
    parameters: Parameters,
    client: Asking,
    place: Place,
    *,
    issuer: str,
    way: Way = Way.BROWSER,
    hinted: Subject | None = None,
) -> AuthorizationRequest:
    """Read the request of *client*, whose answer goes to *place* and which came by *way*; *hinted* is whom its `id_token_hint` is about.

    Raises:
        GrantRefused: the client is told at *place*, or where it pushed it; `code` is the error's name (RFC 6749, section 4.1.2.1).
    """
    # 2.
    if parameters.repeated:
        raise _invalid("A parameter is there twice.")
    if parameters.get("state") != place.state:
        raise _invalid(f"state has at most {MAX_STATE} visible characters.")
    for name, code in _NOT_THERE.items():
        if parameters.get(name) is not None:
            raise GrantRefused(code, f"{name} is not taken here.")
    # 3.
    _require_code(parameters, client, way)
    # 4.
    challenge = _challenge(parameters)
    # 5.
    scopes = scope.asked(parameters.get("scope"), client.scopes)
    audience = target.one_audience(
        client.audiences,
        target.asked(audience=parameters.get("audience"), resource=parameters.get("resource")),
        issuer=issuer,
    )
    # 6.
    nonce = parameters.get("nonce")
    if nonce is not None and len(nonce) > MAX_NONCE:
        raise _invalid(f"nonce has at most {MAX_NONCE} characters.")
    try:
        prompts, max_age = read_prompts(parameters.get("prompt")), read_max_age(parameters.get("max_age"))
    except ValueError as error:
        raise _invalid(f"prompt or max_age: {error}.") from None
    return AuthorizationRequest(
        client_id=client.client_id,
        redirect_uri=place.redirect_uri,
        redirect_uri_named=parameters.get("redirect_uri") is not None,
        challenge=challenge,
        scopes=scopes,
        audience=audience,
        state=place.state,
        nonce=nonce,
        prompts=prompts,
        max_age=max_age,
        hinted=hinted,
        login_hint=(parameters.get("login_hint") or "")[:MAX_NAME],
        acr_values=tuple((parameters.get("acr_values") or "").split()),
    )


def require_fit(request: AuthorizationRequest, client: Asking, *, issuer: str) -> None:
    """Refuse a request that was in order when it was kept, and is no longer what *client* may ask.

    Raises:
        InvalidRequest: `invalid_redirect_uri`: nothing may be sent anywhere.
        GrantRefused: the client is told.
    """
    if not client.returns_to(request.redirect_uri):
        raise _no_place()
    if not client.takes_codes:
        raise GrantRefused("unauthorized_client", "This client takes no codes.")
    if not request.scopes <= scope.grantable(client.scopes):
        raise GrantRefused("invalid_scope", "A scope that this client may no longer ask for.")
    target.one_audience(client.audiences, request.audience, issuer=issuer)


def _require_code(parameters: Parameters, client: Asking, way: Way) -> None:
    response_type = parameters.get("response_type")
    if response_type is None:
        raise _invalid("response_type is required.")
    if response_type != "code":
        raise GrantRefused("unsupported_response_type", "response_type is code, and nothing else.")
    if parameters.get("response_mode") not in {None, "query"}:
        raise _invalid("response_mode is query, and nothing else.")
    if not client.takes_codes:
        raise GrantRefused("unauthorized_client", "This client takes no codes.")
    if client.require_par and way is not Way.PUSHED:
        raise _invalid("This client pushes its requests (RFC 9126).")


def _challenge(parameters: Parameters) -> str:
    challenge = parameters.get("code_challenge")
    if challenge is None:
        raise _invalid("code_challenge is required (RFC 7636).")
    if parameters.get("code_challenge_method") != pkce.METHOD:  # absent, it means plain
        raise _invalid(f"code_challenge_method is {pkce.METHOD}, and nothing else.")
    if not pkce.is_challenge(challenge):
        raise _invalid("code_challenge is 43 characters of base64url.")
    return challenge


def _invalid(why: str) -> GrantRefused:
    return GrantRefused("invalid_request", why)


def _no_place() -> InvalidRequest:
    return InvalidRequest(
        "invalid_redirect_uri", "The application asks to return to a place that is not registered for it."
    )
