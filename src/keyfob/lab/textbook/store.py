"""The textbook store as a process of its own: `python -m keyfob.lab.textbook.store`, with its settings as JSON on standard input."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from keyfob.lab.asgi import Announcement, announce, listener, read_settings
from keyfob.lab.textbook.records import SqliteRecords
from keyfob.lab.textbook.remote_records import StoreProtocol


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where the store keeps its file."""

    database: str


async def serve(settings: StoreSettings) -> None:
    """Serve until the process is ended."""
    records = SqliteRecords(Path(settings.database))
    listening = listener()
    server = await asyncio.get_running_loop().create_server(lambda: StoreProtocol(records), sock=listening)
    announce(Announcement(port=listening.getsockname()[1]))
    await server.serve_forever()


def main() -> None:
    """Read the settings and serve."""
    settings = read_settings(StoreSettings)
    try:
        import uvloop
    except ModuleNotFoundError:
        asyncio.run(serve(settings))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings))


if __name__ == "__main__":
    main()
