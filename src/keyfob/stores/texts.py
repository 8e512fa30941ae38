"""What every store can keep as a text by which something is found: no NUL, and nothing that is no Unicode text."""

from __future__ import annotations

from keyfob.base.errors import InvalidRequest

_NUL = "\0"


def can_be_kept(text: str) -> bool:
    """Say whether there can be a row with *text*; what cannot be kept is not found."""
    return _NUL not in text and (text.isascii() or _is_utf8(text))


def require_texts(*texts: str | None) -> None:
    """Refuse a text that some store could not keep, on every store alike. None passes.

    Raises:
        InvalidRequest: `invalid_text`: one holds NUL or a lone surrogate.
    """
    for text in texts:
        if text is not None and not can_be_kept(text):
            raise InvalidRequest(
                "invalid_text", "a text holds NUL or half of a character, which no store keeps", status=422
            )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
