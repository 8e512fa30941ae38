"""A FastAPI service that follows an authority: see docs/how-to/fastapi.md."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket
from fastapi.responses import StreamingResponse

from keyfob import Principal, Verifier
from keyfob.integrations.fastapi import Auth

verifier = Verifier.follow(
    os.environ["ISSUER"],
    audience="orders",
    credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
)
auth = Auth(verifier)
app = FastAPI(lifespan=auth.lifespan)
auth.install(app)

User = Annotated[Principal, Depends(auth.required())]
Payer = Annotated[
    Principal,
    Depends(
        auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))
    ),
]


@app.get("/orders")
async def orders(user: User) -> dict[str, str]:
    return {"subject": user.subject, "process": str(os.getpid())}


@app.post("/payments")
async def pay(user: Payer) -> dict[str, str]:
    return {"paid": user.subject}


@app.get("/events")
async def events(user: User) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield f"data: hello {user.subject}\n\n"
        await asyncio.Event().wait()  # whatever it sends from here on: the stream ends with the user

    return StreamingResponse(pieces(), media_type="text/event-stream")


@app.websocket("/chat")
async def chat(websocket: WebSocket, user: User) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"{user.subject}: {text}")
