import os

from keyfob import Denied, Unavailable, Verifier

# A daemon thread follows the feed from here on; no request asks anybody about an access token.
verifier = Verifier.follow(
    os.environ["ISSUER"],
    audience="orders",
    credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
)
verifier.start()


async def app(scope, receive, send):
    assert scope["type"] == "http"
    header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    try:
        principal = await verifier.authenticate(header.removeprefix("Bearer "))
        status, text = 200, f"hello {principal.subject}\n"
    except Denied as denied:
        status, text = 401, f"{denied.cause}\n"
    except Unavailable as unavailable:
        status, text = 503, f"{unavailable.code}\n"
    headers = [(b"content-type", b"text/plain"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})
