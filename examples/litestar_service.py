"""A Litestar service that follows an authority: see docs/how-to/litestar.md."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from litestar import Litestar, WebSocket, get, post, websocket
from litestar.response import ServerSentEvent

from keyfob import Verifier
from keyfob.integrations.litestar import Auth, CurrentPrincipal

auth = Auth(
    Verifier.follow(
        os.environ["ISSUER"],
        audience="orders",
        credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
    )
)
payer = auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))


@get("/orders", guards=[auth.required()])
async def orders(principal: CurrentPrincipal) -> dict[str, str]:
    return {"subject": principal.subject, "process": str(os.getpid())}


@post("/payments", guards=[payer], status_code=200)
async def pay(principal: CurrentPrincipal) -> dict[str, str]:
    return {"paid": principal.subject}


@get("/events", guards=[auth.required()])
async def events(principal: CurrentPrincipal) -> ServerSentEvent:
    async def pieces() -> AsyncIterator[str]:
        yield f"hello {principal.subject}"
        await asyncio.Event().wait()  # whatever it sends from here on: the stream ends with the user

    return ServerSentEvent(pieces())


@websocket("/chat", guards=[auth.required()])
async def chat(socket: WebSocket[Any, Any, Any], principal: CurrentPrincipal) -> None:
    await socket.accept()
    async for text in socket.iter_data():
        await socket.send_text(f"{principal.subject}: {text}")


app = Litestar([orders, pay, events, chat], plugins=[auth])
