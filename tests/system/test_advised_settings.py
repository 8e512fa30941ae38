"""What `keyfob advise` writes: a server starts on it as it is, `keyfob doctor` finds nothing unsafe, and the page answers in a real browser."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from keyfob.advice.rules import read_rules
from keyfob.testing.chromium import BrowserFailed, chromium, installed


def keyfob(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "keyfob.cli", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("situation", read_rules().situation)
def test_a_server_starts_on_the_settings_of_each_situation(tmp_path: Path, situation: str) -> None:
    assert keyfob(tmp_path, "advise", "--situation", situation, "--out", "keyfob.toml").returncode == 0
    with subprocess.Popen(
        [sys.executable, "-m", "keyfob.cli", "serve", "--port", "0"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            said = ""
            for line in server.stdout:
                said += line
                if "serving on" in line:
                    break
            assert "serving on http://127.0.0.1:" in said
            doctor = keyfob(tmp_path, "doctor")
            assert doctor.returncode == 0, doctor.stdout
        finally:
            server.terminate()
            server.communicate(timeout=20)
    assert server.returncode == 0


@pytest.mark.skipif(installed() is None, reason="there is no Chromium here")
def test_the_page_advises_in_a_browser(deploy: Any) -> None:
    program = installed()
    assert program is not None
    site = deploy()
    site.start()
    with chromium(program) as browser:
        page = browser.page()
        page.open(f"{site.url}/advise")
        page.evaluate("document.querySelector('input[name=services]').value = '12'")
        page.evaluate("document.querySelector('input[name=run_by][value=others]').click()")
        page.evaluate("document.querySelector('button[type=submit]').click()")
        page.wait_for("document.readyState === 'complete' && document.querySelector('#advice') !== null")
        assert "(rule others-at-once)" in page.evaluate("document.querySelector('#advice').innerText")
        assert 'access_lifetime = "300s"' in page.evaluate("document.querySelector('#settings').innerText")
        assert page.evaluate("document.querySelector('input[name=services]').value") == "12"
        # The style is the page's own, and allowed by its digest.
        assert page.evaluate("getComputedStyle(document.querySelector('fieldset')).borderRadius") == "6px"


@pytest.mark.skipif(installed() is None, reason="there is no Chromium here")
def test_waiting_in_a_browser_outlasts_the_page_and_not_a_script_that_throws(deploy: Any) -> None:
    program = installed()
    assert program is not None
    site = deploy()
    site.start()
    with chromium(program) as browser:
        page = browser.page()
        page.open(f"{site.url}/advise")
        page.evaluate("void setTimeout(() => location.reload(), 50)")
        # Asked of the old page, which is gone before it can answer, and then of the new one.
        page.wait_for(
            "new Promise(keep => setTimeout(() => keep("
            "performance.getEntriesByType('navigation')[0].type === 'reload'), 200))"
        )
        with pytest.raises(BrowserFailed, match="ReferenceError"):
            page.wait_for("absent.name")
