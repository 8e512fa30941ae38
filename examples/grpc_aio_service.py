"""A gRPC service on an event loop that follows an authority: see docs/how-to/grpc.md."""

import asyncio
import json
import os
from collections.abc import AsyncIterator

import grpc.aio

from keyfob import Verifier
from keyfob.integrations.grpc_aio import Auth, current_principal

auth = Auth(
    Verifier.follow(
        os.environ["ISSUER"],
        audience="orders",
        credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
    ),
    methods={"/shop.Orders/Pay": {"roles": {"payer"}}},
)


async def get_orders(request: object, context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {"subject": current_principal().subject, "process": str(os.getpid())}


async def pay(request: object, context: grpc.aio.ServicerContext) -> dict[str, str]:
    return {"paid": current_principal().subject}


async def watch(request: object, context: grpc.aio.ServicerContext) -> AsyncIterator[dict[str, str]]:
    yield {"hello": current_principal().subject}
    await asyncio.Event().wait()


async def serve(port: int) -> None:
    codecs = (json.loads, lambda answer: json.dumps(answer).encode())
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(get_orders, *codecs),
        "Pay": grpc.unary_unary_rpc_method_handler(pay, *codecs),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, *codecs),
    }
    async with auth.lifespan():
        server = grpc.aio.server(interceptors=[auth.interceptor()])
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Orders", handlers)])
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(os.environ.get("PORT", "50051"))))
