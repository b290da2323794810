# SPDX-License-Identifier: MIT
"""Many messages at once, really signed and sealed, from a human whose keys the server keeps."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import time
from typing import TYPE_CHECKING, Any

from puffo import certs, keystore
from puffo.api_accounts import add_subkey, bind_slug, signup
from puffo.api_messages import digest_of, keep, live_devices
from puffo.base import Request, Signer, bad, not_found
from puffo.crypto import b64, ed25519_public, key_id, now_ms, unb64
from puffo.envelope import new_payload, plaintext_envelope, seal

if TYPE_CHECKING:
    from puffo.server import Server

CHUNK = 50
SPOILS = ("ciphertext", "signature", "wrapped_key", "inner_route", "no_entry", "plaintext")
MEMBERS = ("to", "space_id", "channel_id", "count", "text", "start", "sender", "push", "thread_root_id", "reply_to_id",
           "spoil", "sent_at")


def _request(path: str, body: dict[str, Any], signer: Signer | None = None) -> Request:
    return Request("POST", path, path, {}, {}, json.dumps(body).encode(), signer)


class Puppets:
    """Humans of the server's own. They go through the same registration as anybody."""

    def __init__(self, server: Server, directory: pathlib.Path):
        self.server, self.directory = server, directory

    async def sender(self, username: str) -> tuple[keystore.Identity, keystore.Session]:
        slugs = [s for s in keystore.list_identities(self.directory) if s.rpartition("-")[0] == username]
        identity = keystore.load_identity(self.directory, slugs[0]) if slugs else await self.register(username)
        session = keystore.load_session(self.directory, identity.slug)
        # The server's clock may be off, and expired subkeys are one of its faults.
        row = session and self.server.store.one("SELECT expires_at FROM subkeys WHERE subkey_id = ?",
                                                session.subkey_id)
        if not session or not row or certs.needs_rotation(row["expires_at"], self.server.now()):
            session = await self.rotate(identity)
        return identity, session

    async def register(self, username: str) -> keystore.Identity:
        root, device, kem = (os.urandom(32) for _ in range(3))
        identity_cert = certs.identity_cert(root, "human")
        answer = await signup(self.server, _request("/signup", {
            "invite_code": "server", "username": username, "display_name": username.title(),
            "identity_cert": identity_cert, "device_cert": certs.device_cert(root, device, kem)}))
        binding = certs.slug_binding(root, answer["slug"])
        await bind_slug(self.server, _request("/certs/slug_binding", {"pending_token": answer["pending_token"],
                                                                      "slug_binding": binding}))
        identity = keystore.Identity(answer["slug"], answer["device_id"], root, device, kem, "",
                                     json.dumps(binding), json.dumps(identity_cert))
        keystore.save_identity(self.directory, identity)
        return identity

    async def rotate(self, identity: keystore.Identity) -> keystore.Session:
        seed = os.urandom(32)
        cert = certs.subkey_cert(identity.device_signing_secret_key, identity.device_id, ed25519_public(seed),
                                 self.server.now())
        await add_subkey(self.server, _request("/devices/subkeys", {"subkey_cert": cert},
                                               Signer(identity.slug, identity.device_id)))
        session = keystore.Session(identity.slug, cert["subkey_id"], seed, max(cert["expires_at"], now_ms() + 60_000))
        keystore.save_session(self.directory, session)
        return session

    # --- messages ---

    def audience(self, order: dict[str, Any], sender: str) -> list[str]:
        store, channel_id = self.server.store, order.get("channel_id")
        if isinstance(order.get("to"), str) and "channel_id" not in order:
            if not store.account(order["to"]):
                raise not_found("no such user")
            return list(dict.fromkeys([sender, order["to"]]))
        if not isinstance(channel_id, str) or "to" in order:
            raise bad("either to or channel_id")
        row = store.one("SELECT space_id FROM channels WHERE channel_id = ?", channel_id)
        if not row:
            raise not_found("channel not found")
        order["space_id"] = row["space_id"]
        store.run("INSERT OR IGNORE INTO space_members (space_id, slug, role, joined_at) VALUES (?, ?, 'member', ?)",
                  row["space_id"], sender, self.server.now())
        store.run("INSERT OR IGNORE INTO channel_members VALUES (?, ?, 'member')", channel_id, sender)
        return store.channel_slugs(channel_id)

    def recipients(self, slugs: list[str]) -> list[tuple[str, bytes]]:
        """Device ids and encryption keys."""
        live = set(live_devices(self.server, slugs))
        marks = ",".join("?" * len(slugs))
        found = [json.loads(c) for c in self.server.store.column(
            f"SELECT cert FROM registry WHERE kind = 'device_cert' AND slug IN ({marks}) ORDER BY seq", *slugs)]
        keys = {c["device_id"]: unb64(c["keys"]["encryption"]["public_key"]) for c in reversed(found)
                if c.get("device_id") in live}
        return list(keys.items())

    async def create(self, order: dict[str, Any]) -> dict[str, Any]:
        unknown = [k for k in order if k not in MEMBERS]
        if unknown:
            raise bad(f"no member {unknown[0]!r}; there are {', '.join(MEMBERS)}")
        count, start, spoil = order.get("count", 1), order.get("start", 1), order.get("spoil")
        if type(count) is not int or not 1 <= count <= 1_000_000 or type(start) is not int:
            raise bad("count must be 1 to 1000000")
        if spoil is not None and spoil not in SPOILS:
            raise bad(f"spoil must be one of {', '.join(SPOILS)}")
        began = time.monotonic()
        identity, session = await self.sender(order.get("sender", "bulk"))
        slugs = self.audience(order, identity.slug)
        # The sender reads nothing, so it gets no copies, unless it would be the only one.
        recipients = self.recipients([s for s in slugs if s != identity.slug] or slugs)
        allowed = {device_id for device_id, _ in recipients}
        ids: list[str] = []
        base = order.get("sent_at", self.server.now())
        for at in range(start, start + count, CHUNK):
            numbers = range(at, min(at + CHUNK, start + count))
            made = await asyncio.get_running_loop().run_in_executor(
                None, lambda ns=numbers: [self.message(order, identity, session, recipients, n, base + n - start)
                                          for n in ns])
            queued = []
            with self.server.store.transaction():
                for envelope, text in made:
                    queued.append((self.queue(envelope, text, allowed), text))
                    ids.append(envelope["envelope_id"])
            if order.get("push", True):
                for rows, text in queued:
                    for device_id, seq in rows:
                        self.server.deliver(device_id, seq, text)
        return {"sender": identity.slug, "devices": len(recipients), "envelope_ids": ids,
                "seconds": round(time.monotonic() - began, 3)}

    def queue(self, envelope: dict[str, Any], text: str, allowed: set[str]) -> list[tuple[str, int]]:
        if "recipients" not in envelope or not allowed & {r["device_id"] for r in envelope["recipients"]}:
            return [(d, self.server.store.enqueue(d, envelope["envelope_id"], text)) for d in sorted(allowed)]
        return keep(self.server, envelope, text, digest_of(envelope), allowed)[1]

    @staticmethod
    def message(order: dict[str, Any], identity: keystore.Identity, session: keystore.Session,
                recipients: list[tuple[str, bytes]], number: int, sent_at: int) -> tuple[dict[str, Any], str]:
        seed, spoil = session.subkey_secret_key, order.get("spoil")
        payload = new_payload(
            identity.slug, session.subkey_id, order.get("text", "message {n}").replace("{n}", str(number)),
            space_id=order.get("space_id"), channel_id=order.get("channel_id"), recipient_slug=order.get("to"),
            thread_root_id=order.get("thread_root_id"), reply_to_id=order.get("reply_to_id"), sent_at=sent_at)
        if spoil == "plaintext":
            envelope = plaintext_envelope(payload, seed)
        else:
            envelope = seal(payload, os.urandom(32) if spoil == "signature" else seed, recipients)
        if spoil == "ciphertext":
            envelope["content_ciphertext"] = _flipped(envelope["content_ciphertext"])
        elif spoil == "wrapped_key":
            for entry in envelope["recipients"]:
                entry["wrapped_content_key"] = _flipped(entry["wrapped_content_key"])
        elif spoil == "inner_route":
            # Sealed for another second: what is bound outside stays right, what is signed inside differs.
            other = {**payload, "sent_at": sent_at + 1000}
            envelope = _resealed(payload, other, seed, recipients)
        elif spoil == "no_entry":
            for entry in envelope["recipients"]:
                entry["device_id"] = key_id("dev", os.urandom(32))
        return envelope, json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))


def _flipped(text: str) -> str:
    data = bytearray(unb64(text))
    data[0] ^= 1
    return b64(bytes(data))


def _resealed(outer: dict[str, Any], inner: dict[str, Any], seed: bytes,
              recipients: list[tuple[str, bytes]]) -> dict[str, Any]:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    from puffo.crypto import sign_json
    from puffo.envelope import ROUTE, outer_aad, plaintext_of
    key, nonce = os.urandom(32), os.urandom(12)
    envelope = seal(outer, seed, recipients, content_key=key, content_nonce=nonce)
    aad = outer_aad(envelope["envelope_id"], outer["envelope_kind"], outer["sender_slug"], outer["sent_at"],
                    *(outer[k] for k in ROUTE))
    # The nonce is used twice with this key, for nobody's secret.
    data = ChaCha20Poly1305(key).encrypt(nonce, plaintext_of(inner, sign_json(seed, inner)), aad)
    return {**envelope, "content_ciphertext": b64(data)}
