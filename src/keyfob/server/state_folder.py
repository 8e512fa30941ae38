"""Where a server keeps what must outlive its restarts and is no matter of the store, if nobody has said so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_NAME = "keyfob"


def default_state_folder(variables: Mapping[str, str]) -> Path | None:
    """Return the folder that systemd gives the service (`StateDirectory=`), else the user's own; None where this process could not write there.

    The user's own is `$XDG_STATE_HOME/keyfob`, or `~/.local/state/keyfob`.
    """
    given = variables.get("STATE_DIRECTORY", "").partition(":")[0]
    state, home = variables.get("XDG_STATE_HOME", ""), variables.get("HOME", "")
    if given:
        folder = Path(given)
    elif state:
        folder = Path(state) / _NAME
    elif home:
        folder = Path(home) / ".local" / "state" / _NAME
    else:
        return None
    return folder if folder.is_absolute() and _can_be_made(folder) else None


def _can_be_made(folder: Path) -> bool:
    """Say whether *folder* can be written or, where it is not there yet, be made."""
    try:
        nearest = next(one for one in (folder, *folder.parents) if one.exists())
        return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except PermissionError:
        return False
