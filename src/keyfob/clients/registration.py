"""What a client at which people sign in states of itself, and the rules of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from keyfob.base.errors import InvalidRequest
from keyfob.clients import redirect_uri
from keyfob.clients.client import FOR_PEOPLE, OF_CONFIDENTIAL_CLIENTS, GrantType

MAX_URIS: Final = 32  # of one kind, of one client
MAX_NAME: Final = 100  # characters
URI_RULE: Final = (
    f"At most {MAX_URIS} URIs of at most {redirect_uri.MAX_URI} characters, without fragment or wildcard: https, http of "
    "127.0.0.1, [::1] or localhost, and for public clients a private-use scheme with a dot, such as com.example.app:/signed-in."
)
_ORIGIN: Final = re.compile(
    r"https://[a-z0-9.-]+(:[0-9]{1,5})?|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]{1,5})?"
)


_AT_A_PLACE: Final = frozenset({GrantType.AUTHORIZATION_CODE, GrantType.HAND_OFF})


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What a client at which people sign in states of itself; the fields are those of `Client`."""

    name: str = ""
    redirect_uris: Iterable[str] = ()
    post_logout_redirect_uris: Iterable[str] = ()
    backchannel_logout_uri: str | None = None
    backchannel_logout_session_required: bool = False
    cors_origins: Iterable[str] = ()
    first_party: bool = False
    public: bool = False
    require_par: bool = False

    def __post_init__(self) -> None:
        """Make sets of what was given, and check each.

        Raises:
            InvalidRequest: `invalid_name`, `invalid_redirect_uri`, `invalid_logout_uri` or `invalid_origin`.
        """

        def may_be_registered(uri: str) -> bool:
            return redirect_uri.may_be_registered(uri, public=self.public)

        for field, code in (
            ("redirect_uris", "invalid_redirect_uri"),
            ("post_logout_redirect_uris", "invalid_redirect_uri"),
        ):
            checked = _checked(getattr(self, field), may_be_registered, code=code, rule=URI_RULE)
            object.__setattr__(self, field, checked)
        origins = _checked(
            self.cors_origins,
            is_origin,
            code="invalid_origin",
            rule="An origin is https://host or https://host:port, as browsers write it.",
        )
        object.__setattr__(self, "cors_origins", origins)
        if not _is_name(self.name):
            raise InvalidRequest(
                "invalid_name", f"A name has at most {MAX_NAME} printable characters.", status=422
            )
        logout = self.backchannel_logout_uri
        if logout is not None and not redirect_uri.may_be_registered(logout, public=False):
            raise InvalidRequest("invalid_logout_uri", URI_RULE, status=422)


def checked_grants(grants: Iterable[GrantType] | None, registration: Registration) -> frozenset[GrantType]:
    """Return the grants of a client; None stands for what goes with *registration*.

    Raises:
        InvalidRequest: `invalid_grant_type`: they do not go with it, or with each other.
    """
    uris = frozenset(registration.redirect_uris)
    if grants is None:
        for_people = bool(uris) or registration.public
        return (
            frozenset({GrantType.AUTHORIZATION_CODE, GrantType.REFRESH_TOKEN})
            if for_people
            else frozenset({GrantType.CLIENT_CREDENTIALS})
        )
    chosen = frozenset(grants)
    if registration.public and chosen & OF_CONFIDENTIAL_CLIENTS:
        raise _unfit("A public client cannot act for itself: nobody can tell that it is itself.")
    if GrantType.REFRESH_TOKEN in chosen and not chosen & FOR_PEOPLE:
        raise _unfit("refresh_token goes with authorization_code, device_code or hand-off.")
    if GrantType.HAND_OFF in chosen and (registration.public or not registration.first_party):
        raise _unfit(
            "A login is handed off to a client of the deployment's own alone, and to one that can prove who it is."
        )
    return chosen


def require_place(grants: frozenset[GrantType], registration: Registration) -> None:
    """Refuse a client that takes codes or logins and has no place for them, or a place and takes none.

    Raises:
        InvalidRequest: `invalid_grant_type`.
    """
    if bool(grants & _AT_A_PLACE) != bool(frozenset(registration.redirect_uris)):
        raise _unfit("authorization_code and hand-off need a redirect URI, and a redirect URI one of them.")


def is_origin(text: str) -> bool:
    """Say whether *text* is the origin of a page as browsers write it: no default port, nothing behind the port."""
    if _ORIGIN.fullmatch(text) is None:
        return False
    scheme, _, rest = text.partition("://")
    port = re.search(r":([0-9]+)$", rest)
    if port is None:
        return True
    default = {"https": "443", "http": "80"}[scheme]
    return port[1] != default and not port[1].startswith("0") and int(port[1]) <= 65_535


def _checked(texts: Iterable[str], is_fit: Callable[[str], bool], *, code: str, rule: str) -> frozenset[str]:
    checked = frozenset(texts)
    if isinstance(texts, str) or len(checked) > MAX_URIS or not all(map(is_fit, checked)):
        raise InvalidRequest(code, rule, status=422)
    return checked


def _is_name(text: str) -> bool:
    """Say whether people can be shown *text*: nothing that turns a line around or hides."""
    return len(text) <= MAX_NAME and text.isprintable() and text == text.strip()


def _unfit(why: str) -> InvalidRequest:
    return InvalidRequest("invalid_grant_type", why, status=422)
