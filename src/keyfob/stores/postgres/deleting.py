"""Deleting many rows without holding any of them for long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from keyfob.stores.postgres.database import Database, Transaction

PORTION = 500  # rows


async def delete_in_portions(
    database: Database, limit: int, delete: Callable[[Transaction, int], Awaitable[int]]
) -> int:
    """Call *delete* with portions of *limit*, each in a transaction of its own, until it finds no more; return how many went."""
    deleted = 0
    while deleted < limit:
        portion = min(PORTION, limit - deleted)
        gone = await database.transact(lambda transaction, portion=portion: delete(transaction, portion))  # type: ignore[misc]  # a default of a lambda
        deleted += gone
        if gone < portion:
            break
    return deleted
