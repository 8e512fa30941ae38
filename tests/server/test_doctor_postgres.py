"""The doctor on PostgreSQL: each thing that is unsafe has a finding of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keyfob.server.doctor import examine
from keyfob.server.doctor_postgres import check
from keyfob.server.finding import Severity
from keyfob.stores.condition import Encryption, HostRole, Hosts, PostgresCondition, Schema, Server

NOW = datetime(2026, 12, 1, tzinfo=UTC)
UNSAFE, CONSIDER = Severity.UNSAFE, Severity.CONSIDER
SETTINGS: Mapping[str, str] = {
    "server_version": "18.0",
    "server_version_num": "180000",
    "server_encoding": "UTF8",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "synchronous_standby_names": "replica",
    "max_connections": "100",
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "8s",
    "client_min_messages": "warning",
    "enable_seqscan": "off",
}
HOSTS = Hosts(
    roles={"db1:5432": HostRole.PRIMARY, "db2:5432": HostRole.STANDBY},
    encryption=Encryption.VERIFIED,
    has_pooler=False,
)
SERVER = Server(
    settings=SETTINGS,
    is_superuser=False,
    synchronous_standbys=1,
    clock_ahead=timedelta(milliseconds=3),
    notified_after=timedelta(milliseconds=2),
)
SCHEMA = Schema(version=2, current=2)
SAFE = PostgresCondition(hosts=HOSTS, server=SERVER, schema=SCHEMA, connections=11)
BEHIND_A_POOLER = replace(SAFE, hosts=replace(HOSTS, has_pooler=True, is_pooled=True))


def found(condition: PostgresCondition) -> list[tuple[str, Severity]]:
    return [(finding.id, finding.severity) for finding in check(condition, NOW)]


def with_hosts(**changes: Any) -> PostgresCondition:
    return replace(SAFE, hosts=replace(HOSTS, **changes))


def with_server(**changes: Any) -> PostgresCondition:
    return replace(SAFE, server=replace(SERVER, **changes))


def with_settings(condition: PostgresCondition = SAFE, **changes: str) -> PostgresCondition:
    return replace(condition, server=replace(SERVER, settings={**SETTINGS, **changes}))


def with_schema(**changes: Any) -> PostgresCondition:
    return replace(SAFE, schema=replace(SCHEMA, **changes))


@pytest.mark.parametrize(
    "condition",
    [
        SAFE,
        BEHIND_A_POOLER,
        with_hosts(encryption=Encryption.NEEDLESS),
        with_settings(synchronous_commit="remote_apply"),
        with_settings(synchronous_commit="remote_write"),
        with_server(synchronous_standbys=None),
        with_server(clock_ahead=timedelta(seconds=-1.99)),
        with_settings(max_connections="22"),
        with_schema(overdue_since=NOW - timedelta(hours=1)),
    ],
)
def test_what_is_safe_has_nothing_to_mend(condition: PostgresCondition) -> None:
    assert found(condition) == []


@pytest.mark.parametrize(
    ("condition", "id_", "severity"),
    [
        (PostgresCondition(hosts=HOSTS, fault="it does not answer"), "postgres", UNSAFE),
        (
            with_hosts(roles={"a": HostRole.PRIMARY, "b": HostRole.PRIMARY}),
            "postgres-two-primaries",
            UNSAFE,
        ),
        (with_hosts(roles={"a": HostRole.STANDBY, "b": HostRole.AWAY}), "postgres-no-primary", UNSAFE),
        (with_hosts(roles={"a": HostRole.PRIMARY, "b": HostRole.AWAY}), "postgres-host-away", CONSIDER),
        (with_hosts(encryption=Encryption.NONE), "postgres-without-tls", UNSAFE),
        (with_hosts(encryption=Encryption.UNVERIFIED), "postgres-tls-unverified", CONSIDER),
        (with_hosts(is_pooled=True), "postgres-pooler-not-named", UNSAFE),
        (
            replace(BEHIND_A_POOLER, hosts=replace(BEHIND_A_POOLER.hosts, listens_through_pooler=True)),
            "postgres-listens-through-pooler",
            UNSAFE,
        ),
        (with_hosts(has_pooler=True), "postgres-pooler-is-none", CONSIDER),
        (with_settings(fsync="off"), "postgres-fsync-off", UNSAFE),
        (with_settings(full_page_writes="off"), "postgres-fsync-off", UNSAFE),
        (with_settings(synchronous_standby_names=""), "postgres-asynchronous", CONSIDER),
        (with_settings(synchronous_commit="local"), "postgres-standby-not-waited-for", UNSAFE),
        (with_server(synchronous_standbys=0), "postgres-no-standby", UNSAFE),
        (with_settings(server_version_num="139999"), "postgres-too-old", UNSAFE),
        (with_settings(server_encoding="SQL_ASCII"), "postgres-encoding", UNSAFE),
        (with_server(is_superuser=True), "postgres-superuser", CONSIDER),
        (with_server(clock_ahead=timedelta(seconds=2)), "postgres-clock", CONSIDER),
        (with_server(clock_ahead=timedelta(seconds=-30)), "postgres-clock", UNSAFE),
        (with_server(notified_after=None), "postgres-not-notified", UNSAFE),
        (with_server(notified_after=timedelta(seconds=0.6)), "postgres-slow-notifications", CONSIDER),
        (with_settings(max_connections="21"), "postgres-connections", CONSIDER),
        (with_settings(BEHIND_A_POOLER, lock_timeout="0"), "postgres-role-settings", CONSIDER),
        (with_settings(BEHIND_A_POOLER, enable_seqscan="on"), "postgres-role-settings", CONSIDER),
        (with_settings(BEHIND_A_POOLER, client_min_messages="error"), "postgres-warnings-hidden", UNSAFE),
        (with_schema(version=1), "schema-older", UNSAFE),
        (with_schema(version=3), "schema-newer", CONSIDER),
        (with_schema(missing_days=3), "postgres-partitions-missing", CONSIDER),
        (
            with_schema(overdue_since=NOW - timedelta(hours=1, microseconds=1)),
            "postgres-clean-up-behind",
            CONSIDER,
        ),
    ],
)
def test_each_thing_that_is_not_as_it_should_be_is_found(
    condition: PostgresCondition, id_: str, severity: Severity
) -> None:
    assert found(condition) == [(id_, severity)]
    for finding in check(condition, NOW):
        assert "\n" not in finding.what + finding.mend
        assert finding.what
        assert finding.mend


def test_a_commit_that_waits_for_nothing_is_the_worst_of_them() -> None:
    assert ("postgres-synchronous-commit-off", UNSAFE) in found(with_settings(synchronous_commit="off"))


@pytest.mark.parametrize(
    ("store", "expected"),
    [
        (
            "{url}",
            {
                "issuer-not-set",
                "master-key-missing",
                "state-not-kept",
                "postgres-fsync-off",
                "postgres-asynchronous",
                "postgres-superuser",
                "no-administrator",
            },
        ),
        (
            "postgresql://keyfob:hunter2@127.0.0.1:1/keyfob",
            {"issuer-not-set", "master-key-missing", "state-not-kept", "postgres"},
        ),
        (
            "postgresql://keyfob:hunter2@127.0.0.1:1/keyfob?sslmode=prefer",
            {"configuration"},
        ),
    ],
)
def test_a_real_deployment_is_examined(
    postgres_url: str, store: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    findings = examine(store=store.format(url=postgres_url))
    assert {finding.id for finding in findings} == expected
    assert "hunter2" not in json.dumps([finding.what + finding.mend for finding in findings])
