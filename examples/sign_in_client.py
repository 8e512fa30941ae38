"""An application on a domain of its own, whose users sign in at an authority: see docs/how-to/sign-in-from-another-domain.md."""

import base64
import hashlib
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlencode

import httpx
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from keyfob import Denied, Principal, Verifier

ISSUER, HERE = os.environ["ISSUER"], os.environ["HERE"]
CLIENT = (os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"])
CALLBACK = f"{HERE}/signed-in"
COOKIE = "__Host-shop"

journeys: dict[str, dict[str, str]] = {}  # by cookie: what a browser left with, until it is back
logins: dict[str, dict[str, str]] = {}  # by cookie: its tokens, which no browser ever sees
verifier = Verifier.follow(ISSUER, audience="shop", credentials=CLIENT)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with verifier, httpx.AsyncClient(base_url=ISSUER, auth=CLIENT) as app.state.authority:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/")
async def home(request: Request) -> Response:
    key = request.cookies.get(COOKIE, "")
    user = await signed_in(key)
    if user is None:
        return await start()
    return Response(f"Hello {user.subject}, you may {' '.join(sorted(user.scopes))}.")


async def signed_in(key: str) -> Principal | None:
    """Return who has signed in; a token that is over is renewed, and one that was revoked is gone."""
    if key not in logins:
        return None
    try:
        return verifier.verify(logins[key]["access_token"])
    except Denied as denied:
        if denied.cause not in {"expired", "stale_claims"}:
            logins.pop(key)
            return None
    token = logins.pop(key)["refresh_token"]
    answer = await asked("/oauth/token", grant_type="refresh_token", refresh_token=token)
    if answer is None:
        return None
    logins[key] = answer
    return verifier.verify(answer["access_token"])


async def start() -> Response:
    """Push the request, remember what belongs to it, and send the browser."""
    key, state, proof = (secrets.token_urlsafe(32) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(proof.encode()).digest()).rstrip(b"=").decode()
    pushed = await asked(
        "/oauth/par",
        response_type="code",
        redirect_uri=CALLBACK,
        scope="orders:read",
        state=state,
        code_challenge=challenge,
        code_challenge_method="S256",
    )
    if pushed is None:
        raise HTTPException(503)
    journeys[key] = {"state": state, "proof": proof}
    query = urlencode({"client_id": CLIENT[0], "request_uri": pushed["request_uri"]})
    answer = RedirectResponse(f"{ISSUER}/oauth/authorize?{query}", 303)
    answer.set_cookie(COOKIE, key, secure=True, httponly=True, samesite="lax")
    return answer


@app.get("/signed-in")
async def back(request: Request, iss: str = "", state: str = "", code: str = "") -> Response:
    """Take the code, if it belongs to the journey that this browser left on, and comes from where it went."""
    key = request.cookies.get(COOKIE, "")
    journey = journeys.pop(key, None)  # once
    if journey is None or iss != ISSUER or not secrets.compare_digest(state, journey["state"]):
        raise HTTPException(400, "This answer belongs to no sign-in of this browser.")
    answer = await asked(
        "/oauth/token",
        grant_type="authorization_code",
        code=code,
        redirect_uri=CALLBACK,
        code_verifier=journey["proof"],
    )
    if answer is None:
        raise HTTPException(400, "The sign-in was not completed.")
    fresh = secrets.token_urlsafe(32)  # never the value that the browser came with
    logins[fresh] = answer
    onward = RedirectResponse("/", 303)
    onward.set_cookie(COOKIE, fresh, secure=True, httponly=True, samesite="lax")
    return onward


async def asked(path: str, **fields: str) -> dict[str, str] | None:
    """Ask the authority as this client; None where it refuses."""
    answer = await app.state.authority.post(path, data=fields)
    return answer.json() if answer.is_success else None
