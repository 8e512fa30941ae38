"""`keyfob sessions`: who is signed in."""

from __future__ import annotations

from typing import Annotated

import typer

from keyfob.authority.authority import Authority
from keyfob.base.errors import NotFound
from keyfob.base.identifiers import Subject
from keyfob.cli.opened import ACTOR, AsJson, ConfigFile, Reason, StoreUrl, with_authority
from keyfob.cli.output import examples, moment, say_entry, say_json, say_table, warn
from keyfob.sessions.session import Session

PAGE = 500  # sessions read in one step

group = typer.Typer(help="List and end sessions.", no_args_is_help=True, rich_markup_mode="rich")


def register(commands: typer.Typer) -> None:
    """Add `sessions` to *commands*."""
    commands.add_typer(group, name="sessions")


@group.command("list", epilog=examples("keyfob sessions list", "keyfob sessions list alice --json"))
def list_(
    user: Annotated[
        str | None, typer.Argument(metavar="[USER]", help="Only of this login name or subject.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 200,
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """List live sessions, newest first."""

    async def work(authority: Authority) -> list[Session]:
        subject = await subject_of(authority, user) if user is not None else None
        sessions: list[Session] = []
        after: str | None = None
        while len(sessions) < limit:
            page = await authority.store.sessions.list(
                subject, now=authority.clock.now(), after=after, limit=min(PAGE, limit - len(sessions))
            )
            sessions += page.sessions
            if page.next is None:
                break
            after = page.next
        return sessions

    sessions = with_authority(work, store=store, config=config)
    if json:
        say_json([_document(session) for session in sessions])
        return
    say_table(
        ("session", "subject", "client", "strategy", "created", "last seen", "address", "user agent"),
        (
            (
                one.session_id,
                one.subject,
                one.client_id,
                one.strategy.value,
                moment(one.created_at),
                moment(one.last_seen_at),
                one.address or "-",
                one.user_agent[:60] or "-",
            )
            for one in sessions
        ),
        empty="nobody is signed in",
    )


@group.command(epilog=examples("keyfob sessions end 5f0c64a1b7c94d0d8f0e3a2b1c4d5e6f"))
def end(
    session_id: Annotated[str, typer.Argument(metavar="ID", help="The session's id, as listed.")],
    reason: Reason = "",
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """End one session, everywhere."""

    async def work(authority: Authority) -> None:
        entry = await authority.revoke("session", session_id, actor=ACTOR, reason=reason)
        say_entry(entry, what=f"session {session_id} ended", unchanged="it was over already")

    with_authority(work, store=store, config=config)


async def subject_of(authority: Authority, user: str) -> Subject:
    """Return the subject of *user*; the text itself, with a warning, where nothing is known of it.

    Applications that log in their own users choose the subjects, and a subject without roles has no record.
    """
    try:
        return await authority.accounts.resolve(user)
    except NotFound:
        warn(f"there is no account {user}; taken for a subject as it stands")
        return Subject(user)


def _document(session: Session) -> dict[str, object]:
    return {
        "session_id": session.session_id,
        "subject": session.subject,
        "client_id": session.client_id,
        "strategy": session.strategy.value,
        "created_at": session.created_at.isoformat(),
        "last_seen_at": session.last_seen_at.isoformat(),
        "expires_at": session.expires_at.isoformat(),
        "address": session.address,
        "user_agent": session.user_agent,
    }
