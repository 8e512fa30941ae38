"""The story of the demo, once for each strategy: what ends a credential, and when the services know."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable
from typing import Self

from keyfob.demo.browser import Device, require
from keyfob.demo.figures import Figures
from keyfob.demo.measuring import Denial, first_denials
from keyfob.demo.processes import REPLAY_WINDOW_SECONDS, SERVICES, DemoFailed, Stage
from keyfob.demo.service import REPORTS, REPORTS_ROLE

CHECKS = 30  # calls whose median is `check_ms`
STEPS = {"session": 5, "jwt": 5, "hybrid": 6}  # told to the progress bar

Tell = Callable[[str], None]
"""Is told what happens next."""


def play(stage: Stage, strategy: str, tell: Tell) -> Figures:
    """Play the story of one strategy and return its figures.

    Raises:
        DemoFailed: something was not as it should be.
    """
    with _Cast(stage, strategy) as cast:
        tell("sign out")
        login_ms, check_ms, signed_out = _sign_out(cast)
        tell("log out from all devices")
        all_devices = _all_devices(cast)
        tell("change the password")
        password = _password_change(cast)
        tell("delete the account")
        deletion = _deletion(cast)
        tell("take a role away")
        role = _role_change(cast)
        identical, detected = None, None
        if strategy == "hybrid":
            tell("steal a refresh token")
            identical, detected = _theft(cast)
    return Figures(
        login_ms=login_ms,
        check_ms=check_ms,
        denied_after_ms=[denial.after_ms for denial in signed_out],
        all_devices_denied_after_ms=_slowest(all_devices),
        password_change_denied_after_ms=_slowest(password),
        deletion_denied_after_ms=_slowest(deletion),
        role_change_denied_after_ms=_slowest(role),
        causes={
            "sign_out": signed_out[0].cause,
            "all_devices": all_devices[0].cause,
            "password_change": password[0].cause,
            "deletion": deletion[0].cause,
            "role_change": role[0].cause,
        },
        replayed_refresh_is_identical=identical,
        reuse_detected=detected,
    )


class _Cast:
    """Who plays in one strategy's story: the administrator, and users with their devices."""

    def __init__(self, stage: Stage, strategy: str) -> None:
        self.stage = stage
        self.strategy = strategy
        self.administrator = Device(stage, "session")
        self._devices = [self.administrator]
        self._users = 0

    def __enter__(self) -> Self:
        reply = self.administrator.log_in(self.stage.administrator, self.stage.password)
        require(reply, 200, "the administrator logs in")
        return self

    def __exit__(self, *raised: object) -> None:
        for device in self._devices:
            device.close()

    def user(self, *roles: str) -> tuple[str, str]:
        """Register an account and return its name and password."""
        self._users += 1
        name, password = f"{self.strategy}-user-{self._users}", secrets.token_urlsafe(12)
        body = {"name": name, "password": password, "roles": list(roles)}
        require(self.administrator.post("/admin/api/users", body), 201, f"register {name}")
        return name, password

    def device(self, name: str, password: str) -> Device:
        """Log a device in, and see that all three services accept it."""
        device = Device(self.stage, self.strategy)
        self._devices.append(device)
        require(device.log_in(name, password), 200, f"{name} logs in")
        for service in SERVICES:
            require(device.call(service), 200, f"{service} accepts {name}")
        return device


def _sign_out(cast: _Cast) -> tuple[float, float, list[Denial]]:
    """Log in, call, refresh, sign out: `login_ms`, `check_ms`, and when each service denied."""
    name, password = cast.user()
    device = cast.device(name, password)
    began = time.perf_counter()
    require(device.log_in(name, password), 200, "log in")
    login_ms = _milliseconds_since(began)
    check_ms = _check_ms(device)
    if cast.strategy == "hybrid":
        require(device.refresh(), 200, "refresh")
    reply, denials = first_denials(device, lambda: device.post("/logout", {}))
    require(reply, 204, "sign out")
    _require_refused_everywhere(device, "revoked")
    if cast.strategy == "hybrid":
        require(device.refresh(device.refresh_token), 401, "refresh after signing out")
    return login_ms, check_ms, denials


def _all_devices(cast: _Cast) -> list[Denial]:
    name, password = cast.user()
    laptop, phone = cast.device(name, password), cast.device(name, password)
    reply, denials = first_denials(phone, lambda: laptop.post("/logout", {"devices": "all"}))
    require(reply, 204, "log out from all devices")
    _require_refused_everywhere(phone, "revoked")
    _require_refused_everywhere(laptop, "revoked")
    return denials


def _password_change(cast: _Cast) -> list[Denial]:
    """Another device ends; the one that changed the password goes on."""
    name, password = cast.user()
    laptop, phone = cast.device(name, password), cast.device(name, password)
    reply, denials = first_denials(phone, lambda: laptop.change_password(password, secrets.token_urlsafe(12)))
    require(reply, 200, "change the password")
    _require_refused_everywhere(phone, "revoked")
    for service in SERVICES:
        require(laptop.call(service), 200, f"{service} accepts the device that changed the password")
    require(Device(cast.stage, cast.strategy).log_in(name, password), 401, "log in with the old password")
    return denials


def _deletion(cast: _Cast) -> list[Denial]:
    name, password = cast.user()
    device = cast.device(name, password)
    reply, denials = first_denials(device, lambda: cast.administrator.delete(f"/admin/api/users/{name}"))
    require(reply, 204, f"delete {name}")
    _require_refused_everywhere(device, "revoked")
    require(Device(cast.stage, cast.strategy).log_in(name, password), 401, "log in to a deleted account")
    return denials


def _role_change(cast: _Cast) -> list[Denial]:
    """A manager becomes an ordinary user: refused where the role is needed, and no login where there is another way."""
    name, password = cast.user(REPORTS_ROLE)
    device = cast.device(name, password)
    roles = f"/admin/api/users/{name}/roles"
    reply, denials = first_denials(device, lambda: cast.administrator.put(roles, {"roles": []}), path=REPORTS)
    require(reply, 200, f"change the roles of {name}")
    if cast.strategy == "hybrid":
        require(device.refresh(), 200, "refresh after the roles changed")
    elif cast.strategy == "jwt":
        require(device.log_in(name, password), 200, "log in again after the roles changed")
    for service in SERVICES:
        require(device.call(service), 200, f"{service} goes on with today's roles")
        require(device.call(service, REPORTS), 403, f"{service} refuses the lost role")
    return denials


def _theft(cast: _Cast) -> tuple[bool, bool]:
    """Say whether a repeated refresh gives the same token, and whether a stolen one that comes back ends the session."""
    name, password = cast.user()
    victim = cast.device(name, password)
    stolen = victim.refresh_token
    require(victim.refresh(), 200, "refresh")
    first = victim.refresh_token
    require(victim.refresh(stolen), 200, "repeat the refresh at once")
    identical = victim.refresh(stolen).cookies.get("__Host-refresh") == first
    time.sleep(REPLAY_WINDOW_SECONDS * 1.2)
    require(victim.refresh(), 200, "refresh again")
    thief, _ = first_denials(victim, lambda: victim.refresh(stolen))
    detected = thief.status == 401 and thief.code == "reused"
    _require_refused_everywhere(victim, "revoked")
    require(victim.refresh(victim.refresh_token), 401, "the session is over for everybody")
    return identical, detected


def _check_ms(device: Device) -> float:
    took = []
    for _ in range(CHECKS):
        began = time.perf_counter()
        require(device.call(SERVICES[0]), 200, "check")
        took.append(_milliseconds_since(began))
    return round(statistics.median(took), 3)


def _require_refused_everywhere(device: Device, cause: str) -> None:
    """See that a credential, once denied, stays denied at every service and at the authority, with its cause."""
    for service in SERVICES:
        reply = require(device.call(service), 401, f"{service} after the end")
        if reply.code != cause:
            raise DemoFailed(f"{service} refuses with {reply.code}, expected {cause}")
    require(device.get("/session"), 401, "the authority after the end")


def _slowest(denials: list[Denial]) -> float:
    return max(denial.after_ms for denial in denials)


def _milliseconds_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 2)
