"""`manage.py keyfob ...`: the command line of Keyfob, on the store of this project's authority."""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import REMAINDER, ArgumentParser

from django.core.management.base import BaseCommand

from keyfob.integrations.django.sources import current_sources


class Command(BaseCommand):
    """Passes to `keyfob`: sessions, revoke, doctor and the rest."""

    help = "Runs the keyfob command line: manage.py keyfob sessions list, revoke subject user-17, doctor ..."
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's way; who cuts somebody off at night is not to wait for them

    def run_from_argv(self, argv: list[str]) -> None:
        """Pass everything on as it stands, `--help` too."""
        self.handle(arguments=argv[2:])

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take anything: the command line of Keyfob reads it."""
        parser.add_argument("arguments", nargs=REMAINDER)

    def handle(self, *args: object, arguments: list[str], **options: object) -> None:
        """Run one command and exit as it does: 0 done, 1 refused or failed, 2 used wrongly.

        The store, issuer and master key are those of `settings.KEYFOB`, where it has them; what stands in the environment comes first.
        """
        done = subprocess.run(  # noqa: S603 - what the operator has typed
            [sys.executable, "-m", "keyfob", *arguments], env=_environment(), check=False
        )
        if done.returncode:
            sys.exit(done.returncode)


def _environment() -> dict[str, str]:
    store = current_sources().configuration.store
    if store is None:
        return dict(os.environ)
    own = {"KEYFOB_STORE": store.url, "KEYFOB_ISSUER": store.issuer}
    if store.master_key is not None:
        own["KEYFOB_MASTER_KEY"] = store.master_key
    return own | os.environ
