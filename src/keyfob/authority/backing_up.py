"""Backing a store up into one file, and restoring it, while servers run.

A restore must not revive what was ended after the back-up (design.md, precondition 7); `stores/restoring.py` says how.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from pathlib import Path
from typing import BinaryIO

from msgspec.structs import replace

from keyfob.authority.head_file import HeadFile
from keyfob.authority.master_key import key_file_of, master_key_beside, next_master_key_beside, sync_folder
from keyfob.base.clock import Clock
from keyfob.base.errors import ConfigurationError, StoreUnavailable
from keyfob.base.events import Event
from keyfob.base.identifiers import Position
from keyfob.keys.rewrap import fits
from keyfob.keys.sealing import Sealing
from keyfob.revocation.entry import Head
from keyfob.revocation.mending import went_back
from keyfob.stores.backup_file import BackupReader, BackupWriter
from keyfob.stores.moving import Movable
from keyfob.stores.opening import make_movable, open_movable, open_store, sqlite_path
from keyfob.stores.records import AnyRecord, EntryRow, FeedRow, KeyRow, Kind, number_key
from keyfob.stores.restoring import ANEW, RECORDS, Survey, all_anew, head_of, records_again
from keyfob.stores.transfer import Snapshot, is_unused, pages

_ATTEMPTS = 10  # entries that came between looking and restoring, one after another

Progress = Callable[[int, int], None]
"""Hears how many records there are in all, and how many more were dealt with."""


class Into(Enum):
    """Which stores may be restored into."""

    UNUSED = auto()
    ANY = auto()


class Outcome(Enum):
    """What a restore came to: `KEPT` nobody is logged out, `ANEW` everybody is."""

    KEPT = auto()
    ANEW = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """What there is in a file, and when it was made."""

    records: int
    made_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What was restored, and how."""

    backup: Backup
    outcome: Outcome
    head: Head


async def back_up(
    url: str, file: Path, *, master_key: bytes | None, clock: Clock, on_progress: Progress
) -> Backup:
    """Write one moment of the store at *url* to *file*, which is new, for its owner alone, and whole or not there.

    *master_key* None means the one beside a SQLite database.

    Raises:
        ConfigurationError: there is no such store, it does not fit the master key, or *file* is there already or cannot be made.
        StoreUnavailable: the store does not answer.
    """
    _require_possible(url)
    store = await open_movable(url)
    try:
        async with store.snapshot(clock.now()) as snapshot:
            key = await _fitting(snapshot, _master_keys(url, master_key))
            total = sum([await snapshot.count(kind) for kind in Kind])
            made = Backup(records=total, made_at=clock.now())
            await _write(snapshot, file, key=key, made=made, on_progress=on_progress)
            return made
    finally:
        await store.close()


async def restore(
    file: Path,
    url: str,
    *,
    into: Into,
    master_key: bytes | None,
    clock: Clock,
    actor: str,
    on_progress: Progress,
    state_folder: Path | None = None,
) -> Restored:
    """Restore *file* into the store at *url*, making it if there is none; running servers see all of it at once, or nothing.

    Repeated, it does the same once more. *state_folder* is where a server of this machine keeps how far the feed has come, where that is
    not beside the database.

    Raises:
        ConfigurationError: the file is no back-up that fits this master key, or the store is in use and *into* is `UNUSED`, is of another
            deployment, or is being moved. Nothing was changed.
        StoreUnavailable: the store does not answer; nothing was changed.
    """
    _require_possible(url)
    with _opened(file) as raw:
        reader, key = _authentic(raw, _master_keys(url, master_key))
        store = await make_movable(url)
        try:
            restoring = _Restoring(
                reader, store, into=into, known=_known(url, key, state_folder), clock=clock, actor=actor
            )
            done = await restoring.go(on_progress)
        finally:
            await store.close()
    await _record(url, done, clock=clock, actor=actor)
    return done


class _Restoring:
    """One restore, tried again where entries came in between."""

    def __init__(
        self,
        reader: BackupReader,
        store: Movable,
        *,
        into: Into,
        known: Callable[[FeedRow], Head | None],
        clock: Clock,
        actor: str,
    ) -> None:
        self._reader = reader
        self._store = store
        self._into = into
        self._clock = clock
        self._actor = actor
        self._saved = Survey.of(reader.pages())
        self._known = known(_feed_of(self._saved))

    async def go(self, on_progress: Progress) -> Restored:
        """Restore, as soon as no entry comes between looking and restoring."""
        if await self._store.mark() is not None:
            raise ConfigurationError("the store is being copied; finish that, or abandon it, then restore")
        for _ in range(_ATTEMPTS):
            done = await self._attempt(on_progress)
            if done is not None:
                return done
        raise StoreUnavailable("entries come faster than the store can be restored; stop the servers first")

    async def _attempt(self, on_progress: Progress) -> Restored | None:
        saved = _feed_of(self._saved)
        async with self._store.snapshot(self._clock.now()) as snapshot:
            unused = await is_unused(snapshot)
            present = await _survey(snapshot)
            feed = _feed_of(present)
            self._require_fitting(feed, unused=unused)
            outcome = Outcome.ANEW if unused or await self._has_lost(snapshot, feed) else Outcome.KEPT
        counted = _counted(self._reader, on_progress)
        event = _event(self._clock, self._actor, outcome, self._reader.header.moment)
        if outcome is Outcome.KEPT:
            content = records_again(counted, present=feed, event=event)
            is_ours = await self._store.replace(content, kinds=RECORDS, instead_of=head_of(feed))
        else:
            heads = [saved.position, feed.position, *([self._known.position] if self._known else [])]
            left = frozenset() if unused else frozenset({Kind.EVENTS})
            content = all_anew(
                counted,
                feed=_longest(saved, feed),
                past=Position(max(heads)),
                key_ids=self._saved.key_ids | present.key_ids,
                event=event,
                left=left,
            )
            is_ours = await self._store.replace(content, kinds=ANEW, instead_of=head_of(feed))
        if not is_ours:
            return None
        backup = Backup(records=self._reader.header.records, made_at=self._reader.header.moment)
        return Restored(backup=backup, outcome=outcome, head=await self._head())

    def _require_fitting(self, feed: FeedRow, *, unused: bool) -> None:
        if unused:
            return
        if self._into is Into.UNUSED:
            raise ConfigurationError(
                "the store is in use; give a new one, or --force to put the back-up in place of what it holds"
            )
        if feed.salt != _feed_of(self._saved).salt:
            raise ConfigurationError("the store is of another deployment than the back-up; give a new one")

    async def _has_lost(self, snapshot: Snapshot, feed: FeedRow) -> bool:
        """Say whether the store lacks entries of which the back-up, or what was kept beside the store, knows."""
        for known in (head_of(_feed_of(self._saved)), self._known):
            if known is not None and (
                went_back(head_of(feed), known) or await _is_forked(snapshot, feed, known)
            ):
                return True
        return False

    async def _head(self) -> Head:
        async with self._store.snapshot(self._clock.now()) as snapshot:
            return head_of(_feed_of(await _survey(snapshot)))


async def _survey(snapshot: Snapshot) -> Survey:
    survey = Survey(None, set())
    for kind in (Kind.FEED, Kind.KEYS, Kind.ENTRIES):
        async for page in pages(snapshot, kind):
            for record in page:
                survey.see(record)
    return survey


async def _is_forked(snapshot: Snapshot, feed: FeedRow, known: Head) -> bool:
    if feed.timeline != known.timeline or not known.position:
        return False
    found = await snapshot.read(Kind.ENTRIES, after=number_key(known.position - 1), limit=1)
    return any(
        isinstance(record, EntryRow)
        and record.entry.position == known.position
        and record.entry.chain != known.chain
        for record in found
    )


def _feed_of(survey: Survey) -> FeedRow:
    if survey.feed is None:
        raise ConfigurationError("the back-up holds no feed; nothing was changed")
    return survey.feed


def _longest(saved: FeedRow, present: FeedRow) -> FeedRow:
    return replace(
        saved,
        at=max(saved.at, present.at),
        longest_credential=max(saved.longest_credential, present.longest_credential),
        longest_session=max(saved.longest_session, present.longest_session),
    )


def _counted(reader: BackupReader, on_progress: Progress) -> Iterator[Sequence[AnyRecord]]:
    for page in reader.pages():
        yield page
        on_progress(reader.header.records, len(page))


def _event(clock: Clock, actor: str, outcome: Outcome, made_at: datetime) -> Event:
    facts: dict[str, str | int] = {"outcome": outcome.name.lower(), "backup_of": made_at.isoformat()}
    return Event(at=clock.now(), code="store_restored", actor=actor, facts=facts)


async def _record(url: str, done: Restored, *, clock: Clock, actor: str) -> None:
    """Write it to the audit trail."""
    store = await open_store(url, clock=clock)
    try:
        await store.audit.add(_event(clock, actor, done.outcome, done.backup.made_at))
    finally:
        await store.close()


async def _write(snapshot: Snapshot, file: Path, *, key: bytes, made: Backup, on_progress: Progress) -> None:
    draft = file.with_name(f"{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as raw:
                writer = BackupWriter(raw, master_key=key, made_at=made.made_at, records=made.records)
                for kind in Kind:
                    async for page in pages(snapshot, kind):
                        writer.add(page)
                        on_progress(made.records, len(page))
                writer.finish()
                raw.flush()
                os.fsync(raw.fileno())
            os.link(draft, file)  # unlike a rename, it takes nobody's place
        finally:
            draft.unlink()
        sync_folder(file.parent)
    except FileExistsError:
        raise ConfigurationError(f"{file} is there already; give a name that is new") from None
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be written ({error.strerror})") from None


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    try:
        raw = file.open("rb")
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read ({error.strerror})") from None
    with raw:
        yield raw


def _authentic(raw: BinaryIO, keys: Sequence[bytes]) -> tuple[BackupReader, bytes]:
    """Return a reader of the back-up with the first of *keys* that fits it, and that key."""
    for key in keys[:-1]:
        with suppress(ConfigurationError):
            return BackupReader(raw, master_key=key), key
    return BackupReader(raw, master_key=keys[-1]), keys[-1]


async def _fitting(snapshot: Snapshot, keys: Sequence[bytes]) -> bytes:
    """Return the first of *keys* under which the store's keys are sealed."""
    stored = [
        record.stored
        async for page in pages(snapshot, Kind.KEYS)
        for record in page
        if isinstance(record, KeyRow)
    ]
    for key in keys:
        if fits(stored, Sealing(key)):
            return key
    raise ConfigurationError("the master key does not fit the store")


def _master_keys(url: str, given: bytes | None) -> Sequence[bytes]:
    """Return the master keys that may be in force: the given one, or that of the file, and the one that a rewrap is putting in its place."""
    if given is not None:
        return [given]
    database = sqlite_path(url)
    if database is None:
        raise ConfigurationError("this store needs its master key; set KEYFOB_MASTER_KEY")
    if not key_file_of(database).exists():
        raise ConfigurationError(
            f"{key_file_of(database)} is missing: put the master key's file of the deployment there, or set KEYFOB_MASTER_KEY"
        )
    coming = next_master_key_beside(database)
    return [master_key_beside(database), *([coming] if coming else [])]


def _known(url: str, key: bytes, state_folder: Path | None) -> Callable[[FeedRow], Head | None]:
    """Return what finds the last head that was kept: beside a SQLite database, else in *state_folder*, of the store of a back-up."""
    database = sqlite_path(url)
    if database is not None:
        return lambda _: HeadFile.kept_beside(database, master_key=key)
    if state_folder is None:
        return lambda _: None
    return lambda feed: HeadFile.kept_in(state_folder, salt=feed.salt, master_key=key)


def _require_possible(url: str) -> None:
    """Refuse a store that ends with its process."""
    if url.startswith("memory:"):
        raise ConfigurationError("a store in memory ends with its process; give another with --store")
