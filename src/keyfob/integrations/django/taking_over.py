"""Sessions of the engine that a project had before, taken over without logging anybody out.

The first request of a browser that still has the old cookie gets a session of Keyfob; the old one points at it for a minute, so that other tabs of
the same browser find it too, and is worth nothing afterwards. Ended is ended: the old cookie leads to no session that is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Final

from django.contrib.auth import SESSION_KEY, get_user
from django.contrib.sessions.backends.base import UpdateError

from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import SessionId
from keyfob.integrations.django.configuration import TakeOver
from keyfob.integrations.django.users import User
from keyfob.sync import Authority

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When the user of an old session proved who it is, for all that is known: whoever asks for a recent login gets one."""
POINTER_SECONDS: Final = 60
_POINTER = "_keyfob_session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Former:
    """What an old session keeps: `user` is who is signed in, checked as Django does; `successor` the session that has taken it over."""

    kept: dict[str, object]
    user: User | None = None
    successor: SessionId | None = None


class FormerSession:
    """One session of the engine before."""

    def __init__(self, take_over: TakeOver, key: str) -> None:
        self._open = import_module(take_over.engine).SessionStore
        self._until = take_over.until
        self._key = key

    def is_too_late(self, authority: Authority) -> bool:
        """Say whether nothing is taken over any longer.

        Raises:
            ConfigurationError: the end is so far off that the authority may have forgotten by then whom it ended.
        """
        left, longest = self._until - authority.clock.now(), authority.policy.longest_session
        if left > longest:
            raise ConfigurationError(
                f'settings.KEYFOB["TAKE_OVER"]["UNTIL"] is more than {longest} from now, and ends are not kept for longer'
            )
        return left <= timedelta(0)

    def read(self) -> Former | None:
        """Return what the session keeps; None where there is none, or its user may be signed in no longer (another password, not active)."""
        store = self._open(self._key)
        kept = dict(store.items())
        if store.session_key is None or not kept:
            return None
        if _POINTER in kept:
            return Former(kept={}, successor=SessionId(str(kept[_POINTER])))
        if SESSION_KEY not in kept:
            return Former(kept=kept)
        user = get_user(SimpleNamespace(session=store))
        self._key = store.session_key  # Django gives a new one where the key of its signatures has changed
        return Former(kept=dict(store.items()), user=user) if user.is_authenticated else None

    def retire(self) -> None:
        """Delete the session, whose user was ended since: its cookie is worth nothing."""
        self._open(self._key).delete()

    def point_at(self, session_id: SessionId) -> bool:
        """Let the session say for a minute who has taken it over, and nothing else; False where another request was faster, or has ended it."""
        store = self._open(self._key)
        if _POINTER in store or store.session_key is None:
            return False
        store.clear()
        store[_POINTER] = session_id
        store.set_expiry(POINTER_SECONDS)
        try:
            store.save()
        except UpdateError:
            return False
        return True
