"""A service that calls another one: see docs/how-to/call-another-service.md."""

# ruff: noqa: T201

import asyncio
import os
import sys

import httpx

from keyfob.integrations.httpx import ServiceAuth

auth = ServiceAuth(
    os.environ["ISSUER"],
    credentials=(os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"]),
    audience="orders",
    scopes={"orders:read"},
    origins=os.environ["ORDERS"],
)


async def main() -> None:
    async with httpx.AsyncClient(base_url=os.environ["ORDERS"], auth=auth) as orders:
        while await asyncio.to_thread(sys.stdin.readline):  # one call for each line
            response = await orders.get("/orders")
            print(response.status_code, response.json().get("subject"), flush=True)


asyncio.run(main())
