"""One process that waits for lines on a bare TCP connection: what telling it costs on this machine, whatever the protocol.

`python -m benchmarks.bare_follower PORT COUNT` reads so many lines and prints when each came.
"""

from __future__ import annotations

import socket
import sys
import time

import msgspec


def main() -> None:
    """Read the lines, and say when each came, by the machine's steady clock."""
    port, count = int(sys.argv[1]), int(sys.argv[2])
    came = []
    with (
        socket.create_connection(("127.0.0.1", port), timeout=120) as connection,
        connection.makefile("rb") as lines,
    ):
        for _ in range(count):
            if not lines.readline():
                break
            came.append(time.perf_counter())
    sys.stdout.buffer.write(msgspec.json.encode(came) + b"\n")


if __name__ == "__main__":
    main()
