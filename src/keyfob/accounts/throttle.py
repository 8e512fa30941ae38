"""Under which keys an attempt at a password counts, and who is told to wait.

    stranger        one counter of the account for all strangers together, and one of the address
    familiar        one counter of the account and this address, which no stranger's attempt touches

An address is *familiar* to an account once it has logged in to it. So whoever guesses at an account slows down every other stranger,
and never its owner where the owner has been before. A familiar address does not lend its own counter: a login to one's own account
does not wipe out what one's guesses at others have added up to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from keyfob.accounts.store import ThrottleStore
from keyfob.base.clock import Clock
from keyfob.base.errors import RateLimited

_IPV6_NETWORK_BITS = 64  # what one subscriber has to choose addresses from


class Throttle:
    """Makes those wait who fail again and again."""

    def __init__(self, store: ThrottleStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def admit(self, name: str, address: str) -> Admission:
        """Count an attempt at the account *name* (which need not exist) from *address* before it is made.

        An empty *address* (not known) counts for the account alone.

        Raises:
            RateLimited: an earlier attempt is too recent; this one does not count.
        """
        now = self._clock.now()
        network = network_of(address)
        familiar = _key("familiar", name, network)
        keys: Sequence[str]
        if not network:
            keys = (_key("account", name),)
        elif await self._store.is_remembered(familiar, now=now):
            keys = (familiar,)
        else:
            keys = (_key("account", name), _key("address", network))
        wait = await self._store.attempt(keys, now=now)
        if wait > 0:
            raise RateLimited(wait)
        return Admission(keys=keys, familiar=familiar if network else None)

    async def count_failure(self, client_id: str, address: str) -> None:
        """Count a wrong secret of the client *client_id* (which need not exist) from *address*, after it was found wrong.

        A secret that is right is never asked to wait: 256 random bits are not guessed, and nobody may lock a service out by guessing at its
        id. What waits is the answer to the next wrong one.

        Raises:
            RateLimited: earlier ones are too recent; this one does not count.
        """
        network = network_of(address)
        keys = (_key("client", client_id, network), _key("client-address", network))
        wait = await self._store.attempt(keys, now=self._clock.now())
        if wait > 0:
            raise RateLimited(wait)

    async def admit_guess(self, subject: str, address: str) -> Admission:
        """Count a try at a short code, by *subject*, who has signed in at *address* (empty: not known), before it is looked at.

        Raises:
            RateLimited: an earlier try is too recent; this one does not count.
        """
        network = network_of(address)
        keys = [_key("guess", subject)]
        if network:
            keys.append(_key("guess-address", network))
        wait = await self._store.attempt(keys, now=self._clock.now())
        if wait > 0:
            raise RateLimited(wait)
        return Admission(keys=keys[1:], familiar=None)

    async def settle_guess(self, admission: Admission) -> None:
        """Forget what counted against the address of a try that was right, since many people may share it.

        What counted against who tried is not forgotten: else they could try a code of their own after every few of others.
        """
        await self._store.forget(admission.keys)

    async def settle(self, admission: Admission) -> None:
        """Forget what counted against an attempt that was right, and hold its address familiar from now on."""
        await self._store.forget(admission.keys)
        if admission.familiar is not None:
            await self._store.remember(admission.familiar, now=self._clock.now())


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """An attempt that was counted: under which keys, and under which its address becomes familiar."""

    keys: Sequence[str]
    familiar: str | None


def network_of(address: str) -> str:
    """Return who *address* belongs to: itself for IPv4, its /64 for IPv6, any other text as it is."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return f"{IPv6Address(int(ip) >> _IPV6_NETWORK_BITS << _IPV6_NETWORK_BITS)}/{_IPV6_NETWORK_BITS}"


def _key(kind: str, *parts: str) -> str:
    """Return a key of fixed length that gives nothing away: people type passwords where the name belongs."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(4, "big"))
        digest.update(raw)
    return f"{kind}:{digest.hexdigest()[:32]}"
