"""The session engine: `SESSION_ENGINE = "keyfob.integrations.django.sessions"`.

A session of Django is one of Keyfob: `session_key` is its token. Whoever has not signed in has one that opens no door; signing in gives a new
one of the user's subject, with which `request.principal` and every service that follows the authority know the user; `flush`, and so
`logout`, ends it with an entry, and every verifier denies within milliseconds.

A request that was under way when its session ended cannot bring it back: `save` raises `UpdateError`. Of two requests at once that changed
different entries of a session, neither loses anything.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.exceptions import ObjectDoesNotExist

from keyfob.authority.authority import Authority
from keyfob.authority.sign_in import Device, SignIn
from keyfob.base.errors import Denied, KeyfobError
from keyfob.base.identifiers import SessionId
from keyfob.integrations.django import session_records as records
from keyfob.integrations.django.session_content import Content, SessionCodec, SessionTooLarge
from keyfob.integrations.django.session_records import Opened, Person
from keyfob.integrations.django.sources import Sources, current_sources
from keyfob.integrations.django.taking_over import LONG_AGO, FormerSession
from keyfob.integrations.django.users import User, auser_of_key, user_of_key

T = TypeVar("T")
Work = Callable[[Authority], Coroutine[object, object, T]]
Kept = dict[str, object]

__all__ = ["SessionStore", "SessionTooLarge"]

_OVER = "The request's session was ended before the request completed."


class SessionStore(SessionBase):
    """One session of one request."""

    device: Device | None = None
    """What is remembered of where the login comes from; the middleware sets it."""
    former: FormerSession | None = None
    """The session of another engine that this one takes over, where there is none of its own."""
    _session_key: str | None  # a property of Django's
    _opened: Opened | None = None
    _user_key: object = None

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._codec = SessionCodec(self.serializer)

    # Reading

    def load(self) -> Kept:
        """Return what the session keeps; nothing, and no key, for a key that is of no live session."""
        key = self.session_key
        return self._loaded(self._call(self._reading(key)) if key else None)

    async def aload(self) -> Kept:
        """See `load`."""
        key = self.session_key
        return self._loaded(await self._acall(self._reading(key)) if key else None)

    def _loaded(self, opened: Opened | None) -> Kept:
        kept = {} if opened is None else self._codec.kept(opened.packed, opened.session_id)
        self._opened, self._user_key = opened, kept.get(SESSION_KEY)
        if opened is None:
            self._session_key = None
        return kept

    def exists(self, session_key: str | None) -> bool:
        """Say whether the key is that of a live session."""
        return bool(session_key) and self._call(self._reading(session_key)) is not None

    async def aexists(self, session_key: str | None) -> bool:
        """See `exists`."""
        return bool(session_key) and await self._acall(self._reading(session_key)) is not None

    def _get_session(self, no_load: bool = False) -> Kept:  # noqa: FBT001 - Django's signature
        if self.former is not None and not no_load and not hasattr(self, "_session_cache"):
            self._session_cache = self._take_over()
        return cast("Kept", super()._get_session(no_load))

    async def _aget_session(self, no_load: bool = False) -> Kept:  # noqa: FBT001 - Django's signature
        if self.former is not None and not no_load and not hasattr(self, "_session_cache"):
            self._session_cache = await sync_to_async(self._take_over)()
        return cast("Kept", await super()._aget_session(no_load))

    _session = property(_get_session)

    # Writing

    def create(self) -> None:
        """Make a new session, with a new key, that keeps what this one keeps."""
        kept = self._get_session(no_load=True)
        self._open(kept, self._person_of(kept), former=None)
        self.modified = True

    async def acreate(self) -> None:
        """See `create`."""
        kept = await self._aget_session(no_load=True)
        await self._aopen(kept, await self._aperson_of(kept), former=None)
        self.modified = True

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001 - Django's signature
        """Write what the session keeps; with *must_create*, or without a session, into a new one. A key that somebody else chose is never used.

        Raises:
            UpdateError: the session was ended.
            SessionTooLarge: it keeps too much.
            StoreUnavailable: the store does not answer.
        """
        kept = self._get_session(no_load=must_create)
        if must_create or not self._has_session():
            self._open(kept, self._person_of(kept), former=None)
            return
        if self._opened is None:  # emptied without being read
            self._found(self._call(self._reading(self.session_key)))
        if kept.get(SESSION_KEY) != self._user_key:
            self._open(kept, self._person_of(kept), former=self.session_key)
        else:
            self._found(self._call(self._writing(kept)))

    async def asave(self, must_create: bool = False) -> None:  # noqa: FBT001 - Django's signature
        """See `save`."""
        kept = await self._aget_session(no_load=must_create)
        if must_create or not self._has_session():
            await self._aopen(kept, await self._aperson_of(kept), former=None)
            return
        if self._opened is None:
            self._found(await self._acall(self._reading(self.session_key)))
        if kept.get(SESSION_KEY) != self._user_key:
            await self._aopen(kept, await self._aperson_of(kept), former=self.session_key)
        else:
            self._found(await self._acall(self._writing(kept)))

    def sign_in(self, user: User, *, attempt: SignIn | None = None) -> None:
        """Give *user*, whose identity was just checked, a new session that keeps what this one keeps, and end this one.

        *attempt* began before anything was read about the user. `login()` has it done.

        Raises:
            Denied: `revoked` if the user was cut off since the attempt began; `session_limit`.
        """
        kept = self._get_session()
        person = replace(self._person(user), attempt=attempt)
        self._open(kept, person, former=self.session_key)
        self.modified = True

    # Keys

    def cycle_key(self) -> None:
        """Give the session a new key, at which the old one is good no longer.

        Without a session there is no key that somebody could have planted: the next `save` makes the first one.

        Raises:
            SessionInterrupted: the session was ended meanwhile; it stays so.
        """
        self._get_session()
        self.modified = True
        if self._has_session():
            self._cycled(self._call(partial(records.renew, token=self._own_key())))

    async def acycle_key(self) -> None:
        """See `cycle_key`."""
        await self._aget_session()
        self.modified = True
        if self._has_session():
            self._cycled(await self._acall(partial(records.renew, token=self._own_key())))

    def delete(self, session_key: str | None = None) -> None:
        """End the session of the key, by default this one, everywhere. What is no live session is left alone."""
        work = self._ending(session_key)
        if work is not None:
            self._call(work)

    async def adelete(self, session_key: str | None = None) -> None:
        """See `delete`."""
        work = self._ending(session_key)
        if work is not None:
            await self._acall(work)

    @classmethod
    def clear_expired(cls) -> None:
        """Do nothing: the authority deletes what has expired."""

    @classmethod
    async def aclear_expired(cls) -> None:
        """Do nothing: the authority deletes what has expired."""

    # The parts of these journeys

    @property
    def is_borrowed(self) -> bool:
        """Whether the session is that of another request of the same browser, whose key this one does not know."""
        return self._opened is not None and self._opened.token is None

    def session_id_of(self, user_key: str) -> str | None:
        """Return the id of this session if the user with the primary key *user_key* is signed in by it: what a log may show."""
        return self._opened.session_id if self._opened is not None and self._user_key == user_key else None

    def _has_session(self) -> bool:
        return self.session_key is not None or self.is_borrowed

    def _own_key(self) -> str:
        if self.session_key is None:
            raise SessionInterrupted("The key of this session is just being handed out to another request.")
        return str(self.session_key)

    def _open(self, kept: Kept, person: Person | None, *, former: str | None) -> None:
        self._began(self._call(self._opening(kept, person, former=former)), kept)

    async def _aopen(self, kept: Kept, person: Person | None, *, former: str | None) -> None:
        self._began(await self._acall(self._opening(kept, person, former=former)), kept)

    def _opening(self, kept: Kept, person: Person | None, *, former: str | None) -> Work[Opened]:
        content = self._content(kept)
        if person is None:
            return partial(records.open_for_visitor, content=content, codec=self._codec, former=former)
        return partial(
            records.open_for_person, person=person, content=content, codec=self._codec, former=former
        )

    def _began(self, opened: Opened, kept: Kept) -> None:
        self._opened, self._user_key = opened, kept.get(SESSION_KEY)
        self._session_key = opened.token

    def _writing(self, kept: Kept) -> Work[Opened | None]:
        assert self._opened is not None  # it was read
        return partial(records.write, opened=self._opened, content=self._content(kept), codec=self._codec)

    def _reading(self, key: str | None) -> Work[Opened | None]:
        return partial(records.read, token=key or "", codec=self._codec)

    def _found(self, opened: Opened | None) -> None:
        if opened is None:
            raise UpdateError(_OVER)
        kept = self._codec.kept(opened.packed, opened.session_id)
        self._opened, self._user_key = opened, kept.get(SESSION_KEY)

    def _cycled(self, token: str | None) -> None:
        if token is None:
            raise SessionInterrupted(_OVER)
        self._session_key = token
        if self._opened is not None:
            self._opened = replace(self._opened, token=token)

    def _ending(self, key: str | None) -> Work[None] | None:
        if key is None and self.is_borrowed:
            assert self._opened is not None
            return partial(records.end_by_id, session_id=self._opened.session_id)
        token = key or self.session_key
        return partial(records.end, token=token) if token else None

    def _content(self, kept: Kept) -> Content:
        now = self._sources.authority.clock.now()
        return Content(kept, self.get_expiry_date(modification=now).timestamp())

    # Who

    def _person_of(self, kept: Kept) -> Person | None:
        """Return whom Django has signed in by what the session keeps; None for nobody, and for a user who is no more."""
        try:
            return self._person(user_of_key(kept[SESSION_KEY])) if SESSION_KEY in kept else None
        except ObjectDoesNotExist:
            return None

    async def _aperson_of(self, kept: Kept) -> Person | None:
        try:
            return self._person(await auser_of_key(kept[SESSION_KEY])) if SESSION_KEY in kept else None
        except ObjectDoesNotExist:
            return None

    def _person(self, user: User) -> Person:
        configuration = self._sources.configuration
        return Person(
            subject=configuration.users.subject_of(user),
            audiences=configuration.audiences,
            device=self.device,
        )

    def _take_over(self) -> Kept:
        """Return what the session of the engine before this one keeps, in a session of this engine."""
        assert self.former is not None
        former, self.former = self.former, None
        if former.is_too_late(self._sources.authority):
            return {}
        # Whoever was ended since this authority began is not signed in: the old login was before anything that its feed knows.
        attempt = self._call(partial(records.begin, as_of=0))
        taken = former.read()
        if taken is None:
            return {}
        if taken.successor is not None:
            return self._borrow(taken.successor)
        person = None
        if taken.user is not None:
            person = replace(self._person(taken.user), attempt=attempt, amr=(), auth_time=LONG_AGO)
        self._session_cache = taken.kept
        try:
            self._open(taken.kept, person, former=None)
        except KeyfobError as error:
            self._session_cache = {}  # whoever was cut off is not to be signed in by a later save
            if not isinstance(error, Denied):
                raise
            former.retire()
            return {}
        self.modified = True
        assert self._opened is not None
        if former.point_at(self._opened.session_id):
            return taken.kept
        self.delete()  # another request has taken it over, or ended it, at the same moment
        again = former.read()
        return self._borrow(again.successor if again else None)

    def _borrow(self, successor: SessionId | None) -> Kept:
        """Return what the session keeps that another request of this browser was given; empty where it is over."""
        found = None
        if successor is not None:
            found = self._call(partial(records.read_by_id, session_id=successor, codec=self._codec))
        self._session_key = None
        return self._loaded(found)

    # The authority

    @property
    def _sources(self) -> Sources:
        return current_sources()

    def _call(self, work: Work[T]) -> T:
        return self._sources.authority.call(work)

    async def _acall(self, work: Work[T]) -> T:
        return await self._sources.authority.acall(work)
