"""Passwords that change: `AUTH_PASSWORD_VALIDATORS = [..., {"NAME": "keyfob.integrations.django.passwords.SessionEnder"}]`."""

from __future__ import annotations

from keyfob.integrations.django.receivers import end_sessions
from keyfob.integrations.django.users import User


class SessionEnder:
    """Ends the user's sessions, everywhere, when its password has changed; the session in which the user changes it goes on.

    It takes every password.
    """

    def validate(self, password: str, user: User | None = None) -> None:
        """Take any password: its rules are those of the other validators."""

    def password_changed(self, password: str, user: User | None = None) -> None:
        """End the sessions that the old password may have opened. Django calls it when the user was saved."""
        if user is not None:
            end_sessions(user, reason="password-change", spares_present=True)

    def get_help_text(self) -> str:
        """Say nothing to whoever chooses a password."""
        return ""
