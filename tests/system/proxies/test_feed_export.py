"""`keyfob feed export`: real exporters that follow a real server, and real proxies that go by their files."""

from __future__ import annotations

import base64
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def environment(client: tuple[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("KEYFOB_")}
    return inherited | {"KEYFOB_CLIENT_ID": client[0], "KEYFOB_CLIENT_SECRET": client[1]}


def command(url: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "keyfob.cli", "feed", "export", "--authority", url, *options]


@contextmanager
def exporting(
    folder: Path, url: str, client: tuple[str, str], *options: str, **more: str
) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / "export.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            command(url, "--watch", *options),
            cwd=folder,
            env=environment(client) | more,
            stdout=errors,
            stderr=errors,
        )
    try:
        yield process
        if process.poll() is None:
            process.terminate()
            assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def claims(token: str) -> dict[str, str]:
    payload = token.split(".")[1]
    read = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    names = {"sub": "sub", "sid": "sid", "client": "client_id", "jti": "jti", "tl": "tl", "as_of": "as_of"}
    return {name: str(read[claim]) for name, claim in names.items()}


def test_once_it_prints_what_is_live(site: Any, tmp_path: Path) -> None:
    login = site.login("bob")
    position = site.revoke("session", login["session_id"])
    done = subprocess.run(
        command(site.api.url),
        cwd=tmp_path,
        env=environment(site.gateway),
        capture_output=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["level"] is True
    assert printed["issuer"] == site.api.url
    assert printed["position"] >= position
    assert [each["id"] for each in printed["entries"] if each["position"] == position] == [
        login["session_id"]
    ]
    assert [each for each in printed["entries"] if each["id"].startswith("00000000ffff")] == []


@pytest.mark.parametrize(
    ("options", "client", "message"),
    [
        (["--format", "envoy-rds"], None, "--template"),
        ([], ("gateway", "wrong"), "refuses client"),
        (["--exec", "false"], None, "the command failed"),
    ],
)
def test_what_cannot_be_done_is_said_and_fails(
    site: Any, tmp_path: Path, options: list[str], client: tuple[str, str] | None, message: str
) -> None:
    done = subprocess.run(
        command(site.api.url, *options),
        cwd=tmp_path,
        env=environment(client or site.gateway),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 1
    assert message in done.stderr


def test_nginx_denies_by_a_file_that_is_kept_current_and_refuses_one_that_is_not(
    nginx: Any, site: Any, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    first = site.login("bob", strategy="jwt")["access_token"]
    other = site.login("alice", strategy="jwt")["access_token"]
    nginx.file.write_text(
        "map $msec $keyfob_cause { default verifier_stale; } map $msec $keyfob_good { default 0; }\n"
    )
    options = [
        "--format",
        "nginx-map",
        "--out",
        str(nginx.file),
        "--exec",
        nginx.reload,
        "--max-staleness",
        "4s",
    ]
    with nginx.running() as ask, exporting(tmp_path, site.api.url, site.gateway, *options) as exporter:
        eventually(lambda: ask(claims(first)) == "", "the file is in force")
        site.revoke("subject", claims(first)["sub"])
        eventually(lambda: ask(claims(first)) == "revoked", "the revocation is in force")
        # Signed in again at once: the new token knows of the entry, and nginx compares.
        again = site.login("bob", strategy="jwt")["access_token"]
        assert ask(claims(again)) == ""
        assert ask(claims(other)) == ""
        # Renewed for as long as it is kept current, and for longer than one file is good.
        until = time.monotonic() + 5
        while time.monotonic() < until:
            assert (ask(claims(first)), ask(claims(again))) == ("revoked", "")
            time.sleep(0.2)
        exporter.kill()
        eventually(lambda: ask(claims(again)) == "verifier_stale", "too old", within=30)
        assert ask(claims(first)) == "revoked"


def test_envoy_with_its_own_check_of_tokens_denies_by_the_file(
    site: Any,
    tmp_path: Path,
    application: Any,
    run_proxy: Any,
    start_envoy_feed: Any,
    eventually: Callable[..., None],
) -> None:
    def login(name: str) -> str:
        return str(site.login(name, strategy="jwt", audience=["orders", site.api.url])["access_token"])

    alice, bob = login("alice"), login("bob")
    with (
        start_envoy_feed() as (front, options),
        exporting(tmp_path, site.api.url, site.gateway, *options, "--max-staleness", "5s") as exporter,
    ):
        eventually(lambda: front.send("/orders/1", token=alice).status == 200, "Envoy lets tokens through")
        assert front.refused("/orders/1").status == 401
        assert front.refused("/orders/1", token=alice[:-8] + "AAAAAAAA").status == 401
        forged = [f"x-keyfob-as-of: {2**50}", "X-Keyfob-Sid: nobody", "X_Keyfob_Sub: nobody"]
        front.pass_through("/orders/1", *forged, token=bob)
        site.revoke("subject", claims(bob)["sub"])
        eventually(lambda: front.send("/orders/1", token=bob).status == 401, "revoked")
        reply = front.refused("/orders/1", *forged, token=bob)
        assert (reply.status, reply.all("x-auth-cause")) == (401, ["revoked"])
        front.pass_through("/orders/1", token=login("bob"))
        front.pass_through("/orders/1", token=alice)
        # The exporter cannot read on, and knows it.
        os.kill(site_server_pid(site), signal.SIGSTOP)
        try:
            eventually(lambda: front.send("/orders/1", token=alice).status == 503, "stale", within=30)
        finally:
            os.kill(site_server_pid(site), signal.SIGCONT)
        eventually(lambda: front.send("/orders/1", token=alice).status == 200, "level again", within=30)
        assert exporter.poll() is None


def site_server_pid(site: Any) -> int:
    return int(site.deployment._servers[-1].pid)


def test_a_reader_never_finds_half_a_file_and_a_command_is_tried_until_it_succeeds(
    site: Any, tmp_path: Path, eventually: Callable[..., None]
) -> None:
    out, told, gate = tmp_path / "live.json", tmp_path / "told", tmp_path / "gate"
    script = f"test -e {gate} && echo >> {told}"
    options = ["--out", str(out), "--exec", f"sh -c {shlex.quote(script)}", "--max-staleness", "20s"]
    with exporting(tmp_path, site.api.url, site.gateway, *options):
        eventually(out.exists, "a file")
        position = 0
        for number in range(20):
            if number % 5 == 0:
                position = site.revoke("session", site.login("bob")["session_id"])
            read = json.loads(out.read_bytes())
            assert read["entries"] == sorted(read["entries"], key=lambda each: each["position"])
            time.sleep(0.05)
        eventually(
            lambda: position in {each["position"] for each in json.loads(out.read_bytes())["entries"]},
            "the last",
        )
        assert not told.exists()
        gate.touch()
        eventually(told.exists, "the command was run again")
    assert not out.with_name("live.json.new").exists()
