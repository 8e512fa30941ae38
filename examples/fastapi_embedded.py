"""A FastAPI application that holds its authority, with users of its own: see docs/how-to/fastapi.md."""

import hashlib
import hmac
from typing import Annotated

from fastapi import Depends, FastAPI

from keyfob import Authority, Principal
from keyfob.integrations.fastapi import Auth

# The application's own table of users: name -> (subject, salt, scrypt of the password "correct horse battery").
SALT = bytes.fromhex("00112233445566778899aabbccddeeff")
USERS = {"alice": ("user-17", hashlib.scrypt(b"correct horse battery", salt=SALT, n=2**14, r=8, p=1))}
NOBODY = ("", hashlib.scrypt(b"", salt=SALT, n=2**14, r=8, p=1))


async def check_password(name: str, password: str) -> str | None:
    """Say whose name and password these are; it takes the same time for a name that nobody has."""
    subject, kept = USERS.get(name, NOBODY)
    given = hashlib.scrypt(password.encode(), salt=SALT, n=2**14, r=8, p=1)
    return subject if hmac.compare_digest(given, kept) and subject else None


auth = Auth(Authority.open("sqlite:///keyfob.db", issuer="http://127.0.0.1:8000"))
app = FastAPI(lifespan=auth.lifespan)
auth.install(app)
app.include_router(
    auth.routes(check_password=check_password)
)  # /login, /refresh, /logout, /session, /sessions


@app.get("/me")
async def me(user: Annotated[Principal, Depends(auth.required())]) -> dict[str, str]:
    return {"subject": user.subject}
