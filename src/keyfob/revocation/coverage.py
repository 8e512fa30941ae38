"""The one rule: an entry covers a credential when its scope matches and its position is greater than the credential's `as_of`."""

from __future__ import annotations

from typing import Protocol, assert_never

from keyfob.base.identifiers import ClientId, KeyId, Position, SessionId, Subject, TokenId
from keyfob.revocation.entry import Entry, Scope


class Credential(Protocol):
    """What the rule looks at. `Principal` is one."""

    @property
    def subject(self) -> Subject: ...
    @property
    def client_id(self) -> ClientId: ...
    @property
    def session_id(self) -> SessionId | None: ...
    @property
    def parent_session_id(self) -> SessionId | None: ...
    @property
    def parent_client_id(self) -> ClientId | None: ...
    @property
    def token_id(self) -> TokenId | None: ...
    @property
    def key_id(self) -> KeyId | None: ...
    @property
    def as_of(self) -> Position: ...


def covers(entry: Entry, credential: Credential) -> bool:
    """Say whether *entry* covers *credential* (both of one timeline).

    What began from a login at another client is covered with that login: by the entries of its session, and by those of its client.
    An entry of scope `key` covers whatever `as_of` says: a thief of the key can write any. At exactly `as_of` an entry does not cover.
    """
    if entry.scope is Scope.KEY:
        return entry.id == credential.key_id
    return entry.position > credential.as_of and _matches(entry, credential)


def _matches(entry: Entry, credential: Credential) -> bool:
    if entry.spared is not None and entry.spared in {credential.session_id, credential.parent_session_id}:
        return False
    match entry.scope:
        case Scope.TOKEN:
            return entry.id == credential.token_id
        case Scope.SESSION:
            return entry.id in {credential.session_id, credential.parent_session_id}
        case Scope.SUBJECT:
            return entry.id == credential.subject
        case Scope.CLIENT:
            return entry.id in {credential.client_id, credential.parent_client_id}
        case Scope.EVERYTHING:
            return True
        case Scope.KEY:
            return entry.id == credential.key_id
        case _:
            assert_never(entry.scope)
