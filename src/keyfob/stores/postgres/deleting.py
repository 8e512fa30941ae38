"""Deleting many rows without holding any of them for long, and by one server of however many."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from keyfob.stores.postgres.database import Database, Transaction
from keyfob.stores.postgres.locks import LockClass

PORTION = 500  # rows


async def delete_in_portions(
    database: Database, limit: int, delete: Callable[[Transaction, int], Awaitable[int]]
) -> int:
    """Call *delete* with portions of *limit*, each in a transaction of its own, until it finds no more; return how many went.

    Whoever finds another at it goes without, 0: of several that clean at once but one soon is left.
    """

    async def alone(transaction: Transaction, portion: int) -> int:
        is_mine: bool = await transaction.connection.fetchval(
            "SELECT pg_try_advisory_xact_lock($1, 0)", LockClass.CLEANING.value
        )
        return await delete(transaction, portion) if is_mine else 0

    deleted = 0
    while deleted < limit:
        portion = min(PORTION, limit - deleted)
        gone = await database.transact(lambda transaction, portion=portion: alone(transaction, portion))  # type: ignore[misc]  # a default of a lambda
        deleted += gone
        if gone < portion:
            break
    return deleted
