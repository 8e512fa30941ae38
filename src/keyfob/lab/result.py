"""Everything that a run saw, as it is written and read: observations, never figures that were made of them."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec

import keyfob
from keyfob.base.clock import SystemClock
from keyfob.base.errors import ConfigurationError
from keyfob.lab.readings.csrf import CsrfSeen
from keyfob.lab.readings.load import LoadsSeen
from keyfob.lab.readings.logout import LogoutSeen
from keyfob.lab.readings.revocation import RevocationSeen
from keyfob.lab.readings.services import ServicesSeen
from keyfob.lab.readings.storage import StorageSeen
from keyfob.lab.readings.theft import TheftSeen
from keyfob.lab.readings.xss import XssSeen

FORMAT = 1


class Column(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What was seen of one set-up. `missing` says, by the key of an experiment, why there is nothing."""

    setup: str
    revocation: RevocationSeen | None = None
    logout: LogoutSeen | None = None
    storage: StorageSeen | None = None
    xss: XssSeen | None = None
    csrf: CsrfSeen | None = None
    theft: TheftSeen | None = None
    load: LoadsSeen | None = None
    services: ServicesSeen | None = None
    missing: dict[str, str] = {}


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a run ran on: enough to judge it, and nothing that names the machine. Loads are processes that wanted a core in the last minute."""

    date: str
    processor: str
    cores: int
    system: str
    python: str
    keyfob: str
    browser: str
    load_at_start: float
    load_at_end: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run. `access_seconds` is the lifetime of its access tokens in experiments 1 to 6; `took` the seconds of the whole."""

    format: int
    machine: Machine
    access_seconds: float
    took: float
    columns: list[Column]


def write(result: Result, path: Path) -> None:
    """Write *result* to *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # A line for each column: neither one line of everything nor one for each of thousands of numbers.
    columns = b",\n".join(msgspec.json.encode(column) for column in result.columns)
    rest = msgspec.json.encode(msgspec.structs.replace(result, columns=[]))
    path.write_bytes(rest.removesuffix(b"[]}") + b"[\n" + columns + b"\n]}\n")


def read(path: Path) -> Result:
    """Read a result.

    Raises:
        ConfigurationError: it cannot be read, or is none of this format.
    """
    try:
        result = msgspec.json.decode(path.read_bytes(), type=Result)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: is no result of the lab: {error}") from None
    if result.format != FORMAT:
        raise ConfigurationError(f"{path}: has format {result.format}, and this is format {FORMAT}")
    return result


def machine(*, browser: str, load_at_start: float) -> Machine:
    """Return the facts of this machine."""
    return Machine(
        date=SystemClock().now().strftime("%Y-%m-%d %H:%M UTC"),
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        system=f"{platform.system()} {platform.release().partition('-')[0]}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        keyfob=keyfob.__version__,
        browser=browser,
        load_at_start=round(load_at_start, 2),
        load_at_end=round(load(), 2),
    )


def load() -> float:
    """Return how many processes wanted a core in the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())
