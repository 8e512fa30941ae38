"""What lies around the settings of a server: files, disk, store, clock. Looked at, never changed."""

from __future__ import annotations

import shutil
import stat
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from keyfob.accounts.passwords import available_cores
from keyfob.authority.backchannel_rules import waits_since
from keyfob.authority.master_key import key_file_of, next_key_file_of
from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError, Unavailable
from keyfob.clients.scopes import ADMIN
from keyfob.server.settings import Settings
from keyfob.stores.condition import PostgresCondition, RedisCondition
from keyfob.stores.opening import inspect_redis, inspect_store, open_store, sqlite_path
from keyfob.stores.store import Store

_PAGE = 500  # accounts read in one step
_MOST_PAGES = 200  # looked through for an administrator
_VERSION = slice(60, 64)  # where a SQLite file's header has the version of its schema, big-endian
_HEADER = 100  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found around the settings. None means: not there, or could not be looked at.

    `next_key_file` is what an interrupted rewrap left. `schema` is that of the database and `current_schema` this version's; `latest` the last moment that the store wrote down;
    `told_late` since when the first logout token waits that no client has taken.
    """

    now: datetime
    cores: int
    database: Path | None = None
    database_mode: int | None = None
    key_file: Path | None = None
    key_file_mode: int | None = None
    next_key_file: Path | None = None
    config_mode: int | None = None
    tls_key_mode: int | None = None
    certificate_ends: datetime | None = None
    certificate_fault: str | None = None
    free_bytes: int | None = None
    disk_bytes: int | None = None
    schema: int | None = None
    current_schema: int | None = None
    store_fault: str | None = None
    has_administrator: bool | None = None
    latest: datetime | None = None
    told_late: timedelta = timedelta(0)
    postgres: PostgresCondition | None = None
    redis: RedisCondition | None = None


async def look(settings: Settings, clock: Clock) -> Found:
    """Look around. A store of another schema is not opened, since that would migrate it; one that is not there yet is not made.

    Raises:
        ConfigurationError: the store's URL is malformed.
    """
    database = sqlite_path(settings.store)
    found = Found(
        now=clock.now(),
        cores=available_cores(),
        config_mode=_mode(settings.config),
        tls_key_mode=_mode(settings.tls.key if settings.tls else None),
    )
    found = _with_certificate(found, settings)
    if database is not None:
        found = _with_files(found, database)
        is_usable = found.schema is not None and found.schema == found.current_schema
    else:
        found = replace(found, postgres=await inspect_store(settings.store, clock=clock))
        found = replace(found, redis=await inspect_redis(settings.store))
        is_usable = found.postgres is not None and found.postgres.is_usable
    return await _with_store(found, settings, clock) if is_usable else found


def _with_certificate(found: Found, settings: Settings) -> Found:
    if settings.tls is None:
        return found
    try:
        chain = x509.load_pem_x509_certificates(settings.tls.cert.read_bytes())
    except (OSError, ValueError) as error:
        return replace(found, certificate_fault=str(error).splitlines()[0])
    return replace(found, certificate_ends=chain[0].not_valid_after_utc)


def _with_files(found: Found, database: Path) -> Found:
    key_file, next_key_file = key_file_of(database), next_key_file_of(database)
    folder = database.parent
    disk = shutil.disk_usage(folder) if folder.is_dir() else None
    return replace(
        found,
        database=database,
        database_mode=_mode(database),
        key_file=key_file,
        key_file_mode=_mode(key_file),
        next_key_file=next_key_file if next_key_file.exists() else None,
        free_bytes=disk.free if disk else None,
        disk_bytes=disk.total if disk else None,
        schema=_schema(database),
        current_schema=_current_schema(),
    )


async def _with_store(found: Found, settings: Settings, clock: Clock) -> Found:
    try:
        store = await open_store(settings.store, clock=clock)
        try:
            return replace(
                found,
                has_administrator=await _has_administrator(store),
                latest=await _latest(store),
                told_late=waits_since(await store.outbox.waiting(), found.now),
            )
        finally:
            await store.close()
    except (ConfigurationError, Unavailable) as error:
        return replace(found, store_fault=str(error))


async def _has_administrator(store: Store) -> bool | None:
    """Say whether an account that is not disabled has the role; None if there are too many accounts to look through."""
    after: str | None = None
    for _ in range(_MOST_PAGES):
        page = await store.accounts.list(after=after, limit=_PAGE)
        if any(ADMIN in one.roles and one.disabled_at is None for one in page.accounts):
            return True
        if page.next is None:
            return False
        after = page.next
    return None


async def _latest(store: Store) -> datetime | None:
    events = (await store.audit.list(limit=1)).events
    moments = [event.at for event in events] + [key.created_at for key in await store.keys.all()]
    return max(moments, default=None)


def _mode(path: Path | None) -> int | None:
    """Return the permission bits of *path*; None if it is not there."""
    try:
        return None if path is None else stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _schema(database: Path) -> int | None:
    """Return the version of the schema from the file's header, without opening the database; None if there is none yet."""
    try:
        with database.open("rb") as file:
            header = file.read(_HEADER)
    except OSError:
        return None
    return int.from_bytes(header[_VERSION], "big") if len(header) == _HEADER else None


def _current_schema() -> int:
    from keyfob.stores.sqlite import SCHEMA_VERSION

    return SCHEMA_VERSION
