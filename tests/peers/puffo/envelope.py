# SPDX-License-Identifier: MIT
"""Messages and attachments: what is signed, encrypted and bound to what."""

from __future__ import annotations

import json
import os
import re
import uuid
from typing import Any, Iterable

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from puffo.crypto import (CryptoError, aead_open, b64, canonical, hpke_open, hpke_seal, now_ms, parse_json, random_b64,
                          sign_json, unb64, verify_json)

MESSAGE_INFO = b"puffo/msg-hpke/v1"
ROOT_KEY_INFO = b"puffo/rke-hpke/v1"
ATTACHMENTS_TYPE = "puffo/message+attachments/v1"
KINDS = {"channel": b"\x01", "dm": b"\x02"}
ROUTE = ("space_id", "channel_id", "recipient_slug")
REQUIRED = ("type", "version", "envelope_kind", "sender_subkey_id", "sent_at", "message_nonce", "content_type",
            "content")
META = ("blob_id", "filename", "mime_type", "size", "key", "nonce")


# --- additional data ---

def _text(value: Any) -> bytes:
    if not isinstance(value, str) or not value:
        raise CryptoError("aad_invalid")
    try:
        return value.encode("utf-8")
    except UnicodeError:
        raise CryptoError("aad_invalid") from None


def _sized(value: Any) -> bytes:
    data = _text(value)
    if len(data) > 0xFFFF:
        raise CryptoError("aad_invalid")
    return len(data).to_bytes(2, "big") + data


def outer_aad(envelope_id: Any, kind: Any, sender_slug: Any, sent_at: int, space_id: Any = None,
              channel_id: Any = None, recipient_slug: Any = None) -> bytes:
    if not isinstance(kind, str) or kind not in KINDS or not 0 <= sent_at < 2 ** 63:
        raise CryptoError("aad_invalid")
    route = _text(space_id) + _text(channel_id) if kind == "channel" else _sized(recipient_slug)
    return b"puffo/message-envelope-outer/v1" + _text(envelope_id) + KINDS[kind] + _sized(sender_slug) + \
        sent_at.to_bytes(8, "big") + route


def wrap_aad(envelope_id: Any, device_id: Any) -> bytes:
    return b"puffo/message-envelope-wrap/v1" + _text(envelope_id) + _text(device_id)


def root_key_aad(enrollment_nonce: bytes, recipient_kem_key: bytes, fingerprint: bytes) -> bytes:
    return b"puffo/root-key-envelope/v1" + enrollment_nonce + recipient_kem_key + fingerprint


def attachment_aad(mime_type: str, filename: str) -> bytes:
    return b"puffo/attachment/v1\0" + mime_type.encode() + b"\0" + filename.encode()


# --- sending ---

def new_payload(sender_slug: str, sender_subkey_id: str, content: Any, *, space_id: str | None = None,
                channel_id: str | None = None, recipient_slug: str | None = None, thread_root_id: str | None = None,
                reply_to_id: str | None = None, content_type: str = "text/plain", sent_at: int | None = None,
                message_nonce: str | None = None) -> dict[str, Any]:
    return {
        "type": "message_payload",
        "version": 1,
        "envelope_kind": "dm" if recipient_slug is not None else "channel",
        "sender_slug": sender_slug,
        "sender_subkey_id": sender_subkey_id,
        "space_id": space_id,
        "channel_id": channel_id,
        "recipient_slug": recipient_slug,
        "sent_at": now_ms() if sent_at is None else sent_at,
        "message_nonce": message_nonce or random_b64(16),
        "thread_root_id": thread_root_id,
        "reply_to_id": reply_to_id,
        "content_type": content_type,
        "content": content,
    }


def plaintext_of(payload: dict[str, Any], signature: str) -> bytes:
    text = json.dumps({"payload": payload, "signature": signature}, ensure_ascii=True, separators=(",", ":"))
    return text.replace("\x7f", "\\u007f").encode("ascii")


def seal(payload: dict[str, Any], seed: bytes, recipients: Iterable[tuple[str, bytes]], *,
         envelope_id: str | None = None, content_key: bytes | None = None, content_nonce: bytes | None = None,
         ephemerals: dict[str, bytes] | None = None) -> dict[str, Any]:
    """An envelope of the payload for (device id, encryption key) pairs; the keyword arguments are vectors' seams."""
    recipients = list(recipients)
    if not recipients:
        raise CryptoError("no_recipients")
    envelope_id = envelope_id or f"msg_{uuid.uuid4()}"
    content_key = content_key or os.urandom(32)
    content_nonce = content_nonce or os.urandom(12)
    aad = outer_aad(envelope_id, payload["envelope_kind"], payload["sender_slug"], payload["sent_at"],
                    *(payload[k] for k in ROUTE))
    ciphertext = ChaCha20Poly1305(content_key).encrypt(
        content_nonce, plaintext_of(payload, sign_json(seed, payload)), aad)
    wrapped = []
    for device_id, kem_key in recipients:
        enc, key = hpke_seal(kem_key, MESSAGE_INFO, wrap_aad(envelope_id, device_id), content_key,
                             (ephemerals or {}).get(device_id))
        wrapped.append({"device_id": device_id, "hpke_enc": b64(enc), "wrapped_content_key": b64(key)})
    return {
        "type": "message_envelope",
        "version": 1,
        "envelope_id": envelope_id,
        **{k: payload[k] for k in ("envelope_kind", "sender_slug", "sent_at", *ROUTE)},
        "content_nonce": b64(content_nonce),
        "content_ciphertext": b64(ciphertext),
        "recipients": wrapped,
    }


def plaintext_envelope(payload: dict[str, Any], seed: bytes, envelope_id: str | None = None) -> dict[str, Any]:
    """The unencrypted form, that newer servers may deliver."""
    return {
        "type": "plaintext_message_envelope",
        "version": 1,
        "envelope_id": envelope_id or f"msg_{uuid.uuid4()}",
        "signed_payload": {"payload": payload, "signature": sign_json(seed, payload)},
    }


# --- receiving ---

def _member(envelope: dict[str, Any], name: str, kind: type) -> Any:
    value = envelope.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise CryptoError("malformed", name)
    return value


def _bytes(obj: dict[str, Any], name: str) -> bytes:
    try:
        return unb64(obj[name])
    except (KeyError, CryptoError):
        raise CryptoError("malformed", name) from None


def _entry_for(envelope: dict[str, Any], device_id: str) -> dict[str, Any]:
    for entry in envelope.get("recipients") or []:
        if not isinstance(entry, dict) or "device_id" not in entry:
            raise CryptoError("malformed", "recipients")
        if entry["device_id"] == device_id:
            return entry
    raise CryptoError("no_recipient_entry")


def _decrypt(envelope: dict[str, Any], device_id: str, kem_secret: bytes) -> bytes:
    entry = _entry_for(envelope, device_id)
    if "envelope_id" not in envelope:
        raise CryptoError("malformed", "envelope_id")
    enc, wrapped = _bytes(entry, "hpke_enc"), _bytes(entry, "wrapped_content_key")
    aad = wrap_aad(envelope["envelope_id"], device_id)
    try:
        content_key = hpke_open(kem_secret, enc, MESSAGE_INFO, aad, wrapped)
    except CryptoError:
        raise CryptoError("wrap_open_failed") from None
    if len(content_key) != 32:
        raise CryptoError("bad_content_key_length")
    nonce = _bytes(envelope, "content_nonce")
    if len(nonce) != 12:
        raise CryptoError("bad_nonce_length")
    ciphertext = _bytes(envelope, "content_ciphertext")
    aad = outer_aad(envelope["envelope_id"], envelope.get("envelope_kind", "channel"),
                    _member(envelope, "sender_slug", str), _member(envelope, "sent_at", int),
                    *(envelope.get(k) for k in ROUTE))
    return aead_open(content_key, nonce, aad, ciphertext, "content_open_failed")


def _signed_payload(value: Any) -> tuple[dict[str, Any], bytes]:
    if not isinstance(value, dict) or not isinstance(value.get("payload"), dict):
        raise CryptoError("plaintext_invalid")
    try:
        canonical(value["payload"])
        return value["payload"], unb64(value["signature"])
    except (KeyError, CryptoError):
        raise CryptoError("plaintext_invalid") from None


def _payload_checked(payload: dict[str, Any]) -> None:
    if any(k not in payload for k in REQUIRED) or not isinstance(payload["content_type"], str):
        raise CryptoError("plaintext_invalid")
    if payload["type"] != "message_payload":
        raise CryptoError("payload_type")
    if payload["version"] != 1 or isinstance(payload["version"], bool):
        raise CryptoError("payload_version")


def _route_checked(payload: dict[str, Any]) -> None:
    active = ("space_id", "channel_id") if payload["envelope_kind"] == "channel" else ("recipient_slug",)
    for name in ROUTE:
        if (name in active) != bool(payload.get(name)) or name not in active and payload.get(name) is not None:
            raise CryptoError("inner_outer_mismatch", name)


def _result(payload: dict[str, Any], envelope_id: str) -> dict[str, Any]:
    nullable = {k: payload.get(k) for k in (*ROUTE, "thread_root_id", "reply_to_id")}
    return {**payload, **nullable, "envelope_id": envelope_id}


def open_envelope(envelope: dict[str, Any], device_id: str, kem_secret: bytes,
                  sender_keys: Iterable[bytes]) -> dict[str, Any]:
    """The verified payload, with the envelope's id."""
    if envelope.get("type") == "plaintext_message_envelope":
        return open_plaintext(envelope, sender_keys)
    plaintext = _decrypt(envelope, device_id, kem_secret)
    try:
        value = parse_json(plaintext)
    except CryptoError:
        raise CryptoError("plaintext_invalid") from None
    payload, signature = _signed_payload(value)
    if not any(verify_json(k, signature, payload) for k in sender_keys):
        raise CryptoError("signature_invalid")
    if payload.get("sender_slug") != envelope["sender_slug"]:
        raise CryptoError("sender_slug_mismatch")
    if envelope.get("type") != "message_envelope":
        raise CryptoError("envelope_type")
    if envelope.get("version") != 1 or isinstance(envelope["version"], bool):
        raise CryptoError("envelope_version")
    _payload_checked(payload)
    outer = {"envelope_kind": "channel", **envelope}
    if any(payload.get(k) != outer.get(k) for k in ("envelope_kind", "sent_at", *ROUTE)):
        raise CryptoError("inner_outer_mismatch")
    _route_checked(payload)
    return _result(payload, envelope["envelope_id"])


def open_plaintext(envelope: dict[str, Any], sender_keys: Iterable[bytes]) -> dict[str, Any]:
    if not envelope.get("envelope_id") or not isinstance(envelope["envelope_id"], str):
        raise CryptoError("malformed", "envelope_id")
    if envelope.get("version") != 1 or isinstance(envelope["version"], bool):
        raise CryptoError("envelope_version")
    payload, signature = _signed_payload(envelope.get("signed_payload"))
    if not any(verify_json(k, signature, payload) for k in sender_keys):
        raise CryptoError("signature_invalid")
    _payload_checked(payload)
    if payload["envelope_kind"] not in KINDS:
        raise CryptoError("inner_outer_mismatch", "envelope_kind")
    _route_checked(payload)
    return _result(payload, envelope["envelope_id"])


def content_text(payload: dict[str, Any]) -> str:
    content = payload["content"]
    if payload["content_type"] == ATTACHMENTS_TYPE and isinstance(content, dict):
        content = content.get("text")
    if not content:
        return ""
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def content_attachments(payload: dict[str, Any]) -> list[dict[str, Any]]:
    content = payload["content"]
    if payload["content_type"] != ATTACHMENTS_TYPE or not isinstance(content, dict):
        return []
    metas = content.get("attachments")
    return [m for m in metas if isinstance(m, dict)] if isinstance(metas, list) else []


# --- attachments ---

def seal_attachment(data: bytes, filename: str, mime_type: str, key: bytes | None = None,
                    nonce: bytes | None = None) -> tuple[bytes, dict[str, Any]]:
    """Ciphertext and the meta object, still without its blob id."""
    if "\0" in filename + mime_type:
        raise CryptoError("bad_name")
    key, nonce = key or os.urandom(32), nonce or os.urandom(12)
    meta = {"blob_id": "", "filename": filename, "mime_type": mime_type, "size": len(data), "key": b64(key),
            "nonce": b64(nonce)}
    return ChaCha20Poly1305(key).encrypt(nonce, data, attachment_aad(mime_type, filename)), meta


def open_attachment(meta: dict[str, Any], ciphertext: bytes) -> bytes:
    if any(k not in meta for k in META):
        raise CryptoError("meta_malformed")
    key, nonce = unb64(meta["key"]), unb64(meta["nonce"])
    if len(key) != 32:
        raise CryptoError("bad_key_length")
    if len(nonce) != 12:
        raise CryptoError("bad_nonce_length")
    return aead_open(key, nonce, attachment_aad(meta["mime_type"], meta["filename"]), ciphertext, "open_failed")


def strip_multipart(data: bytes) -> bytes:
    """Old senders encrypted a whole form body: its longest part."""
    end = data.find(b"\r\n")
    if not data.startswith(b"--") or not 0 <= end <= 256:
        return data
    boundary = data[2:end]
    if not boundary or b"\r" in boundary or b"\n" in boundary:
        return data
    best: bytes | None = None
    for piece in data.split(b"--" + boundary)[1:]:
        if not piece or piece.startswith(b"--"):
            continue
        piece = piece[2:] if piece.startswith(b"\r\n") else piece
        _, blank, body = piece.partition(b"\r\n\r\n")
        if not blank:
            continue
        body = body[:-2] if body.endswith(b"\r\n") else body
        if best is None or len(body) > len(best):
            best = body
    return data if best is None else best


def safe_name(filename: str, blob_id: str) -> str:
    parts = [p for p in filename.split("/") if p not in ("", ".")]
    name = parts[-1] if parts else ""
    if name in ("", ".", ".."):
        name = re.sub(r"[^A-Za-z0-9._-]", "_", blob_id)
    return "attachment" if name in ("", ".", "..") else name
