"""Accounts beside the feed of a cluster."""

from __future__ import annotations

from keyfob.base.errors import Unavailable
from keyfob.base.identifiers import Subject
from keyfob.revocation.revocation import Revocation
from keyfob.stores.redis import places
from keyfob.stores.redis.accounts import RedisAccountStore
from keyfob.stores.redis.cluster.server import ClusterServer
from keyfob.stores.redis.packing import read_session
from keyfob.stores.redis.settling import Step


class ClusterAccountStore(RedisAccountStore):
    """An `AccountStore` in a cluster."""

    def __init__(self, server: ClusterServer) -> None:
        super().__init__(server)
        self._cluster = server

    async def _revoke_if_signed_in(self, step: Step, revocation: Revocation) -> None:
        """Ask the slot of the subject first: the step cannot see it. Where that does not answer, the entry is appended."""
        if await self._may_be_signed_in(Subject(revocation.id)):
            step.revoke(revocation, revocation.event.at)
        else:
            step.tell(revocation.event)

    async def _may_be_signed_in(self, subject: Subject) -> bool:
        tag = places.tag_of(self._cluster.salt, subject)
        try:
            _, rest = await self._cluster.catching_up.look("rows_of", tag, ())
        except Unavailable:
            return True
        sessions = (read_session(field, row) for field, row, _ in rest[0])
        return any(session.subject == subject and session.ended_at is None for session in sessions)
