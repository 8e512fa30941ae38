"""The Accept header: whether a form of the answer that is not the usual one is asked for (RFC 9110, section 12.5.1)."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_ACCEPT = 2048  # bytes that are looked at
_QUALITY = re.compile(rb"q=(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


def asks_for(values: Sequence[bytes], media_type: bytes, *, rather_than: bytes) -> bool:
    """Say whether *media_type* is asked for by name, and no less than *rather_than*, the usual one.

    A range such as `*/*` asks for neither. A header that is too long, or has a quality that is none, asks for the usual.
    """
    header = b",".join(values)
    if len(header) > MAX_ACCEPT:
        return False
    qualities = dict(map(_quality, header.lower().split(b",")))
    wanted = qualities.get(media_type, 0.0)
    return wanted > 0 and wanted >= qualities.get(rather_than, 0.0)


def _quality(element: bytes) -> tuple[bytes, float]:
    name, *parameters = [part.strip(b" \t") for part in element.split(b";")]
    for parameter in parameters:
        if parameter.startswith(b"q="):
            return name, float(parameter[2:]) if _QUALITY.fullmatch(parameter) else 0.0
    return name, 1.0
