"""The wheel, as whoever installs it gets it: the verifier alone, with three packages."""

from __future__ import annotations

import asyncio
import json
import re
import site
import subprocess
import sys
import venv
from email import message_from_string
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

from keyfob import Authority

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
NEEDED = {"cryptography", "msgspec", "urllib3"}
NEEDED_BY_THEM = {"cffi", "pycparser", "typing-extensions"}
ABSENT = ("argon2", "prometheus_client", "rich", "starlette", "structlog", "typer", "uvicorn", "uvloop")

VERIFY = """
import importlib.util, json, sys
import keyfob

absent, asked = sys.argv[1].split(","), json.load(sys.stdin)
assert all(importlib.util.find_spec(name) is None for name in absent), "these were not to be there"
verifier = keyfob.Verifier.from_jwks(asked["jwks"], issuer=asked["issuer"], audience="orders")
principal = verifier.verify(asked["token"], roles={"buyer"})
try:
    verifier.verify(asked["token"][:-8] + "AAAAAAAA")
except keyfob.Denied as denied:
    cause = denied.cause
print(json.dumps({"subject": principal.subject, "cause": cause, "home": keyfob.__file__, "version": keyfob.__version__}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the build backend that is installed, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    assert wheel.name == f"keyfob-{metadata.version('keyfob')}-py3-none-any.whl"
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        packed = {name for name in names if name.startswith("keyfob/")}
        described = [name for name in names if not name.startswith("keyfob/")]
        told = message_from_string(archive.read(next(n for n in names if n.endswith("/METADATA"))).decode())
        (licence,) = (name for name in names if name.endswith("/licenses/LICENSE"))
        assert b"Apache License" in archive.read(licence)
    source = ROOT / "src"
    assert packed == {
        str(path.relative_to(source))
        for path in (source / "keyfob").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "keyfob/py.typed" in packed
    assert all(re.match(r"keyfob-[0-9.]+\.dist-info/", name) for name in described), described
    assert not any("/test_" in name or name.startswith("tests/") for name in names)
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Requires-Python"] == ">=3.11"
    bare = {
        re.split(r"[^a-z0-9-]", requirement)[0]
        for requirement in told.get_all("Requires-Dist", [])
        if "extra ==" not in requirement
    }
    assert bare == NEEDED


@pytest.fixture
def python(wheel: Path, tmp_path: Path) -> Path:
    """A fresh environment with the wheel, which sees nothing but what the wheel needs."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    packages = Path(next(path for path in site.getsitepackages([str(home)]) if "site-packages" in path))
    for name in NEEDED | NEEDED_BY_THEM:
        _link(name, packages)
    python = home / "bin" / "python"
    installed = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"),
            *("--disable-pip-version-check", "--no-index", "--no-deps", str(wheel)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert installed.returncode == 0, installed.stderr
    return python


def _link(name: str, packages: Path) -> None:
    """Make an installed distribution visible in *packages*, by links."""
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError:  # not needed by the versions that are installed
        return
    tops = {file.parts[0] for file in files if ".." not in file.parts}
    for top in tops - {"__pycache__"}:
        source = Path(str(metadata.distribution(name).locate_file(top)))
        if not (packages / top).exists():
            (packages / top).symlink_to(source)


async def _token() -> dict[str, object]:
    async with Authority.open("memory://", issuer="https://auth.example") as authority:
        issued = await authority.login("alice", strategy="hybrid", audience="orders", roles=["buyer"])
        jwks = authority.keys.jwks()
        return {"issuer": authority.issuer, "jwks": jwks, "token": issued.access_token}


def test_the_bare_install_is_a_verifier(python: Path) -> None:
    ran = subprocess.run(
        [str(python), "-I", "-W", "error", "-c", VERIFY, ",".join(ABSENT)],
        input=json.dumps(asyncio.run(_token())),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["subject"], told["cause"]) == ("alice", "bad_signature")
    assert told["version"] == metadata.version("keyfob")
    assert Path(told["home"]).is_relative_to(python.parent.parent)


def test_the_command_line_of_a_bare_install_says_what_it_needs(python: Path) -> None:
    ran = subprocess.run(
        [str(python.parent / "keyfob"), "serve"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert re.fullmatch(r"keyfob: the command line needs \w+: pip install keyfob\[server\]\n", ran.stderr)
