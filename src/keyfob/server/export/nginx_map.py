"""The live entries as nginx maps, which apply the one rule to the claims of a token that nginx has verified.

nginx compares no numbers, but its maps take regular expressions, and one can tell whether a number is below another of as many digits: they
agree up to some digit, and there the first has the smaller one. So positions are written with 19 digits, `as_of` is padded to as many, and
for each scope a map from the id to its entries gives what is then compared:

    <as_of>:<sid>:<psid>;<position>,<spared>;<position>,<spared>;...

The moment until which the file is good is compared with `$msec` in the same way: where the file is not renewed nginx refuses by itself.

nginx matches the strings of a map without regard to case: ids that differ in nothing else are one, and deny each other, which is the safe
side. Each id has a letter before it, so that none is taken for a word or an expression of nginx.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from keyfob.base.clock import to_micros
from keyfob.revocation.entry import Entry, Reach, Scope
from keyfob.server.export.exported import Exported

DIGITS: Final = 19  # of a position: a signed integer of 64 bits
MAX_SPARING: Final = 16
"""Entries of one id that spare a session and are told apart; the rest cover whatever is as old, the spared session too."""

_SESSION_ID = re.compile(r"[0-9a-f]{32}")
# What a token says, by scope: the variable that holds it. A session covers its children, too, and so does its client.
_CLAIMS: Final = (
    (Scope.SESSION, "sid"),
    (Scope.SESSION, "psid"),
    (Scope.SUBJECT, "sub"),
    (Scope.CLIENT, "client"),
    (Scope.CLIENT, "pcid"),
    (Scope.TOKEN, "jti"),
)
_CAUSES: Final = {Reach.END: "revoked", Reach.CLAIMS: "stale_claims"}
_NOBODY: Final = "-"  # spared by an entry that spares none


def as_nginx_map(exported: Exported) -> bytes:
    """Write *exported* as a file for nginx's context `http`; it sets `$keyfob_cause`, empty for a token that nothing covers, and `$keyfob_good`."""
    return "".join(f"{line}\n" for line in _lines(exported)).encode()


def _lines(exported: Exported) -> Iterator[str]:
    yield f"# Written by keyfob feed export, and written anew: {exported.issuer}, timeline {exported.timeline}, position {exported.position}."
    yield f"# Level with the authority at {exported.level_at.isoformat()}; good until {exported.good_until.isoformat()}."
    yield f"map_hash_max_size {_size(len(exported.entries))};"
    yield "map_hash_bucket_size 1024;"  # an id has up to 255 characters, of up to 3 bytes each
    yield from _form(exported)
    for reach in Reach:
        yield from _look_ups(exported.entries, reach)
    yield from _keys(exported.entries)
    yield from _verdict(exported)


def _form(exported: Exported) -> Iterator[str]:
    """A token without these claims in this form is none of ours, and one of another timeline is covered."""
    yield "map $keyfob_as_of $keyfob_padded_as_of {"
    yield '    default "";'
    for length in range(1, DIGITS + 1):
        digits = "[0-9]" if length == 1 else f"[1-9][0-9]{{{length - 1}}}"
        yield f'    "~^(?<keyfob_digits>{digits})$" "{"0" * (DIGITS - length)}$keyfob_digits";'
    yield "}"
    yield 'map "t$keyfob_tl" $keyfob_of_timeline {'
    yield '    default "revoked";'
    yield f'    {_quoted("t" + exported.timeline)} "";'
    yield "}"
    yield 'map "$keyfob_padded_as_of:$keyfob_sub" $keyfob_form {'
    yield '    default "malformed";'
    yield f'    "~^[0-9]{{{DIGITS}}}:." "";'
    yield "}"


def _look_ups(entries: Iterable[Entry], reach: Reach) -> Iterator[str]:
    """For each scope the map from the id to its entries; then all of them together against the token's position."""
    found = []
    of_reach = [entry for entry in entries if entry.reach is reach]
    for scope, claim in _CLAIMS:
        variable = f"$keyfob_{claim}_{reach.value}"
        found.append(variable)
        yield f'map "i$keyfob_{claim}" {variable} {{'
        yield '    default "";'
        for name, items in _by_id(of_reach, scope).items():
            yield f'    {_quoted("i" + name)} "{items}";'
        yield "}"
    everything = _by_id(of_reach, Scope.EVERYTHING).get("", "")
    token = "$keyfob_padded_as_of:$keyfob_sid:$keyfob_psid"
    yield f'map "{token}{everything}{"".join(found)};" $keyfob_by_{reach.value} {{'
    yield '    default "";'
    yield f'    "~{_COVERED}" "{_CAUSES[reach]}";'
    yield "}"


def _by_id(entries: Iterable[Entry], scope: Scope) -> Mapping[str, str]:
    """Return the entries of each id, as they are compared: the latest that spares nobody, and the latest that spare somebody."""
    latest: dict[str, int] = {}
    sparing: dict[str, list[tuple[int, str]]] = {}
    for entry in entries:
        if entry.scope is not scope:
            continue
        name = _folded(entry.id)
        if entry.spared is None or _SESSION_ID.fullmatch(entry.spared) is None:
            latest[name] = max(entry.position, latest.get(name, 0))
        else:
            sparing.setdefault(name, []).append((entry.position, entry.spared))
    for name, pairs in sparing.items():
        pairs.sort()
        for position, _ in pairs[:-MAX_SPARING]:
            latest[name] = max(position, latest.get(name, 0))
    items: dict[str, list[tuple[int, str]]] = {
        name: [(position, _NOBODY)] for name, position in latest.items()
    }
    for name, pairs in sparing.items():
        items.setdefault(name, []).extend(pairs[-MAX_SPARING:])
    return {
        name: "".join(f";{position:0{DIGITS}},{spared}" for position, spared in items[name])
        for name in sorted(items)
    }


def _keys(entries: Iterable[Entry]) -> Iterator[str]:
    """An entry of a key covers whatever `as_of` says."""
    yield 'map "i$keyfob_kid" $keyfob_by_key {'
    yield '    default "";'
    for name in sorted({_folded(entry.id) for entry in entries if entry.scope is Scope.KEY}):
        yield f'    {_quoted("i" + name)} "revoked";'
    yield "}"


def _verdict(exported: Exported) -> Iterator[str]:
    """The first cause in the order of the contract."""
    until = (
        to_micros(exported.good_until) // 1_000 if exported.is_level else 0
    )  # $msec: seconds with milliseconds
    yield "map $msec $keyfob_by_time {"
    yield '    default "verifier_stale";'
    if until > 0:
        yield f'    "~^(?:{_below(until // 1000)})[.]" "";'
    yield "}"
    found = "$keyfob_form$keyfob_of_timeline$keyfob_by_key$keyfob_by_end$keyfob_by_claims$keyfob_by_time"
    yield f'map "{found}" $keyfob_cause {{'
    yield '    default "malformed";'
    yield '    "" "";'
    for cause in ("malformed", "revoked", "stale_claims", "verifier_stale"):
        yield f'    "~{cause}" "{cause}";'
    yield "}"
    yield 'map "$keyfob_cause" $keyfob_good {'
    yield '    default "0";'
    yield '    "" "1";'
    yield "}"


def _covered() -> str:
    """Return the expression for: some entry's position is above the token's, and what it spares is neither the token's session nor its parent.

    Group 1 is what the two positions have in common, 2 and 3 are sid and psid. The alternatives number their groups alike.
    """
    branches = []
    for digit in range(9):
        above = f"[{digit + 1}-9]"
        token = f"{digit}[0-9]*:([^:;]*):([^:;]*)"
        branches.append(rf"{token}(?:;[^;]*)*?;(?:\1){above}[0-9]*,(?!(?:\2|\3);)")
    return rf"^([0-9]*)(?|{'|'.join(branches)})"


_COVERED: Final = _covered()


def _below(number: int) -> str:
    """Return the expression for every number in decimal, without zeros before it, that is below *number*, which is above 0."""
    text = str(number)
    shorter = [rf"[0-9]{{1,{len(text) - 1}}}"] if len(text) > 1 else []
    return "|".join(
        shorter
        + [
            f"{text[:index]}[0-{int(digit) - 1}][0-9]{{{len(text) - index - 1}}}"
            for index, digit in enumerate(text)
            if digit != "0"
        ]
    )


def _folded(name: str) -> str:
    """Return *name* as nginx compares it: without regard to the case of ASCII letters."""
    return name.translate(_TO_LOWER)


_TO_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _quoted(text: str) -> str:
    """Return *text* as one word of nginx's configuration."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _size(count: int) -> int:
    """Return how many buckets a map of *count* ids may take: a power of two, so that it changes seldom."""
    return 1 << max(12, (2 * count).bit_length())
