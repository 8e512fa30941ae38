"""Fixtures for the tests of applications that use Keyfob; pytest finds them by itself where Keyfob is installed.

    def test_payments(app, keyfob_login):
        client = keyfob_login("alice", roles=["payer"]).into(app.test_client())
        assert client.post("/payments").status_code == 200

| fixture | gives |
|---|---|
| `keyfob_authority` | a `keyfob.sync.Authority` in memory, for this test alone |
| `keyfob_login` | logs a subject in; `.into(client)` makes it the client's credential |
| `keyfob_clock` | the authority's clock, which stands still until `advance` |
| `keyfob_store`, `keyfob_options` | what the authority is opened with: yours, if a `conftest.py` has fixtures of these names |
| `keyfob_server` | a real server on a port of this machine, for applications that follow an authority |

Nothing of Keyfob is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from keyfob.authority.options import OpenOptions
    from keyfob.pytest_plugin.logging_in import Login
    from keyfob.pytest_plugin.moved_clock import TestClock
    from keyfob.pytest_plugin.server import TestServer
    from keyfob.sync import Authority


@pytest.fixture
def keyfob_clock() -> TestClock:
    """Return the clock of `keyfob_authority`: it stands still until `advance`."""
    from keyfob.pytest_plugin.moved_clock import TestClock

    return TestClock()


@pytest.fixture
def keyfob_store() -> str:
    """Return the URL of the store of `keyfob_authority`: in memory. A fixture of this name in your `conftest.py` replaces it."""
    return "memory://"


@pytest.fixture
def keyfob_options() -> OpenOptions:
    """Return the options of `keyfob_authority`. A fixture of this name in your `conftest.py` replaces them: give it your own policy."""
    return {"issuer": "https://auth.test"}


@pytest.fixture
def keyfob_authority(
    keyfob_store: str, keyfob_options: OpenOptions, keyfob_clock: TestClock
) -> Iterator[Authority]:
    """Give an authority, closed after the test."""
    from keyfob.sync import Authority

    options: OpenOptions = {"clock": keyfob_clock, **keyfob_options}
    with Authority.open(keyfob_store, **options) as authority:
        keyfob_clock.tell(authority)
        yield authority


@pytest.fixture
def keyfob_login(keyfob_authority: Authority) -> Login:
    """Return what logs in at `keyfob_authority`: `keyfob_login("alice", roles=["payer"], strategy="jwt")`."""
    from keyfob.pytest_plugin.logging_in import Login

    return Login(keyfob_authority)


@pytest.fixture
def keyfob_server() -> Iterator[TestServer]:
    """Give a real server with an authority in memory, ended after the test. Its clock is the machine's. Needs `keyfob[server]`."""
    from keyfob.pytest_plugin.server import TestServer

    with TestServer.started() as server:
        yield server
