"""The tables that later versions of the schema brought. A text, once released, is never changed."""

from __future__ import annotations

from typing import Final

MACHINE_TABLES: Final = """
    -- MessagePack: what no statement looks at (stores/rows.py); empty in rows of before.
    ALTER TABLE keyfob.clients ADD COLUMN details bytea NOT NULL DEFAULT '';

    -- The assertions of clients that were taken (RFC 7523), so that none is taken twice.
    CREATE TABLE keyfob.assertions (
        digest bytea PRIMARY KEY,            -- of the client and the jti
        until bigint NOT NULL
    );
    CREATE INDEX assertions_by_until ON keyfob.assertions (until);
"""

GRANT_TABLES: Final = """
    -- What is taken once: codes, pushed requests, device codes, hand-offs.
    CREATE TABLE keyfob.one_times (
        kind text COLLATE "C" NOT NULL,
        digest bytea NOT NULL,
        alias bytea,                         -- of the second secret; NULL once it is given up
        body bytea NOT NULL,
        version bigint NOT NULL,
        as_of bigint NOT NULL,
        created_at bigint NOT NULL,
        expires_at bigint NOT NULL,
        taken_at bigint,
        reused_at bigint,
        kept_until bigint NOT NULL,
        PRIMARY KEY (kind, digest)
    );
    CREATE UNIQUE INDEX one_times_by_alias ON keyfob.one_times (kind, alias) WHERE alias IS NOT NULL;
    CREATE INDEX one_times_by_end ON keyfob.one_times (kept_until);

    CREATE TABLE keyfob.consents (
        subject text COLLATE "C" NOT NULL,
        client_id text COLLATE "C" NOT NULL,
        client_created_at bigint NOT NULL,   -- it ends with that client, whoever has the id later
        scopes text NOT NULL,                -- JSON
        given_at bigint NOT NULL,
        changed_at bigint NOT NULL,
        PRIMARY KEY (subject, client_id)
    );
    CREATE INDEX consents_by_client ON keyfob.consents (client_id, client_created_at);

    CREATE TABLE keyfob.deliveries (
        delivery_id text COLLATE "C" PRIMARY KEY,
        kind text NOT NULL,
        client_id text NOT NULL,
        body bytea NOT NULL,
        created_at bigint NOT NULL,
        due_at bigint NOT NULL,              -- moved on by a lease
        expires_at bigint NOT NULL,
        attempts bigint NOT NULL             -- leases so far
    );
    CREATE INDEX deliveries_by_due ON keyfob.deliveries (due_at);
    CREATE INDEX deliveries_by_end ON keyfob.deliveries (expires_at);

    CREATE TABLE keyfob.cursors (
        consumer text COLLATE "C" PRIMARY KEY,
        timeline text NOT NULL,
        position bigint NOT NULL
    );
"""
