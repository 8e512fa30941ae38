"""The master key: what seals private keys at rest."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from keyfob.base import base64url
from keyfob.base.errors import ConfigurationError

MASTER_KEY = 32  # bytes
_OTHERS = 0o077  # permission bits of group and world


def new_master_key() -> bytes:
    """Return 32 bytes of the operating system's CSPRNG."""
    return os.urandom(MASTER_KEY)


def read_master_key(text: str, *, name: str = "KEYFOB_MASTER_KEY") -> bytes:
    """Return the key of its text, 32 bytes in base64url.

    Raises:
        ConfigurationError: it is not; the message does not repeat it.
    """
    try:
        key = base64url.decode(text.strip().rstrip("=").encode("ascii"))
    except ValueError:
        key = b""
    if len(key) != MASTER_KEY:
        raise ConfigurationError(
            f"{name} must be 32 bytes in base64url; make one with: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return key


def master_key_beside(database: Path) -> bytes:
    """Return the key in the file `<database>.key`, making the file (mode 0600) where there is none.

    Of several processes that make it at once, one wins and all return its key.

    Raises:
        ConfigurationError: the file is readable by others, holds no key, or is missing though the database is not new.
    """
    file = key_file_of(database)
    if not file.parent.is_dir():
        raise ConfigurationError(f"there is no folder {file.parent}: make it, or give --store another path")
    try:
        if not file.exists():
            _create(file, database)
    except OSError as error:
        raise ConfigurationError(f"the master key file {file} cannot be made: {error}") from None
    return _read(file)


def next_master_key_beside(database: Path) -> bytes | None:
    """Return the key in `<database>.key.new`, which a rewrap puts there before it seals anything under it; None where there is none.

    Raises:
        ConfigurationError: the file is readable by others, or holds no key.
    """
    file = next_key_file_of(database)
    return _read(file) if file.exists() else None


def key_file_of(database: Path) -> Path:
    """Return where the master key of *database* lies."""
    return database.with_name(database.name + ".key")


def next_key_file_of(database: Path) -> Path:
    """Return where the new master key of *database* lies during a rewrap."""
    return database.with_name(database.name + ".key.new")


def write_key(file: Path, key: bytes) -> None:
    """Make *file* with *key*, durably, for its owner alone; the first wins, and nobody reads half a key.

    Raises:
        FileExistsError: it is there already, and stays as it is.
        OSError: it cannot be written.
    """
    draft = file.with_name(f"{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as writing:
            writing.write(base64url.encode(key) + "\n")
            writing.flush()
            os.fsync(writing.fileno())
        os.link(draft, file)
    finally:
        draft.unlink()
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Return when what was made, renamed or deleted in *folder* would survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(file: Path) -> bytes:
    try:
        if file.stat().st_mode & _OTHERS:
            raise ConfigurationError(f"{file} can be read by others; mend it with: chmod 600 {file}")
        return read_master_key(file.read_text("ascii"), name=str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the master key file {file} cannot be used: {error}") from None


def _create(file: Path, database: Path) -> None:
    """Make the key file of a database that is not there yet."""
    # The key is made before the database: a database that is there now has its key now, or has lost it.
    if database.exists() and database.stat().st_size > 0 and not file.exists():
        raise ConfigurationError(
            f"{file} is missing, and {database} was made with it; restore it, or set KEYFOB_MASTER_KEY"
        )
    with contextlib.suppress(FileExistsError):
        write_key(file, new_master_key())
