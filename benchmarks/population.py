"""A database with sessions in it, and the files of their tokens that the load generator reads."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from msgspec import structs

from benchmarks.rounds import Tell
from keyfob.authority.authority import Authority
from keyfob.authority.issued import Issued
from keyfob.base.identifiers import Strategy, Subject
from keyfob.base.opaque import OpaqueKind, OpaqueToken
from keyfob.sessions.session import Session
from keyfob.stores.rows import session_to
from keyfob.stores.sqlite import sessions as sqlite_sessions

CLIENTS = 50
AT_ONCE = 128  # logins under way
_PORTION = 20_000  # rows that are written in one transaction
ACCESS_LIFETIME = timedelta(hours=2)  # longer than any run


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Files: tokens, one a line; what is posted to log in to each account, one a line, all of one length; Basic credentials of
    clients, and of one that may introspect; what it posts to ask about sessions and about access tokens, one a line, all of one length."""

    session_tokens: Path
    refresh_tokens: Path
    access_tokens: Path
    logins: Path
    clients: Path
    introspecting: Path
    session_forms: Path
    access_forms: Path


async def populate(
    folder: Path, *, issuer: str, sessions: int, hybrids: int, accounts: int, tell: Tell
) -> Population:
    """Make the database of *folder*, with so many *sessions*, *hybrids* and *accounts*, each of a subject of its own."""
    people = {
        f"account-{number:03}": f"a long phrase {number:03} nobody guesses" for number in range(accounts)
    }
    async with Authority.open(store_url(folder), issuer=issuer, access_lifetime=ACCESS_LIFETIME) as authority:
        for name, password in people.items():
            await authority.accounts.add(name, password, actor="benchmark")
        services = [await authority.clients.add(f"service-{number}") for number in range(CLIENTS)]
        asking = await authority.clients.add("introspecting", scopes=["keyfob:introspect"])
        issued = await _log_in(authority, hybrids)
        # The first by the way of every login; the others are copies of its row but for what tells sessions apart.
        template = await authority.login("template", strategy="session")
        found = await authority.store.sessions.find(template.session_id)
        assert found is not None
        tokens = await asyncio.to_thread(_fill, authority, found.session, database(folder), sessions, tell)
    return Population(
        session_tokens=_written(folder / "session.tokens", tokens),
        refresh_tokens=_written(folder / "refresh.tokens", (one.refresh_token or "" for one in issued)),
        access_tokens=_written(folder / "access.tokens", (one.access_token or "" for one in issued)),
        logins=_written(
            folder / "logins",
            (
                json.dumps({"username": name, "password": password, "transport": "body"})
                for name, password in people.items()
            ),
        ),
        clients=_written(
            folder / "clients",
            (b64encode(f"{one.client.client_id}:{one.secret}".encode()).decode() for one in services),
        ),
        introspecting=_written(
            folder / "introspecting", [b64encode(f"introspecting:{asking.secret}".encode()).decode()]
        ),
        session_forms=_written(folder / "session.forms", _forms(tokens)),
        access_forms=_written(folder / "access.forms", _forms([one.access_token or "" for one in issued])),
    )


def _forms(tokens: Sequence[str]) -> Iterable[str]:
    """Return a form for each token, all of one length: a field that nobody knows fills them up."""
    longest = max(map(len, tokens))
    return (f"token={token}&fill={'x' * (longest - len(token))}" for token in tokens)


def database(folder: Path) -> Path:
    """Return where the database of *folder* is."""
    return folder / "keyfob.db"


def store_url(folder: Path) -> str:
    """Return the URL of the store in *folder*."""
    return f"sqlite:///{database(folder)}"


async def _log_in(authority: Authority, count: int) -> list[Issued]:
    issued: list[Issued] = []
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(count, start + AT_ONCE))
        issued += await asyncio.gather(
            *(authority.login(f"hybrid-{number}", strategy="hybrid") for number in numbers)
        )
    return issued


def _fill(authority: Authority, template: Session, path: Path, count: int, tell: Tell) -> list[str]:
    """Write *count* sessions as rows, many in a transaction: logins one by one would take minutes for a million."""
    tokens: list[str] = []
    connection = sqlite3.connect(path, timeout=30)
    try:
        for start in range(0, count, _PORTION):
            made = [
                _another(authority, template, number) for number in range(start, min(count, start + _PORTION))
            ]
            tokens += [token.text() for _, token in made]
            with connection:
                connection.executemany(sqlite_sessions._INSERT, [session_to(session) for session, _ in made])
            tell("filling the database", (start + len(made)) / count)
    finally:
        connection.close()
    return tokens


def _another(authority: Authority, template: Session, number: int) -> tuple[Session, OpaqueToken]:
    subject = Subject(f"person-{number:07}")
    session_id, ends_at = authority.sessions.new_id(subject, Strategy.SESSION)
    token = OpaqueToken.mint(OpaqueKind.SESSION, session_id, authority.keys.current_opaque())
    session = structs.replace(
        template, session_id=session_id, subject=subject, expires_at=ends_at, digest=token.digest
    )
    return session, token


def _written(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "ascii")
    return path
