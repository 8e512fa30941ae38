"""A run from beginning to end: one set-up after the other, each experiment once; what cannot be played says why."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyfob.lab import result as results
from keyfob.lab.browser import NO_BROWSER, browser
from keyfob.lab.experiments import BY_KEY, EXPERIMENTS
from keyfob.lab.plays import csrf, load, logout, revocation, services, storage, theft, xss
from keyfob.lab.plays.browsing import Browsing
from keyfob.lab.processes import LabFailed
from keyfob.lab.readings.csrf import Forgery
from keyfob.lab.result import FORMAT, Column, Result
from keyfob.lab.setups import BY_NAME, SETUPS, SetUp
from keyfob.lab.stage import Stage, stage

ACCESS_SECONDS = 6.0
"""The lifetime of access tokens in experiments 1 to 6, which stands for 10 minutes."""
LONG_ACCESS_SECONDS = 600.0
"""The same in experiments 7 and 8, in which none is to end."""
BUDGET_SECONDS = 270.0
"""After so long nothing more is begun, and what was not says so: a run ends within five minutes."""
DOORS = 3
_SHORT = ("revocation", "logout", "storage", "xss", "csrf", "theft")
_LONG = ("load", "services")
_WAITING = ("logout", "theft")
"""Those that mostly wait, each with logins of its own: they are played at the same time, after the others."""
_TIME_IS_OVER = "the five minutes were over"

Tell = Callable[[str, str], None]
"""Is told the set-up and the experiment that begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be played: experiments by number, and set-ups."""

    numbers: Collection[int] = frozenset(one.number for one in EXPERIMENTS)
    setups: Sequence[SetUp] = SETUPS
    access_seconds: float = ACCESS_SECONDS
    budget: float = BUDGET_SECONDS

    def keys(self, among: Collection[str]) -> list[str]:
        """Return the keys of the experiments of the plan, as far as they are *among* these."""
        return [key for key in among if BY_KEY[key].number in self.numbers]

    @property
    def steps(self) -> int:
        """How often `Tell` is told."""
        return len(self.setups) * len(self.keys((*_SHORT, *_LONG)))


def run(plan: Plan, tell: Tell) -> Result:
    """Play *plan*.

    Raises:
        KeyboardInterrupt: on SIGINT and SIGTERM; every process of the lab has ended by then.
    """
    # Raised like a ctrl-c, so that whoever ends the lab also ends its processes and removes its folders.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    load_at_start, began = results.load(), time.monotonic()
    with browser() as (browsing, name):
        player = _Player(plan, tell, browsing, until=began + plan.budget)
        columns = [player.column(setup) for setup in plan.setups]
    return Result(
        format=FORMAT,
        machine=results.machine(browser=name, load_at_start=load_at_start),
        access_seconds=plan.access_seconds,
        took=round(time.monotonic() - began, 1),
        columns=columns,
    )


class _Player:
    def __init__(self, plan: Plan, tell: Tell, browsing: Browsing | None, *, until: float) -> None:
        self._plan = plan
        self._tell = tell
        self._browsing = browsing
        self._until = until
        self._control: list[Forgery] | None = None

    def column(self, setup: SetUp) -> Column:
        """Play everything of one set-up."""
        column = Column(setup=setup.name)
        self._on_stage(column, setup, self._plan.keys(_SHORT), doors=DOORS, seconds=self._plan.access_seconds)
        keys = self._plan.keys(_LONG)
        doors = services.DOORS if "services" in keys else 1
        self._on_stage(column, setup, keys, doors=doors, seconds=LONG_ACCESS_SECONDS)
        return column

    def _on_stage(
        self, column: Column, setup: SetUp, keys: Sequence[str], *, doors: int, seconds: float
    ) -> None:
        playable = [key for key in keys if not self._is_out(column, key)]
        if not playable:
            return
        with tempfile.TemporaryDirectory(prefix="keyfob-lab-") as name:
            folder = Path(name)
            try:
                with stage(setup, folder=folder, access_seconds=seconds, doors=doors) as running:
                    for key in playable:
                        if key not in _WAITING:
                            self._attempt(column, key, running, folder)
                    self._side_by_side(column, [key for key in playable if key in _WAITING], running, folder)
            except LabFailed as error:
                for key in playable:
                    if getattr(column, key) is None:
                        column.missing.setdefault(key, str(error))

    def _side_by_side(self, column: Column, keys: Sequence[str], running: Stage, folder: Path) -> None:
        with ThreadPoolExecutor(max_workers=len(_WAITING)) as pool:
            under_way = [pool.submit(self._attempt, column, key, running, folder) for key in keys]
            try:
                for one in wait(under_way, return_when=FIRST_EXCEPTION).done:
                    one.result()
            except (
                BaseException
            ):  # whoever ends the run does not wait for what would take a lifetime of a token
                running.break_off()
                raise

    def _is_out(self, column: Column, key: str) -> bool:
        """Note why *key* cannot be played, and say whether there is a reason."""
        if BY_KEY[key].needs_browser and self._browsing is None:
            column.missing[key] = NO_BROWSER
        elif time.monotonic() >= self._until:
            column.missing[key] = _TIME_IS_OVER
        return key in column.missing

    def _attempt(self, column: Column, key: str, running: Stage, folder: Path) -> None:
        self._tell(f"{running.setup.kind} {running.setup.title}", BY_KEY[key].dimension)
        if self._is_out(column, key):
            return
        try:
            setattr(column, key, self._played(key, running, folder))
        except LabFailed as error:
            column.missing[key] = str(error)

    def _played(self, key: str, running: Stage, folder: Path) -> Any:
        match key:
            case "revocation":
                return revocation.play(running, folder=folder)
            case "logout":
                return logout.play(running)
            case "theft":
                return theft.play(running)
            case "load":
                return load.play(running, folder=folder)
            case "services":
                return services.play(running)
        return self._browsed(key, running)

    def _browsed(self, key: str, running: Stage) -> Any:
        browsing = self._browsing
        assert browsing is not None
        match key:
            case "storage":
                return storage.play(running, browsing)
            case "xss":
                return xss.play(running, browsing)
            case "csrf":
                return csrf.play(running, browsing, control=self._controlled(browsing))
        raise ValueError(f"{key} is no experiment")

    def _controlled(self, browsing: Browsing) -> list[Forgery]:
        """Return what the forgeries do to a shop without defences; played once in a run."""
        if self._control is None:
            with (
                tempfile.TemporaryDirectory(prefix="keyfob-lab-") as name,
                stage(
                    BY_NAME["textbook-session"],
                    folder=Path(name),
                    access_seconds=self._plan.access_seconds,
                    doors=0,
                    is_defended=False,
                ) as undefended,
            ):
                self._control = csrf.forged(undefended, browsing)[1]
        return self._control
