"""A real cluster of one's own, three primaries and three replicas, for tests: six Valkey processes on the loopback address.

with RedisCluster() as cluster:
    url = cluster.url
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BufferedReader
from types import TracebackType
from typing import Any, Self

from keyfob.testing.redis_server import RedisServer, free_port

SLOTS = 16_384
_PATIENCE = 30  # seconds until all of them agree
_SETTINGS = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "1000",  # milliseconds: a failover takes two to three seconds
    "cluster-require-full-coverage": "no",
    "cluster-replica-validity-factor": "0",
    "databases": "1",
    "repl-timeout": "5",
}


class RedisCluster:
    """Six nodes, from `start` to `remove`. The first three are primaries, each of the others is a replica of one of these."""

    def __init__(
        self, *, primaries: int = 3, replicas: int = 3, settings: Mapping[str, str] | None = None
    ) -> None:
        """*settings* are laid over those of this module."""
        given = {**_SETTINGS, **(settings or {})}
        self.nodes = [
            RedisServer(settings={**given, "cluster-port": str(free_port())})
            for _ in range(primaries + replicas)
        ]
        self._primaries = primaries

    @property
    def primaries(self) -> list[RedisServer]:
        """Return those that were primaries at the start."""
        return self.nodes[: self._primaries]

    @property
    def url(self) -> str:
        """Return where a store on it is opened."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    def start(self) -> None:
        """Start all of them, and let them be one cluster; return when every slot is answered for and has a replica.

        Raises:
            RuntimeError: they do not come together.
        """
        for number, node in enumerate(self.nodes):
            node.start()
            with suppress(RuntimeError):  # one that has an epoch already keeps it: they agree in any case
                command(node, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        size = -(-SLOTS // self._primaries)
        for number, node in enumerate(self.primaries):
            first, last = number * size, min((number + 1) * size, SLOTS) - 1
            command(node, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
        first_node = self.nodes[0]
        for node in self.nodes[1:]:
            port, bus = str(first_node.port), first_node.setting("cluster-port")
            command(node, "CLUSTER", "MEET", "127.0.0.1", port, bus)
        self._until(lambda: all(self._known_by(node) == len(self.nodes) for node in self.nodes))
        for number, node in enumerate(self.nodes[self._primaries :]):
            primary = command(self.primaries[number % self._primaries], "CLUSTER", "MYID")
            command(node, "CLUSTER", "REPLICATE", primary)
        self.until_whole()

    def until_whole(self) -> None:
        """Return when every slot is answered for, and every replica follows.

        Raises:
            RuntimeError: that does not come.
        """
        self._until(self.is_whole)

    def is_whole(self) -> bool:
        """Say whether every node says that the cluster is well, and every replica follows its primary."""
        for node in self.nodes:
            if "cluster_state:ok" not in command(node, "CLUSTER", "INFO"):
                return False
            state = command(node, "INFO", "replication")
            if "role:slave" in state and "master_link_status:up" not in state:
                return False
        return len(self.replicas()) == len(self.nodes) - self._primaries

    def replicas(self) -> list[RedisServer]:
        """Return those that are replicas now."""
        return [node for node in self.nodes if "role:slave" in command(node, "INFO", "replication")]

    def owner(self, slot: int) -> RedisServer:
        """Return the node that has *slot*, as the first node that answers sees it.

        Raises:
            LookupError: none has.
        """
        for node, first, last in self._ranges():
            if first <= slot <= last:
                return node
        raise LookupError(f"nobody has slot {slot}")

    def owners(self) -> list[RedisServer]:
        """Return the nodes that have slots now."""
        return list(dict.fromkeys(node for node, _, _ in self._ranges()))

    def revive(self) -> None:
        """Start the nodes that are stopped; return when all is well."""
        for node in self.nodes:
            if not node.is_running:
                node.start()
        self.until_whole()

    def _ranges(self) -> Iterator[tuple[RedisServer, int, int]]:
        for line in self._view().splitlines():
            fields = line.split(" ")
            for part in fields[8:]:
                if not part.startswith("["):
                    first, _, last = part.partition("-")
                    node = self._by_port(int(fields[1].partition("@")[0].rpartition(":")[2]))
                    yield node, int(first), int(last or first)

    def move(self, slot: int, target: RedisServer, *, keys_at_once: int = 10) -> None:
        """Carry *slot* to *target* as an operator would, key by key, while it is used."""
        source = self.owner(slot)
        identity = {node: command(node, "CLUSTER", "MYID") for node in (source, target)}
        command(target, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", identity[source])
        command(source, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", identity[target])
        while keys := command(source, "CLUSTER", "GETKEYSINSLOT", str(slot), str(keys_at_once)).split():
            command(
                source,
                *("MIGRATE", "127.0.0.1", str(target.port), "", "0", "5000", "KEYS", *keys),
            )
        for node in (target, source):
            command(node, "CLUSTER", "SETSLOT", str(slot), "NODE", identity[target])

    def flush(self) -> None:
        """Forget all data."""
        for node in self.nodes:
            if "role:master" in command(node, "INFO", "replication"):
                command(node, "FLUSHALL")

    def remove(self) -> None:
        """Stop all of them and remove their files."""
        for node in self.nodes:
            node.remove()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _known_by(self, node: RedisServer) -> int:
        lines = command(node, "CLUSTER", "NODES").splitlines()
        return sum(
            " handshake" not in line and ",handshake" not in line and "fail" not in line for line in lines
        )

    def _view(self) -> str:
        for node in self.nodes:
            try:
                return command(node, "CLUSTER", "NODES")
            except OSError:
                continue
        raise LookupError("no node answers")

    def _by_port(self, port: int) -> RedisServer:
        return next(node for node in self.nodes if node.port == port)

    def _until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > until:
                raise RuntimeError(self._view())
            time.sleep(0.02)


def command(node: RedisServer, *words: str) -> str:
    """Return the answer of *node* to a command, as text; a list as one word a line.

    Raises:
        OSError: it does not answer.
        RuntimeError: it answers with an error.
    """
    answer = binary_command(node, *(word.encode() for word in words))
    return "\n".join(_texts(answer))


def binary_command(node: RedisServer, *words: bytes, after: Sequence[bytes] = ()) -> Any:
    """Return the answer of *node* to a command: bytes, None, an integer, or a list of these. On the same connection *after* follows it.

    Raises:
        OSError: it does not answer.
        RuntimeError: it answers with an error.
    """
    with (
        socket.create_connection(("127.0.0.1", node.port), timeout=_PATIENCE) as one,
        one.makefile("rb") as answers,
    ):
        one.sendall(_packed(words))
        answer = _read(answers)
        if after:
            one.sendall(_packed(after))
            _read(answers)
        return answer


def _packed(words: Sequence[bytes]) -> bytes:
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), parts)


def _read(answers: BufferedReader) -> Any:
    head = answers.readline()
    kind, rest = head[:1], head[1:].strip()
    match kind:
        case b"-":
            raise RuntimeError(rest.decode())
        case b"+":
            return rest
        case b":":
            return int(rest)
        case b"$":
            return None if rest == b"-1" else answers.read(int(rest) + 2)[:-2]
        case b"*":
            return [_read(answers) for _ in range(int(rest))]
        case _:
            raise OSError("the node has hung up")


def _texts(answer: Any) -> list[str]:
    if isinstance(answer, list):
        return [text for part in answer for text in _texts(part)]
    return [answer.decode() if isinstance(answer, bytes) else str(answer)]
