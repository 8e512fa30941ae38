"""Which user of the project a subject is, and the other way round."""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

from django.contrib.auth import get_user_model
from django.core.exceptions import ObjectDoesNotExist, ValidationError

from keyfob.base.principal import Principal


class User(Protocol):
    """What is needed of a user."""

    pk: object

    @property
    def is_active(self) -> bool:
        """Whether the user may sign in."""
        ...


@runtime_checkable
class Users(Protocol):
    """Tells users and subjects apart. A user who is not active is nobody's."""

    def subject_of(self, user: User) -> str:
        """Return the subject of *user*: always the same, and never that of another."""
        ...

    def find(self, subject: str) -> User | None:
        """Return the user of *subject*; None where there is none, or no active one."""
        ...

    async def afind(self, subject: str) -> User | None:
        """Return the user of *subject*, as `find`."""
        ...


class _Manager(Protocol):
    """What is needed of the manager of the project's users."""

    def get(self, **wanted: object) -> User: ...

    async def aget(self, **wanted: object) -> User: ...

    def get_or_create(self, **wanted: object) -> tuple[_Stored, bool]: ...

    async def aget_or_create(self, **wanted: object) -> tuple[_Stored, bool]: ...


class _Stored(User, Protocol):
    """A user that can be written."""

    def set_unusable_password(self) -> None: ...

    def save(self) -> None: ...

    async def asave(self) -> None: ...


class SubjectsByPrimaryKey:
    """The project's table of users is the truth: the subject of the user with the primary key 17 is `user-17`."""

    prefix = "user-"

    def subject_of(self, user: User) -> str:
        """See `Users`."""
        return f"{self.prefix}{user.pk}"

    def find(self, subject: str) -> User | None:
        """See `Users`."""
        key = self._key(subject)
        try:
            return None if key is None else self._only(_manager().get(pk=key), subject)
        except _NOBODY:
            return None

    async def afind(self, subject: str) -> User | None:
        """See `Users`."""
        key = self._key(subject)
        try:
            return None if key is None else self._only(await _manager().aget(pk=key), subject)
        except _NOBODY:
            return None

    def _key(self, subject: str) -> str | None:
        return subject[len(self.prefix) :] if subject.startswith(self.prefix) else None

    def _only(self, user: User, subject: str) -> User | None:
        """Return *user* if it is active, and *subject* the one way to write its own: `user-017` is nobody."""
        return user if user.is_active and self.subject_of(user) == subject else None


class SubjectsByName:
    """The accounts are the authority's: the subject is the user's name here. Whoever signs in for the first time gets a user without a password."""

    def subject_of(self, user: User) -> str:
        """See `Users`."""
        return str(getattr(user, _name_field()))

    def find(self, subject: str) -> User | None:
        """See `Users`."""
        if not _fits(subject):
            return None
        user, is_new = _manager().get_or_create(**{_name_field(): subject})
        if is_new:
            user.set_unusable_password()
            user.save()
        return user if user.is_active else None

    async def afind(self, subject: str) -> User | None:
        """See `Users`."""
        if not _fits(subject):
            return None
        user, is_new = await _manager().aget_or_create(**{_name_field(): subject})
        if is_new:
            user.set_unusable_password()
            await user.asave()
        return user if user.is_active else None


def is_person(principal: Principal) -> bool:
    """Say whether *principal* can be a user: a client that acts for itself has no session and is its own subject."""
    return principal.session_id is not None and str(principal.subject) != principal.client_id


def user_of_key(key: object) -> User:
    """Return the user whose primary key Django has written into a session."""
    return _manager().get(pk=_read_key(key))


async def auser_of_key(key: object) -> User:
    """Return the user of a primary key, as `user_of_key`."""
    return await _manager().aget(pk=_read_key(key))


_NOBODY = (ObjectDoesNotExist, ValueError, TypeError, ValidationError, OverflowError)


def _read_key(text: object) -> object:
    return cast("object", get_user_model()._meta.pk.to_python(text))  # noqa: SLF001 - public by Django's word


def _manager() -> _Manager:
    return cast("_Manager", get_user_model()._default_manager)  # noqa: SLF001 - as above


def _fits(subject: str) -> bool:
    """Say whether *subject* can be a user's name here: a database that cuts it off would make one user of two."""
    longest = get_user_model()._meta.get_field(_name_field()).max_length  # noqa: SLF001 - as above
    return longest is None or len(subject) <= longest


def _name_field() -> str:
    return str(get_user_model().USERNAME_FIELD)
