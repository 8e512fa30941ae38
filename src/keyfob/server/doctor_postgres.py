"""What is unsafe about a store in PostgreSQL. Pure functions of what was found there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from keyfob.server.finding import Finding, consider, unsafe
from keyfob.stores.condition import Encryption, HostRole, Hosts, PostgresCondition, Schema, Server

OLDEST_SERVER = 140_000
"""PostgreSQL 14, as `server_version_num` has it."""
TOLERATED_DIFFERENCE = timedelta(seconds=2)  # between two clocks that NTP keeps: a fraction of it
DANGEROUS_DIFFERENCE = timedelta(seconds=30)
TOLERATED_DELAY = timedelta(hours=1)  # in cleaning up
SLOW_NOTIFICATION = timedelta(seconds=0.5)
_AS_STRONG_AS_ON = {"on", "remote_apply", "remote_write"}
_HOW_TO = "docs/how-to/upgrade-and-fail-over-postgresql.md"
_ROLE_SETTINGS = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "enable_seqscan": "on",
}
"""What must be set for the role behind a pooler, and the value that says that it is not."""


def check(condition: PostgresCondition, now: datetime) -> Iterator[Finding]:
    """Give every finding about *condition*."""
    if condition.fault is not None:
        yield unsafe(
            "postgres", condition.fault, "mend that first; what depends on it could not be looked at"
        )
    yield from _hosts(condition.hosts)
    yield from _encryption(condition.hosts)
    yield from _pooler(condition.hosts)
    if condition.server is not None:
        for each in _SERVER_CHECKS:
            yield from each(condition.server)
        yield from _connections(condition.server, condition.connections)
        if condition.hosts.has_pooler:
            yield from _role_settings(condition.server)
    if condition.schema is not None:
        yield from _schema(condition.schema, now)


def _hosts(hosts: Hosts) -> Iterator[Finding]:
    primaries = [name for name, role in hosts.roles.items() if role is HostRole.PRIMARY]
    away = [name for name, role in hosts.roles.items() if role is HostRole.AWAY]
    if len(primaries) > 1:
        yield unsafe(
            "postgres-two-primaries",
            f"{' and '.join(primaries)} both take writes: what is revoked at one is valid at the other",
            "fence the one that was replaced, at once",
        )
    if not primaries and len(away) < len(hosts.roles):
        yield unsafe(
            "postgres-no-primary",
            "none of the hosts that answer takes writes: logins and revocations are told 503",
            f"promote a standby once the old primary is fenced ({_HOW_TO})",
        )
    if primaries and away:
        yield consider(
            "postgres-host-away",
            f"{', '.join(away)} does not answer: nothing is left to fail over to there",
            "bring it back, or take it out of the store's URL",
        )


def _encryption(hosts: Hosts) -> Iterator[Finding]:
    if hosts.encryption is Encryption.NONE:
        yield unsafe(
            "postgres-without-tls",
            "the way to the database leaves this machine without TLS: whoever is on it reads password hashes and changes answers",
            "take sslmode=disable out of the store's URL, and give sslrootcert= the certificate of its authority",
        )
    if hosts.encryption is Encryption.UNVERIFIED:
        yield consider(
            "postgres-tls-unverified",
            "the way to the database is encrypted, and whoever is on it may pretend to be the server",
            "take sslmode out of the store's URL, which makes it verify-full, and give sslrootcert= where it is needed",
        )


def _pooler(hosts: Hosts) -> Iterator[Finding]:
    if hosts.is_pooled and not hosts.has_pooler:
        yield unsafe(
            "postgres-pooler-not-named",
            "a pooler answers for the database, and the store's URL does not say so: nobody can listen through one in transaction mode",
            "add pooler=HOST:PORT to the store's URL, the address of the server itself",
        )
    if hosts.listens_through_pooler:
        yield unsafe(
            "postgres-listens-through-pooler",
            "what pooler= names is a pooler itself: revocations by other servers arrive up to a second late",
            "let pooler= name the address of the server itself",
        )
    answers = any(role is not HostRole.AWAY for role in hosts.roles.values())
    if hosts.has_pooler and answers and not hosts.is_pooled:
        yield consider(
            "postgres-pooler-is-none",
            "the store's URL names a pooler, and the server itself answers there: statements are planned anew for nothing",
            "take pooler= out of the store's URL",
        )


def _durability(server: Server) -> Iterator[Finding]:
    settings = server.settings
    if settings["fsync"] == "off" or settings["full_page_writes"] == "off":
        name = "fsync" if settings["fsync"] == "off" else "full_page_writes"
        yield unsafe(
            "postgres-fsync-off",
            f"{name} = off: a loss of power may undo revocations that were acknowledged, or spoil the database",
            f"ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()",
        )
    if settings["synchronous_commit"] == "off":
        yield unsafe(
            "postgres-synchronous-commit-off",
            "synchronous_commit = off: a crash may undo revocations that were acknowledged; the server refuses to start",
            "ALTER ROLE ... SET synchronous_commit = on",
        )


def _replication(server: Server) -> Iterator[Finding]:
    commit, names = server.settings["synchronous_commit"], server.settings["synchronous_standby_names"]
    if not names:
        yield consider(
            "postgres-asynchronous",
            "no commit waits for a standby: a failover may lose revocations of its last moments; that is noticed, and mended "
            "as far as a server or a verifier still has them",
            f"set synchronous_standby_names, where a lost revocation matters more than a slower log-out ({_HOW_TO})",
        )
    elif commit not in _AS_STRONG_AS_ON:
        yield unsafe(
            "postgres-standby-not-waited-for",
            f"synchronous_standby_names is set, and with synchronous_commit = {commit} nothing waits for a standby",
            "ALTER ROLE ... SET synchronous_commit = on",
        )
    elif server.synchronous_standbys == 0:
        yield unsafe(
            "postgres-no-standby",
            "commits wait for a synchronous standby, and none is connected: logins and revocations are told 503",
            "bring the standby back, or take it out of synchronous_standby_names",
        )


def _version(server: Server) -> Iterator[Finding]:
    if int(server.settings["server_version_num"]) < OLDEST_SERVER:
        yield unsafe(
            "postgres-too-old",
            f"the server is PostgreSQL {server.settings['server_version']}; 14 or newer is needed",
            "upgrade it",
        )
    if server.settings["server_encoding"] != "UTF8":
        yield unsafe(
            "postgres-encoding",
            f"the database has the encoding {server.settings['server_encoding']}",
            "make it anew with ENCODING 'UTF8'",
        )
    if server.is_superuser:
        yield consider(
            "postgres-superuser",
            "the store's user is a superuser: whoever gets at its password has the whole server, and files of its machine",
            "make a user that owns the schema keyfob and nothing else",
        )


def _clock(server: Server) -> Iterator[Finding]:
    difference = abs(server.clock_ahead)
    if difference < TOLERATED_DIFFERENCE:
        return
    direction = "ahead of" if server.clock_ahead > timedelta(0) else "behind"
    found = unsafe if difference >= DANGEROUS_DIFFERENCE else consider
    yield found(
        "postgres-clock",
        f"the database's clock is {difference.total_seconds():.1f} s {direction} this machine's: one of the two is wrong, "
        "and sessions of a server whose clock is behind live longer",
        "let NTP keep both",
    )


def _notifications(server: Server) -> Iterator[Finding]:
    if server.notified_after is None:
        yield unsafe(
            "postgres-not-notified",
            "a notification did not arrive: revocations by other servers arrive up to a second late",
            "see to it that host and port of the store's URL (or pooler=) lead to the same database as its other hosts",
        )
    elif server.notified_after > SLOW_NOTIFICATION:
        milliseconds = round(server.notified_after.total_seconds() * 1000)
        yield consider(
            "postgres-slow-notifications",
            f"a notification took {milliseconds} ms, and so does every revocation until other servers know it",
            "look at the server's load, and at long transactions that listen (pg_stat_activity)",
        )


def _connections(server: Server, connections: int) -> Iterator[Finding]:
    most = int(server.settings["max_connections"])
    if connections * 2 > most:
        yield consider(
            "postgres-connections",
            f"one process may open {connections} connections, and the server allows {most} in all: two processes are too many",
            "lower connections= in the store's URL, or raise max_connections",
        )


def _role_settings(server: Server) -> Iterator[Finding]:
    missing = [name for name, unset in _ROLE_SETTINGS.items() if server.settings[name] == unset]
    if missing:
        yield consider(
            "postgres-role-settings",
            f"behind a pooler the role's own settings count, and it has none for {', '.join(missing)}",
            "ALTER ROLE ... SET, as docs/reference/postgresql.md lists them",
        )
    if server.settings["client_min_messages"] in {"error", "fatal", "panic"}:
        yield unsafe(
            "postgres-warnings-hidden",
            "client_min_messages hides warnings: a commit that no standby confirmed would be acknowledged",
            "ALTER ROLE ... SET client_min_messages = warning",
        )


def _schema(schema: Schema, now: datetime) -> Iterator[Finding]:
    if schema.version < schema.current:
        yield unsafe(
            "schema-older",
            f"the database has schema {schema.version}, this version {schema.current}; the server refuses to start",
            "back it up, then run: keyfob migrate",
        )
    if schema.version > schema.current:
        yield consider(
            "schema-newer",
            f"the database has schema {schema.version}, made by a newer Keyfob; this one knows {schema.current}",
            "upgrade Keyfob here, too",
        )
    if schema.missing_days:
        yield consider(
            "postgres-partitions-missing",
            f"{schema.missing_days} days to come have no partition: their sessions are deleted one by one",
            "start a server, and end what reads keyfob.sessions for long (pg_stat_activity): it keeps them from being made",
        )
    if schema.overdue_since is not None and now - schema.overdue_since > TOLERATED_DELAY:
        yield consider(
            "postgres-clean-up-behind",
            f"what was over {schema.overdue_since:%Y-%m-%d %H:%M}Z is still there: nothing cleans up, or not fast enough",
            "start a server; if one runs, look for housekeeping in its log, and at pg_stat_activity",
        )


_SERVER_CHECKS: tuple[Callable[[Server], Iterator[Finding]], ...] = (
    _version,
    _durability,
    _replication,
    _clock,
    _notifications,
)
