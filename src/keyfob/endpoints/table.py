"""All routes, in one table. The server's own (`/metrics`, `/openapi.json`) are added by `server/build.py`."""

from __future__ import annotations

from keyfob.endpoints import (
    api_keys,
    check,
    feed,
    health,
    introspect,
    jwks,
    login,
    logout,
    metadata,
    password,
    refresh,
    reports,
    session,
    sessions,
    sessions_seen,
    token,
)
from keyfob.endpoints.admin import api_keys as all_api_keys
from keyfob.endpoints.admin import (
    audit,
    client_credentials,
    clients,
    keys,
    revocation_slo,
    revocations,
    users,
)
from keyfob.endpoints.admin import sessions as all_sessions
from keyfob.endpoints.oauth import (
    authorize,
    consent,
    consents,
    device,
    device_authorization,
    end_session,
    hand_off,
    par,
    revoke,
    sign_in,
    userinfo,
)
from keyfob.endpoints.oauth.cors import with_cors
from keyfob.endpoints.route import Route
from keyfob.endpoints.site import Site

_MODULES = (
    login,
    refresh,
    logout,
    session,
    sessions,
    sessions_seen,
    password,
    feed,
    reports,
    jwks,
    metadata,
    introspect,
    token,
    revoke,
    userinfo,
    end_session,
    authorize,
    sign_in,
    consent,
    consents,
    par,
    device_authorization,
    device,
    hand_off,
    api_keys,
    users,
    all_sessions,
    revocations,
    revocation_slo,
    clients,
    client_credentials,
    all_api_keys,
    keys,
    audit,
    health,
)


def routes() -> tuple[Route[Site], ...]:
    """Return every route of the authority; each call makes a `/check` with a memory of its own."""
    return (*check.routes(), *with_cors(route for module in _MODULES for route in module.ROUTES))
