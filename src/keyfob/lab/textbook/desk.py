"""The issuing side of a textbook design, and the shop in front of it: `python -m keyfob.lab.textbook.desk`, with its settings as JSON on standard input.

The shop changes something in one place, `POST /transfer`. In the session design the cookie is the credential there, and a CSRF token vouches
for it (the synchronizer token that OWASP describes, here an HMAC of the session's token); in the others the Authorization header is.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

import msgspec

from keyfob.base.clock import SystemClock
from keyfob.jwt.algorithms import Algorithm
from keyfob.jwt.jwk import PrivateKey, jwk_set
from keyfob.lab.asgi import (
    NO_STORE,
    Answer,
    Endpoint,
    Header,
    Refused,
    Request,
    Routes,
    json_answer,
    listener,
    read_settings,
    serve,
)
from keyfob.lab.pages import PAGES, ServedPage
from keyfob.lab.setups import Design
from keyfob.lab.textbook.checks import (
    REFRESH_COOKIE,
    SESSION_COOKIE,
    BlocklistCheck,
    Check,
    Claims,
    JwtCheck,
    check_of,
)
from keyfob.lab.textbook.door import records_of
from keyfob.lab.textbook.sign_in import Granted, SignIn

_SCRYPT_COST = 2**12  # low on purpose: logins are not what is measured here


class DeskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a desk is told. `is_defended` False makes the control of the experiment on CSRF: cookies that say
    SameSite=None, no CSRF token, and a GET that changes something."""

    design: Design
    access_seconds: float
    accounts: dict[str, str]
    admin: str
    store_port: int | None = None
    database: str | None = None
    is_defended: bool = True


@dataclass(slots=True)
class _Account:
    salt: bytes
    password: bytes = field(repr=False)
    disabled: bool = False


class Desk:
    """Logins, refreshes, sign-outs, and the shop."""

    def __init__(self, settings: DeskSettings, sign_in: SignIn, check: Check) -> None:
        self._settings = settings
        self._sign_in = sign_in
        self._check = check
        self._csrf_key = secrets.token_bytes(32)
        self._accounts = {name: _account(password) for name, password in settings.accounts.items()}
        self._transfers: list[str] = []

    def routes(self) -> Routes:
        """Return its routes."""
        endpoints: dict[tuple[str, str], Endpoint] = {
            ("POST", "/login"): self.log_in,
            ("POST", "/refresh"): self.refresh,
            ("POST", "/logout"): self.log_out,
            ("POST", "/end"): self.end,
            ("GET", "/.well-known/jwks.json"): self.keys,
            ("GET", "/orders"): self.orders,
            ("POST", "/transfer"): self.transfer,
            ("GET", "/ledger"): self.ledger,
        }
        if not self._settings.is_defended:
            endpoints["GET", "/transfer"] = self.transfer
        for path, page in PAGES.items():
            endpoints["GET", path] = _shown(page)
        return Routes(endpoints)

    async def log_in(self, request: Request) -> Answer:
        """Check a name and a password, and give what the design gives."""
        fields = await request.fields()
        name = fields.get("username", "")
        account = self._accounts.get(name)
        if account is None or not _is_open(account):
            raise Refused("bad_credentials")
        given = await asyncio.to_thread(_hashed, fields.get("password", ""), account.salt)
        # Asked again after the hash was made: who was ended meanwhile does not come in.
        if not (_is_open(account) and hmac.compare_digest(given, account.password)):
            raise Refused("bad_credentials")
        return self._granted(await self._sign_in.log_in(name))

    async def refresh(self, request: Request) -> Answer:
        """Rotate the refresh token of the cookie."""
        token = request.cookie(REFRESH_COOKIE)
        if not token or self._settings.design != "hybrid":
            raise Refused("no_credential")
        return self._granted(await self._sign_in.refresh(token))

    async def log_out(self, request: Request) -> Answer:
        """Sign out. In the session design a form needs its CSRF token here too."""
        session_token = request.cookie(SESSION_COOKIE) or ""
        if session_token:
            await self._require_csrf(request, session_token)
        await self._sign_in.log_out(
            session_token=session_token,
            refresh_token=request.cookie(REFRESH_COOKIE) or "",
            claims=self._claims(request),
        )
        return Answer(
            204,
            headers=tuple(self._cookie(name, "", "; Max-Age=0") for name in (SESSION_COOKIE, REFRESH_COOKIE)),
        )

    async def end(self, request: Request) -> Answer:
        """End a user, as an administrator does: no further login, and whatever else the design can end."""
        self._require_admin(request)
        name = (await request.fields()).get("username", "")
        if name not in self._accounts:
            raise Refused("not_found", status=404)
        self._accounts[name].disabled = True
        await self._sign_in.end(name)
        return Answer(204)

    async def keys(self, _request: Request) -> Answer:
        """Publish the public key."""
        return json_answer(jwk_set([self._sign_in.key.public]))

    async def orders(self, request: Request) -> Answer:
        """Answer whoever has a good credential."""
        await self._check.subject(request)
        return Answer(204, headers=(NO_STORE,))

    async def transfer(self, request: Request) -> Answer:
        """Change something."""
        subject = await self._check.subject(request)
        if self._settings.design == "session":
            await self._require_csrf(request, request.cookie(SESSION_COOKIE) or "")
        self._transfers.append(subject)
        return json_answer({"transfers": len(self._transfers)})

    async def ledger(self, request: Request) -> Answer:
        """Say who transferred what so far."""
        self._require_admin(request)
        return json_answer({"transfers": self._transfers})

    def _granted(self, granted: Granted) -> Answer:
        body: dict[str, object] = {}
        headers: list[Header] = []
        if granted.access_token:
            body |= {"access_token": granted.access_token, "expires_in": self._settings.access_seconds}
        if granted.session_token:
            body |= {"csrf_token": self._csrf_token(granted.session_token)}
            headers.append(self._cookie(SESSION_COOKIE, granted.session_token, "; SameSite=Lax"))
        if granted.refresh_token:
            headers.append(self._cookie(REFRESH_COOKIE, granted.refresh_token, "; SameSite=Strict"))
        return json_answer(body, *headers)

    def _cookie(self, name: str, value: str, more: str) -> Header:
        if not self._settings.is_defended:
            more = more.replace("=Lax", "=None")
        return b"set-cookie", f"{name}={value}; Path=/; HttpOnly; Secure{more}".encode("ascii")

    def _csrf_token(self, session_token: str) -> str:
        return hmac.digest(self._csrf_key, session_token.encode(), "sha256").hex()

    async def _require_csrf(self, request: Request, session_token: str) -> None:
        if not self._settings.is_defended:
            return
        given = request.headers.get(b"x-csrf-token", b"").decode("latin-1")
        if not given:
            given = (await request.fields()).get("csrf_token", "")
        if not hmac.compare_digest(given.encode(), self._csrf_token(session_token).encode()):
            raise Refused("cross_origin", status=403)

    def _claims(self, request: Request) -> Claims | None:
        jwt = self._check.jwt if isinstance(self._check, BlocklistCheck) else None
        if jwt is None or request.bearer() is None:
            return None
        try:
            return jwt.claims(request)
        except Refused:
            return None

    def _require_admin(self, request: Request) -> None:
        if not hmac.compare_digest(
            request.headers.get(b"x-admin", b""), self._settings.admin.encode("ascii")
        ):
            raise Refused("insufficient_role", status=403)


def _account(password: str) -> _Account:
    salt = secrets.token_bytes(16)
    return _Account(salt, _hashed(password, salt))


def _is_open(account: _Account) -> bool:
    return not account.disabled


def _hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=_SCRYPT_COST, r=8, p=1)


def _shown(page: ServedPage) -> Endpoint:
    answer = Answer(200, page.body, ((b"content-type", page.content_type.encode("ascii")), NO_STORE))

    async def show(_request: Request) -> Answer:
        return answer

    return show


async def run(settings: DeskSettings) -> None:
    """Serve until the process is ended."""
    clock = SystemClock()
    listening = listener()
    issuer = f"http://127.0.0.1:{listening.getsockname()[1]}"
    key = PrivateKey.generate(Algorithm.ES256)
    records = records_of(store_port=settings.store_port, database=settings.database)
    sign_in = SignIn(
        design=settings.design,
        issuer=issuer,
        key=key,
        access_seconds=settings.access_seconds,
        records=records,
        clock=clock,
    )
    jwt = JwtCheck({key.key_id: key.public}, issuer, clock)
    check = check_of(settings.design, jwt=jwt, records=records, clock=clock)
    await serve(Desk(settings, sign_in, check).routes(), listening)


def main() -> None:
    """Read the settings and serve."""
    asyncio.run(run(read_settings(DeskSettings)))


if __name__ == "__main__":
    main()
