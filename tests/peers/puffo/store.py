# SPDX-License-Identifier: MIT
"""The server's state in SQLite, and the questions that several endpoints ask of it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import Any, Iterator

SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    slug TEXT PRIMARY KEY, active INTEGER NOT NULL DEFAULT 0, root_key TEXT NOT NULL UNIQUE,
    identity_type TEXT NOT NULL, operator_slug TEXT, username TEXT NOT NULL, display_name TEXT, avatar_url TEXT,
    bio TEXT, role TEXT, role_short TEXT, soul TEXT, profile_updated_at INTEGER NOT NULL, identity_cert TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pending_accounts (
    token TEXT PRIMARY KEY, slug TEXT NOT NULL, device_cert TEXT NOT NULL, attestation TEXT,
    expires_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS devices (
    device_id TEXT PRIMARY KEY, slug TEXT NOT NULL, signing_key TEXT NOT NULL, revoked_from INTEGER);
CREATE TABLE IF NOT EXISTS enrolments (nonce TEXT PRIMARY KEY, slug TEXT NOT NULL, expires_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS subkeys (
    subkey_id TEXT PRIMARY KEY, slug TEXT NOT NULL, device_id TEXT NOT NULL, public_key TEXT NOT NULL,
    expires_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS registry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, slug TEXT NOT NULL, cert TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS registry_by_slug ON registry (slug, seq);
CREATE TABLE IF NOT EXISTS spaces (space_id TEXT PRIMARY KEY, name TEXT NOT NULL, created_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS space_members (
    space_id TEXT NOT NULL, slug TEXT NOT NULL, role TEXT NOT NULL, joined_at INTEGER NOT NULL,
    auto_accept_owner_invite INTEGER NOT NULL DEFAULT 0, auto_accept_member_invite INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (space_id, slug));
CREATE TABLE IF NOT EXISTS channels (
    channel_id TEXT PRIMARY KEY, space_id TEXT NOT NULL, name TEXT NOT NULL, is_public INTEGER NOT NULL,
    created_at INTEGER NOT NULL, owner_slug TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS channel_members (
    channel_id TEXT NOT NULL, slug TEXT NOT NULL, role TEXT NOT NULL, PRIMARY KEY (channel_id, slug));
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL UNIQUE, space_id TEXT NOT NULL,
    issued_at INTEGER NOT NULL, signer_slug TEXT NOT NULL, event TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS events_by_space ON events (space_id, seq);
CREATE TABLE IF NOT EXISTS invites (
    event_id TEXT PRIMARY KEY, scope TEXT NOT NULL, space_id TEXT NOT NULL, channel_id TEXT,
    inviter_slug TEXT NOT NULL, invitee_slug TEXT NOT NULL, space_name TEXT, channel_name TEXT);
CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, envelope_id TEXT NOT NULL UNIQUE, digest TEXT NOT NULL,
    sender_slug TEXT NOT NULL, channel_id TEXT, recipient_slug TEXT, posted_at INTEGER NOT NULL,
    envelope TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS queue (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, device_id TEXT NOT NULL, envelope_id TEXT NOT NULL, envelope TEXT);
CREATE INDEX IF NOT EXISTS queue_by_device ON queue (device_id, seq);
CREATE INDEX IF NOT EXISTS queue_by_envelope ON queue (envelope_id, device_id);
CREATE TABLE IF NOT EXISTS blobs (
    blob_id TEXT PRIMARY KEY, slug TEXT NOT NULL, data BLOB NOT NULL, uploaded_at INTEGER NOT NULL,
    transaction_id TEXT, UNIQUE (slug, transaction_id));
CREATE TABLE IF NOT EXISTS statuses (
    slug TEXT PRIMARY KEY, status TEXT NOT NULL, current_message_id TEXT, error_text TEXT, last_heartbeat_at INTEGER,
    written_at INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, slug TEXT NOT NULL, message_id TEXT NOT NULL, started_at INTEGER NOT NULL,
    ended_at INTEGER, succeeded INTEGER, error_text TEXT);
"""


class Store:
    """A file or ":memory:". A killed server loses nothing that it has answered; a machine that loses power may."""

    def __init__(self, path: str = ":memory:"):
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = OFF")
        self.db.executescript(SCHEMA)

    def close(self) -> None:
        self.db.close()

    def run(self, sql: str, *args: Any) -> sqlite3.Cursor:
        return self.db.execute(sql, args)

    def one(self, sql: str, *args: Any) -> sqlite3.Row | None:
        return self.db.execute(sql, args).fetchone()

    def all(self, sql: str, *args: Any) -> list[sqlite3.Row]:
        return self.db.execute(sql, args).fetchall()

    def column(self, sql: str, *args: Any) -> list[Any]:
        return [row[0] for row in self.all(sql, *args)]

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        self.db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    # --- accounts ---

    def account(self, slug: str) -> sqlite3.Row | None:
        return self.one("SELECT * FROM accounts WHERE slug = ? AND active", slug)

    def register(self, kind: str, slug: str, cert: Any) -> dict[str, Any]:
        """Appends to the registry; the entry as it is shown."""
        seq = self.run("INSERT INTO registry (kind, slug, cert) VALUES (?, ?, ?)", kind, slug,
                       json.dumps(cert)).lastrowid
        return {"seq": seq, "kind": kind, "slug": slug, "cert": cert}

    def acquaintances(self, slug: str) -> set[str]:
        """Who has an interest in this account's certificates: itself, operator and agents, those in its spaces."""
        account = self.account(slug)
        known = {slug, *self.column("SELECT slug FROM accounts WHERE operator_slug = ?", slug)}
        if account and account["operator_slug"]:
            known.add(account["operator_slug"])
        known.update(self.column("SELECT b.slug FROM space_members a JOIN space_members b USING (space_id)"
                                 " WHERE a.slug = ?", slug))
        return known

    # --- spaces ---

    def space_role(self, space_id: str, slug: str) -> str | None:
        row = self.one("SELECT role FROM space_members WHERE space_id = ? AND slug = ?", space_id, slug)
        return row["role"] if row else None

    def channel_role(self, channel_id: str, slug: str) -> str | None:
        row = self.one("SELECT role FROM channel_members WHERE channel_id = ? AND slug = ?", channel_id, slug)
        return row["role"] if row else None

    def space_slugs(self, space_id: str) -> list[str]:
        return self.column("SELECT slug FROM space_members WHERE space_id = ? ORDER BY joined_at, slug", space_id)

    def channel_slugs(self, channel_id: str) -> list[str]:
        return self.column("SELECT slug FROM channel_members WHERE channel_id = ? ORDER BY rowid", channel_id)

    def channel(self, space_id: str, channel_id: str) -> sqlite3.Row | None:
        return self.one("SELECT * FROM channels WHERE channel_id = ? AND space_id = ?", channel_id, space_id)

    # --- queue ---

    def enqueue(self, device_id: str, envelope_id: str, envelope: str | None = None) -> int:
        """Without an envelope of its own, the row is for the one in messages."""
        return self.run("INSERT INTO queue (device_id, envelope_id, envelope) VALUES (?, ?, ?)", device_id,
                        envelope_id, envelope).lastrowid or 0

    def pending(self, device_id: str, limit: int | None) -> list[sqlite3.Row]:
        return self.all("SELECT q.seq, envelope_id, coalesce(q.envelope, m.envelope) AS envelope FROM queue q"
                        " LEFT JOIN messages m USING (envelope_id) WHERE device_id = ? ORDER BY q.seq LIMIT ?",
                        device_id, -1 if limit is None else limit)

    def acknowledge(self, device_id: str, envelope_ids: list[str]) -> int:
        removed = 0
        with self.transaction():
            for envelope_id in envelope_ids:
                removed += self.run("DELETE FROM queue WHERE envelope_id = ? AND device_id = ?", envelope_id,
                                    device_id).rowcount
        return removed
