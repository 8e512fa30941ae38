"""Services beside a claims source that knows people alone."""

from __future__ import annotations

from typing import Any

import pytest

from keyfob.authority.api_keys import ApiKeyOrder
from keyfob.authority.client_authentication import ClientSecret
from keyfob.authority.machine_tokens import Wanted
from keyfob.base.errors import Cause, Denied
from keyfob.base.identifiers import ClientId, Subject
from keyfob.tokens.grant import SubjectClaims

ORDER = ApiKeyOrder(name="deploy", audience=["orders"], roles=())


class People:
    """Knows alice, and nobody else."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, subject: Subject, client_id: ClientId, /) -> SubjectClaims:
        self.asked.append(subject)
        if subject != "alice":
            raise Denied(Cause.REVOKED, "nobody of that name")
        return SubjectClaims(roles=frozenset({"buyer", "boss"}), claims={"department": "sales"})


@pytest.fixture
def people() -> People:
    return People()


@pytest.fixture
async def house(open_house: Any, people: People, store_url: str) -> Any:
    return await open_house(store_url, claims_source=people)


async def test_a_service_is_not_asked_about(house: Any, people: People) -> None:
    authority = house.authority
    added = await authority.clients.add("ci", scopes=["a"])
    made = await authority.api_keys.add_for_service("ci", ORDER, actor="root")
    granted = await authority.machine_tokens.for_client(ClientSecret("ci", added.secret), Wanted())
    exchanged = await authority.machine_tokens.for_api_key(made.text, Wanted())
    for text in (made.text, granted.token.text, exchanged.token.text):
        principal = await authority.authenticate(text)
        assert (principal.subject, principal.roles, dict(principal.claims)) == ("ci", frozenset(), {})
        assert principal.is_service
        assert (await authority.introspect(text))["active"] is True
    assert people.asked == []


async def test_a_persons_key_has_the_claims_of_today(house: Any, people: People) -> None:
    authority = house.authority
    order = ApiKeyOrder(name="laptop", audience=["orders"], roles=["boss", "payer"])
    made = await authority.api_keys.add_for_subject("alice", order, actor="root")
    principal = await authority.authenticate(made.text)
    assert (principal.roles, principal.claims["department"]) == (frozenset({"boss"}), "sales")
    assert not principal.is_service
    with pytest.raises(Denied, match="revoked"):
        await authority.api_keys.add_for_subject("mallory", order, actor="root")


async def test_what_a_revoked_client_asks_for_afterwards_is_good(house: Any) -> None:
    authority = house.authority
    added = await authority.clients.add("ci")
    credentials = ClientSecret("ci", added.secret)
    before = await authority.machine_tokens.for_client(credentials, Wanted())
    for reach, cause in (("claims", Cause.STALE_CLAIMS), ("end", Cause.REVOKED)):
        await authority.revoke("client", "ci", reach=reach)
        after = await authority.machine_tokens.for_client(credentials, Wanted())
        assert [await house.cause(one.token.text) for one in (before, after)] == [cause, None]
        before = after


@pytest.mark.meets("OA-27", "9700-4.9.3b")
async def test_neither_a_key_nor_a_secret_is_in_what_is_stored_or_printed(house: Any) -> None:
    authority = house.authority
    added = await authority.clients.add("ci")
    rotated = await authority.clients.rotate_secret("ci", actor="root")
    made = await authority.api_keys.add_for_service("ci", ORDER, actor="root")
    granted = await authority.machine_tokens.for_api_key(made.text, Wanted())
    found = await authority.store.sessions.find(made.api_key.key_id)
    client = await authority.clients.get("ci")
    events = (await authority.store.audit.list(limit=100)).events
    shown = repr((added, rotated, made, granted, found, client, events, ClientSecret("ci", added.secret)))
    stored = repr([client.secret_digests, found.session])
    for secret in (added.secret, rotated.secret, made.text, granted.token.text):
        assert secret not in shown
        assert secret not in stored
        assert secret.split("_")[-1][:20] not in shown
