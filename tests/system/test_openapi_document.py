"""A running server is asked whatever its OpenAPI document allows, and much that it does not: every answer is one that the document names.

The requests are made by schemathesis from `/openapi.json`, the same in each run. Who asks is an administrator, a client with every scope, or
nobody; whatever a request ends, the next has fresh credentials.
"""

from __future__ import annotations

import base64
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
EXAMPLES = {GenerationMode.POSITIVE: 3, GenerationMode.NEGATIVE: 2}  # requests of each operation
CONFIG = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
STREAMS = {"/feed"}  # has no end


@dataclass
class Asking:
    """The server, and who asks it."""

    server: Any
    session: requests.Session
    client: tuple[str, str]
    numbers: Iterator[int]

    def headers(self, operation: Any) -> dict[str, str]:
        """Return fresh credentials, of the kind that the operation takes; every third request has none."""
        if next(self.numbers) % 3 == 2:
            return {}
        schemes = {name for each in operation.definition.raw.get("security", ()) for name in each}
        if "basic" in schemes:
            return {"Authorization": "Basic " + base64.b64encode(":".join(self.client).encode()).decode()}
        if "bearer" not in schemes:
            return {}
        login = self.server.authority.login(
            "root", strategy="jwt", roles=["keyfob:admin"], audience=[self.server.url], scopes=["keyfob:feed"]
        )
        return {"Authorization": f"Bearer {login.access_token}"}


@pytest.fixture
def asking(keyfob_server: Any) -> Iterator[Asking]:
    added = keyfob_server.authority.clients.add("asking", scopes=["keyfob:feed", "keyfob:check"])
    with requests.Session() as session:
        yield Asking(keyfob_server, session, ("asking", added.secret), itertools.count())


def test_no_answer_is_missing_from_the_document(asking: Asking) -> None:
    seen: Counter[int] = Counter()
    schema = schemathesis.openapi.from_url(f"{asking.server.url}/openapi.json", config=CONFIG)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 40
    wrong: list[str] = []
    for operation in operations:
        if operation.path in STREAMS:
            continue
        for mode in EXAMPLES:
            wrong += ask(asking, operation, mode, seen)
    assert not wrong, "\n".join(wrong)
    assert {200, 201, 204, 400, 401, 403, 404, 422} <= seen.keys(), seen


def ask(asking: Asking, operation: Any, mode: GenerationMode, seen: Counter[int]) -> list[str]:
    """Send some requests to one operation; return what is wrong about an answer, if anything is."""

    @settings(
        max_examples=EXAMPLES[mode],
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def requested(case: Any) -> None:
        answer = case.call(
            base_url=asking.server.url,
            session=asking.session,
            headers=asking.headers(operation),
            allow_redirects=False,
        )
        seen[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    try:
        requested()
    except Unsatisfiable:  # an operation without a parameter: there is nothing that could be wrong
        return []
    except FailureGroup as failures:
        return [f"{operation.method} {operation.path}: {failures}"]
    return []
