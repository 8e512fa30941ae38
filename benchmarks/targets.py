"""What is measured, and what must be reached. Every figure of a run is one of `MEASURES`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Section(StrEnum):
    """A part of a run; `--only` takes their names."""

    JWT = "jwt"
    HTTP = "http"
    PROXIES = "proxies"
    FRAMEWORKS = "frameworks"
    REVOCATION = "revocation"
    STORES = "stores"
    STORE_HTTP = "store-http"


class Of(StrEnum):
    """What a target bounds."""

    MEASURED = "measured"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound, itself allowed, on the measured value or on its ratio to what it is compared with."""

    bound: float
    of: Of
    is_ceiling: bool

    def is_met(self, value: float) -> bool:
        """Say whether *value* keeps to the bound."""
        return value <= self.bound if self.is_ceiling else value >= self.bound

    def used(self, value: float) -> float:
        """Return how much of the allowance *value* uses: 1 at the bound, less is better, whichever side the bound is."""
        if self.is_ceiling:
            return value / self.bound
        return self.bound / value if value > 0 else float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One thing that is measured. `unit` is that of the value and of what it is compared with."""

    name: str
    section: Section
    title: str
    unit: str
    target: Target | None = None


def at_most(bound: float, of: Of = Of.RATIO) -> Target:
    """Return the target that nothing above *bound* meets."""
    return Target(bound=bound, of=of, is_ceiling=True)


def at_least(bound: float, of: Of = Of.RATIO) -> Target:
    """Return the target that nothing below *bound* meets."""
    return Target(bound=bound, of=of, is_ceiling=False)


_VERIFY_TARGETS = {"ES256": 1.10, "EdDSA": 1.08, "RS256": 1.35}
_SIGN_TARGETS = {"ES256": at_most(1.25), "EdDSA": at_most(1.10), "RS256": None}
ALGORITHMS = tuple(_VERIFY_TARGETS)


def _jwt() -> Iterable[Measure]:
    def measure(name: str, title: str, unit: str = "µs", target: Target | None = None) -> Measure:
        return Measure(name=name, section=Section.JWT, title=title, unit=unit, target=target)

    for algorithm, bound in _VERIFY_TARGETS.items():
        yield measure(
            f"jwt.verify.{algorithm}", f"Verifier.verify, {algorithm}, nothing cached", target=at_most(bound)
        )
        yield measure(
            f"jwt.lead.{algorithm}",
            f"Verifier.verify, {algorithm}, against the next library",
            target=at_least(1.0),
        )
    for algorithm, target in _SIGN_TARGETS.items():
        yield measure(f"jwt.sign.{algorithm}", f"Claims encoded and signed, {algorithm}", target=target)
        yield measure(
            f"jwt.sign_lead.{algorithm}",
            f"Claims encoded and signed, {algorithm}, against the next library",
            target=at_least(1.0),
        )
        yield measure(f"jwt.issue.{algorithm}", f"Issuer.issue, from grant to token, {algorithm}")
    yield measure(
        "verdict.verify",
        "Verifier.verify, cached, beside a million live entries",
        target=at_most(1.5, Of.MEASURED),
    )
    yield measure("verdict.lead", "Verifier.verify, cached, against PyJWT ES256", target=at_least(70.0))
    yield measure(
        "verdict.applying",
        "Verifier.verify, cached, while 5,000 entries a second are applied",
        target=at_most(1.2),
    )
    yield measure("verdict.moved", "Verifier.verify, cached, the feed moving before each")
    yield measure("live.memory", "Memory of one live entry", unit="bytes", target=at_most(150.0, Of.MEASURED))
    yield measure(
        "live.pause",
        "Longest hold of the interpreter by one entry",
        unit="ms",
        target=at_most(1.0, Of.MEASURED),
    )
    yield measure(
        "live.snapshot",
        "A snapshot of a million live entries, read",
        unit="s",
        target=at_most(3.0, Of.MEASURED),
    )


def _http() -> Iterable[Measure]:
    def measure(name: str, title: str, unit: str = "requests/s", target: Target | None = None) -> Measure:
        return Measure(name=name, section=Section.HTTP, title=title, unit=unit, target=target)

    yield measure("http.bare", "Bare ASGI on uvicorn: the floor")
    yield measure("http.check.session", "GET /check, session, warm", target=at_least(0.85))
    yield measure("http.check.jwt", "GET /check, JWT, warm", target=at_least(0.85))
    yield measure("http.check.cold", "GET /check, session, cache off", target=at_least(0.55))
    yield measure("http.refresh", "POST /refresh: rotate, sign, respond", target=at_least(0.18))
    yield measure("http.token", "POST /oauth/token: authenticate a client, sign", target=at_least(0.15))
    yield measure(
        "http.introspect.session", "POST /oauth/introspect: a session, from the store", target=at_least(0.7)
    )
    yield measure(
        "http.introspect.jwt",
        "POST /oauth/introspect: an access token, its session from the store",
        target=at_least(0.7),
    )
    yield measure("http.storm", "GET /check in a storm of logins, p99", unit="ms", target=at_most(3.0))


def _frameworks() -> Iterable[Measure]:
    for framework, bound in (("fastapi", 0.9), ("django", 0.95), ("flask", 0.95)):
        for kind, target in (("plain", None), ("guarded", at_least(bound))):
            yield Measure(
                name=f"frameworks.{framework}.{kind}",
                section=Section.FRAMEWORKS,
                title=f"{_FRAMEWORKS[framework]}, a route {'that Keyfob guards' if target else 'guarded by nothing'}",
                unit="requests/s",
                target=target,
            )


_FRAMEWORKS = {"fastapi": "FastAPI", "django": "Django", "flask": "Flask"}


def _store_http() -> Iterable[Measure]:
    def measure(name: str, title: str, target: Target | None = None) -> Measure:
        return Measure(
            name=f"store-http.{name}",
            section=Section.STORE_HTTP,
            title=title,
            unit="requests/s",
            target=target,
        )

    yield measure("bare", "Bare ASGI, beside the stores")
    for store, bound in (("sqlite", 0.55), ("postgresql", 0.30), ("redis", 0.45)):
        yield measure(f"{store}.cold", f"{STORES[store]}: GET /check, cache off", at_least(bound))
        yield measure(f"{store}.refresh", f"{STORES[store]}: POST /refresh", at_least(0.18))


def _proxies() -> Iterable[Measure]:
    def measure(name: str, title: str, target: Target | None = None) -> Measure:
        return Measure(name=name, section=Section.PROXIES, title=title, unit="requests/s", target=target)

    yield measure("proxies.bare", "Bare ASGI, beside the gateway")
    yield measure("proxies.gateway.session", "Gateway, session, warm", at_least(0.85))
    yield measure("proxies.gateway.jwt", "Gateway, JWT, warm", at_least(0.85))
    yield measure("proxies.nginx.trivial", "nginx auth_request, bare ASGI behind it")
    yield measure("proxies.nginx.keyfob", "nginx auth_request, GET /check behind it", at_least(0.8))
    yield measure("proxies.nginx.gateway", "nginx auth_request, the gateway behind it", at_least(0.8))


def _revocation() -> Iterable[Measure]:
    def measure(name: str, title: str, target: Target | None = None) -> Measure:
        return Measure(name=name, section=Section.REVOCATION, title=title, unit="ms", target=target)

    last = "Revocation returned to last verifier denies"
    yield measure("revocation.p50", f"{last}, p50", at_most(8.0, Of.MEASURED))
    yield measure("revocation.p99", f"{last}, p99", at_most(25.0, Of.MEASURED))


def _stores() -> Iterable[Measure]:
    for store, name in STORES.items():

        def measure(
            what: str,
            title: str,
            unit: str,
            target: Target | None = None,
            store: str = store,
            name: str = name,
        ) -> Measure:
            return Measure(
                name=f"stores.{store}.{what}",
                section=Section.STORES,
                title=f"{name}: {title}",
                unit=unit,
                target=target,
            )

        rate = "operations/s"
        yield measure("check", "a session checked, nothing cached", rate)
        yield measure("refresh", "a refresh token rotated", rate)
        yield measure("login", "a login", rate)
        yield measure("end", "a logout", rate)
        yield measure("end_all", "a logout from five devices", rate)
        yield measure("bytes", "one session on the disk", "bytes")
        yield measure("cleanup", "a session found during a clean-up, p99", "ms", at_most(1.5))
        yield measure("growth.check", "a check in the largest database", "µs", at_most(1.25))
        yield measure("growth.refresh", "a rotation in the largest database", "µs", at_most(1.25))


STORES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "redis": "Valkey"}
MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        *_jwt(),
        *_http(),
        *_proxies(),
        *_frameworks(),
        *_store_http(),
        *_revocation(),
        *_stores(),
    )
}
"""Every measure by its name, in the order of the report."""
