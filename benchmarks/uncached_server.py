"""`keyfob serve` on SQLite with its cache of checked credentials as good as off: `python -m benchmarks.uncached_server`, settings from the environment.

Two credentials are remembered instead of 100,000, so that among thousands each check is one of the store.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop

from keyfob.authority.authority import Authority
from keyfob.server import logs, serving
from keyfob.server.build import application
from keyfob.server.settings import Settings

CAPACITY = 2


async def serve(settings: Settings) -> None:
    """Serve until told to stop, as one process of `keyfob serve` does."""
    with serving.bind(settings) as listener:
        issuer = settings.issuer_at(listener.getsockname()[1])

        async def opened() -> Authority:
            return await Authority.open(
                settings.store,
                issuer=issuer,
                policy=settings.policy,
                access_lifetime=settings.access_lifetime,
                cache_capacity=CAPACITY,
            )

        app = application(opened, issuer=issuer)
        await app.start()
        try:
            config = serving._config(app, settings)
            line = serving.announcement(settings, listener, issuer)
            await serving.Server(config, app, ready=lambda: serving.say(line)).serve(sockets=[listener])
        finally:
            await app.stop()


def main() -> None:
    """Read the settings and serve."""
    settings = Settings.load()
    logs.configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings))
    sys.exit(0)


if __name__ == "__main__":
    main()
