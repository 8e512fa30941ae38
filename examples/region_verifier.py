"""A verifier behind a relay: reads access tokens, one a line, and says of each what it is worth.

    AUTHORITY=https://auth.example RELAY=https://relay.eu.example \\
    KEYFOB_CLIENT_ID=orders KEYFOB_CLIENT_SECRET=... python region_verifier.py
"""

# ruff: noqa: T201

from __future__ import annotations

import os
import sys

import keyfob


def main() -> None:
    """Follow the relay, and answer each line."""
    credentials = os.environ["KEYFOB_CLIENT_ID"], os.environ["KEYFOB_CLIENT_SECRET"]
    with keyfob.Verifier.follow(
        os.environ["AUTHORITY"],  # whose tokens and whose feed: keys come from here
        feed_url=os.environ["RELAY"],  # where the feed is read
        audience="orders",
        credentials=credentials,
    ) as verifier:
        print("level", flush=True)
        for line in sys.stdin:
            try:
                principal = verifier.verify(line.strip())
            except keyfob.Denied as denied:
                print(denied.cause.value, flush=True)
            else:
                print(f"welcome {principal.subject}", flush=True)


if __name__ == "__main__":
    main()
