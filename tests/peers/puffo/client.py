# SPDX-License-Identifier: MIT
"""A person's side: registration, signed requests, certificates that are verified, messages and attachments."""

from __future__ import annotations

import asyncio
import http.client
import json
import mimetypes
import os
import pathlib
import re
import ssl
import urllib.parse
import uuid
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator

from puffo import certs, envelope, keystore
from puffo.crypto import (CryptoError, b64, ed25519_public, now_ms, parse_object, request_headers, stream_connect,
                          stream_url, unb64)

PEOPLE_PER_CALL = 20
ACKS_PER_CALL = 25
MAX_DOWNLOAD = 8 * 1024 * 1024 + 64 * 1024
BLOB_ID = re.compile(r"[A-Za-z0-9._~-]{1,200}")


class ClientError(Exception):
    pass


class HttpError(ClientError):
    def __init__(self, status: int, text: str):
        super().__init__(f"the server answers {status}: {text[:500]}")
        self.status, self.text = status, text


@dataclass
class Person:
    """What the registry says about one slug; only what verifies."""

    slug: str
    root: bytes | None = None
    bound: bool = False
    devices: dict[str, certs.Cert] = field(default_factory=dict)
    revoked: dict[str, int] = field(default_factory=dict)
    subkeys: list[certs.Cert] = field(default_factory=list)

    def take(self, kind: str, cert: Any) -> None:
        """Entries come in the order of the registry; what does not verify is left out."""
        try:
            if kind == "identity_cert":
                self.root = certs.check_identity(cert)
            elif self.root is None:
                return
            elif kind == "slug_binding":
                self.bound = certs.check_slug_binding(cert, self.root) == self.slug
            elif kind == "device_cert":
                certs.check_device(cert, self.root)
                self.devices.setdefault(cert["device_id"], cert)
            elif kind == "device_revocation":
                device_id, since = certs.check_revocation(cert, self.root)
                self.revoked[device_id] = since
            elif kind == "subkey_cert" and cert.get("device_id") in self.devices:
                device = self.devices[cert["device_id"]]
                certs.check_subkey(cert, unb64(device["keys"]["signing"]["public_key"]), device["device_id"],
                                   cert["issued_at"])
                self.subkeys.append(cert)
        except (certs.CertError, CryptoError, KeyError, AttributeError, TypeError):
            pass

    def recipients(self, now: int) -> Iterator[tuple[str, bytes]]:
        for device_id, cert in self.devices.items():
            if self.bound and self.revoked.get(device_id, now + 1) > now:
                yield device_id, unb64(cert["keys"]["encryption"]["public_key"])

    def keys_at(self, sent_at: int) -> list[bytes]:
        """Of the subkeys that were valid then."""
        return [unb64(c["subkey_public_key"]) for c in self.subkeys
                if self.bound and not certs.is_expired(c.get("expires_at"), sent_at)
                and self.revoked.get(c["device_id"], sent_at + 1) > sent_at]


class Connection:
    """One server, plain or TLS; no redirects, no retries."""

    def __init__(self, server_url: str, ca_file: pathlib.Path | None = None):
        self.url = server_url.rstrip("/")
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(f"{server_url} is not an http(s) URL")
        self.host, self.port, self.prefix, self.tls = parts.hostname, parts.port, parts.path, parts.scheme == "https"
        self.context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None) if self.tls else None

    def send(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        connection: http.client.HTTPConnection
        if self.tls:
            connection = http.client.HTTPSConnection(self.host, self.port, timeout=60, context=self.context)
        else:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, self.prefix + target, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as e:
            raise ClientError(f"{self.url}: {e or type(e).__name__}") from None
        finally:
            connection.close()

    def post(self, target: str, body: dict[str, Any]) -> dict[str, Any]:
        """Unsigned."""
        status, data = self.send("POST", target, json.dumps(body).encode(), {"content-type": "application/json"})
        return answer_object(status, data)


def answer_object(status: int, data: bytes) -> dict[str, Any]:
    if status >= 300:
        raise HttpError(status, data.decode("utf-8", "replace"))
    try:
        return parse_object(data) if data else {}
    except CryptoError:
        raise ClientError(f"the server answers {status} with something that is not JSON") from None


# --- registration ---

def new_keys() -> tuple[bytes, bytes, bytes]:
    return os.urandom(32), os.urandom(32), os.urandom(32)


def _finish(connection: Connection, root: bytes, device: bytes, kem: bytes, slug: str, device_id: str, token: str,
            identity_cert: certs.Cert, directory: pathlib.Path) -> keystore.Identity:
    binding = certs.slug_binding(root, slug)
    connection.post("/certs/slug_binding", {"pending_token": token, "slug_binding": binding})
    identity = keystore.Identity(slug, device_id, root, device, kem, connection.url, json.dumps(binding),
                                 json.dumps(identity_cert))
    keystore.save_identity(directory, identity)
    return identity


def sign_up(connection: Connection, directory: pathlib.Path, username: str, display_name: str | None,
            invite_code: str) -> keystore.Identity:
    root, device, kem = new_keys()
    identity_cert = certs.identity_cert(root, "human")
    body = {"invite_code": invite_code, "username": username, "identity_cert": identity_cert,
            "device_cert": certs.device_cert(root, device, kem)}
    if display_name:
        body["display_name"] = display_name
    answer = connection.post("/signup", body)
    return _finish(connection, root, device, kem, answer["slug"], answer["device_id"], answer["pending_token"],
                   identity_cert, directory)


class Client:
    def __init__(self, connection: Connection, directory: pathlib.Path, slug: str):
        self.connection, self.directory = connection, directory
        try:
            self.identity = keystore.load_identity(directory, slug)
        except (OSError, KeyError, CryptoError) as e:
            raise ClientError(f"no identity {slug!r} in {directory}: {e}") from None
        self.slug = self.identity.slug
        self.people: dict[str, Person] = {}

    # --- requests ---

    def rotate(self) -> keystore.Session:
        seed, identity = os.urandom(32), self.identity
        cert = certs.subkey_cert(identity.device_signing_secret_key, identity.device_id, ed25519_public(seed))
        body = json.dumps({"subkey_cert": cert}).encode()
        headers = request_headers(identity.device_signing_secret_key, self.slug, identity.device_id, "POST",
                                  "/devices/subkeys", body)
        answer_object(*self.connection.send("POST", "/devices/subkeys", body, headers))
        session = keystore.Session(self.slug, cert["subkey_id"], seed, cert["expires_at"])
        keystore.save_session(self.directory, session)
        return session

    def session(self) -> keystore.Session:
        session = keystore.load_session(self.directory, self.slug)
        if session is None or certs.needs_rotation(session.expires_at, now_ms()):
            session = self.rotate()
        return session

    def send(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Signed, with a new subkey when the server does not take this one."""
        session = self.session()
        for last in (False, True):
            headers = request_headers(session.subkey_secret_key, self.slug, session.subkey_id, method, target, body)
            status, data = self.connection.send(method, target, body, headers)
            if status != 401 or last:
                break
            session = self.rotate()
        return status, data

    def call(self, method: str, target: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return answer_object(*self.send(method, target, json.dumps(body).encode() if body else b""))

    # --- the registry ---

    def fetch_people(self, slugs: list[str]) -> None:
        for at in range(0, len(slugs), PEOPLE_PER_CALL):
            part = slugs[at:at + PEOPLE_PER_CALL]
            people = {s: Person(s) for s in part}
            since, more = 0, True
            while more:
                names = ",".join(urllib.parse.quote(s, safe="") for s in part)
                page = self.call("GET", f"/certs/sync?slugs={names}&since={since}")
                entries = page.get("entries") or []
                for entry in entries:
                    if entry.get("slug") in people:
                        people[entry["slug"]].take(entry.get("kind"), entry.get("cert"))
                more = bool(page.get("has_more"))
                if more and (not entries or entries[-1]["seq"] <= since):
                    raise ClientError("the server's pages of certificates do not advance")
                since = entries[-1]["seq"] if entries else since
            self.people.update(people)

    def check_pins(self, slugs: list[str]) -> None:
        """The first root key of a slug is the one that counts."""
        path = self.directory / "known-people"
        pins = parse_object(path.read_bytes()) if path.exists() else {}
        for slug in slugs:
            root = self.people[slug].root
            if root and pins.setdefault(slug, b64(root)) != b64(root):
                raise ClientError(f"{slug} has another root key than before: refused")
        keystore.save(self.directory, path.name, json.dumps(pins, indent=2))

    def recipients(self, slugs: list[str]) -> list[tuple[str, bytes]]:
        slugs = list(dict.fromkeys(s for s in slugs if s))
        self.fetch_people(slugs)
        self.check_pins(slugs)
        found = [r for s in slugs for r in self.people[s].recipients(now_ms())]
        if not found:
            raise ClientError(f"no device of {', '.join(slugs)} has a certificate that verifies")
        return found

    # --- agents, spaces, channels ---

    def create_agent(self, username: str, directory: pathlib.Path) -> keystore.Identity:
        root, device, kem = new_keys()
        operator_root = self.identity.root_secret_key
        identity_cert = certs.identity_cert(root, "agent", ed25519_public(operator_root))
        answer = self.call("POST", "/agents", {
            "username": username, "identity_cert": identity_cert, "device_cert": certs.device_cert(root, device, kem),
            "attestation": certs.operator_attestation(operator_root, ed25519_public(root))})
        return _finish(self.connection, root, device, kem, answer["agent_slug"], answer["agent_device_id"],
                       answer["pending_token"], identity_cert, directory)

    def add_device(self, directory: pathlib.Path) -> keystore.Identity:
        """A second device of one's own, with its key file there."""
        mine, (_, device, kem) = self.identity, new_keys()
        asked = self.connection.post("/devices/enroll/init", {"slug": self.slug})
        cert = certs.device_cert(mine.root_secret_key, device, kem)
        answer = self.call("POST", f"/devices/enroll/{asked['nonce']}/complete", {"device_cert": cert})
        identity = keystore.Identity(self.slug, answer["device_id"], mine.root_secret_key, device, kem,
                                     self.connection.url, mine.slug_binding_json, mine.identity_cert_json)
        keystore.save_identity(directory, identity)
        return identity

    def post_event(self, kind: str, **payload: Any) -> certs.Cert:
        session = self.session()
        event = certs.signed_event(session.subkey_secret_key, kind, {**payload, "nonce": certs.event_nonce()},
                                   self.slug, self.identity.device_id, session.subkey_id)
        answer = self.call("POST", "/spaces/events", {"space_id": payload["space_id"], "events": [event]})
        return {**event, "server_emitted_events": answer.get("server_emitted_events") or []}

    def create_space(self, name: str) -> dict[str, Any]:
        event = self.post_event("create_space", space_id=f"sp_{uuid.uuid4()}", name=name, created_at=now_ms())
        default = next((e["payload"]["channel_id"] for e in event["server_emitted_events"]
                        if e.get("kind") == "create_channel"), None)
        return {"space_id": event["payload"]["space_id"], "name": name, "default_channel_id": default}

    def create_channel(self, space_id: str, name: str, public: bool) -> dict[str, Any]:
        payload: dict[str, Any] = {"space_id": space_id, "channel_id": f"ch_{uuid.uuid4()}", "name": name,
                                   "created_at": now_ms()}
        if public:
            payload["is_public"] = True
        self.post_event("create_channel", **payload)
        return payload

    def invite(self, slug: str, space_id: str, channel_id: str | None) -> str:
        more = {"channel_id": channel_id} if channel_id else {}
        return self.post_event("invite_to_channel" if channel_id else "invite_to_space", space_id=space_id, **more,
                               invitee_slug=slug, issued_at=now_ms())["event_id"]

    def invites(self, direction: str = "received") -> list[dict[str, Any]]:
        return self.call("GET", f"/invites?direction={direction}").get("invites") or []

    def answer_invite(self, invite: dict[str, Any], verb: str) -> None:
        scope = invite["scope"]
        channel = {"channel_id": invite["channel_id"]} if scope == "channel" else {}
        past = {"accept": "accepted_at", "reject": "rejected_at", "cancel": "cancelled_at"}[verb]
        self.post_event(f"{verb}_{scope}_invite", space_id=invite["space_id"], **channel,
                        invitation_event_id=invite["invitation_event_id"], **{past: now_ms()})

    def members(self, space_id: str, channel_id: str) -> list[dict[str, Any]]:
        return self.call("GET", f"/spaces/{space_id}/channels/{channel_id}/members").get("members") or []

    def revoke_device(self, device_id: str) -> None:
        self.call("POST", f"/devices/{device_id}/revoke",
                  certs.device_revocation(self.identity.root_secret_key, device_id))

    # --- messages ---

    def upload(self, path: pathlib.Path) -> dict[str, Any]:
        mime_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        ciphertext, meta = envelope.seal_attachment(path.read_bytes(), path.name, mime_type)
        blob_id = answer_object(*self.send("POST", "/blobs/upload", ciphertext)).get("blob_id")
        if not isinstance(blob_id, str) or not blob_id:
            raise ClientError("the server gives the blob no id")
        return {**meta, "blob_id": blob_id}

    def download(self, meta: dict[str, Any]) -> bytes:
        blob_id = meta.get("blob_id")
        if not isinstance(blob_id, str) or not BLOB_ID.fullmatch(blob_id):
            raise ClientError("the attachment's blob id is not one")
        status, data = self.send("GET", f"/blobs/{blob_id}")
        if status != 200:
            raise HttpError(status, data.decode("utf-8", "replace"))
        if len(data) > MAX_DOWNLOAD:
            raise ClientError("the blob is too large")
        return envelope.strip_multipart(envelope.open_attachment(meta, data))

    def send_message(self, text: str, files: list[pathlib.Path], *, recipient_slug: str | None = None,
                     space_id: str | None = None, channel_id: str | None = None, thread_root_id: str | None = None,
                     reply_to_id: str | None = None) -> dict[str, Any]:
        if channel_id:
            slugs = [m["slug"] for m in self.members(space_id or "", channel_id)]
        else:
            slugs = [self.slug, recipient_slug or ""]
        content: Any = text
        if files:
            content = {"text": text, "attachments": [self.upload(f) for f in files]}
        recipients, session = self.recipients(slugs), self.session()
        payload = envelope.new_payload(
            self.slug, session.subkey_id, content, recipient_slug=recipient_slug, space_id=space_id,
            channel_id=channel_id, thread_root_id=thread_root_id, reply_to_id=reply_to_id,
            content_type=envelope.ATTACHMENTS_TYPE if files else "text/plain")
        sealed = envelope.seal(payload, session.subkey_secret_key, recipients)
        answer = self.call("POST", "/messages", sealed)
        return {"envelope_id": sealed["envelope_id"], "sent_at": payload["sent_at"],
                "devices_queued": answer.get("devices_queued")}

    def sender_keys(self, slug: str, sent_at: int, fresh: bool) -> list[bytes]:
        if fresh or slug not in self.people:
            self.fetch_people([slug])
            self.check_pins([slug])
        return self.people[slug].keys_at(sent_at)

    def open(self, sealed: Any) -> dict[str, Any]:
        """The verified payload; a CryptoError tells why there is none."""
        if not isinstance(sealed, dict):
            raise CryptoError("malformed")
        slug, sent_at = sealed.get("sender_slug"), sealed.get("sent_at")
        if sealed.get("type") == "plaintext_message_envelope":
            payload = (sealed.get("signed_payload") or {}).get("payload") or {}
            slug, sent_at = payload.get("sender_slug"), payload.get("sent_at")
        if not isinstance(slug, str) or type(sent_at) is not int:
            raise CryptoError("malformed")
        for fresh in (False, True):
            try:
                return envelope.open_envelope(sealed, self.identity.device_id, self.identity.kem_secret_key,
                                              self.sender_keys(slug, sent_at, fresh))
            except CryptoError as e:
                if e.reason != "signature_invalid" or fresh:
                    raise
        raise AssertionError

    def pending(self) -> list[Any]:
        items = self.call("GET", "/messages/pending").get("messages") or []
        return [i.get("envelope", i) if isinstance(i, dict) else i for i in items]

    def acknowledge(self, ids: list[str]) -> None:
        for at in range(0, len(ids), ACKS_PER_CALL):
            self.call("POST", "/messages/ack", {"envelope_ids": ids[at:at + ACKS_PER_CALL]})

    async def follow(self, seconds: float, woken: Callable[[], bool]) -> None:
        """Stays on the stream until woken(), which is called for each message frame, says that it is enough."""
        import aiohttp
        session = self.session()
        async with aiohttp.ClientSession() as http_session:
            async with http_session.ws_connect(stream_url(self.connection.url), ssl=self.connection.context or None,
                                               max_msg_size=16 * 1024 * 1024) as ws:
                await ws.send_json(stream_connect(session.subkey_secret_key, self.slug, session.subkey_id))
                answer = await ws.receive(timeout=60)
                if answer.type != aiohttp.WSMsgType.TEXT or parse_object(answer.data).get("type") != "connected":
                    raise ClientError("the server refuses the stream")
                # What came before is in the queue.
                if woken():
                    return
                end = asyncio.get_running_loop().time() + seconds
                while (left := end - asyncio.get_running_loop().time()) > 0:
                    try:
                        message = await ws.receive(timeout=left)
                    except asyncio.TimeoutError:
                        return
                    if message.type != aiohttp.WSMsgType.TEXT:
                        raise ClientError("the server ends the stream")
                    frame = parse_object(message.data)
                    if frame.get("type") == "ping":
                        await ws.send_json({"type": "pong"})
                    elif frame.get("type") == "message" and woken():
                        return
