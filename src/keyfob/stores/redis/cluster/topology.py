"""Which node has which slot, as the nodes of a cluster tell it. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from keyfob.stores.redis.cluster.slots import COUNT
from keyfob.stores.redis.options import Address

_FIELDS: Final = 8  # of a line, before the slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node, as another one sees it. Of two that say that they have a slot the one of the higher *epoch* is right."""

    address: Address
    is_primary: bool
    epoch: int
    ranges: Sequence[tuple[int, int]]


def read_nodes(text: str, *, asked: Address, by_name: bool) -> list[Node]:
    """Read the answer of *asked* to `CLUSTER NODES`; *by_name*: nodes that announce a host name are called by it.

    Raises:
        ValueError: it is none.
    """
    return [_read_node(line.split(" "), asked, by_name=by_name) for line in text.splitlines() if line]


def _read_node(fields: Sequence[str], asked: Address, *, by_name: bool) -> Node:
    if len(fields) < _FIELDS:
        raise ValueError("no line of CLUSTER NODES")
    _, place, flags, _, _, _, epoch, _, *slots = fields
    endpoint, *names = place.split(",")
    host, _, port = endpoint.partition("@")[0].rpartition(":")
    name = names[0] if by_name and names and "=" not in names[0] else ""
    kinds = flags.split(",")
    return Node(
        address=(name or host or asked[0], int(port)),
        is_primary="master" in kinds and "noaddr" not in kinds,
        epoch=int(epoch),
        ranges=[_range(slot) for slot in slots if not slot.startswith("[")],  # those on their way come later
    )


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


class Topology:
    """Knows who has which slot, from what several nodes said at several moments."""

    def __init__(self) -> None:
        self._owners: list[Address | None] = [None] * COUNT
        self._epochs = array("q", bytes(8 * COUNT))
        self.addresses: set[Address] = set()

    def owner(self, slot: int) -> Address | None:
        """Return the node that has *slot*, as far as is known."""
        return self._owners[slot]

    def owners(self) -> Iterator[Address]:
        """Give the nodes that have slots, each once."""
        yield from dict.fromkeys(owner for owner in self._owners if owner is not None)

    def learn(self, nodes: Sequence[Node]) -> None:
        """Take what a node says, unless somebody knew later."""
        self.addresses |= {node.address for node in nodes}
        for node in nodes:
            if not node.is_primary:
                continue
            for first, last in node.ranges:
                for slot in range(first, last + 1):
                    if node.epoch >= self._epochs[slot]:
                        self._owners[slot], self._epochs[slot] = node.address, node.epoch

    def moved(self, slot: int, address: Address) -> None:
        """Take that a node handed *slot* on to *address*."""
        self._owners[slot] = address
        self.addresses.add(address)
