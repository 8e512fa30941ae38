"""`/admin/api/users`: accounts, their roles and passwords. A user is named by login name or subject."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from keyfob.accounts.account import Account
from keyfob.authority.authority import Authority
from keyfob.base.errors import NotFound
from keyfob.base.identifiers import Subject
from keyfob.endpoints.answers import NO_CONTENT, json_answer
from keyfob.endpoints.bodies import RequestBody, read_json, read_json_if_any
from keyfob.endpoints.caller import admin_caller, require_csrf
from keyfob.endpoints.login import Name, PasswordText
from keyfob.endpoints.paging import PAGING, read_page
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.http.messages import HttpRequest, HttpResponse

PATH = "/admin/api/users"
Asked = TypeVar("Asked")
ReasonText = Annotated[str, Meta(max_length=500)]
Roles = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=64)]


class User(msgspec.Struct, frozen=True, kw_only=True):
    """An account; or a subject without one, which has no name."""

    subject: str
    name: str | None
    roles: list[str]
    created_at: datetime | None
    password_changed_at: datetime | None
    disabled_at: datetime | None


class UsersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts by name; `next` continues the list."""

    users: list[User]
    next: str | None


class NewUser(RequestBody, frozen=True, kw_only=True):
    """An account to be added."""

    name: Name
    password: PasswordText
    roles: Roles = msgspec.field(default_factory=list)


class NewRoles(RequestBody, frozen=True, kw_only=True):
    """The roles that the user has from now on, all of them."""

    roles: Roles
    reason: ReasonText = ""


class NewPassword(RequestBody, frozen=True, kw_only=True):
    """The password that the user has from now on."""

    password: PasswordText
    reason: ReasonText = ""


class Reason(RequestBody, frozen=True, kw_only=True):
    """Why, for the audit trail."""

    reason: ReasonText = ""


async def list_users(site: Site, request: HttpRequest) -> HttpResponse:
    """List accounts by name."""
    await admin_caller(site, request)
    asked = read_page(request)
    page = await site.authority.accounts.list(after=asked.after, limit=asked.limit)
    return json_answer(UsersAnswer(users=[_user(account) for account in page.accounts], next=page.next))


async def add_user(site: Site, request: HttpRequest) -> HttpResponse:
    """Add an account."""
    caller = await admin_caller(site, request)
    asked = await read_json(request, NewUser)
    require_csrf(site, request, caller)
    account = await site.authority.accounts.add(
        asked.name, asked.password, roles=asked.roles, actor=caller.principal.subject
    )
    return json_answer(_user(account), status=201)


async def show_user(site: Site, request: HttpRequest) -> HttpResponse:
    """Show one user."""
    await admin_caller(site, request)
    return json_answer(await _shown(site.authority, await _subject(site.authority, request)))


async def delete_user(site: Site, request: HttpRequest) -> HttpResponse:
    """Delete the account and all that is known of the user, and end everything of its."""
    order = await _order(site, request, _no_body)
    await site.authority.accounts.delete(order.subject, actor=order.actor)
    return NO_CONTENT


async def disable_user(site: Site, request: HttpRequest) -> HttpResponse:
    """Bar the user, and end everything of its. Barred already is no error."""
    order = await _order(site, request, _a_reason)
    await site.authority.accounts.disable(order.subject, actor=order.actor, reason=order.asked.reason)
    return json_answer(await _shown(site.authority, order.subject))


async def enable_user(site: Site, request: HttpRequest) -> HttpResponse:
    """Let the user sign in again. What was ended stays ended."""
    order = await _order(site, request, _a_reason)
    await site.authority.accounts.enable(order.subject, actor=order.actor, reason=order.asked.reason)
    return json_answer(await _shown(site.authority, order.subject))


async def set_roles(site: Site, request: HttpRequest) -> HttpResponse:
    """Set the roles. What was issued before is refused as `stale_claims` from now on, and a refresh gives these."""
    order = await _order(site, request, _new_roles)
    asked = order.asked
    await site.authority.set_roles(order.subject, asked.roles, actor=order.actor, reason=asked.reason)
    return json_answer(await _shown(site.authority, order.subject))


async def set_password(site: Site, request: HttpRequest) -> HttpResponse:
    """Set the password, and end everything of the user's."""
    order = await _order(site, request, _new_password)
    asked = order.asked
    await site.authority.accounts.set_password(
        order.subject, asked.password, actor=order.actor, reason=asked.reason
    )
    return NO_CONTENT


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order(Generic[Asked]):
    """What an administrator wants done to one user."""

    subject: Subject
    actor: Subject
    asked: Asked


async def _order(
    site: Site, request: HttpRequest, read: Callable[[HttpRequest], Awaitable[Asked]]
) -> _Order[Asked]:
    """Check who asks, read what for, and find the user, in the order of `endpoints.caller`."""
    caller = await admin_caller(site, request)
    asked = await read(request)
    require_csrf(site, request, caller)
    subject = await _subject(site.authority, request)
    return _Order(subject=subject, actor=caller.principal.subject, asked=asked)


async def _no_body(_request: HttpRequest) -> None:
    """Read nothing."""


async def _a_reason(request: HttpRequest) -> Reason:
    return await read_json_if_any(request, Reason)


async def _new_roles(request: HttpRequest) -> NewRoles:
    return await read_json(request, NewRoles)


async def _new_password(request: HttpRequest) -> NewPassword:
    return await read_json(request, NewPassword)


async def _subject(authority: Authority, request: HttpRequest) -> Subject:
    return await authority.accounts.resolve(request.parameters["user"])


async def _shown(authority: Authority, subject: Subject) -> User:
    account = await authority.accounts.find(subject)
    if account is not None and account.subject == subject:
        return _user(account)
    record = await authority.store.accounts.find_subject(subject)
    if record is None:
        raise NotFound("no_account", "There is no such account.")
    return User(
        subject=subject,
        name=None,
        roles=sorted(record.roles),
        created_at=None,
        password_changed_at=None,
        disabled_at=record.disabled_at,
    )


def _user(account: Account) -> User:
    return User(
        subject=account.subject,
        name=account.name,
        roles=sorted(account.roles),
        created_at=account.created_at,
        password_changed_at=account.password_changed_at,
        disabled_at=account.disabled_at,
    )


_ONE = PATH + "/{user}"
ROUTES = (
    Route(
        method="GET",
        path=PATH,
        endpoint=list_users,
        summary="List accounts",
        response=UsersAnswer,
        query=PAGING,
    ),
    Route(
        method="POST",
        path=PATH,
        endpoint=add_user,
        summary="Add an account",
        status=201,
        request=NewUser,
        response=User,
    ),
    Route(method="GET", path=_ONE, endpoint=show_user, summary="Show a user", response=User),
    Route(method="DELETE", path=_ONE, endpoint=delete_user, summary="Delete a user", status=204),
    Route(
        method="POST",
        path=_ONE + "/disable",
        endpoint=disable_user,
        summary="Bar a user",
        request=Reason,
        response=User,
    ),
    Route(
        method="POST",
        path=_ONE + "/enable",
        endpoint=enable_user,
        summary="Lift the bar",
        request=Reason,
        response=User,
    ),
    Route(
        method="PUT",
        path=_ONE + "/roles",
        endpoint=set_roles,
        summary="Set the roles of a user",
        request=NewRoles,
        response=User,
    ),
    Route(
        method="PUT",
        path=_ONE + "/password",
        endpoint=set_password,
        summary="Set the password of a user",
        status=204,
        request=NewPassword,
    ),
)
