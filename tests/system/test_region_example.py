"""The example of verifiers in another region, as its page says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks import distributed_bench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "region_verifier.py"
PAGE = ROOT / "docs" / "how-to" / "verifiers-in-another-region.md"


def test_a_verifier_behind_a_relay_says_welcome_and_then_revoked(deploy: Any, eventually: Any) -> None:
    deployment = deploy()
    relay_client = deployment.add_client("relay-eu", "keyfob:feed")
    client_id, secret = deployment.add_client("orders-eu", "keyfob:feed")
    deployment.add_users("alice")
    deployment.start()
    grant = deployment.api.login("alice", audience=["orders"]).body
    with distributed_bench.relay(deployment.folder, deployment.url, relay_client) as (url, _):
        environment = {
            **os.environ,
            "AUTHORITY": deployment.url,
            "RELAY": url,
            "KEYFOB_CLIENT_ID": client_id,
            "KEYFOB_CLIENT_SECRET": secret,
        }
        with subprocess.Popen(
            [sys.executable, str(EXAMPLE)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            stdin, stdout = process.stdin, process.stdout

            def said(token: str) -> str:
                stdin.write(token + "\n")
                stdin.flush()
                return stdout.readline().strip()

            assert stdout.readline() == "level\n"
            assert said(grant["access_token"]) == f"welcome {grant['subject']}"
            done = deployment.command("revoke", "session", grant["session_id"])
            assert done.returncode == 0, done.stderr
            eventually(lambda: said(grant["access_token"]) == "revoked", "denied", within=3)
            stdin.close()
            assert process.wait(10) == 0


def test_the_page_shows_what_the_example_does() -> None:
    """The code on the page is the example's, but for how far it is indented."""
    block = PAGE.read_text("utf-8").partition("```py\n")[2].partition("```")[0]
    shown = [line.strip() for line in block.splitlines()]
    assert shown
    code = [line.strip() for line in EXAMPLE.read_text("utf-8").splitlines()]
    assert any(code[start : start + len(shown)] == shown for start in range(len(code)))
