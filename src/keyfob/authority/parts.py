"""Where an authority's parts are put together."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from keyfob.accounts.accounts import Accounts
from keyfob.accounts.passwords import Passwords
from keyfob.accounts.throttle import Throttle
from keyfob.audit.trail import Trail
from keyfob.authority.api_key_policy import ApiKeyPolicy
from keyfob.authority.api_keys import ApiKeys
from keyfob.authority.authorizations import Authorizations
from keyfob.authority.backchannel import Backchannel
from keyfob.authority.checks import Checks
from keyfob.authority.claims import TodaysClaims
from keyfob.authority.client_authentication import ClientAuthentication
from keyfob.authority.consents import Consents
from keyfob.authority.device_flow import DeviceFlow
from keyfob.authority.endings import Endings
from keyfob.authority.hand_offs import HandOffs
from keyfob.authority.head_file import HeadFile
from keyfob.authority.housekeeping import Housekeeping
from keyfob.authority.id_tokens import IdTokens
from keyfob.authority.introspection import Introspection
from keyfob.authority.kept_requests import KeptRequests
from keyfob.authority.key_revocations import KeyRevocations
from keyfob.authority.logout import Logout
from keyfob.authority.logout_delivery import LogoutDelivery
from keyfob.authority.logout_post import LogoutPost
from keyfob.authority.logout_queue import LogoutQueue, begin_queue
from keyfob.authority.machine_tokens import MachineTokens
from keyfob.authority.options import Options
from keyfob.authority.preview import Previews
from keyfob.authority.renewals import Renewals
from keyfob.authority.revocation_slo import RevocationReports
from keyfob.authority.token_revocation import TokenRevocation
from keyfob.authority.user_info import UserInfo
from keyfob.authority.user_tokens import UserTokens
from keyfob.authority.visits import Visits
from keyfob.base.events import Event
from keyfob.base.identifiers import Strategy
from keyfob.clients.clients import Clients
from keyfob.jwt import jws
from keyfob.keys.key_ring import KeyRing
from keyfob.keys.policy import KeyPolicy
from keyfob.revocation.entry import Scope
from keyfob.revocation.feed import Feed
from keyfob.revocation.feed_settings import FeedSettings
from keyfob.revocation.revocation import Revocation
from keyfob.revocation.wire import KeySets
from keyfob.sessions.activity import Activity
from keyfob.sessions.policy import SessionPolicy
from keyfob.sessions.sessions import Sessions
from keyfob.stores.store import Store
from keyfob.tokens.issuer import Issuer
from keyfob.tokens.refresh import Refresh
from keyfob.verifier.session_cache import SessionCache

_log = logging.getLogger("keyfob.audit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one authority."""

    options: Options
    store: Store
    keys: KeyRing
    feed: Feed
    sessions: Sessions
    renewals: Renewals
    issuing: Issuer
    checks: Checks
    endings: Endings
    logout: Logout
    introspection: Introspection
    accounts: Accounts
    passwords: Passwords
    clients: Clients
    client_authentication: ClientAuthentication
    machine_tokens: MachineTokens
    consents: Consents
    token_revocation: TokenRevocation
    authorizations: Authorizations
    user_tokens: UserTokens
    device_flow: DeviceFlow
    hand_offs: HandOffs
    api_keys: ApiKeys
    visits: Visits
    trail: Trail
    activity: Activity
    reports: RevocationReports
    previews: Previews
    id_tokens: IdTokens
    user_info: UserInfo
    backchannel: Backchannel
    claims: TodaysClaims
    housekeeping: Housekeeping


async def build(store: Store, *, master_key: bytes, options: Options, head_file: Path | None = None) -> Parts:
    """Open the key ring, start the feed, and put the rest around them. *head_file* is where the last known head is kept, if anywhere.

    Raises:
        ConfigurationError: the master key does not fit the store.
        StoreUnavailable: the store does not answer.
    """
    clock, policy = options.clock, options.policy
    await _extend_retention(store, options)
    await begin_queue(store.outbox, store.feed)
    if store.prepare is not None:
        await store.prepare()
    keys = await KeyRing.open(
        store.keys,
        master_key=master_key,
        clock=clock,
        algorithm=options.algorithm,
        policy=_key_policy(policy, options.api_keys),
    )
    trail = Trail(store.audit, log=_log_event)
    key_revocations = KeyRevocations(keys)
    feed = await Feed.start(
        store.feed,
        issuer=options.issuer,
        sign=lambda payload, typ: jws.sign(payload, keys.feed_signer(), typ=typ),
        key_sets=lambda: KeySets(access=keys.jwks(), feed=keys.feed_jwks()),
        clock=clock,
        settings=FeedSettings(heartbeat=options.heartbeat, followers=options.followers),
        cut_off=partial(_cut_off, keys),
        heads=_heads(head_file, master_key=master_key, trail=trail, options=options),
        on_event=trail.tell,
        on_entries=key_revocations.take,
    )
    await key_revocations.settled()
    endings = Endings(store.sessions, feed, keys, clock=clock)

    async def outlive(lifetime: timedelta) -> None:
        await store.feed.extend_retention(credential=lifetime, session=policy.longest_session)

    sessions = Sessions(store.sessions, keys, salt=store.salt, policy=policy, clock=clock)
    activity = Activity(store.sessions)
    reports = RevocationReports(store.reports, feed, clock=clock, period=options.canary)
    claims = TodaysClaims(store.accounts, options.claims_source)
    checks = Checks(
        options.issuer,
        sessions=sessions,
        claims=claims,
        feed=feed,
        feed_store=store.feed,
        keys=keys,
        activity=activity,
        policy=policy,
        clock=clock,
        cache=SessionCache(options.cache_capacity),
    )
    passwords = Passwords(options.passwords)
    issuing = Issuer(options.issuer, signer=keys.signer, lifetime=options.access_lifetime)
    throttle = Throttle(store.throttle, clock=clock)
    clients = Clients(store.clients, clock=clock, applied=endings.applied, outlive=outlive)
    authentication = ClientAuthentication(clients, throttle, issuer=options.issuer)
    visits = Visits(
        sessions,
        feed_store=store.feed,
        activity=activity,
        policy=policy,
        clock=clock,
        issuer=options.issuer,
    )
    id_tokens = IdTokens(options.issuer, keys, clock=clock)
    backchannel = _backchannel(store, feed, id_tokens, trail=trail, options=options)
    refresh = Refresh(store.sessions, sessions, policy=policy, clock=clock)
    user_tokens = UserTokens(
        sessions,
        refresh,
        grants=store.grants,
        consents=store.consents,
        store=store.sessions,
        claims=claims,
        issuing=issuing,
        endings=endings,
        activity=activity,
        trail=trail,
        feed=feed,
        policy=policy,
        clock=clock,
    )
    return Parts(
        options=options,
        store=store,
        keys=keys,
        feed=feed,
        sessions=sessions,
        renewals=Renewals(
            sessions,
            refresh,
            store=store.sessions,
            clients=clients,
            claims=claims,
            issuing=issuing,
            lifetime_of=options.access_lifetime_of,
            endings=endings,
            feed=feed,
            trail=trail,
            clock=clock,
        ),
        issuing=issuing,
        checks=checks,
        endings=endings,
        logout=Logout(checks, endings, sessions, visits=visits, store=store.sessions, clock=clock),
        introspection=Introspection(
            checks,
            sessions,
            store=store.sessions,
            feed_store=store.feed,
            feed=feed,
            clock=clock,
            issuer=options.issuer,
            signer=keys.signer,
        ),
        accounts=Accounts(
            store.accounts,
            throttle,
            passwords=passwords,
            clock=clock,
            record=trail.record,
            applied=endings.applied,
        ),
        passwords=passwords,
        clients=clients,
        client_authentication=authentication,
        machine_tokens=MachineTokens(
            authentication,
            checks,
            clients,
            feed=feed,
            feed_store=store.feed,
            issuing=issuing,
            issuer=options.issuer,
            clock=clock,
        ),
        consents=Consents(store.consents, store.sessions, clients, endings, clock=clock),
        token_revocation=TokenRevocation(
            checks, refresh, endings, store=store.sessions, feed_store=store.feed, feed=feed
        ),
        authorizations=Authorizations(
            clients,
            checks,
            kept=KeptRequests(store.grants, store.feed, clock=clock),
            store=store.grants,
            consents=store.consents,
            keys=keys,
            issuer=options.issuer,
            clock=clock,
        ),
        user_tokens=user_tokens,
        device_flow=DeviceFlow(
            clients,
            user_tokens,
            throttle,
            store=store.grants,
            consents=store.consents,
            feed_store=store.feed,
            trail=trail,
            issuer=options.issuer,
            clock=clock,
        ),
        hand_offs=HandOffs(clients, user_tokens, store=store.grants, issuer=options.issuer, clock=clock),
        api_keys=ApiKeys(
            store,
            clients,
            endings,
            keys=keys,
            claims_source=claims.source,
            policy=options.api_keys,
            clock=clock,
        ),
        visits=visits,
        trail=trail,
        activity=activity,
        reports=reports,
        previews=Previews(store.sessions, endings, reports, clock=clock),
        id_tokens=id_tokens,
        user_info=UserInfo(store.accounts, claims.source),
        backchannel=backchannel,
        claims=claims,
        housekeeping=Housekeeping(store, activity, keys, reports, backchannel, clock=clock),
    )


def _backchannel(
    store: Store, feed: Feed, id_tokens: IdTokens, *, trail: Trail, options: Options
) -> Backchannel:
    queue = LogoutQueue(
        feed,
        feed_store=store.feed,
        sessions=store.sessions,
        clients=store.clients,
        outbox=store.outbox,
        clock=options.clock,
        tell=trail.tell,
    )
    delivery = LogoutDelivery(
        store.outbox,
        store.clients,
        sign=id_tokens.logout_token,
        post=LogoutPost(options.backchannel),
        clock=options.clock,
        tell=trail.tell,
    )
    return Backchannel(queue, delivery, store.outbox, clock=options.clock)


def _cut_off(keys: KeyRing, event: Event) -> list[Revocation]:
    """Return what ends everything that was issued before a feed went back: which keys were revoked in what was lost, nobody knows."""
    orders = [Revocation(scope=Scope.EVERYTHING, id="", event=event)]
    return orders + [Revocation(scope=Scope.KEY, id=key_id, event=event) for key_id in keys.public_keys()]


def _heads(path: Path | None, *, master_key: bytes, trail: Trail, options: Options) -> HeadFile | None:
    if path is None:
        return None

    def failed(why: str) -> None:
        trail.tell(Event(at=options.clock.now(), code="head_not_kept", facts={"why": why}))

    return HeadFile(path, issuer=options.issuer, master_key=master_key, failed=failed)


async def _extend_retention(store: Store, options: Options) -> None:
    """Let entries outlive whatever may be granted from now on, before anything is; `Clients.add` does the same for its client."""
    policy = options.policy
    clients = await store.clients.list()
    credentials = [
        options.access_lifetime,
        policy.max_cache_age,
        policy.lifetimes[Strategy.JWT].absolute,  # its access token lives as long as the session
    ]
    credentials += [client.access_lifetime for client in clients if client.access_lifetime]
    await store.feed.extend_retention(credential=max(credentials), session=policy.longest_session)


def _key_policy(policy: SessionPolicy, api_keys: ApiKeyPolicy) -> KeyPolicy:
    """Keep the keys behind opaque tokens for as long as a session or an API key can need them."""
    default = KeyPolicy()
    return replace(
        default,
        session_lifetime=max(default.session_lifetime, policy.longest_session),
        api_key_lifetime=max(default.api_key_lifetime, api_keys.max_lifetime),
    )


def _log_event(fields: Mapping[str, str | int]) -> None:
    _log.info("%s", fields.get("event"), extra={"fields": dict(fields)})
