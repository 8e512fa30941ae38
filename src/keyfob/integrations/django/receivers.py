"""What Django says of its users: that one signs in, may sign in no longer, or is no more."""

from __future__ import annotations

from functools import partial

from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.contrib.sessions.backends.base import SessionBase
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.http import HttpRequest

from keyfob.authority.sign_in import SignIn
from keyfob.base.errors import KeyfobError
from keyfob.integrations.django.caller import KEPT_TOKEN, device_of
from keyfob.integrations.django.present import present_request
from keyfob.integrations.django.sessions import SessionStore
from keyfob.integrations.django.sources import current_sources
from keyfob.integrations.django.users import User
from keyfob.verifier.verifier import Verifier

ATTEMPT = "_keyfob_attempt"
"""Where a user carries the attempt to sign in that began before its row was read."""


TOKEN = "_keyfob_token"
"""Where a user carries the token of the session that an authority elsewhere has given to it."""


def connect() -> None:
    """Listen. Twice is once."""
    user_logged_out.connect(_signed_out, dispatch_uid="keyfob.signed_out")
    user_logged_in.connect(_signed_in, dispatch_uid="keyfob.signed_in")
    post_save.connect(_saved, sender=get_user_model(), dispatch_uid="keyfob.saved")
    post_delete.connect(_deleted, sender=get_user_model(), dispatch_uid="keyfob.deleted")


def _signed_in(sender: object, *, request: HttpRequest, user: User, **kwargs: object) -> None:
    """Give the session that Django has just put *user* into the subject of the user, before anybody else reads its key."""
    session = getattr(request, "session", None)
    if isinstance(session, SessionBase) and (token := user.__dict__.pop(TOKEN, None)):
        session[KEPT_TOKEN] = token
    if not isinstance(session, SessionStore):
        return
    session.device = device_of(request)
    attempt = user.__dict__.pop(ATTEMPT, None)
    try:
        session.sign_in(user, attempt=attempt if isinstance(attempt, SignIn) else None)
    except KeyfobError:
        # Whoever was cut off while the login was under way is not to be signed in by the end of the request.
        session.flush()
        request.user = AnonymousUser()
        raise


def _signed_out(sender: object, *, request: HttpRequest, **kwargs: object) -> None:
    """End the session at an authority elsewhere before Django forgets it; where that fails, nobody is told to be signed out."""
    session = getattr(request, "session", None)
    token = session.get(KEPT_TOKEN) if isinstance(session, SessionBase) else None
    if token is not None:
        current_sources().remote.logout(token)


def _saved(sender: object, *, instance: User, created: bool, **kwargs: object) -> None:
    if not created and not instance.is_active:
        end_sessions(instance, reason="deactivated")


def _deleted(sender: object, *, instance: User, **kwargs: object) -> None:
    end_sessions(instance, reason="deleted")


def end_sessions(user: User, *, reason: str, spares_present: bool = False) -> None:
    """End every session of *user*, everywhere, when the transaction under way is committed.

    With *spares_present* the session goes on in which *user* itself asks for it, by the request that is being answered. What is revoked before the commit could still be signed in by the old row. A project that follows an authority cannot; there it does nothing.

    Raises:
        StoreUnavailable: from the commit, or at once outside of a transaction: it is not known whether they are ended.
    """
    sources = current_sources()
    subject = sources.configuration.users.subject_of(user)
    key = str(user.pk) if spares_present else None
    transaction.on_commit(partial(_end, subject, reason, key))


def _end(subject: str, reason: str, spared_key: str | None) -> None:
    source = current_sources().source
    if isinstance(source, Verifier):
        return
    session = getattr(present_request(), "session", None)
    spared = None
    if spared_key is not None and isinstance(session, SessionStore):
        spared = session.session_id_of(
            spared_key
        )  # of now: a reset password may have signed its user in meanwhile
    source.revoke("subject", subject, reason=reason, actor="django", spared=spared)
