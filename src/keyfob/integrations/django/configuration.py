"""`settings.KEYFOB`, read and checked."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self, cast

from django.utils.module_loading import import_string

from keyfob.base.errors import ConfigurationError
from keyfob.http.forwarded import TrustedProxies
from keyfob.integrations.django.users import SubjectsByPrimaryKey, Users
from keyfob.verifier.verifier import Verifier

if TYPE_CHECKING:
    from keyfob.sync import Authority

Open = Callable[[], "Verifier | Authority"]
_NOT_TO_END = frozenset(
    {"django.contrib.sessions.backends.signed_cookies", "keyfob.integrations.django.sessions"}
)
_EXAMPLE = '{"STORE": "sqlite:///keyfob.db", "ISSUER": "https://app.example"}'


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeOver:
    """Where the sessions are that a project had before: their engine, the name of their cookie, and the end of taking them over."""

    engine: str
    cookie: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnStore:
    """The store of the project's own authority, its issuer, and the master key: text in base64url, None for the file beside a SQLite store."""

    url: str
    issuer: str
    master_key: str | None = field(default=None, repr=False)

    def open(self) -> Authority:
        """Open the authority."""
        from keyfob.sync import Authority

        return Authority.open(self.url, issuer=self.issuer, master_key=self.master_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What `settings.KEYFOB` says.

    `open_source` opens a verifier or a `keyfob.sync.Authority`; it is called once in each process, when first needed. Left out, it opens the
    authority of `store`, which is also that of `manage.py keyfob`. `origins` are the
    project's own where they are others than the issuer's. `audiences` are the services, beside the authority itself, at which the
    sessions of this project are good. `proxies` are those whose `X-Forwarded-For` counts. `ca` is a file of certificates with which
    `RemoteBackend` trusts the authority, in place of the system's.
    """

    open_source: Open
    store: OwnStore | None = None
    users: Users = field(default_factory=SubjectsByPrimaryKey)
    origins: tuple[str, ...] = ()
    audiences: tuple[str, ...] = ()
    proxies: TrustedProxies = field(default_factory=TrustedProxies)
    take_over: TakeOver | None = None
    ca: str | None = None

    @classmethod
    def read(cls, described: object) -> Self:
        """Read `settings.KEYFOB`.

        Raises:
            ConfigurationError: the first thing that is wrong.
        """
        if not isinstance(described, Mapping):
            raise ConfigurationError(f"settings.KEYFOB is a dictionary, such as {_EXAMPLE}")
        given: dict[str, Any] = {}  # as its reader says
        for name, value in described.items():
            reader = _READERS.get(name)
            if reader is None:
                nearest = difflib.get_close_matches(str(name), _READERS, n=1, cutoff=0.0)[0]
                raise ConfigurationError(f'settings.KEYFOB has no entry {name!r}; did you mean "{nearest}"?')
            into, read = reader
            given[into] = read(value, f'settings.KEYFOB["{name}"]')
        given["store"] = _own_store(given)
        if "open_source" not in given:
            if given["store"] is None:
                raise ConfigurationError(
                    f"settings.KEYFOB needs STORE and ISSUER, such as {_EXAMPLE}, "
                    "or SOURCE: a function, or its dotted path, that returns a Verifier or a keyfob.sync.Authority"
                )
            given["open_source"] = given["store"].open
        return cls(**given)


def _own_store(given: dict[str, Any]) -> OwnStore | None:
    url, issuer, key = (given.pop(name, None) for name in ("url", "issuer", "master_key"))
    if url is None and issuer is None and key is None:
        return None
    if url is None or issuer is None:
        raise ConfigurationError(f"settings.KEYFOB needs STORE and ISSUER together, such as {_EXAMPLE}")
    return OwnStore(url=str(url), issuer=str(issuer), master_key=None if key is None else str(key))


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{where} is a string")
    return value


def _open_source(value: object, where: str) -> Open:
    if isinstance(value, Verifier):
        return lambda: value
    function = _imported(value, where)
    if not callable(function):
        raise ConfigurationError(f"{where} is a function without arguments, its dotted path, or a Verifier")
    return cast("Open", function)


def _users(value: object, where: str) -> Users:
    users = _imported(value, where)
    if isinstance(users, type):
        users = users()
    if not isinstance(users, Users):
        raise ConfigurationError(
            f"{where} has no subject_of, find and afind, as keyfob.integrations.django.users.Users"
        )
    return users


def _texts(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigurationError(f"{where} takes several strings")
    texts = tuple(value)
    if not all(isinstance(text, str) and text for text in texts):
        raise ConfigurationError(f"{where} takes several strings")
    return texts


def _proxies(value: object, where: str) -> TrustedProxies:
    return TrustedProxies.parse(_texts(value, where))


def _take_over(value: object, where: str) -> TakeOver:
    if not isinstance(value, Mapping) or not {"ENGINE", "UNTIL"} <= set(value) <= {
        "ENGINE",
        "COOKIE",
        "UNTIL",
    }:
        raise ConfigurationError(
            f'{where} has ENGINE, such as "django.contrib.sessions.backends.db", UNTIL, and COOKIE where that is not "sessionid"'
        )
    engine, until = str(value["ENGINE"]), value["UNTIL"]
    if engine in _NOT_TO_END:
        raise ConfigurationError(
            f"{where}: sessions of {engine} cannot be ended, so that they would live on beside ours"
        )
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise ConfigurationError(f"{where}: UNTIL is a datetime with a time zone")
    return TakeOver(engine=engine, cookie=str(value.get("COOKIE", "sessionid")), until=until)


def _imported(value: object, where: str) -> object:
    if not isinstance(value, str):
        return value
    try:
        return cast("object", import_string(value))
    except ImportError as error:
        raise ConfigurationError(f"{where}: {error}") from error


_READERS: Mapping[str, tuple[str, Callable[[object, str], object]]] = {
    "STORE": ("url", _text),
    "ISSUER": ("issuer", _text),
    "MASTER_KEY": ("master_key", _text),
    "SOURCE": ("open_source", _open_source),
    "USERS": ("users", _users),
    "ORIGINS": ("origins", _texts),
    "AUDIENCES": ("audiences", _texts),
    "TRUSTED_PROXIES": ("proxies", _proxies),
    "CA": ("ca", _text),
    "TAKE_OVER": ("take_over", _take_over),
}
