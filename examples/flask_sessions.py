"""A Flask application that keeps its sessions on the server: see docs/how-to/flask-sessions.md."""

import hashlib
import hmac
import os
from datetime import datetime, timedelta
from typing import Any

from flask import Flask, request, session

from keyfob.integrations.flask import Auth, current_principal
from keyfob.integrations.flask_sessions import KeyfobSessions
from keyfob.integrations.former_sessions import FileFormerSessions
from keyfob.integrations.take_over import TakeOver
from keyfob.sync import Authority

# The application's own table of users: name -> (subject, salt, scrypt of the password "correct horse battery").
SALT = bytes.fromhex("00112233445566778899aabbccddeeff")
USERS = {"alice": ("user-17", hashlib.scrypt(b"correct horse battery", salt=SALT, n=2**14, r=8, p=1))}
NOBODY = ("", hashlib.scrypt(b"", salt=SALT, n=2**14, r=8, p=1))


async def check_password(name: str, password: str) -> str | None:
    """Say whose name and password these are; it takes the same time for a name that nobody has."""
    subject, kept = USERS.get(name, NOBODY)
    given = hashlib.scrypt(password.encode(), salt=SALT, n=2**14, r=8, p=1)
    return subject if hmac.compare_digest(given, kept) and subject else None


app = Flask(__name__)
authority = Authority.open(
    os.environ.get("STORE", "sqlite:///keyfob.db"), issuer=os.environ.get("ISSUER", "http://127.0.0.1:8000")
)
auth = Auth(lambda: authority, app)
app.session_interface = sessions = KeyfobSessions(auth)


@app.post("/login")
def login() -> dict[str, Any]:
    asked = request.get_json()
    with authority.sign_in() as attempt:  # before anything is read about the user
        subject = authority.accounts.authenticate_elsewhere(
            check_password, asked["username"], asked["password"], address=request.remote_addr or ""
        )
        issued = attempt.login(subject, strategy=asked.get("strategy", "session"))
    if issued.session_token is None:  # jwt and hybrid: an application of ours that keeps its tokens itself
        return {"access_token": issued.access_token, "refresh_token": issued.refresh_token}
    sessions.begin(issued)
    return {"session_id": issued.session_id}


@app.post("/refresh")
def refresh() -> dict[str, Any]:
    issued = authority.refresh(request.get_json()["refresh_token"])
    return {"access_token": issued.access_token, "refresh_token": issued.refresh_token}


@app.post("/logout")
def logout() -> tuple[str, int]:
    sessions.end()
    return "", 204


@app.post("/cart/<item>")
def put_into_cart(item: str) -> dict[str, Any]:
    session.setdefault("cart", []).append(item)
    return {"cart": session["cart"], "process": str(os.getpid())}


@app.get("/cart")
def cart() -> dict[str, Any]:
    return {"cart": session.get("cart", []), "process": str(os.getpid())}


@app.get("/me")
@auth.required()
def me() -> dict[str, str]:
    return {"subject": current_principal.subject, "process": str(os.getpid())}


@app.post("/payments")
@auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))
def pay() -> dict[str, str]:
    return {"paid": current_principal.subject}


# Whoever had a session of Flask-Session keeps it, until a moment such as 2026-12-08T00:00:00Z.
if "FORMER_SESSIONS" in os.environ:
    app.wsgi_app = TakeOver(  # type: ignore[method-assign]
        app.wsgi_app,
        auth,
        former=FileFormerSessions(os.environ["FORMER_SESSIONS"]),
        subject_of=lambda data: str(data["user_id"]) if "user_id" in data else None,
        until=datetime.fromisoformat(os.environ["FORMER_SESSIONS_UNTIL"]),
    )
