"""`keyfob.integrations.grpc` and `.grpc_aio`: the same calls to real servers of both kinds, on loopback."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import grpc
import pytest

import keyfob
from keyfob.integrations import grpc as on_threads
from keyfob.integrations import grpc_aio as on_a_loop
from keyfob.integrations.grpc_methods import current_principal
from keyfob.sync import Authority

ISSUER = "https://auth.example"
DEADLINE = 60.0
RULES = {
    "/shop.Orders/Pay": {"roles": {"payer"}, "max_auth_age": timedelta(minutes=5)},
    "/shop.Stock/": {"scopes": {"stock:read"}},
}
PUBLIC = {"/shop.Stock/Ping", "/grpc.health.v1.Health/"}


def parse(data: bytes) -> str:
    if data == b"unreadable":
        raise ValueError("unreadable")
    return data.decode()


def write(text: str | bytes) -> bytes:
    """Servers on an event loop give text to its serialiser encoded already."""
    return text.encode() if isinstance(text, str) else text


def whoever(request: str) -> str:
    return f"{current_principal().subject}: {request}"


class OnThreads:
    """Handlers of a server on threads."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.ended = threading.Event()

    def unary(self, request, context):
        if request == "other":
            raise keyfob.NotFound("no_order", "There is no such order.")
        if request == "broken":
            raise ValueError("broken")
        if request == "aborts":
            context.abort(grpc.StatusCode.ALREADY_EXISTS, "Twice.")
        context.set_trailing_metadata((("own", "kept"),))
        return whoever(request)

    def public(self, request, context):
        try:
            return whoever(request)
        except keyfob.Denied as denied:
            return denied.code

    def responses(self, request, context):
        try:
            yield whoever(request)
            if request == "several":
                yield "second"
                return
            if request == "fails":
                raise keyfob.NotFound("no_order", "There is no such order.")
            self.waiting.set()
            while context.is_active():
                self.ended.wait(0.01)
                if request == "busy":
                    yield "more"
        finally:
            self.ended.set()

    def requests(self, requests, context):
        texts = []
        for text in requests:
            texts.append(text)
            self.waiting.set()
        return whoever(",".join(texts))

    def both(self, requests, context):
        for text in requests:
            yield whoever(text)


class OnALoop:
    """The same of a server on an event loop."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.ended = threading.Event()

    async def unary(self, request, context):
        if request == "other":
            raise keyfob.NotFound("no_order", "There is no such order.")
        if request == "broken":
            raise ValueError("broken")
        if request == "aborts":
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "Twice.")
        context.set_trailing_metadata((("own", "kept"),))
        return whoever(request)

    async def public(self, request, context):
        try:
            return whoever(request)
        except keyfob.Denied as denied:
            return denied.code

    async def responses(self, request, context):
        try:
            yield whoever(request)
            if request == "several":
                yield "second"
                return
            if request == "fails":
                raise keyfob.NotFound("no_order", "There is no such order.")
            self.waiting.set()
            while request == "busy":
                yield "more"
                await asyncio.sleep(0.001)
            await asyncio.Event().wait()
        finally:
            self.ended.set()

    async def requests(self, requests, context):
        texts = []
        async for text in requests:
            texts.append(text)
            self.waiting.set()
        return whoever(",".join(texts))

    async def both(self, requests, context):
        async for text in requests:
            await context.write(whoever(text))


def generic(handlers) -> list:
    codecs = (parse, write)
    orders = {
        "Get": grpc.unary_unary_rpc_method_handler(handlers.unary, *codecs),
        "Pay": grpc.unary_unary_rpc_method_handler(handlers.unary, *codecs),
        "Watch": grpc.unary_stream_rpc_method_handler(handlers.responses, *codecs),
        "Add": grpc.stream_unary_rpc_method_handler(handlers.requests, *codecs),
        "Chat": grpc.stream_stream_rpc_method_handler(handlers.both, *codecs),
    }
    stock = {
        "Read": grpc.unary_unary_rpc_method_handler(handlers.unary, *codecs),
        "Ping": grpc.unary_unary_rpc_method_handler(handlers.public, *codecs),
    }
    return [
        grpc.method_handlers_generic_handler("shop.Orders", orders),
        grpc.method_handlers_generic_handler("shop.Stock", stock),
    ]


class Client:
    """Calls one server."""

    def __init__(self, port: int) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")

    def call(self, kind: str, method: str, argument, token: str | None = None, metadata=()):
        if token is not None:
            metadata = (*metadata, ("authorization", f"Bearer {token}"))
        function = getattr(self.channel, kind)(method, str.encode, bytes.decode)
        return function(argument, metadata=metadata, timeout=DEADLINE)

    def get(self, token: str | None = None, method: str = "/shop.Orders/Get", **more):
        return self.call("unary_unary", method, more.pop("request", "hello"), token, **more)

    def refusal(self, *arguments, **more) -> tuple[str, str, str | None]:
        with pytest.raises(grpc.RpcError) as error:
            self.get(*arguments, **more)
        return reason(error.value)


def reason(error) -> tuple[str, str, str | None]:
    """Return status, cause and what helps."""
    trailing = dict(error.trailing_metadata())
    return error.code().name, trailing.get("x-auth-cause", ""), trailing.get("x-auth-next")


@pytest.fixture
def authority() -> Iterator[Authority]:
    with Authority.open("memory://", issuer=ISSUER) as opened:
        yield opened


@pytest.fixture(params=["threads", "loop"])
def serving(request, authority):
    """A server of either kind with its handlers, and a client."""
    if request.param == "threads":
        yield from serve_on_threads(authority)
    else:
        yield from serve_on_a_loop(authority)


def serve_on_threads(authority):
    auth = on_threads.Auth(lambda: authority, methods=RULES, public=PUBLIC)
    handlers = OnThreads()
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[auth.interceptor()])
    server.add_generic_rpc_handlers(generic(handlers))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    client = Client(port)
    yield handlers, client
    client.channel.close()
    server.stop(None).wait(DEADLINE)


def serve_on_a_loop(authority, handlers=None):
    """The asynchronous authority lives in the thread of the synchronous one, and so does the server."""
    handlers, ports = handlers or OnALoop(), queue.SimpleQueue()
    stop = threading.Event()

    async def serve(inner):
        auth = on_a_loop.Auth(inner, methods=RULES, public=PUBLIC)
        async with auth.lifespan():
            server = grpc.aio.server(interceptors=[auth.interceptor()])
            server.add_generic_rpc_handlers(generic(handlers))
            ports.put(server.add_insecure_port("127.0.0.1:0"))
            await server.start()
            await asyncio.to_thread(stop.wait)
            await server.stop(None)

    thread = threading.Thread(target=authority.call, args=(serve,))
    thread.start()
    client = Client(ports.get(timeout=DEADLINE))
    yield handlers, client
    client.channel.close()
    stop.set()
    thread.join(DEADLINE)


@pytest.fixture
def client(serving):
    return serving[1]


def login(authority, name="alice", strategy="session", **more):
    issued = authority.login(name, strategy=strategy, **more)
    return issued.session_token or issued.access_token


@pytest.mark.parametrize("strategy", ["session", "jwt", "hybrid"])
def test_whoever_is_signed_in_is_the_principal_of_every_kind_of_call(authority, client, strategy):
    token = login(authority, strategy=strategy)

    assert client.get(token) == "alice: hello"
    assert list(client.call("unary_stream", "/shop.Orders/Watch", "several", token)) == [
        "alice: several",
        "second",
    ]
    assert client.call("stream_unary", "/shop.Orders/Add", iter("abc"), token) == "alice: a,b,c"
    assert list(client.call("stream_stream", "/shop.Orders/Chat", iter("ab"), token)) == [
        "alice: a",
        "alice: b",
    ]


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_a_stranger_is_refused_by_every_kind_of_call(client, kind):
    method = {"unary_unary": "Get", "unary_stream": "Watch", "stream_unary": "Add", "stream_stream": "Chat"}[
        kind
    ]
    argument = iter("ab") if kind.startswith("stream") else "hello"
    with pytest.raises(grpc.RpcError) as error:
        list(client.call(kind, f"/shop.Orders/{method}", argument))
    assert reason(error.value) == ("UNAUTHENTICATED", "no_credential", "login")


def test_what_is_no_credential_of_ours_is_refused_with_its_cause(authority, client):
    token = login(authority, strategy="jwt")
    assert client.refusal(token[:-6] + "AAAAAA") == ("UNAUTHENTICATED", "bad_signature", "login")
    assert client.refusal("kfs_nonsense")[1] == "malformed"
    twice = (("authorization", f"Bearer {token}"),)
    assert client.refusal(token, metadata=twice)[1] == "malformed"
    assert client.refusal(metadata=(("authorization", f"Basic {token}"),))[1] == "malformed"
    assert client.refusal(metadata=(("cookie", f"__Host-session={token}"),))[1] == "no_credential"
    refresh = authority.login("alice", strategy="hybrid").refresh_token
    assert client.refusal(refresh)[1] == "wrong_type"


def test_a_request_of_a_stranger_is_not_even_parsed(authority, client):
    assert client.refusal(request="unreadable")[0] == "UNAUTHENTICATED"
    with pytest.raises(grpc.RpcError) as error:
        client.get(login(authority), request="unreadable")
    assert (error.value.code().name, error.value.details()) == ("INTERNAL", "The request cannot be read.")


def test_the_policy_of_a_method_is_enforced_and_follows_the_roles(authority, client):
    token = login(authority)
    assert client.refusal(token, method="/shop.Orders/Pay") == (
        "PERMISSION_DENIED",
        "insufficient_role",
        None,
    )

    authority.set_roles("alice", ["payer"])

    assert client.get(token, method="/shop.Orders/Pay") == "alice: hello"


def test_the_policy_of_a_service_holds_for_its_methods_but_the_public_ones(authority, client):
    assert client.refusal(login(authority), method="/shop.Stock/Read")[:2] == (
        "PERMISSION_DENIED",
        "insufficient_scope",
    )
    assert client.get(login(authority, scopes=["stock:read"]), method="/shop.Stock/Read") == "alice: hello"
    assert client.get(method="/shop.Stock/Ping") == "no_credential"


def test_an_unknown_method_is_unknown_and_no_way_in(client):
    assert client.refusal(method="/shop.Orders/None")[0] == "UNIMPLEMENTED"


def test_a_revoked_credential_is_refused_on_the_next_call(authority, client):
    token = login(authority, strategy="jwt")
    assert client.get(token) == "alice: hello"
    authority.revoke("subject", "alice", reason="theft")
    assert client.refusal(token) == ("UNAUTHENTICATED", "revoked", "login")


def test_whoever_can_refresh_is_told_to(authority, client):
    token = login(authority, strategy="hybrid", roles=["buyer"])
    authority.set_roles("alice", ["payer"])
    assert client.refusal(token) == ("UNAUTHENTICATED", "stale_claims", "refresh")


@pytest.mark.parametrize("request_", ["wait", "busy"])
def test_a_stream_of_responses_ends_with_its_principal(authority, serving, request_):
    handlers, client = serving
    stream = client.call("unary_stream", "/shop.Orders/Watch", request_, login(authority))
    assert next(stream) == f"alice: {request_}"
    assert handlers.waiting.wait(DEADLINE)

    authority.revoke("subject", "alice", reason="theft")

    with pytest.raises(grpc.RpcError) as error:
        for _ in stream:
            pass
    assert reason(error.value) == ("UNAUTHENTICATED", "revoked", "login")
    assert handlers.ended.wait(DEADLINE)  # the handler is told as well


@pytest.mark.parametrize(("kind", "method"), [("stream_unary", "Add"), ("stream_stream", "Chat")])
def test_a_stream_of_requests_ends_with_its_principal(authority, serving, kind, method):
    handlers, client = serving
    requests: queue.SimpleQueue = queue.SimpleQueue()
    requests.put("first")
    done = object()
    token = login(authority)
    function = getattr(client.channel, kind)(f"/shop.Orders/{method}", str.encode, bytes.decode)
    metadata = (("authorization", f"Bearer {token}"),)
    if kind == "stream_unary":
        call = function.future(iter(requests.get, done), metadata=metadata, timeout=DEADLINE)
        assert handlers.waiting.wait(DEADLINE)
    else:
        call = function(iter(requests.get, done), metadata=metadata, timeout=DEADLINE)
        assert next(call) == "alice: first"

    authority.revoke("subject", "alice", reason="theft")

    wait = call.result if kind == "stream_unary" else call.__next__
    with pytest.raises(grpc.RpcError) as error:
        wait()
    requests.put(done)
    assert reason(error.value) == ("UNAUTHENTICATED", "revoked", "login")


def test_a_stream_of_somebody_else_goes_on(authority, serving):
    handlers, client = serving
    stream = client.call("unary_stream", "/shop.Orders/Watch", "busy", login(authority, "bob"))
    assert next(stream) == "bob: busy"
    authority.revoke("subject", "alice")
    assert next(stream) == "more"
    stream.cancel()
    assert handlers.ended.wait(DEADLINE)


def test_errors_of_ours_that_a_handler_raises_have_their_status(authority, client):
    token = login(authority)
    assert client.refusal(token, request="other") == ("NOT_FOUND", "no_order", None)
    stream = client.call("unary_stream", "/shop.Orders/Watch", "fails", token)
    with pytest.raises(grpc.RpcError) as error:
        list(stream)
    assert reason(error.value)[:2] == ("NOT_FOUND", "no_order")


def test_errors_of_the_handler_are_its_own(authority, client, caplog):
    token = login(authority)
    assert client.refusal(token, request="broken") == ("UNKNOWN", "", None)
    assert client.refusal(token, request="aborts") == ("ALREADY_EXISTS", "", None)


def test_what_a_handler_says_in_trailing_metadata_is_kept(authority, client):
    function = client.channel.unary_unary("/shop.Orders/Get", str.encode, bytes.decode)
    metadata = (("authorization", f"Bearer {login(authority)}"),)
    _, call = function.with_call("hello", metadata=metadata, timeout=DEADLINE)
    assert dict(call.trailing_metadata()) == {"own": "kept"}


def test_a_store_that_does_not_answer_is_unavailable_and_says_when_to_try_again(authority):
    for _, client in serve_on_threads(authority):
        token = login(authority)
        assert client.get(token) == "alice: hello"
        authority.close()
        with pytest.raises(grpc.RpcError) as error:
            client.get(token)
        assert reason(error.value) == ("UNAVAILABLE", "store_unavailable", "retry")
        assert dict(error.value.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"


def test_a_client_that_does_not_read_is_cancelled_all_the_same(authority):
    handlers, ended = OnThreads(), threading.Event()
    offered: queue.SimpleQueue = queue.SimpleQueue()

    def flood(request, context):
        context.add_callback(ended.set)
        while True:
            offered.put(1)
            yield "x" * 1_000_000

    handlers.responses = flood
    auth = on_threads.Auth(lambda: authority)
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[auth.interceptor()])
    server.add_generic_rpc_handlers(generic(handlers))
    client = Client(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    try:
        stream = client.call("unary_stream", "/shop.Orders/Watch", "flood", login(authority))
        with suppress(queue.Empty):
            while True:  # until nothing more fits between the two
                offered.get(timeout=0.5)
        authority.revoke("subject", "alice")
        assert ended.wait(DEADLINE / 2)  # long before the deadline of the call
        assert stream is not None
    finally:
        client.channel.close()
        server.stop(None).wait(DEADLINE)


@pytest.mark.parametrize(
    ("methods", "public"),
    [
        ({"shop.Orders/Get": {}}, ()),
        ({"/shop.Orders": {}}, ()),
        ({"/shop.Orders/Get": {"roles": "payer"}}, ()),
        ({"/shop.Orders/Get": {}}, {"/shop.Orders/Get"}),
        ({}, "/shop.Orders/Get"),
    ],
)
@pytest.mark.parametrize("kind", [on_threads, on_a_loop])
def test_a_policy_that_cannot_be_meant_is_refused_when_the_server_is_made(authority, kind, methods, public):
    verifier = keyfob.Verifier.follow(ISSUER, audience="orders", credentials=("orders", "secret"))
    with pytest.raises(keyfob.ConfigurationError):
        kind.Auth(verifier, methods=methods, public=public)


def test_a_handler_that_would_hold_the_event_loop_is_refused(authority, caplog):
    class Mixed(OnALoop):
        def unary(self, request, context):
            return whoever(request)

    for _, client in serve_on_a_loop(authority, Mixed()):
        assert client.refusal(login(authority))[0] == "INTERNAL"


def test_handlers_that_do_not_notice_the_end_of_their_calls_are_bounded(authority):
    class Deaf(OnThreads):
        def responses(self, request, context):
            yield "first"
            self.ended.wait(DEADLINE)

    handlers = Deaf()
    auth = on_threads.Auth(lambda: authority, streams=2)
    server = grpc.server(ThreadPoolExecutor(4), interceptors=[auth.interceptor()])
    server.add_generic_rpc_handlers(generic(handlers))
    client = Client(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    token = login(authority)
    try:
        for _ in range(2):
            stream = client.call("unary_stream", "/shop.Orders/Watch", "x", token)
            next(stream)
            stream.cancel()
        with pytest.raises(grpc.RpcError) as error:
            next(client.call("unary_stream", "/shop.Orders/Watch", "x", token))
        assert reason(error.value) == ("RESOURCE_EXHAUSTED", "rate_limited", "retry")
        handlers.ended.set()
        assert auth.seats.acquire(timeout=DEADLINE)
        auth.seats.release()
        assert list(client.call("unary_stream", "/shop.Orders/Watch", "x", token)) == ["first"]
    finally:
        client.channel.close()
        server.stop(None).wait(DEADLINE)
