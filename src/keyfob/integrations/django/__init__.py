"""Django: `INSTALLED_APPS = [..., "keyfob.integrations.django"]`, and `KEYFOB = {"SOURCE": ...}` in the settings.

    @required(roles={"payer"}, max_staleness=timedelta(seconds=3))
    def pay(request): return JsonResponse({"paid": request.principal.subject})

Under a server that forks (gunicorn), with `--preload` too, each process has a reader, or an authority, of its own.
"""

from __future__ import annotations

from keyfob.integrations.django.caller import Request, find_principal, principal_of
from keyfob.integrations.django.policies import PolicyMixin, optional, required
from keyfob.integrations.requirement import Rules

__all__ = ["PolicyMixin", "Request", "Rules", "find_principal", "optional", "principal_of", "required"]
