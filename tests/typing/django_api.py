"""What a user's type checker sees of `keyfob.integrations.django`, with or without types for Django. It is checked by mypy, and never run."""
# mypy: disallow-any-expr

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import ClassVar, assert_type

from keyfob import Principal, Verifier
from keyfob.integrations.django import (
    PolicyMixin,
    Request,
    Rules,
    find_principal,
    optional,
    principal_of,
    required,
)
from keyfob.integrations.django.users import SubjectsByName, SubjectsByPrimaryKey, User, Users
from keyfob.sync import Authority


class Page:
    """Stands for a response."""


@required(
    roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5), on_stale="deny"
)
def pay(request: Request, order: int) -> Page:
    principal = principal_of(request)
    assert_type(principal, Principal)
    assert_type(principal.roles, frozenset[str])
    return Page()


@required(strategy=["session", "hybrid"], scopes={"orders:read"})
async def orders(request: Request) -> Page:
    return Page()


@optional()
def greet(request: Request) -> Page:
    assert_type(find_principal(request), Principal | None)
    return Page()


class Pay(PolicyMixin):
    policy: ClassVar[Rules] = {"roles": {"payer"}}


def keeps_signatures() -> None:
    take: Callable[[Request, int], Page] = pay
    ask: Callable[[Request], Awaitable[Page]] = orders
    print(take, ask, greet)


class Mapping:
    """A mapping of one's own."""

    def subject_of(self, user: User) -> str:
        return f"account-{user.pk}"

    def find(self, subject: str) -> User | None:
        return None

    async def afind(self, subject: str) -> User | None:
        return None


def maps_users(user: User) -> None:
    for users in (Mapping(), SubjectsByName(), SubjectsByPrimaryKey()):
        taken: Users = users
        assert_type(taken.subject_of(user), str)
        assert_type(taken.find("user-1"), User | None)


def calls(authority: Authority) -> None:
    assert_type(authority.call(lambda inner: inner.authenticate("token")), Principal)
    assert_type(authority.submit(lambda inner: inner.authenticate("token")).result(), Principal)


async def awaits(authority: Authority) -> None:
    assert_type(await authority.acall(lambda inner: inner.authenticate("token")), Principal)


def mistakes(request: Request, verifier: Verifier) -> None:
    required(role={"payer"})  # type: ignore[call-arg]
    required(max_auth_age=5)  # type: ignore[arg-type]
    required(on_stale="ask")  # type: ignore[arg-type]
    principal_of(verifier)  # type: ignore[arg-type]
    pay(request, "order")  # type: ignore[arg-type]
