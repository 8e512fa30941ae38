"""All commands together, and what happens when one is refused."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from keyfob.base.errors import (
    AuthorityUnavailable,
    ConfigurationError,
    Denied,
    KeyfobError,
    NotFound,
    RateLimited,
    StoreUnavailable,
    Unavailable,
)
from keyfob.cli import (
    advise,
    api_key,
    backup,
    client,
    demo,
    doctor,
    feed,
    gateway,
    keys,
    lab,
    migrate,
    relay,
    revoke,
    serve,
    sessions,
    store,
    user,
    version,
)
from keyfob.cli.output import examples, plain

# What to do next, where the message does not say it already.
_NEXT: tuple[tuple[type[KeyfobError], str], ...] = (
    (ConfigurationError, ""),
    (
        StoreUnavailable,
        "is the store running, its disk not full, and may this user write to it? 'keyfob doctor' looks",
    ),
    (AuthorityUnavailable, "is the server running, and is the URL right?"),
    (Unavailable, "try again in a moment"),
    (NotFound, "the 'list' commands show what there is"),
    (RateLimited, "wait, then try again"),
    (Denied, ""),
)


class Commands(TyperGroup):
    """Turns an error of ours into one line on stderr and exit code 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyfobError as error:
            _refuse(error)


def _refuse(error: KeyfobError) -> NoReturn:
    hint = next((text for kind, text in _NEXT if isinstance(error, kind)), "")
    line = plain(str(error)).rstrip(".")
    sys.stderr.write(f"keyfob: {line}{f' ({hint})' if hint else ''}\n")
    raise typer.Exit(1)


commands = typer.Typer(
    name="keyfob",
    cls=Commands,
    help="Sessions, JWTs and the hybrid behind one interface, revocable everywhere at once.",
    epilog=examples(
        "keyfob demo                                   # see it work",
        "keyfob user add alice --role keyfob:admin     # the first administrator",
        "keyfob serve --port 8080                      # serve",
        "keyfob doctor                                 # what is unsafe here?",
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
serve.register(commands)
relay.register(commands)
gateway.register(commands)
feed.register(commands)
demo.register(commands)
lab.register(commands)
user.register(commands)
client.register(commands)
api_key.register(commands)
sessions.register(commands)
revoke.register(commands)
keys.register(commands)
migrate.register(commands)
store.register(commands)
backup.register(commands)
doctor.register(commands)
advise.register(commands)
version.register(commands)
