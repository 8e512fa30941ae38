"""The options of commands that listen: `serve`, `relay` and `gateway`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Host = Annotated[str | None, typer.Option(metavar="HOST", help="Listen here. [default: 127.0.0.1]")]
Workers = Annotated[int | None, typer.Option(min=1, max=64, metavar="N", help="Processes. [default: 1]")]
TlsCert = Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain, PEM.")]
TlsKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Private key, PEM.")]
