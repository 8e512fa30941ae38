"""A store full of sessions. Rows are those that the store itself would write, and the tokens that go with them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from benchmarks.rounds import Tell
from benchmarks.store_places import Place
from keyfob.authority.authority import Authority
from keyfob.base.identifiers import Strategy, Subject
from keyfob.base.opaque import OpaqueKind, OpaqueToken, TokenDigest
from keyfob.sessions.session import Session

ASKED = 200_000  # sessions that are checked, rotated or ended, at most
_PORTION = 10_000  # rows of one transaction
_KINDS = {Strategy.SESSION: OpaqueKind.SESSION, Strategy.HYBRID: OpaqueKind.REFRESH}


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """The tokens of the sessions that were written, and how many seconds that took."""

    session_tokens: list[str]
    refresh_tokens: list[str]
    seconds: float


async def fill(authority: Authority, place: Place, url: str, size: int, *, tell: Tell) -> Filled:
    """Write *size* sessions, half of them with a refresh token.

    Of more than `ASKED` only that many, evenly spread, have a token that anybody knows: the others are rows like them, that are never asked.
    """
    begin, step = time.perf_counter(), max(1, size // ASKED)
    templates = {strategy: await _template(authority, strategy) for strategy in _KINDS}
    tokens: dict[Strategy, list[str]] = {strategy: [] for strategy in _KINDS}
    for start in range(0, size, _PORTION):
        made = list(_made(authority, templates, range(start, min(size, start + _PORTION)), step=step))
        sessions = [session for session, _ in made]
        await place.write(url, sessions)
        for session, token in made:
            if token is not None:
                tokens[session.strategy].append(token.text())
        tell(f"{place.name}: filling {size:,}", (start + len(made)) / size)
    await place.settle(url)
    return Filled(
        session_tokens=tokens[Strategy.SESSION],
        refresh_tokens=tokens[Strategy.HYBRID],
        seconds=time.perf_counter() - begin,
    )


async def _template(authority: Authority, strategy: Strategy) -> Session:
    """Log in once: the others are copies of that row but for what tells sessions apart."""
    login = await authority.login("template", strategy=strategy.value)
    found = await authority.store.sessions.find(login.session_id)
    assert found is not None
    return found.session


def _made(
    authority: Authority, templates: dict[Strategy, Session], numbers: Sequence[int], *, step: int
) -> Iterator[tuple[Session, OpaqueToken | None]]:
    keys, kinds = authority.keys.current_opaque(), list(_KINDS.items())
    for number in numbers:
        strategy, kind = kinds[number // step % 2]
        subject = Subject(f"person-{number:08}")
        session_id, ends_at = authority.sessions.new_id(subject, strategy)
        token = None if number % step else OpaqueToken.mint(kind, session_id, keys)
        session = structs.replace(
            templates[strategy],
            session_id=session_id,
            subject=subject,
            expires_at=ends_at,
            digest=TokenDigest(os.urandom(32)) if token is None else token.digest,
        )
        yield session, token
