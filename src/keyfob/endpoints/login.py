"""`POST /login`: a name and a password, by JSON or by a form."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from keyfob.authority.authority import Authority
from keyfob.authority.issued import Issued
from keyfob.authority.sign_in import Device
from keyfob.authority.strategies import Transport
from keyfob.base.errors import Denied, InvalidRequest
from keyfob.base.identifiers import FIRST_PARTY, ClientId, Subject
from keyfob.endpoints.bodies import RequestBody, is_form, read_form, read_json
from keyfob.endpoints.caller import is_vouched_for
from keyfob.endpoints.grant_answer import GrantAnswer, cookies_of, grant_answer
from keyfob.endpoints.redirect import same_origin_path, see_other
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site
from keyfob.endpoints.user_agent import user_agent
from keyfob.http import cookies
from keyfob.http.messages import HttpRequest, HttpResponse

# Above what accounts allow, so that their rules decide and answer; below what could cost anything.
Name = Annotated[str, Meta(max_length=255)]
PasswordText = Annotated[str, Meta(max_length=1024)]
Audience = Annotated[str, Meta(min_length=1, max_length=255)]
ClientIdText = Annotated[str, Meta(min_length=1, max_length=255)]
StrategyName = Literal["session", "jwt", "hybrid"]


class LoginRequest(RequestBody, frozen=True, kw_only=True):
    """`audience` is one or several; left out, the authority itself. `persistent` makes cookies outlast the browser."""

    username: Name
    password: PasswordText
    strategy: StrategyName | None = None
    audience: Audience | Annotated[list[Audience], Meta(min_length=1, max_length=16)] | None = None
    client_id: ClientIdText = FIRST_PARTY
    transport: Literal["cookie", "body", "bff"] = "cookie"
    persistent: bool = False


class LoginForm(RequestBody, frozen=True, kw_only=True):
    """A form of a page of ours. `next` is the path to go on to."""

    username: Name
    password: PasswordText
    strategy: StrategyName | None = None
    client_id: ClientIdText = FIRST_PARTY
    transport: Literal["cookie", "bff"] = "cookie"
    persistent: bool = False
    next: Annotated[str, Meta(max_length=2048)] = "/"
    csrf_token: Annotated[str, Meta(max_length=200)] = ""


async def login(site: Site, request: HttpRequest) -> HttpResponse:
    """Check the password and sign in. The new credential is always fresh, whatever the request carried; a session cookie's session ends."""
    is_vouched_for(site, request)
    if is_form(request):
        return await _login_by_form(site, request)
    asked = await read_json(request, LoginRequest)
    issued = await _sign_in(site, request, asked)
    return grant_answer(site, issued, Transport(asked.transport))


async def _login_by_form(site: Site, request: HttpRequest) -> HttpResponse:
    """Sign in and go on by 303, so that the password is not posted again. An access token has no place in that answer: `/refresh` gives it."""
    form = await read_form(request, LoginForm)
    onward = same_origin_path(form.next)
    await _require_cookie(site, form)
    asked = LoginRequest(
        username=form.username,
        password=form.password,
        strategy=form.strategy,
        client_id=form.client_id,
        transport=form.transport,
        persistent=form.persistent,
    )
    issued = await _sign_in(site, request, asked)
    return see_other(onward, *cookies_of(site, issued))


async def _require_cookie(site: Site, form: LoginForm) -> None:
    """Refuse a form login that would give nothing to the browser: the strategy `jwt` has no cookie."""
    strategy = form.strategy
    if strategy is None:
        client = await site.authority.clients.find(ClientId(form.client_id))
        strategy = client.default_strategy.value if client else None
    if strategy == "jwt" and form.transport != "bff":
        raise InvalidRequest(
            "invalid_request",
            "The strategy jwt has no cookie; log in with JSON, or by transport bff.",
            status=422,
        )


async def _sign_in(site: Site, request: HttpRequest, asked: LoginRequest) -> Issued:
    authority, address = site.authority, request.address
    # `as_of` is read before the account is: whatever ends the account while the password waits ends this login.
    async with authority.sign_in() as attempt:
        issued = await attempt.login(
            await subject_of(site, asked.username, asked.password, address=address),
            strategy=asked.strategy,
            client_id=asked.client_id,
            audience=asked.audience,
            transport=Transport(asked.transport),
            persistent=asked.persistent,
            device=Device(user_agent=user_agent(request), address=address),
        )
    await end_former(authority, request)
    return issued


async def subject_of(site: Site, username: str, password: str, *, address: str) -> Subject:
    """Return whose name and password these are; inside an attempt to sign in, whose `as_of` was read before.

    Raises:
        Denied: `bad_credentials`.
        RateLimited: too many attempts failed.
    """
    accounts = site.authority.accounts
    if site.check_password is not None:
        return await accounts.authenticate_elsewhere(site.check_password, username, password, address=address)
    return (await accounts.authenticate(username, password, address=address)).subject


async def end_former(authority: Authority, request: HttpRequest) -> None:
    """End the session that the browser had before: its cookie is about to be replaced, and nobody could end it from here again."""
    try:
        former = cookies.read(request.all(b"cookie"), cookies.SESSION_COOKIE)
    except Denied:
        return
    if former is not None:
        await authority.logout(former)


ROUTES = (
    Route(
        method="POST",
        path="/login",
        endpoint=login,
        summary="Sign in with a name and a password",
        request=LoginRequest,
        response=GrantAnswer,
    ),
)
