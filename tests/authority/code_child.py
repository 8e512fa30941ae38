"""A process that uses codes as it is told to, one a line. Run by test_code_interleavings.py."""

from __future__ import annotations

import asyncio
import json
import sys

from keyfob.authority.authority import Authority
from keyfob.authority.client_logins import Origin
from keyfob.base.errors import GrantRefused
from keyfob.grants.authorization_code import CodeUse


async def main(url: str, master_key: str) -> None:
    async with Authority.open(
        url, issuer="https://auth.example", master_key=bytes.fromhex(master_key)
    ) as house:
        client = await house.clients.get("shop")
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            use = CodeUse(**json.loads(line))
            try:
                granted = await house.user_tokens.for_code(client, use, origin=Origin())
                print(granted.session.session_id, flush=True)
            except GrantRefused:
                print("refused", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
