"""The parts of an authority that have a name of their own, for synchronous callers: `authority.accounts.add(...)`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

from keyfob.accounts.accounts import Accounts as AsyncAccounts
from keyfob.authority.api_keys import ApiKeys as AsyncApiKeys
from keyfob.authority.authority import Authority
from keyfob.authority.machine_tokens import MachineTokens as AsyncMachineTokens
from keyfob.authority.visits import Visits as AsyncVisits
from keyfob.clients.clients import Clients as AsyncClients
from keyfob.sessions.sessions import Sessions as AsyncSessions

S = TypeVar("S")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Call(Protocol):
    """Carries work out in the thread of an authority, and waits for it."""

    def __call__(self, work: Callable[[Authority], Coroutine[object, object, T]], /) -> T:
        """Return what *work* returns, or raise what it raises."""
        ...


class _Part(Generic[S]):
    """One part: how it is reached, and who carries its calls."""

    def __init__(self, call: Call, find: Callable[[Authority], S]) -> None:
        self._call = call
        self._find = find

    def carry_out(self, work: Callable[[S], Coroutine[object, object, T]]) -> T:
        """Carry *work* on the part out, and wait for it."""

        async def found(authority: Authority) -> T:
            return await work(self._find(authority))

        return self._call(found)


class _Blocking(Generic[S, P, R]):
    """A method of a part, with the same arguments, that waits instead of being awaited."""

    def __init__(self, method: Callable[Concatenate[S, P], Coroutine[object, object, R]]) -> None:
        self._method = method
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, owner: None, kind: type[object]) -> Self: ...
    @overload
    def __get__(self, owner: _Part[S], kind: type[object]) -> Callable[P, R]: ...
    def __get__(self, owner: _Part[S] | None, kind: type[object]) -> Self | Callable[P, R]:
        if owner is None:
            return self

        @wraps(self._method)
        def wait(*args: P.args, **kwargs: P.kwargs) -> R:
            return owner.carry_out(lambda part: self._method(part, *args, **kwargs))

        return wait


class Accounts(_Part[AsyncAccounts]):
    """The accounts of the authority; see `keyfob.accounts.accounts.Accounts`."""

    add = _Blocking(AsyncAccounts.add)
    authenticate = _Blocking(AsyncAccounts.authenticate)
    authenticate_elsewhere = _Blocking(AsyncAccounts.authenticate_elsewhere)
    change_password = _Blocking(AsyncAccounts.change_password)
    set_password = _Blocking(AsyncAccounts.set_password)
    set_roles = _Blocking(AsyncAccounts.set_roles)
    disable = _Blocking(AsyncAccounts.disable)
    enable = _Blocking(AsyncAccounts.enable)
    delete = _Blocking(AsyncAccounts.delete)
    find = _Blocking(AsyncAccounts.find)
    get = _Blocking(AsyncAccounts.get)
    resolve = _Blocking(AsyncAccounts.resolve)
    list = _Blocking(AsyncAccounts.list)


class Clients(_Part[AsyncClients]):
    """The clients of the authority; see `keyfob.clients.clients.Clients`."""

    add = _Blocking(AsyncClients.add)
    authenticate = _Blocking(AsyncClients.authenticate)
    authenticate_assertion = _Blocking(AsyncClients.authenticate_assertion)
    named = _Blocking(AsyncClients.named)
    rotate_secret = _Blocking(AsyncClients.rotate_secret)
    replace_credentials = _Blocking(AsyncClients.replace_credentials)
    set_keys = _Blocking(AsyncClients.set_keys)
    find = _Blocking(AsyncClients.find)
    get = _Blocking(AsyncClients.get)
    list = _Blocking(AsyncClients.list)
    delete = _Blocking(AsyncClients.delete)


class Sessions(_Part[AsyncSessions]):
    """What applications keep in sessions; see `keyfob.sessions.sessions.Sessions`."""

    read_data = _Blocking(AsyncSessions.read_data)
    write_data = _Blocking(AsyncSessions.write_data)


class ApiKeys(_Part[AsyncApiKeys]):
    """The API keys of users and services; see `keyfob.authority.api_keys.ApiKeys`."""

    add_own = _Blocking(AsyncApiKeys.add_own)
    add_for_subject = _Blocking(AsyncApiKeys.add_for_subject)
    add_for_service = _Blocking(AsyncApiKeys.add_for_service)
    list = _Blocking(AsyncApiKeys.list)
    revoke = _Blocking(AsyncApiKeys.revoke)


class MachineTokens(_Part[AsyncMachineTokens]):
    """Access tokens for machines; see `keyfob.authority.machine_tokens.MachineTokens`."""

    for_client = _Blocking(AsyncMachineTokens.for_client)
    for_api_key = _Blocking(AsyncMachineTokens.for_api_key)


class Visits(_Part[AsyncVisits]):
    """The sessions of visitors; see `keyfob.authority.visits.Visits`."""

    begin = _Blocking(AsyncVisits.begin)
    find = _Blocking(AsyncVisits.find)
    require = _Blocking(AsyncVisits.require)
