"""The command line, in process: what it does, what it says, and how it refuses."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from click.testing import Result
from typer.testing import CliRunner

from keyfob.accounts.passwords import PasswordPolicy
from keyfob.authority.authority import Authority
from keyfob.base.errors import StoreUnavailable
from keyfob.base.identifiers import ClientId, Position, Timeline
from keyfob.cli import opened
from keyfob.cli.commands import commands
from keyfob.revocation.entry import Entry
from keyfob.revocation.reports import Denial, Report, Reporter
from keyfob.server.opening import open_authority
from keyfob.server.settings import Settings

PASSWORD = "correct horse battery"
CHEAP = PasswordPolicy(memory_kib=8, iterations=1, threads=1)
T = TypeVar("T")


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("KEYFOB_")]:
        monkeypatch.delenv(name)
    # The settings refuse to be this cheap, and each command here hashes.
    load = Settings.load.__func__

    def cheaply(cls: type[Settings], **given: Any) -> Settings:
        from dataclasses import replace

        return replace(load(cls, **given), passwords=CHEAP)

    monkeypatch.setattr(Settings, "load", classmethod(cheaply))


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(commands, arguments, input=stdin)


def done(*arguments: str, stdin: str | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str, stdin: str | None = None, code: int = 1) -> str:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == code, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    if code == 1:
        assert result.stderr.startswith("keyfob: ")
        assert result.stderr.count("\n") == 1
    return result.stderr


def with_store(work: Callable[[Authority], Awaitable[T]]) -> T:
    async def opened_and_closed() -> T:
        async with open_authority(Settings(passwords=CHEAP)) as authority:
            return await work(authority)

    return asyncio.run(opened_and_closed())


def entries() -> list[tuple[str, str, str]]:
    async def read(authority: Authority) -> list[Entry]:
        return list(await authority.store.feed.read_after(0, 100))

    return [(one.scope.value, one.id, one.reach.value) for one in with_store(read)]


def add(name: str, *options: str) -> dict[str, Any]:
    text = done("user", "add", name, *options, "--password-stdin", "--json", stdin=PASSWORD)
    account: dict[str, Any] = json.loads(text)
    return account


# Help

GROUPS = {
    "user": ["add", "password", "roles", "disable", "enable", "delete", "list"],
    "client": ["add", "list", "show", "rotate-secret", "set-keys", "delete"],
    "api-key": ["add", "list", "revoke"],
    "sessions": ["list", "end"],
    "keys": ["list", "rotate", "revoke", "rewrap"],
}
SINGLE = ["serve", "demo", "revoke", "migrate", "doctor", "version"]
COMMANDS = [[name] for name in SINGLE] + [[group, name] for group, names in GROUPS.items() for name in names]


def test_the_commands_are_those_of_the_design() -> None:
    overview = done("--help")
    for name in (*GROUPS, *SINGLE):
        assert f" {name} " in overview
    for group, names in GROUPS.items():
        text = done(group, "--help")
        for name in names:
            assert f" {name} " in text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_examples_of_its_own_command(command: list[str]) -> None:
    text = done(*command, "--help")
    assert "Examples" in text
    assert f"keyfob {' '.join(command)}" in text


def test_no_command_takes_a_secret_as_an_argument() -> None:
    for command in COMMANDS:
        text = done(*command, "--help").lower()
        assert "--password " not in text
        assert "--secret" not in text
        assert "--master-key" not in text


@pytest.mark.parametrize(
    "wrong",
    [
        ["nonsense"],
        ["user", "add"],
        ["user", "add", "a", "--nonsense"],
        ["serve", "--port", "x"],
        ["revoke", "planet", "x"],
        ["revoke", "everything", "x"],
        ["revoke", "subject"],
        ["user"],
        [],
    ],
)
def test_wrong_usage_is_exit_code_2(wrong: list[str]) -> None:
    assert run(*wrong).exit_code == 2


# Accounts


def test_an_account_is_added_listed_and_can_sign_in() -> None:
    account = add("Alice", "--role", "buyer", "--role", "payer")
    assert account["name"] == "alice"
    assert account["roles"] == ["buyer", "payer"]
    assert "password" not in account

    async def sign_in(authority: Authority) -> str:
        return (await authority.accounts.authenticate("alice", PASSWORD, address="")).subject

    assert with_store(sign_in) == account["subject"]
    assert account["subject"] in done("user", "list")
    assert json.loads(done("user", "list", "--json")) == [account]


def test_the_password_is_asked_for_twice() -> None:
    assert "added alice" in done("user", "add", "alice", stdin=f"{PASSWORD}\n{PASSWORD}\n")
    result = run("user", "add", "bob", stdin=f"{PASSWORD}\nanother one\n")
    assert result.exit_code == 1
    assert PASSWORD not in result.output


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nmore\n"])
def test_the_password_is_the_first_line_of_standard_input_without_its_end(end: str) -> None:
    done("user", "add", "alice", "--password-stdin", stdin=PASSWORD + end)

    async def sign_in(authority: Authority) -> None:
        await authority.accounts.authenticate("alice", PASSWORD, address="")

    with_store(sign_in)


def test_refusals_are_one_line_and_never_repeat_the_password() -> None:
    assert "no password" in refused("user", "add", "alice", "--password-stdin", stdin="")
    assert "8 to 128" in refused("user", "add", "alice", "--password-stdin", stdin="sh0rt")
    assert "sh0rt" not in refused("user", "add", "alice", "--password-stdin", stdin="sh0rt")
    assert "login name" in refused("user", "add", " x", "--password-stdin", stdin=PASSWORD)
    add("alice")
    assert "an account of this name" in refused("user", "add", "ALICE", "--password-stdin", stdin=PASSWORD)
    assert "no such account" in refused("user", "delete", "nobody")
    assert entries() == []


@pytest.mark.parametrize("by", ["name", "subject"])
def test_each_change_says_its_entry_and_takes_name_or_subject(by: str) -> None:
    account = add("alice")
    user, subject = account[by], account["subject"]
    assert "entry 1" in done("user", "roles", user, "buyer")
    assert "already" in done("user", "roles", user, "buyer")
    assert "entry 2" in done("user", "password", user, "--password-stdin", stdin="quite another one")
    assert "entry 3" in done("user", "disable", user, "--reason", "left")
    assert "already" in done("user", "disable", user)
    assert "enabled" in done("user", "enable", user)
    assert "not disabled" in done("user", "enable", user)
    assert "entry 4" in done("user", "delete", user)
    refused("user", "delete", user)
    assert entries() == [
        ("subject", subject, "claims"),
        ("subject", subject, "end"),
        ("subject", subject, "end"),
        ("subject", subject, "end"),
    ]
    assert "no accounts" in done("user", "list")


# Clients


def test_a_client_is_added_with_a_secret_that_is_shown_once() -> None:
    shown = json.loads(
        done("client", "add", "orders", "--scope", "keyfob:feed", "--audience", "orders", "--json")
    )
    assert shown["client_id"] == "orders"
    assert shown["audiences"] == ["orders"]

    async def authenticate(authority: Authority) -> frozenset[str]:
        return (await authority.clients.authenticate("orders", shown["client_secret"])).scopes

    assert with_store(authenticate) == {"keyfob:feed", "keyfob:introspect"}
    for listing in (done("client", "list"), done("client", "list", "--json")):
        assert "orders" in listing
        assert "kfc_" not in listing
    text = done("client", "add", "stock")
    assert "client_id:     stock" in text
    assert "client_secret: kfc_" in text
    assert "a client of this id" in refused("client", "add", "orders")
    assert "usr_" in refused("client", "add", "usr_x")
    assert "keyfob:fed" not in refused("client", "add", "x", "--scope", "keyfob:fed")
    assert "entry 1" in done("client", "delete", "orders")
    refused("client", "delete", "orders")
    assert entries() == [("client", "orders", "end")]


# Sessions and revocations


def test_sessions_are_listed_and_ended() -> None:
    account = add("alice")

    async def log_in(authority: Authority) -> str:
        from keyfob.authority.sign_in import Device

        device = Device(user_agent="Fire\x1b[2Jfox\n", address="192.0.2.7")
        await authority.login("somebody else")
        return (await authority.login(account["subject"], device=device)).session_id

    session_id = with_store(log_in)
    listing = done("sessions", "list")
    assert session_id in listing
    assert "\x1b" not in listing
    assert listing.count("\n") == 3
    (one,) = json.loads(done("sessions", "list", "alice", "--json"))
    assert one["session_id"] == session_id
    assert "entry" in done("sessions", "end", session_id)
    assert "over already" in refused("sessions", "end", session_id)
    refused("sessions", "end", "nonsense")
    assert "nobody" in done("sessions", "list", "alice")


def test_a_revocation_takes_a_login_name_and_warns_of_what_it_does_not_know() -> None:
    account = add("alice")
    done("revoke", "subject", "alice", "--reach", "claims", "--reason", "new roles")
    result = run("revoke", "subject", "library:7")
    assert result.exit_code == 0
    assert "there is no account library:7" in result.stderr
    done("revoke", "client", "orders")
    done("revoke", "everything", "--reason", "drill")
    assert entries() == [
        ("subject", account["subject"], "claims"),
        ("subject", "library:7", "end"),
        ("client", "orders", "end"),
        ("everything", "", "end"),
    ]


def test_ids_that_begin_with_a_dash_are_ids() -> None:
    done("revoke", "token", "-h0-ZrrJCtqfiqfM")
    done("revoke", "token", "--help-me-ZrrJCtqf")
    assert [id_ for _, id_, _ in entries()] == ["-h0-ZrrJCtqfiqfM", "--help-me-ZrrJCtqf"]
    assert "no access key" in refused("keys", "revoke", "-nonsense")


# Keys, schema, version


def test_keys_go_over_to_a_new_master_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add("alice")
    before = json.loads(done("keys", "list", "--json"))
    old = Path("keyfob.db.key").read_text()
    said = done("keys", "rewrap")
    assert "4 keys sealed" in said
    assert "restart running servers" in said
    new = Path("keyfob.db.key").read_text()
    assert new != old
    assert new.strip() not in said
    assert json.loads(done("keys", "list", "--json")) == before
    monkeypatch.setenv("KEYFOB_MASTER_KEY", old.strip())
    assert "last rewrapped to" in refused("user", "list")
    monkeypatch.setenv("KEYFOB_MASTER_KEY", new.strip())
    assert "KEYFOB_NEW_MASTER_KEY is not set" in refused("keys", "rewrap")
    monkeypatch.setenv("KEYFOB_NEW_MASTER_KEY", old.strip())
    assert "KEYFOB_NEW_MASTER_KEY; restart" in done("keys", "rewrap")
    assert "nothing changed" in done("keys", "rewrap")
    monkeypatch.setenv("KEYFOB_MASTER_KEY", old.strip())
    assert "alice" in done("user", "list")
    monkeypatch.setenv("KEYFOB_NEW_MASTER_KEY", "x")
    assert "KEYFOB_NEW_MASTER_KEY must be 32 bytes" in refused("user", "list")


def test_the_help_of_rewrap_says_what_it_needs_of_servers_and_backups() -> None:
    text = " ".join(done("keys", "rewrap", "--help").split())
    assert "restart it with the new master key" in text
    assert "Backups of the database still need the old master key" in text


def test_keys_are_listed_rotated_and_revoked_without_their_secret_parts() -> None:
    add("alice")
    before = json.loads(done("keys", "list", "--json"))
    assert {key["purpose"] for key in before} == {"access", "feed", "opaque", "csrf"}
    assert all(
        set(key) == {"purpose", "kid", "phase", "algorithm", "created_at", "activates_at", "revoked_at"}
        for key in before
    )
    assert "the next access key is" in done("keys", "rotate")
    after = json.loads(done("keys", "list", "--json"))
    assert len(after) == len(before) + 1
    assert [key["phase"] for key in after if key["purpose"] == "access"] == ["active", "announced"]
    kid = next(key["kid"] for key in before if key["purpose"] == "access")
    assert "entry 1" in done("keys", "revoke", kid, "--reason", "drill")
    assert entries() == [("key", kid, "end")]
    listed = json.loads(done("keys", "list", "--json"))
    assert [key["phase"] for key in listed if key["purpose"] == "access"] == ["revoked", "active"]
    refused("keys", "revoke", "nonsense")
    assert "PHASE" in done("keys", "list")
    assert "csrf" in done("keys", "list")


def test_the_schema_is_made_once() -> None:
    assert "migrated from schema 0" in done("migrate")
    assert "nothing changed" in done("migrate")


def test_the_version_is_that_of_the_package() -> None:
    assert done("version").startswith("keyfob 0.1.0 on Python 3.")


# Doctor


def test_the_doctor_says_what_to_mend_and_is_content_with_what_is_only_to_consider() -> None:
    add("alice")
    text = done("doctor")
    assert "no-administrator" in text
    assert "0 unsafe" in text
    Path("keyfob.db.key").chmod(0o644)
    result = run("doctor", "--json")
    assert result.exit_code == 1
    findings = {finding["id"]: finding for finding in json.loads(result.stdout)}
    assert findings["master-key-readable"]["severity"] == "unsafe"
    assert all(set(finding) == {"id", "severity", "what", "mend"} for finding in findings.values())


# Refusals that every command shares


def test_settings_that_are_wrong_are_one_line(tmp_path: Path) -> None:
    Path("keyfob.toml").write_text("prot = 1")
    for command in (["serve"], ["user", "list"], ["migrate"]):
        assert "the nearest is port" in refused(*command)
    Path("keyfob.toml").unlink()
    assert "--config" in refused("user", "list", "--config", str(tmp_path / "none.toml"))
    assert "sqlite:///" in refused("user", "list", "--store", "mongodb://x")
    assert "there is no folder" in refused("user", "list", "--store", "sqlite:///none/keyfob.db")


def test_the_wrong_master_key_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    add("alice")
    monkeypatch.setenv("KEYFOB_MASTER_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")
    assert "master key" in refused("user", "list")
    monkeypatch.setenv("KEYFOB_MASTER_KEY", "short")
    assert "KEYFOB_MASTER_KEY" in refused("user", "list")


def test_a_store_that_does_not_answer_says_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def unanswering(*_: object, **__: object) -> None:
        raise StoreUnavailable("the file is locked")

    monkeypatch.setattr(opened, "open_authority", unanswering)
    line = refused("user", "list")
    assert "the file is locked" in line
    assert "keyfob doctor" in line


def test_without_argon2_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "argon2", None)
    assert "pip install keyfob[server]" in refused("user", "add", "alice", "--password-stdin", stdin=PASSWORD)
    done("client", "add", "orders")


def test_a_revocation_is_explained_before_and_nothing_is_changed() -> None:
    done("user", "add", "alice", "--password-stdin", stdin=PASSWORD)
    before = (done("keys", "list", "--json"), done("sessions", "list", "--json"))
    said = done("revoke", "subject", "alice", "--explain")
    assert "0 would end" in said
    assert "none reports" in said
    assert "5 s at most" in said
    assert said.endswith("Nothing was changed.\n")
    assert "would be refreshed" in done("revoke", "subject", "alice", "--explain", "--reach", "claims")
    assert "sessions go on with other keys" in done(
        "revoke", "key", json.loads(before[0])[0]["kid"], "--explain"
    )
    assert "its session goes on" in done("revoke", "token", "j1", "--explain")
    document = json.loads(done("revoke", "everything", "--explain", "--json"))
    assert (document["scope"], document["worst_seconds"], document["behind"]) == ("everything", 5.0, [])
    assert (done("keys", "list", "--json"), done("sessions", "list", "--json")) == before
    entry = json.loads(done("revoke", "everything", "--json"))
    assert (entry["position"], entry["scope"], entry["reach"]) == (1, "everything", "end")
    refused("revoke", "session", "nonsense", "--explain")


def test_who_is_behind_is_named_and_deceives_no_terminal() -> None:
    async def report(authority: Authority) -> None:
        now = authority.clock.now()
        stale = Report(
            sent_at=now,
            timeline=Timeline("another"),
            position=Position(0),
            level_at=now,
            max_staleness=timedelta(seconds=5),
            bound=timedelta(hours=1),
        )
        reporter = Reporter(client_id=ClientId("[red]orders[/red]"), name="shelf", instance="0" * 16)
        await authority.reports.report(reporter, stale)

    with_store(report)
    said = done("revoke", "subject", "[bold]nobody", "--explain")
    assert "subject [bold]nobody" in said
    assert "1 stale" in said
    assert "shelf/0000000000000000" in said
    assert "[red]orders[/red]" in said
    assert "3.6e+03" not in said
    assert "1 h" in said


def test_a_command_is_no_server_and_revokes_no_canaries() -> None:
    async def period(authority: Authority) -> timedelta:
        return authority.reports.period

    assert Settings.load().canary == timedelta(seconds=5)
    assert opened.with_authority(period, store=None, config=None) == timedelta(0)


def test_what_was_measured_is_said_beforehand_and_a_session_that_is_over_changes_nothing() -> None:
    async def measured(authority: Authority) -> str:
        reporter = Reporter(client_id=ClientId("orders"), name="orders-1", instance="0" * 16)

        async def report(*denials: Denial) -> None:
            now, head = authority.clock.now(), authority.feed.live.head
            told = Report(
                sent_at=now,
                timeline=head.timeline,
                position=Position(1),
                level_at=now,
                max_staleness=timedelta(seconds=5),
                bound=timedelta(seconds=90),
                denials=denials,
            )
            await authority.reports.report(reporter, told)

        await report()
        canary = await authority.store.reports.revoke_canary(
            now=authority.clock.now(), period=timedelta(seconds=5)
        )
        assert canary is not None
        await report(Denial(canary.position, canary.at))
        issued = await authority.login("alice", strategy="session")
        await authority.revoke("session", issued.session_id)
        return issued.session_id

    over = with_store(measured)
    said = done("revoke", "session", over, "--explain")
    assert "it is over already: nothing would change" in said
    assert "1 level" in said
    assert "p50 0 ms, p99 0 ms, longest 0 ms, over 15 minutes" in said
    assert "1.5 min at most" in said
    assert "not level" not in said
    assert json.loads(done("revoke", "session", over, "--explain", "--json"))["is_over"] is True


def test_a_store_is_copied_and_switched_to() -> None:
    done("user", "add", "alice", "--password-stdin", stdin=PASSWORD)
    there = "sqlite:///new/there.db"
    assert "no folder" in refused("store", "copy", "sqlite:///keyfob.db", there)
    Path("new").mkdir()
    assert "level" in done("store", "copy", "sqlite:///keyfob.db", there)
    done("user", "add", "bob", "--password-stdin", stdin=PASSWORD)
    assert "being filled" in refused("user", "list", "--store", there)
    assert "switched" in done("store", "copy", "sqlite:///keyfob.db", there, "--switch")
    assert "has moved to sqlite:///new/there.db" in refused("user", "list")
    listed = done("user", "list", "--store", there)
    assert "alice" in listed
    assert "bob" in listed
    assert Path("new/there.db.key").read_bytes() == Path("keyfob.db.key").read_bytes()


def test_a_copy_is_given_up() -> None:
    done("user", "add", "alice", "--password-stdin", stdin=PASSWORD)
    done("store", "copy", "sqlite:///keyfob.db", "sqlite:///there.db")
    assert "abandoned" in done("store", "copy", "sqlite:///keyfob.db", "sqlite:///there.db", "--abandon")
    assert "alice" in done("user", "list")


def test_a_copy_that_cannot_be_is_refused() -> None:
    assert "nothing to copy" in refused("store", "copy", "sqlite:///none.db", "sqlite:///there.db")
    assert "cannot be copied" in refused("store", "copy", "memory://", "sqlite:///there.db")
    assert not Path("none.db").exists()
    refused("store", "copy", "sqlite:///a.db", "sqlite:///b.db", "--switch", "--abandon", code=2)
    done("user", "add", "alice", "--password-stdin", stdin=PASSWORD)
    Path("other.db.key").write_text("A" * 43)
    Path("other.db.key").chmod(0o600)
    assert "another master key" in refused("store", "copy", "sqlite:///keyfob.db", "sqlite:///other.db")


def test_a_back_up_is_made_and_restored(tmp_path: Path) -> None:
    assert done("user", "add", "alice", "--password-stdin", stdin=PASSWORD)
    said = done("backup", "monday")
    assert "written to monday" in said
    assert "master key" in said
    assert (tmp_path / "monday").stat().st_mode & 0o777 == 0o600
    assert "there already" in refused("backup", "monday")
    assert done("user", "add", "bob", "--password-stdin", stdin=PASSWORD)

    assert "--force" in refused("restore", "monday")
    assert "nobody was logged out" in done("restore", "monday", "--force")

    users = done("user", "list")
    assert "alice" in users
    assert "bob" not in users
    assert entries()[-1] == ("everything", "", "claims")


def test_a_back_up_of_postgresql_is_restored_into_sqlite_and_back(
    postgres_url: str, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYFOB_MASTER_KEY", "A" * 43)
    there = ("--store", postgres_url)
    assert done("user", "add", "alice", "--password-stdin", *there, stdin=PASSWORD)
    assert "written to monday" in done("backup", "monday", *there)
    assert "--force" in refused("restore", "monday", *there)
    assert "nobody was logged out" in done("restore", "monday", "--force", *there)
    assert "everybody logs in again" in done("restore", "monday")
    assert "alice" in done("user", "list")
    done("backup", "tuesday")
    assert "everybody logs in again" in done("restore", "tuesday", "--store", empty_postgres_url)
    assert "alice" in done("user", "list", "--store", empty_postgres_url)
    assert "holds no store" in refused("backup", "none", "--store", _nowhere(postgres_url))


def _nowhere(url: str) -> str:
    """The server's own database, in which nobody has made a store."""
    return url.rpartition("/")[0] + "/postgres"


def test_a_restore_elsewhere_needs_the_master_key(tmp_path: Path) -> None:
    assert done("user", "add", "alice", "--password-stdin", stdin=PASSWORD)
    done("backup", "monday")
    said = refused("restore", "monday", "--store", "sqlite:///new.db")
    assert "new.db.key" in said
    assert not list(tmp_path.glob("new.db*"))
    (tmp_path / "new.db.key").write_bytes((tmp_path / "keyfob.db.key").read_bytes())
    (tmp_path / "new.db.key").chmod(0o600)
    assert "everybody logs in again" in done("restore", "monday", "--store", "sqlite:///new.db")
    assert "alice" in done("user", "list", "--store", "sqlite:///new.db")


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_what_cannot_be_backed_up_or_restored_is_refused_in_one_line(command: str) -> None:
    refused(command, "no/such/file")
    assert "in memory" in refused(command, "file", "--store", "memory://")
    assert not Path("keyfob.db").exists()
