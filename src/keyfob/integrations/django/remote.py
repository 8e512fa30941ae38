"""The authentication backend of a project that follows an authority: `AUTHENTICATION_BACKENDS = ["keyfob.integrations.django.remote.RemoteBackend"]`.

Passwords are checked by the authority, over HTTP, which signs the user in there. The token of that session is kept in Django's own session, on
the server: what ends the one ends the other, and `logout()` here logs out there.
"""

from __future__ import annotations

from typing import cast

from asgiref.sync import sync_to_async
from django.contrib.auth import backends
from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables

from keyfob.authority.sign_in import Device
from keyfob.integrations.django.caller import device_of
from keyfob.integrations.django.receivers import TOKEN
from keyfob.integrations.django.sources import current_sources
from keyfob.integrations.django.users import User


class RemoteBackend(backends.ModelBackend):
    """Asks the authority's `/login`; the user here is the one that `settings.KEYFOB["USERS"]` finds for the subject. Permissions are Django's."""

    @sensitive_variables("password")
    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: object,
    ) -> User | None:
        """Return the user whose name and password these are, None for anybody else.

        Raises:
            AuthorityUnavailable: it could not be found out.
        """
        if username is None or password is None:
            return None
        sources = current_sources()
        device = Device() if request is None else device_of(request)
        found = sources.remote.login(username, password, device)
        if found is None:
            return None
        user = sources.configuration.users.find(found.subject)
        if user is None:
            sources.remote.logout(found.session_token)  # nobody would ever use it
            return None
        user.__dict__[TOKEN] = found.session_token
        return user

    @sensitive_variables("password")
    async def aauthenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: object,
    ) -> User | None:
        """See `authenticate`."""
        found = await sync_to_async(self.authenticate)(request, username, password, **kwargs)
        return cast("User | None", found)
