"""What `keyfob doctor` sees of a cluster: every node, replicas too, since each may be a primary tomorrow. Nothing is changed."""

from __future__ import annotations

import asyncio

from keyfob.stores.condition import ClusterCondition, RedisCondition
from keyfob.stores.redis.cluster.slots import COUNT
from keyfob.stores.redis.cluster.topology import Node, read_nodes
from keyfob.stores.redis.connecting import ask, check_member, connect_to, take_leave
from keyfob.stores.redis.faults import FAULTS, at_opening
from keyfob.stores.redis.inspecting import condition_of, setting
from keyfob.stores.redis.options import Address, RedisOptions


async def inspect_cluster(options: RedisOptions) -> RedisCondition:
    """Return what every node says of itself. A cluster of which no node answers is a fault."""
    error: BaseException = TimeoutError()
    for address in options.addresses:
        try:
            async with asyncio.timeout(options.deadline.total_seconds()):
                nodes, needs_all = await _view(address, options)
        except (*FAULTS, ValueError) as fault:
            error = fault
            continue
        return RedisCondition(cluster=await _inspect(nodes, options, needs_all=needs_all))
    return RedisCondition(fault=str(at_opening(error, options.name)))


async def _view(address: Address, options: RedisOptions) -> tuple[list[Node], bool]:
    connection = await connect_to(address, options)
    try:
        text = await ask(connection, b"CLUSTER", b"NODES")
        needs_all = await setting(connection, "cluster-require-full-coverage")
    finally:
        await take_leave(connection)
    by_name = options.tls is not None
    return read_nodes(text.decode(), asked=address, by_name=by_name), needs_all == "yes"


async def _inspect(nodes: list[Node], options: RedisOptions, *, needs_all: bool) -> ClusterCondition:
    conditions = await asyncio.gather(*(_node(node.address, options) for node in nodes))
    found = {_name(node.address): condition for node, condition in zip(nodes, conditions, strict=True)}
    serving = [node for node in nodes if node.ranges and found[_name(node.address)].fault is None]
    covered = sum(last - first + 1 for node in serving for first, last in node.ranges)
    return ClusterCondition(
        nodes=found,
        uncovered=COUNT - covered,
        without_replica=[_name(node.address) for node in serving if not found[_name(node.address)].replicas],
        needs_all_slots=needs_all,
    )


async def _node(address: Address, options: RedisOptions) -> RedisCondition:
    try:
        async with asyncio.timeout(options.deadline.total_seconds()):
            connection = await connect_to(address, options)
            try:
                return await condition_of(connection, _name(address), check_member)
            finally:
                await take_leave(connection)
    except FAULTS as error:
        return RedisCondition(fault=str(at_opening(error, _name(address))))


def _name(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
