"""From settings to an open authority."""

from __future__ import annotations

from keyfob.authority.authority import Authority
from keyfob.authority.opening import Opening
from keyfob.base.clock import Clock, SystemClock
from keyfob.base.identifiers import Issuer
from keyfob.server.settings import Settings


def open_authority(
    settings: Settings, *, issuer: Issuer | None = None, clock: Clock | None = None
) -> Opening[Authority]:
    """Open the authority that *settings* describe; *issuer* is that of a server whose port was only just found.

    Raises:
        ConfigurationError: the settings do not fit the store.
        StoreUnavailable: the store does not answer.
    """
    return Authority.open(
        settings.store,
        issuer=issuer or settings.issuer_at(settings.port),
        master_key=settings.master_key,
        algorithm=settings.algorithm,
        access_lifetime=settings.access_lifetime,
        policy=settings.policy,
        api_keys=settings.api_keys,
        passwords=settings.passwords,
        heartbeat=settings.heartbeat,
        followers=settings.followers,
        state_folder=settings.state_folder,
        canary=settings.canary,
        cache_capacity=settings.cache_capacity,
        accounts_store=settings.accounts_store,
        backchannel=settings.backchannel,
        clock=clock or SystemClock(),
    )
