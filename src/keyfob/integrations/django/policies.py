"""The policy of a view, stated in one place: a decorator for functions, a mixin for classes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import ClassVar, ParamSpec, TypeVar, Unpack, cast

from asgiref.sync import iscoroutinefunction

from keyfob.base.errors import Cause, Denied, KeyfobError
from keyfob.base.principal import Principal
from keyfob.integrations.django.caller import Request, aadmit, admit, keep_apart_alone
from keyfob.integrations.django.refusals import ANSWERED, answer
from keyfob.integrations.requirement import Requirement, Rules

P = ParamSpec("P")
R = TypeVar("R")


def required(**rules: Unpack[Rules]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that lets in whoever meets *rules*, for views that are functions, `async` ones too. `request.principal` is who it is.

    Everybody else gets the problem document with its cause. For the methods of classes see `PolicyMixin`.

    Raises:
        ConfigurationError: a rule does not fit.
    """
    return _Guard(Requirement.of(**rules), passing=frozenset()).decorate


def optional(**rules: Unpack[Rules]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that lets in strangers too: then `find_principal(request)` is None. A credential that is bad is refused, as by `required`."""
    return _Guard(Requirement.of(**rules), passing=frozenset({Cause.NO_CREDENTIAL})).decorate


class PolicyMixin:
    """The same for a view that is a class: `class Pay(PolicyMixin, View): policy = {"roles": {"payer"}}`. Left of `View`.

    Raises:
        ConfigurationError: when the class is made, for a rule that does not fit.
    """

    policy: ClassVar[Rules] = {}
    _guard: ClassVar[_Guard]

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls._guard = _Guard(Requirement.of(**cls.policy), passing=frozenset())

    def dispatch(self, request: Request, *args: object, **kwargs: object) -> object:
        """Answer the request of whoever meets the policy."""
        proceed = cast("Callable[..., object]", super().dispatch)  # type: ignore[misc]  # the view's, to the right
        if getattr(self, "view_is_async", False):
            return self._guard.run_async(
                cast("Callable[..., Awaitable[object]]", proceed), request, *args, **kwargs
            )
        return self._guard.run(proceed, request, *args, **kwargs)


class _Guard:
    """Lets a request through to a view, or answers it."""

    def __init__(self, requirement: Requirement, *, passing: frozenset[Cause]) -> None:
        self._requirement = requirement
        self._passing = passing

    def decorate(self, view: Callable[P, R]) -> Callable[P, R]:
        """Return *view* behind the policy."""
        if iscoroutinefunction(view):

            @wraps(view)
            async def guarding(request: Request, *args: object, **kwargs: object) -> object:
                return await self.run_async(
                    cast("Callable[..., Awaitable[object]]", view), request, *args, **kwargs
                )

            return cast("Callable[P, R]", guarding)

        @wraps(view)
        def guarded(request: Request, *args: object, **kwargs: object) -> object:
            return self.run(cast("Callable[..., object]", view), request, *args, **kwargs)

        return cast("Callable[P, R]", guarded)

    def run(self, view: Callable[..., object], request: Request, *args: object, **kwargs: object) -> object:
        """Answer *request* by *view*, or refuse it."""
        try:
            self._note(request, admit(request, self._requirement))
        except ANSWERED as error:
            if not self._passes(error):
                return answer(error, request, requirement=self._requirement)
        response = view(request, *args, **kwargs)
        keep_apart_alone(request, response)
        return response

    async def run_async(
        self, view: Callable[..., Awaitable[object]], request: Request, *args: object, **kwargs: object
    ) -> object:
        """Answer *request* by *view*, or refuse it."""
        try:
            self._note(request, await aadmit(request, self._requirement))
        except ANSWERED as error:
            if not self._passes(error):
                return answer(error, request, requirement=self._requirement)
        response = await view(request, *args, **kwargs)
        keep_apart_alone(request, response)
        return response

    def _passes(self, error: KeyfobError) -> bool:
        return isinstance(error, Denied) and error.cause in self._passing

    def _note(self, request: Request, principal: Principal) -> None:
        request.principal = principal  # type: ignore[attr-defined]  # what Django's requests are for
        request.keyfob_requirement = self._requirement  # type: ignore[attr-defined]
