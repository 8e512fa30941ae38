"""The details of a session, small: most of them are what browsers say of themselves, in words that are nearly always the same.

The words that are known beforehand are part of the format: a change of them is a new number.
"""

from __future__ import annotations

import zlib
from typing import Final

from keyfob.stores.rows import DamagedRow

_PLAIN: Final = b"\0"
_SQUEEZED: Final = b"\1"
_MOST: Final = 64 * 1024  # bytes: no details are as long
_RAW: Final = -15  # no header and no sum: the row is guarded by whoever keeps it
_WORDS: Final = (
    b"okhttp/4.12.0 python-requests/2.32 curl/8.5.0 Dalvik/2.1.0 (Linux; U; Android 15; SM-S921B) "
    b"Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"
    b"Mozilla/5.0 (X11; Linux x86_64) Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) "
    b"Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/131.0.0.0 Mobile Safari/537.36 OPR/115.0.0.0"
    b"Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) "
    b"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1.1 Mobile/15E148 Safari/604.1"
    b"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15"
    b"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) "
    b"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 Edg/131.0.0.0"
    b"2001:db8::10.0.0.172.16.192.168.1.openid profile email offline_access https://auth.https://api.pwd otp hwk mfa"
    b"\x9f\xa6hybrid\xa3kfr\xc2\xcf\x00\x06\xa7session\xa3kfs\xc2\xcf\x00\x06\x00\xc0\xc0\x90\x90\x90\xc0\x91\xa3pwd\xc0\xa0\xa0\xa0\xc0"
)


def squeeze(details: bytes) -> bytes:
    """Return *details* in fewer bytes, or as they are where that takes fewer."""
    squeezing = zlib.compressobj(level=9, wbits=_RAW, zdict=_WORDS)
    squeezed = squeezing.compress(details) + squeezing.flush()
    return _SQUEEZED + squeezed if len(squeezed) < len(details) else _PLAIN + details


def expand(kept: bytes) -> bytes:
    """Return what was squeezed.

    Raises:
        StoreUnavailable: it was not written by `squeeze`: the data are damaged.
    """
    if kept[:1] == _PLAIN:
        return kept[1:]
    if kept[:1] != _SQUEEZED:
        raise DamagedRow("the details of a session")
    expanding = zlib.decompressobj(wbits=_RAW, zdict=_WORDS)
    try:
        details = expanding.decompress(kept[1:], _MOST)
    except zlib.error:
        raise DamagedRow("the details of a session") from None
    if not expanding.eof:
        raise DamagedRow("the details of a session")
    return details
