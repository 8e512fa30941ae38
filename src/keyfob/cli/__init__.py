"""The command line: `keyfob`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit: 0 done, 1 refused or failed, 2 used wrongly."""
    try:
        from keyfob.cli.commands import commands
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] == "keyfob":
            raise
        sys.stderr.write(f"keyfob: the command line needs {missing.name}: pip install keyfob[server]\n")
        sys.exit(1)
    commands()
