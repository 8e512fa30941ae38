"""What is running for one set-up: the shop that signs people in, the services, and where the design has one, the store."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from keyfob.base.clock import Clock, SystemClock
from keyfob.lab.device import Device
from keyfob.lab.keyfob_door import KeyfobDoorSettings
from keyfob.lab.keyfob_shop import ADMIN, AUDIENCE, ShopSettings
from keyfob.lab.processes import LabFailed, Program
from keyfob.lab.setups import SetUp
from keyfob.lab.textbook.desk import DeskSettings
from keyfob.lab.textbook.door import DoorSettings
from keyfob.lab.textbook.store import StoreSettings

ACCOUNTS = 10
"""The first is for everybody whose login alone ends, the others for one revocation each."""
FIRST = "user0"
SHORT_SECONDS = 60.0
"""Below this a lifetime is short enough for a fraction of a second to matter."""
REPLAY_SHARE = 1 / 20
"""Keyfob's replay window, as a share of the access token's lifetime: 30 s of 10 minutes, and so in the lab."""

Part = Literal["authority", "store"]


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What a service counted since its start, and its processor time in seconds."""

    store_queries: int
    network_calls: int
    cpu_seconds: float


@dataclass(slots=True, kw_only=True)
class Stage:
    """One set-up, running. `shop` is its address, `doors` those of its services."""

    setup: SetUp
    shop: str
    doors: Sequence[str]
    access_seconds: float
    authority: Program
    store: Program | None
    door_programs: Sequence[Program]
    store_port: int | None = None
    password: str = field(repr=False)
    admin: Device
    admin_secret: str = field(repr=False)
    _devices: list[Device] = field(default_factory=list)
    _used: int = 0
    _clock: Clock = field(default_factory=SystemClock)

    def user(self, *, whom: str = FIRST) -> Device:
        """Log a device of *whom* in.

        Raises:
            LabFailed: it is refused.
        """
        device = self.device(agent="the user")
        device.log_in(whom, self.password)
        return device

    def user_on_the_second(self) -> Device:
        """Do as `user` at the beginning of a second, so that an access token lives as long as it should: `exp` is in whole seconds.

        Raises:
            LabFailed: it is refused.
        """
        self.wait_for_the_second()
        return self.user()

    def wait_for_the_second(self) -> None:
        """Return at the beginning of a second, where access tokens matter and are short."""
        if self.setup.has_access_token and self.access_seconds < SHORT_SECONDS:
            time.sleep(1 - self._clock.time() % 1)

    def next_name(self) -> str:
        """Return the name of an account that nothing was done with yet, and that everything may be.

        Raises:
            LabFailed: there is none left.
        """
        self._used += 1
        if self._used == ACCOUNTS:
            raise LabFailed(f"{self.setup.name}: more users than the {ACCOUNTS} of the stage")
        return _name(self._used)

    def device(self, *, agent: str) -> Device:
        """Return a device that holds nothing."""
        device = Device(self.setup, self.shop, agent=agent)
        self._devices.append(device)
        return device

    def end_user(self, device: Device) -> None:
        """End everything of the user of *device*, as an administrator does; it returns when that is acknowledged.

        Raises:
            LabFailed: it is refused.
        """
        if self.setup.is_keyfob:
            reply = self.admin.request(
                "POST",
                f"{self.shop}/admin/api/revocations",
                headers=self._admin_headers(),
                body={"scope": "subject", "id": device.subject},
            )
        else:
            reply = self.admin.request(
                "POST", f"{self.shop}/end", headers=self._admin_headers(), body={"username": device.subject}
            )
        if not reply.accepted:
            raise LabFailed(f"{self.setup.name}: the user cannot be ended: {reply.status} {reply.code}")

    def transfers(self) -> int:
        """Return how many transfers the shop has carried out.

        Raises:
            LabFailed: it does not say.
        """
        reply = self.admin.request("GET", f"{self.shop}/ledger", headers=self._admin_headers())
        transfers = reply.body.get("transfers")
        if not isinstance(transfers, list):
            raise LabFailed(f"{self.setup.name}: the ledger cannot be read: {reply.status} {reply.code}")
        return len(transfers)

    def counters(self, door: str) -> Counters:
        """Return what the service at *door* counted."""
        reply = self.admin.request("GET", f"{door}/counters")
        return msgspec.convert(dict(reply.body), Counters)

    def stop(self, part: Part) -> bool:
        """End a part of the stage for good, from one moment to the next; False if this set-up has no such part."""
        program = self.authority if part == "authority" else self.store
        if program is None:
            return False
        program.kill()
        return True

    def break_off(self) -> None:
        """End every process at once, so that whatever is being played fails at its next request."""
        for program in (self.authority, *self.door_programs):
            program.kill()

    def close(self) -> None:
        """Close the connections of all devices."""
        for device in (*self._devices, self.admin):
            device.close()

    def _admin_headers(self) -> dict[str, str]:
        if self.setup.is_keyfob:
            return {"Authorization": f"Bearer {self.admin.held['session token']}"}
        return {"X-Admin": self.admin_secret}


@contextmanager
def stage(
    setup: SetUp, *, folder: Path, access_seconds: float, doors: int, is_defended: bool = True
) -> Iterator[Stage]:
    """Start *setup* with so many services, access tokens of *access_seconds*, and files in *folder*; end it all afterwards.

    *is_defended* False leaves out what protects the textbook session from forged requests: the control of that experiment.

    Raises:
        LabFailed: something did not start.
    """
    password, admin = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
    accounts = {_name(number): password for number in range(ACCOUNTS)}
    with ExitStack() as stack:
        if setup.is_keyfob:
            settings = ShopSettings(
                database=str(folder / "keyfob.db"),
                access_seconds=access_seconds,
                replay_seconds=access_seconds * REPLAY_SHARE,
                accounts=accounts,
                admin=admin,
            )
            started = _keyfob(stack, setup, settings, folder=folder, doors=doors)
        else:
            desk = DeskSettings(
                design=setup.design,
                access_seconds=access_seconds,
                accounts=accounts,
                admin=admin,
                is_defended=is_defended,
            )
            started = _textbook(stack, setup, desk, folder=folder, doors=doors)
        running = Stage(
            setup=setup,
            shop=started.shop,
            doors=started.doors,
            access_seconds=access_seconds,
            authority=started.authority,
            store=started.store,
            store_port=started.store_port,
            door_programs=started.door_programs,
            password=password,
            admin=Device(setup, started.shop, agent="the administrator"),
            admin_secret=admin,
        )
        stack.callback(running.close)
        if setup.is_keyfob:
            _log_in_admin(running, admin)
        yield running


@dataclass(frozen=True, slots=True, kw_only=True)
class _Started:
    shop: str
    doors: Sequence[str]
    authority: Program
    store: Program | None
    store_port: int | None
    door_programs: Sequence[Program]


def _keyfob(stack: ExitStack, setup: SetUp, settings: ShopSettings, *, folder: Path, doors: int) -> _Started:
    authority = _start(stack, "keyfob.lab.keyfob_shop", settings, folder=folder, name=f"{setup.name}-shop")
    announced = authority.announced()
    shop = f"http://127.0.0.1:{announced.port}"
    door = KeyfobDoorSettings(
        issuer=shop, audience=AUDIENCE, client_id=announced.client_id, client_secret=announced.client_secret
    )
    programs = _start_doors(stack, "keyfob.lab.keyfob_door", door, folder=folder, setup=setup, doors=doors)
    return _Started(
        shop=shop,
        doors=_addresses(programs),
        authority=authority,
        store=None,
        store_port=None,
        door_programs=programs,
    )


def _textbook(stack: ExitStack, setup: SetUp, desk: DeskSettings, *, folder: Path, doors: int) -> _Started:
    store, port = None, None
    if setup.design != "jwt":
        database = StoreSettings(database=str(folder / "store.db"))
        store = _start(
            stack, "keyfob.lab.textbook.store", database, folder=folder, name=f"{setup.name}-store"
        )
        port = store.announced().port
    authority = _start(
        stack,
        "keyfob.lab.textbook.desk",
        msgspec.structs.replace(desk, store_port=port),
        folder=folder,
        name=f"{setup.name}-desk",
    )
    shop = f"http://127.0.0.1:{authority.announced().port}"
    looks_up = setup.design in {"session", "blocklist"}
    door = DoorSettings(design=setup.design, desk=shop, store_port=port if looks_up else None)
    programs = _start_doors(stack, "keyfob.lab.textbook.door", door, folder=folder, setup=setup, doors=doors)
    return _Started(
        shop=shop,
        doors=_addresses(programs),
        authority=authority,
        store=store,
        store_port=port,
        door_programs=programs,
    )


def _start(stack: ExitStack, module: str, settings: msgspec.Struct, *, folder: Path, name: str) -> Program:
    program = Program.start(module, settings, folder=folder, name=name)
    stack.callback(program.end)
    return program


def _start_doors(
    stack: ExitStack, module: str, settings: msgspec.Struct, *, folder: Path, setup: SetUp, doors: int
) -> list[Program]:
    """Start all services at once; the caller waits for them."""
    return [
        _start(stack, module, settings, folder=folder, name=f"{setup.name}-door-{number}")
        for number in range(doors)
    ]


def _addresses(programs: Sequence[Program]) -> list[str]:
    return [f"http://127.0.0.1:{program.announced().port}" for program in programs]


def _log_in_admin(running: Stage, password: str) -> None:
    reply = running.admin.request(
        "POST",
        f"{running.shop}/login",
        body={"username": ADMIN, "password": password, "strategy": "session", "transport": "body"},
    )
    if not reply.accepted:
        raise LabFailed(f"{running.setup.name}: the administrator cannot log in: {reply.status} {reply.code}")
    running.admin.keep(reply)


def _name(number: int) -> str:
    return f"user{number}"
