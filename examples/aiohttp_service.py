"""An aiohttp service that follows an authority: see docs/how-to/aiohttp.md."""

import asyncio
import os
from datetime import timedelta

from aiohttp import web

from keyfob import Verifier
from keyfob.integrations.aiohttp import Auth, principal_of

auth = Auth(
    Verifier.follow(
        os.environ["ISSUER"],
        audience="orders",
        credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
    )
)
routes = web.RouteTableDef()


@routes.get("/orders")
@auth.required()
async def orders(request: web.Request) -> web.Response:
    return web.json_response({"subject": principal_of(request).subject, "process": str(os.getpid())})


@routes.post("/payments")
@auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))
async def pay(request: web.Request) -> web.Response:
    return web.json_response({"paid": principal_of(request).subject})


@routes.get("/events")
@auth.required()
async def events(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(f"data: hello {principal_of(request).subject}\n\n".encode())
    await asyncio.Event().wait()  # whatever it sends from here on: the stream ends with the user
    return response


@routes.get("/chat")
@auth.required()
async def chat(request: web.Request) -> web.WebSocketResponse:
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_str(f"{principal_of(request).subject}: {message.data}")
    return websocket


async def make_app() -> web.Application:
    app = web.Application()
    auth.install(app)
    app.add_routes(routes)
    return app
