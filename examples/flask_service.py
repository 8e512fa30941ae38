"""A Flask service that follows an authority: see docs/how-to/flask.md."""

import os
from datetime import timedelta

from flask import Flask

from keyfob import Verifier
from keyfob.integrations.flask import Auth, current_principal

app = Flask(__name__)
auth = Auth(
    Verifier.follow(
        os.environ["ISSUER"],
        audience="orders",
        credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
    ),
    app,
)


@app.get("/orders")
@auth.required()
def orders() -> dict[str, str]:
    return {"subject": current_principal.subject, "process": str(os.getpid())}


@app.post("/payments")
@auth.required(roles={"payer"}, max_staleness=timedelta(seconds=3), max_auth_age=timedelta(minutes=5))
def pay() -> dict[str, str]:
    return {"paid": current_principal.subject}
