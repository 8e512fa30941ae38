"""`keyfob user`: accounts."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from keyfob.accounts.account import Account
from keyfob.authority.authority import Authority
from keyfob.base.errors import InvalidRequest
from keyfob.cli.opened import ACTOR, AsJson, ConfigFile, Reason, StoreUrl, with_authority
from keyfob.cli.output import examples, listed, moment, say, say_entry, say_json, say_table

MAX_PASSWORD_LINE = 4096  # characters read from stdin; no password is as long
PAGE = 500  # accounts read in one step

User = Annotated[str, typer.Argument(metavar="USER", help="Login name or subject.")]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of standard input.")
]

group = typer.Typer(help="Add, change and delete accounts.", no_args_is_help=True, rich_markup_mode="rich")


def register(commands: typer.Typer) -> None:
    """Add `user` to *commands*."""
    commands.add_typer(group, name="user")


@group.command(
    epilog=examples(
        "keyfob user add alice",
        "keyfob user add root --role keyfob:admin",
        "printf '%s' \"$PASSWORD\" | keyfob user add bob --role buyer --role payer --password-stdin",
    )
)
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The login name.")],
    role: Annotated[list[str] | None, typer.Option("--role", metavar="R", help="A role; repeatable.")] = None,
    password_stdin: PasswordStdin = False,
    json: AsJson = False,
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Add an account. Asks for the password twice, unless it comes from standard input."""
    password = _password(from_stdin=password_stdin)

    async def work(authority: Authority) -> Account:
        return await authority.accounts.add(name, password, roles=role or (), actor=ACTOR)

    account = with_authority(work, store=store, config=config)
    if json:
        say_json(_document(account))
    else:
        say(f"added {account.name}: subject {account.subject}, roles {listed(account.roles)}")


@group.command(
    epilog=examples(
        "keyfob user password alice", "keyfob user password alice --password-stdin < new-password"
    )
)
def password(
    user: User,
    password_stdin: PasswordStdin = False,
    reason: Reason = "",
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Set a password, and end all sessions of the account."""
    new = _password(from_stdin=password_stdin)

    async def work(authority: Authority) -> None:
        subject = await authority.accounts.resolve(user)
        entry = await authority.accounts.set_password(subject, new, actor=ACTOR, reason=reason)
        say_entry(entry, what=f"password of {user} set, all its sessions ended", unchanged="nothing changed")

    with_authority(work, store=store, config=config)


@group.command(
    epilog=examples(
        "keyfob user roles alice buyer payer     # these and no others",
        "keyfob user roles alice                 # none any more",
    )
)
def roles(
    user: User,
    role: Annotated[
        list[str] | None, typer.Argument(metavar="[ROLE]...", help="All roles from now on.")
    ] = None,
    reason: Reason = "",
    store: StoreUrl = None,
    config: ConfigFile = None,
) -> None:
    """Set the roles. They are in force at once, everywhere, without a new login."""

    async def work(authority: Authority) -> None:
        subject = await authority.accounts.resolve(user)
        entry = await authority.accounts.set_roles(subject, role or (), actor=ACTOR, reason=reason)
        say_entry(
            entry, what=f"roles of {user}: {listed(role or ())}", unchanged=f"{user} has these roles already"
        )

    with_authority(work, store=store, config=config)


@group.command(epilog=examples("keyfob user disable alice --reason 'left the company'"))
def disable(user: User, reason: Reason = "", store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Bar an account from logging in, and end all its sessions."""

    async def work(authority: Authority) -> None:
        subject = await authority.accounts.resolve(user)
        entry = await authority.accounts.disable(subject, actor=ACTOR, reason=reason)
        say_entry(
            entry, what=f"{user} disabled, all its sessions ended", unchanged=f"{user} was disabled already"
        )

    with_authority(work, store=store, config=config)


@group.command(epilog=examples("keyfob user enable alice"))
def enable(user: User, reason: Reason = "", store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Let a disabled account log in again. What was ended stays ended."""

    async def work(authority: Authority) -> None:
        subject = await authority.accounts.resolve(user)
        changed = await authority.accounts.enable(subject, actor=ACTOR, reason=reason)
        say(f"{user} enabled" if changed else f"{user} was not disabled")

    with_authority(work, store=store, config=config)


@group.command(epilog=examples("keyfob user delete alice"))
def delete(user: User, reason: Reason = "", store: StoreUrl = None, config: ConfigFile = None) -> None:
    """Delete an account, and end all its sessions. Its name may be used again; its subject never is."""

    async def work(authority: Authority) -> None:
        subject = await authority.accounts.resolve(user)
        entry = await authority.accounts.delete(subject, actor=ACTOR, reason=reason)
        say_entry(
            entry, what=f"{user} deleted, all its sessions ended", unchanged=f"{user} was deleted already"
        )

    with_authority(work, store=store, config=config)


@group.command("list", epilog=examples("keyfob user list", "keyfob user list --json"))
def list_(json: AsJson = False, store: StoreUrl = None, config: ConfigFile = None) -> None:
    """List the accounts by name."""
    accounts = with_authority(_all, store=store, config=config)
    if json:
        say_json([_document(account) for account in accounts])
        return
    say_table(
        ("name", "subject", "roles", "created", "disabled"),
        (
            (one.name, one.subject, listed(one.roles), moment(one.created_at), moment(one.disabled_at))
            for one in accounts
        ),
        empty="there are no accounts; 'keyfob user add NAME' adds one",
    )


async def _all(authority: Authority) -> list[Account]:
    accounts: list[Account] = []
    after: str | None = None
    while True:
        page = await authority.accounts.list(after=after, limit=PAGE)
        accounts += page.accounts
        if page.next is None:
            return accounts
        after = page.next


def _document(account: Account) -> dict[str, object]:
    disabled_at = account.disabled_at
    return {
        "subject": account.subject,
        "name": account.name,
        "roles": sorted(account.roles),
        "created_at": account.created_at.isoformat(),
        "disabled_at": None if disabled_at is None else disabled_at.isoformat(),
    }


def _password(*, from_stdin: bool) -> str:
    """Return the password: typed twice, or the first line of standard input without its end. Never an argument, which `ps` would show."""
    if not from_stdin:
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt="The same again"))
    line = sys.stdin.readline(MAX_PASSWORD_LINE)
    typed = line.removesuffix("\n").removesuffix("\r")
    if not typed:
        raise InvalidRequest("no_password", "Standard input gave no password.")
    return typed
