"""The settings of a server: `keyfob.toml`, overridden by `KEYFOB_*`, overridden by flags.

The one place that reads the environment. A setting that is unknown or wrong refuses to start, with one line that says what, where and
how to mend it.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from keyfob.accounts.passwords import PasswordPolicy, default_threads
from keyfob.authority.api_key_policy import LONGEST_API_KEY, ApiKeyPolicy
from keyfob.authority.logout_post import BackchannelPolicy
from keyfob.authority.master_key import read_master_key
from keyfob.authority.options import LONGEST_CANARY, SHORTEST_CANARY
from keyfob.base.errors import ConfigurationError
from keyfob.base.identifiers import Issuer
from keyfob.server import values
from keyfob.server.state_folder import default_state_folder
from keyfob.sessions.policy import AtLimit, Lifetimes, SessionPolicy

DEFAULT_FILE = "keyfob.toml"
RECOMMENDED_ACCESS_LIFETIME = timedelta(minutes=15)

_SECOND, _MINUTE, _HOUR, _DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
_YEAR = 366 * _DAY
_SESSION_LIFETIME = values.duration(_MINUTE, _YEAR)
_ALGORITHMS = ("ES256", "ES384", "EdDSA", "PS256", "RS256")

_READERS: Mapping[str, values.Reader] = {
    "issuer": values.issuer,
    "store": values.text,
    "accounts_store": values.text,
    "state_folder": values.absolute_folder,
    "host": values.host,
    "port": values.whole(0, 65_535),
    "workers": values.whole(1, 64),
    "algorithm": values.one_of(*_ALGORITHMS),
    "access_lifetime": values.duration(_SECOND, 24 * _HOUR),
    "trusted_proxies": values.networks,
    "cache_capacity": values.whole(2, 10_000_000),
    "log_level": values.one_of("debug", "info", "warning", "error"),
    "tls.cert": values.file_path,
    "tls.key": values.file_path,
    "refresh.replay_window": values.duration(timedelta(0), 300 * _SECOND),
    "sessions.per_subject": values.whole(1, 100_000),
    "sessions.at_limit": values.one_of(*AtLimit),
    "sessions.touch_interval": values.duration(_SECOND, _HOUR),
    "sessions.max_cache_age": values.duration(_SECOND, 5 * _MINUTE),
    "sessions.session.idle": _SESSION_LIFETIME,
    "sessions.session.absolute": _SESSION_LIFETIME,
    "sessions.hybrid.idle": _SESSION_LIFETIME,
    "sessions.hybrid.absolute": _SESSION_LIFETIME,
    "sessions.jwt.absolute": values.duration(_SECOND, 24 * _HOUR),
    "api_keys.scopes": values.scopes,
    "api_keys.default_lifetime": values.duration(_HOUR, LONGEST_API_KEY),
    "api_keys.max_lifetime": values.duration(_HOUR, LONGEST_API_KEY),
    "api_keys.per_subject": values.whole(1, 10_000),
    "api_keys.max_auth_age": values.duration(_MINUTE, _DAY),
    "feed.heartbeat": values.duration(_SECOND / 10, 5 * _SECOND),
    "feed.followers": values.whole(1, 100_000),
    "feed.canary": values.off_or_duration(SHORTEST_CANARY, LONGEST_CANARY),
    "backchannel.networks": values.networks,
    "backchannel.ca": values.file_path,
    "relay.upstream": values.issuer,
    "relay.ca": values.file_path,
    "gateway.authority": values.issuer,
    "gateway.ca": values.file_path,
    "gateway.feed": values.issuer,
    "gateway.socket": values.text,
    "gateway.max_staleness": values.duration(_SECOND * 0.3, _HOUR),
    "gateway.report_as": values.text,
    "passwords.memory_kib": values.whole(19_456, 4_194_304),
    "passwords.iterations": values.whole(2, 100),
    "passwords.threads": values.whole(1, 64),
    "passwords.queue": values.whole(0, 10_000),
}
SETTINGS = tuple(_READERS)
"""The name of every setting; the environment's is the same in capitals, with `KEYFOB_` before it and `_` for `.`."""

_PREFIX = "KEYFOB_"
_KEPT_WITH_THE_STORE = ("sqlite:", "memory:")  # stores that need no state folder
_BY_VARIABLE = {_PREFIX + name.upper().replace(".", "_"): name for name in SETTINGS}
_OF_OTHERS = ("relay.", "gateway.")
"""Sections of what is no authority; they may stand in the same file."""
_MASTER_KEY = "KEYFOB_MASTER_KEY"
_NEW_MASTER_KEY = "KEYFOB_NEW_MASTER_KEY"
_CONFIG = "KEYFOB_CONFIG"
_CLIENT_ID, _CLIENT_SECRET = "KEYFOB_CLIENT_ID", "KEYFOB_CLIENT_SECRET"
_APART = (_MASTER_KEY, _NEW_MASTER_KEY, _CONFIG)  # variables that are no settings
# What others of this project read, and what Kubernetes sets in every pod beside a service of this name.
_NOT_OURS = re.compile(r"KEYFOB_(CLIENT_ID|CLIENT_SECRET|TEST_\w+|SERVICE_\w+|PORT_\d+_\w+)")
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The files of the server's certificate chain and of its private key."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a deployment decides.

    `issuer` None means the address that the server listens on, which only a loopback address can be. `master_key` None means the file
    beside an SQLite database, and `state_folder` None that there is no place to keep anything across restarts. `new_master_key` is what `keyfob keys rewrap` goes over to. `trusted_proxies` are networks. `config` is the file that was read, if any.
    """

    issuer: Issuer | None = None
    store: str = "sqlite:///keyfob.db"
    accounts_store: str | None = None
    state_folder: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    algorithm: str = "ES256"
    access_lifetime: timedelta = timedelta(minutes=10)
    trusted_proxies: tuple[str, ...] = ()
    cache_capacity: int = 100_000
    log_level: str = "info"
    tls: Tls | None = None
    heartbeat: timedelta = timedelta(seconds=1)
    followers: int = 2_000
    canary: timedelta = timedelta(seconds=5)
    policy: SessionPolicy = field(default_factory=SessionPolicy)
    api_keys: ApiKeyPolicy = field(default_factory=ApiKeyPolicy)
    passwords: PasswordPolicy = field(default_factory=PasswordPolicy)
    backchannel: BackchannelPolicy = field(default_factory=BackchannelPolicy)
    master_key: bytes | None = field(default=None, repr=False)
    new_master_key: bytes | None = field(default=None, repr=False)
    config: Path | None = None

    @classmethod
    def load(
        cls,
        *,
        config: Path | None = None,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read the settings: file, then environment, then *flags* (by name; None means not given).

        *config* must be there; without it, `KEYFOB_CONFIG` names the file, or `keyfob.toml` in the working directory is read if it is
        there. *environ* is the process's own unless given.

        Raises:
            ConfigurationError: the first thing that is wrong.
        """
        variables = os.environ if environ is None else environ
        read, file = read_settings(config=config, flags=flags, environ=variables)
        settings = cls._of(
            {name: value for name, value in read.items() if not name.startswith(_OF_OTHERS)}, config=file
        )
        if settings.state_folder is None and not settings.store.startswith(_KEPT_WITH_THE_STORE):
            settings = replace(settings, state_folder=default_state_folder(variables))
        return replace(
            settings,
            master_key=_key(variables, _MASTER_KEY),
            new_master_key=_key(variables, _NEW_MASTER_KEY),
        )

    @classmethod
    def _of(cls, read: Mapping[str, Any], *, config: Path | None) -> Self:
        plain = {name: value for name, value in read.items() if "." not in name}
        plain |= _section(read, "feed")
        settings = cls(
            **plain,
            tls=read_tls(read),
            policy=_policy(read),
            api_keys=_api_keys(read),
            passwords=_passwords(read),
            backchannel=BackchannelPolicy(**_section(read, "backchannel")),
            config=config,
        )
        settings.require_issuer()
        if settings.workers > 1 and settings.store.startswith("memory:"):
            raise ConfigurationError(
                "workers must be 1 with the store memory://, which processes cannot share; give --store sqlite:///keyfob.db"
            )
        return settings

    def require_issuer(self) -> None:
        """Refuse settings whose issuer is neither given nor can be told from where the server listens.

        Raises:
            ConfigurationError: it listens on an address that is not this machine alone.
        """
        if self.issuer is None and not values.is_loopback(self.host):
            raise ConfigurationError(
                f"issuer is not set, and a server on {self.host} needs one: "
                "give --issuer https://... or KEYFOB_ISSUER, the URL at which browsers and services reach it"
            )

    def issuer_at(self, port: int) -> Issuer:
        """Return the issuer of a server that listens on *port*: the one that is set, else the address itself."""
        if self.issuer is not None:
            return self.issuer
        name = f"[{self.host}]" if ":" in self.host else self.host
        return Issuer(f"{'https' if self.tls else 'http'}://{name.lower()}:{port}")


def read_settings(
    *, config: Path | None, flags: Mapping[str, object] | None, environ: Mapping[str, str]
) -> tuple[dict[str, Any], Path | None]:
    """Return what is set, by name, and the file that was read.

    Raises:
        ConfigurationError: the first thing that is wrong.
    """
    file = _file(config, environ)
    given: dict[str, _Given] = {}
    if file is not None:
        given |= _from_file(file)
    given |= _from_environment(environ)
    given |= _from_flags(flags or {})
    return {name: _read(name, one) for name, one in given.items()}, file


def read_client(environ: Mapping[str, str] | None = None) -> tuple[str, str] | None:
    """Return the client that the environment names, for what is itself a client of an authority; None if it names none.

    Raises:
        ConfigurationError: one of the two variables is there without the other.
    """
    variables = os.environ if environ is None else environ
    client_id, secret = variables.get(_CLIENT_ID, ""), variables.get(_CLIENT_SECRET, "")
    if bool(client_id) != bool(secret):
        raise ConfigurationError(f"{_CLIENT_ID} and {_CLIENT_SECRET} are set together, or not at all")
    return (client_id, secret) if client_id else None


def environment_of_others(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a command that is no part of Keyfob: without our variables, some of which are secrets."""
    variables = os.environ if environ is None else environ
    return {name: value for name, value in variables.items() if not name.startswith(_PREFIX)}


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, and where."""

    value: object
    origin: str


def _file(config: Path | None, variables: Mapping[str, str]) -> Path | None:
    if config is None and not variables.get(_CONFIG):
        default = Path(DEFAULT_FILE)
        return default if default.exists() else None
    file = config or Path(variables[_CONFIG])
    if not file.is_file():
        raise ConfigurationError(f"{file}: there is no such settings file; give another with --config")
    return file


def _from_file(file: Path) -> dict[str, _Given]:
    try:
        tree = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: is not TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from None
    given = {}
    for name, value in _flat(tree):
        if name in {"master_key", "new_master_key"}:
            raise ConfigurationError(
                f"{file}: {name} is a secret and has no place in a file of settings; set {_PREFIX}{name.upper()}"
            )
        _require_known(name, SETTINGS, str(file))
        given[name] = _Given(value, str(file))
    return given


def _flat(tree: Mapping[str, object], prefix: str = "") -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for key, value in tree.items():
        name = prefix + key
        is_section = any(setting.startswith(f"{name}.") for setting in SETTINGS)
        if isinstance(value, Mapping) and is_section:
            flat += _flat(value, f"{name}.")
        else:
            flat.append((name, value))
    return flat


def _from_environment(variables: Mapping[str, str]) -> dict[str, _Given]:
    given = {}
    for variable, value in variables.items():
        if not variable.startswith(_PREFIX) or variable in _APART or _NOT_OURS.fullmatch(variable):
            continue
        if variable == f"{_PREFIX}PORT" and _SERVICE_LINK.fullmatch(value):
            continue
        _require_known(variable, [*_BY_VARIABLE, *_APART], "environment")
        given[_BY_VARIABLE[variable]] = _Given(value, f"environment: {variable}")
    return given


def _key(variables: Mapping[str, str], name: str) -> bytes | None:
    text = variables.get(name)
    return None if text is None else read_master_key(text, name=name)


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    return {
        name: _Given(
            str(value) if isinstance(value, Path) else value, f"--{name.replace('.', '-').replace('_', '-')}"
        )
        for name, value in flags.items()
        if value is not None
    }


def _require_known(name: str, known: Collection[str], origin: str) -> None:
    if name in known:
        return
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    shown = name if name.isprintable() and len(name) <= 100 else repr(name[:100])
    raise ConfigurationError(f"{origin}: there is no setting {shown}; the nearest is {nearest}")


def _read(name: str, given: _Given) -> object:
    try:
        return _READERS[name](given.value)
    except ValueError as error:
        raise ConfigurationError(f"{given.origin}: {name} {error}") from None


def _section(read: Mapping[str, Any], section: str) -> dict[str, Any]:
    prefix = f"{section}."
    return {name.removeprefix(prefix): value for name, value in read.items() if name.startswith(prefix)}


def read_tls(read: Mapping[str, Any]) -> Tls | None:
    """Return the files of TLS among what is set; None if there are none.

    Raises:
        ConfigurationError: one of the two is missing.
    """
    files = _section(read, "tls")
    if not files:
        return None
    if len(files) == 1:
        missing = "tls.key" if "cert" in files else "tls.cert"
        raise ConfigurationError(f"{missing} is not set, and the other of the two is; TLS needs both")
    return Tls(**files)


def _passwords(read: Mapping[str, Any]) -> PasswordPolicy:
    """Several workers share the cores, and so their threads."""
    threads = max(1, default_threads() // read.get("workers", 1))
    return PasswordPolicy(**{"threads": threads, **_section(read, "passwords")})


def _api_keys(read: Mapping[str, Any]) -> ApiKeyPolicy:
    """A longest lifetime below the default one is that of every key."""
    given = _section(read, "api_keys")
    if "max_lifetime" in given and "default_lifetime" not in given:
        given["default_lifetime"] = min(ApiKeyPolicy().default_lifetime, given["max_lifetime"])
    return ApiKeyPolicy(**given)


def _policy(read: Mapping[str, Any]) -> SessionPolicy:
    defaults = SessionPolicy()
    lifetimes = {}
    for strategy, default in defaults.lifetimes.items():
        limits = _section(read, f"sessions.{strategy.value}")
        absolute = limits.get("absolute", default.absolute)
        if limits.get("idle", absolute) > absolute:
            raise ConfigurationError(
                f"sessions.{strategy.value}.idle ({values.shown(limits['idle'])}) is longer than "
                f"sessions.{strategy.value}.absolute ({values.shown(absolute)})"
            )
        idle = limits.get("idle", default.idle and min(default.idle, absolute))
        lifetimes[strategy] = Lifetimes(idle=idle, absolute=absolute)
    plain = {name: value for name, value in _section(read, "sessions").items() if "." not in name}
    if "at_limit" in plain:
        plain["at_limit"] = AtLimit(plain["at_limit"])
    if "refresh.replay_window" in read:
        plain["replay_window"] = read["refresh.replay_window"]
    if "per_subject" in plain:
        plain["sessions_per_subject"] = plain.pop("per_subject")
    return SessionPolicy(lifetimes=lifetimes, **plain)
