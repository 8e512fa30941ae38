"""A gRPC service on threads that follows an authority: see docs/how-to/grpc.md."""

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc

from keyfob import Verifier
from keyfob.integrations.grpc import Auth, current_principal

auth = Auth(
    Verifier.follow(
        os.environ["ISSUER"],
        audience="orders",
        credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
    ),
    methods={
        "/shop.Orders/Pay": {
            "roles": {"payer"},
            "max_staleness": timedelta(seconds=3),
            "max_auth_age": timedelta(minutes=5),
        }
    },
    public={"/grpc.health.v1.Health/"},
)


# Generated servicers look the same from here; these take and give JSON, so that the example needs no .proto file.
def get_orders(request: object, context: grpc.ServicerContext) -> dict[str, str]:
    return {"subject": current_principal().subject, "process": str(os.getpid())}


def pay(request: object, context: grpc.ServicerContext) -> dict[str, str]:
    return {"paid": current_principal().subject}


def watch(request: object, context: grpc.ServicerContext) -> Iterator[dict[str, str]]:
    over = threading.Event()
    context.add_callback(over.set)
    yield {"hello": current_principal().subject}
    over.wait()  # for the next piece of news; the stream ends with the user


def serve(port: int) -> None:
    codecs = (json.loads, lambda answer: json.dumps(answer).encode())
    handlers = {
        "Get": grpc.unary_unary_rpc_method_handler(get_orders, *codecs),
        "Pay": grpc.unary_unary_rpc_method_handler(pay, *codecs),
        "Watch": grpc.unary_stream_rpc_method_handler(watch, *codecs),
    }
    server = grpc.server(ThreadPoolExecutor(16), interceptors=[auth.interceptor()])
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("shop.Orders", handlers)])
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    serve(int(os.environ.get("PORT", "50051")))
