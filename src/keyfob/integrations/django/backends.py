"""Authentication backends: `AUTHENTICATION_BACKENDS = ["keyfob.integrations.django.backends.ModelBackend"]`.

`ModelBackend` asks the project's table of users, `AuthorityBackend` the accounts of the authority in this process (`keyfob user add`), and
`RemoteBackend`, in `keyfob.integrations.django.remote`, an authority elsewhere.
"""

from __future__ import annotations

from typing import cast

from django.contrib.auth import backends
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from keyfob.authority.authority import Authority
from keyfob.authority.sign_in import SignIn
from keyfob.base.errors import Cause, Denied, RateLimited
from keyfob.integrations.django import session_records as records
from keyfob.integrations.django.caller import address_of
from keyfob.integrations.django.receivers import ATTEMPT
from keyfob.integrations.django.sources import current_sources
from keyfob.integrations.django.users import User


class ModelBackend(backends.ModelBackend):
    """Django's own, for sessions of Keyfob: whoever is cut off while the password is being checked is not signed in by it."""

    @sensitive_variables("password")
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: object,
    ) -> User | None:
        """Return the user whose name and password these are, None for anybody else."""
        attempt = current_sources().authority.call(records.begin)
        return _attempting(super().authenticate(request, username, password, **kwargs), attempt)

    @sensitive_variables("password")
    async def aauthenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: object,
    ) -> User | None:
        """See `authenticate`."""
        attempt = await current_sources().authority.acall(records.begin)
        return _attempting(await super().aauthenticate(request, username, password, **kwargs), attempt)


class AuthorityBackend(backends.ModelBackend):
    """Asks the accounts of the authority in this process, which throttles guesses; the user here is the one that `settings.KEYFOB["USERS"]` finds.

    Permissions are those of Django, as by its own backend.
    """

    @sensitive_variables("password")
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: object,
    ) -> User | None:
        """Return the user of the account whose name and password these are, None for anybody else, and after too many wrong guesses.

        Raises:
            Unavailable: it could not be found out.
        """
        if username is None or password is None:
            return None
        sources = current_sources()
        found = sources.authority.call(_Attempt(username, password, request))
        return found and _attempting(sources.configuration.users.find(found[0]), found[1])

    @sensitive_variables("password")
    async def aauthenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: object,
    ) -> User | None:
        """See `authenticate`."""
        if username is None or password is None:
            return None
        sources = current_sources()
        found = await sources.authority.acall(_Attempt(username, password, request))
        return found and _attempting(await sources.configuration.users.afind(found[0]), found[1])


class _Attempt:
    """One attempt to sign in with a password: begins before the account is read, and does not show the password."""

    def __init__(self, username: str, password: str, request: HttpRequest | None) -> None:
        self._username = username
        self._password = password
        self._address = "" if request is None else address_of(request)

    async def __call__(self, authority: Authority) -> tuple[str, SignIn] | None:
        attempt = await records.begin(authority)
        try:
            account = await authority.accounts.authenticate(
                self._username, self._password, address=self._address
            )
        except RateLimited:
            return None
        except Denied as denied:
            if denied.cause is Cause.BAD_CREDENTIALS:
                return None
            raise
        return account.subject, attempt


def _attempting(user: object, attempt: SignIn) -> User | None:
    """Return *user*, who carries *attempt* to the login."""
    if user is None:
        return None
    user.__dict__[ATTEMPT] = attempt
    return cast("User", user)
