"""The figures of a run, as they are shown and written. Every one is measured in that run."""

from __future__ import annotations

import msgspec


class Figures(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One strategy. Milliseconds; a denial counts from the return of what revoked to the first refusal.

    `denied_after_ms` has one figure per service, the others that of the slowest service. The last two are the hybrid's alone.
    """

    login_ms: float
    check_ms: float
    denied_after_ms: list[float]
    all_devices_denied_after_ms: float
    password_change_denied_after_ms: float
    deletion_denied_after_ms: float
    role_change_denied_after_ms: float
    causes: dict[str, str]
    reuse_detected: bool | None = None
    replayed_refresh_is_identical: bool | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """All strategies, by name."""

    strategies: dict[str, Figures]
