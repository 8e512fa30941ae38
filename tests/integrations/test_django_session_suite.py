"""Django's own tests of session engines pass against ours: they come with its sdist, which is downloaded and not kept."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from html import unescape
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import django
import pytest
import urllib3

pytestmark = pytest.mark.slow

RUNNER = Path(__file__).with_name("run_django_session_tests.py")
PYPI = "https://pypi.org/simple"
DIFFERS = {
    "SessionMiddlewareTests.test_empty_session_saved": (
        "it looks into Django's own table of sessions, in which there is nothing of ours; "
        "test_django_sessions.py asks the same of the engine (an emptied session stays)"
    ),
}
FEWEST = 85  # tests of Django 5.2's: a suite that shrinks to nothing would pass


def pip_setting(name: str) -> str | None:
    """Return what pip is configured with on this machine."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = re.findall(rf"^(?:global|install|download|:env:)\.{name}='(.*)'$", listed, re.MULTILINE)
    return found[-1] if found else None


def download_sdist(folder: Path) -> Path:
    """Download the sdist of the Django that is installed, as the simple API of the configured index gives it."""
    index = (pip_setting("index-url") or PYPI).rstrip("/")
    certificates = pip_setting("cert") or os.environ.get("SSL_CERT_FILE")
    wanted = f"django-{django.get_version()}.tar.gz"
    with urllib3.PoolManager(ca_certs=certificates, retries=False, timeout=60.0) as pool:
        page = pool.request("GET", f"{index}/django/", headers={"Accept": "text/html"})
        if page.status != 200:
            raise OSError(f"the index answered {page.status}")
        links = re.findall(r'href="([^"]*)"', page.data.decode("utf-8"))
        link = next(
            link for link in map(unescape, links) if urldefrag(link).url.lower().endswith(f"/{wanted}")
        )
        url, fragment = urldefrag(urljoin(f"{index}/django/", link))
        sdist = pool.request("GET", url).data
    algorithm, _, digest = fragment.partition("=")
    assert algorithm == "sha256"
    assert hashlib.sha256(sdist).hexdigest() == digest
    file = folder / wanted
    file.write_bytes(sdist)
    return file


@pytest.fixture
def django_tests(tmp_path: Path) -> Path:
    """Give the folder of Django's tests."""
    try:
        sdist = download_sdist(tmp_path)
    except (urllib3.exceptions.HTTPError, OSError, StopIteration) as error:
        pytest.skip(f"Django's sdist cannot be downloaded: {error!r}")
    with tarfile.open(sdist) as archive:
        members = [member for member in archive if "/tests/sessions_tests/" in f"/{member.name}"]
        archive.extractall(tmp_path, members=members, filter="data")
    return tmp_path / f"django-{django.get_version()}" / "tests"


def test_djangos_own_session_tests_pass_against_our_engine_but_for_what_is_listed(django_tests: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", str(RUNNER), str(django_tests)],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.stdout, ran.stderr
    outcomes = json.loads(ran.stdout)

    assert len(outcomes) >= FEWEST
    failed = {name for name, outcome in outcomes.items() if outcome != "passed"}
    assert failed == set(DIFFERS), ran.stderr
