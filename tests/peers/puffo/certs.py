# SPDX-License-Identifier: MIT
"""Certificates and signed events: building them, and checking them with the texts that clients show."""

from __future__ import annotations

import uuid
from typing import Any

from puffo.crypto import (ROTATION_MARGIN_MS, SUBKEY_TTL_MS, CryptoError, b64, ed25519_public, key_id, now_ms,
                          random_b64, sign_json, unb64, verify_json, x25519_public)

Cert = dict[str, Any]


class CertError(Exception):
    pass


# --- building ---

def identity_cert(root_seed: bytes, identity_type: str, operator_root: bytes | None = None) -> Cert:
    cert: Cert = {"type": "identity_cert", "version": 1, "root_public_key": b64(ed25519_public(root_seed)),
                  "identity_type": identity_type,
                  "declared_operator_public_key": b64(operator_root) if operator_root else None}
    return {**cert, "self_signature": sign_json(root_seed, cert)}


def slug_binding(root_seed: bytes, slug: str) -> Cert:
    cert: Cert = {"type": "slug_binding", "version": 1, "root_public_key": b64(ed25519_public(root_seed)),
                  "slug": slug, "issued_at": now_ms()}
    return {**cert, "self_signature": sign_json(root_seed, cert)}


def device_cert(root_seed: bytes, device_seed: bytes, kem_secret: bytes) -> Cert:
    signing = ed25519_public(device_seed)
    cert: Cert = {"type": "device_cert", "version": 1, "device_id": key_id("dev", signing),
                  "root_public_key": b64(ed25519_public(root_seed)),
                  "keys": {"signing": {"algorithm": "ed25519", "public_key": b64(signing)},
                           "encryption": {"algorithm": "x25519", "public_key": b64(x25519_public(kem_secret))}},
                  "issued_at": now_ms(), "expires_at": None}
    return {**cert, "signature": sign_json(root_seed, cert)}


def subkey_cert(device_seed: bytes, device_id: str, subkey_public: bytes, issued_at: int | None = None,
                ttl_ms: int | None = SUBKEY_TTL_MS) -> Cert:
    issued_at = now_ms() if issued_at is None else issued_at
    cert: Cert = {"type": "subkey_cert", "version": 1, "subkey_id": key_id("sk", subkey_public),
                  "device_id": device_id, "subkey_public_key": b64(subkey_public), "issued_at": issued_at,
                  "expires_at": None if ttl_ms is None else issued_at + ttl_ms}
    return {**cert, "signature": sign_json(device_seed, cert)}


def operator_attestation(operator_seed: bytes, agent_root: bytes) -> Cert:
    cert: Cert = {"type": "operator_attestation", "version": 1,
                  "operator_root_public_key": b64(ed25519_public(operator_seed)),
                  "agent_root_public_key": b64(agent_root), "issued_at": now_ms()}
    return {**cert, "signature": sign_json(operator_seed, cert)}


def device_revocation(root_seed: bytes, device_id: str, effective_from: int | None = None) -> Cert:
    now = now_ms()
    cert: Cert = {"type": "device_revocation", "version": 1, "device_id": device_id,
                  "root_public_key": b64(ed25519_public(root_seed)),
                  "effective_from": now if effective_from is None else effective_from, "issued_at": now}
    return {**cert, "signature": sign_json(root_seed, cert)}


def signed_event(seed: bytes, kind: str, payload: dict[str, Any], slug: str, device_id: str, subkey_id: str,
                 event_id: str | None = None) -> Cert:
    event: Cert = {"type": "signed_event", "version": 1, "event_id": event_id or f"ev_{uuid.uuid4()}", "kind": kind,
                   "payload": payload, "signer_slug": slug, "signer_device_id": device_id,
                   "signer_subkey_id": subkey_id}
    return {**event, "signature": sign_json(seed, event)}


def event_nonce() -> str:
    return random_b64(32)


# --- checking ---

def _strings(cert: Cert, *names: str) -> bool:
    return all(isinstance(cert.get(n), str) for n in names)


def _decoded(text: str, what: str, size: int | None = None, size_text: str | None = None) -> bytes:
    try:
        data = unb64(text)
    except CryptoError:
        raise CertError(f"{what} decode: not base64url") from None
    if size is not None and len(data) != size:
        raise CertError(f"{size_text or what} must be {size} bytes")
    return data


def _typed(cert: Any, name: str, label: str) -> Cert:
    if not isinstance(cert, dict):
        raise CertError(f"{name} must be an object")
    if cert.get("type") != name:
        raise CertError(f"unexpected {label} {cert.get('type')!r}")
    return cert


def _verified(key: bytes, signature: bytes, cert: Cert, what: str) -> None:
    try:
        good = verify_json(key, signature, cert)
    except CryptoError:
        good = False
    if not good:
        raise CertError(f"{what} verification failed")


def check_identity(cert: Any) -> bytes:
    """The root public key."""
    cert = _typed(cert, "identity_cert", "cert_type")
    if not _strings(cert, "root_public_key", "self_signature"):
        raise CertError("identity_cert missing root_public_key/self_signature")
    root = _decoded(cert["root_public_key"], "identity_cert root_public_key", 32)
    signature = _decoded(cert["self_signature"], "identity_cert self_signature", 64)
    _verified(root, signature, cert, "identity_cert self_signature")
    return root


def check_slug_binding(cert: Any, root: bytes) -> str:
    """The slug."""
    cert = _typed(cert, "slug_binding", "slug_binding type")
    if not _strings(cert, "root_public_key", "self_signature"):
        raise CertError("slug_binding missing root_public_key/self_signature")
    if not _strings(cert, "slug") or not cert["slug"]:
        raise CertError("slug_binding missing slug")
    if _decoded(cert["root_public_key"], "slug_binding root_public_key") != root:
        raise CertError("slug_binding.root_public_key does not match identity_cert")
    signature = _decoded(cert["self_signature"], "slug_binding self_signature", 64)
    _verified(root, signature, cert, "slug_binding self_signature")
    return cert["slug"]


def check_device(cert: Any, root: bytes) -> bytes:
    """The device signing key."""
    cert = _typed(cert, "device_cert", "cert_type")
    if not _strings(cert, "root_public_key", "signature"):
        raise CertError("device_cert missing root_public_key/signature")
    if not isinstance(cert.get("keys"), dict):
        raise CertError("device_cert missing keys (v2 nested {signing, encryption})")
    signing = cert["keys"].get("signing")
    if not isinstance(signing, dict):
        raise CertError("device_cert.keys.signing missing")
    if not _strings(signing, "public_key"):
        raise CertError("device_cert.keys.signing.public_key missing")
    if signing.get("algorithm") != "ed25519":
        raise CertError(f"device_cert.keys.signing.algorithm must be 'ed25519', got {signing.get('algorithm')!r}")
    if not _strings(cert, "device_id") or not cert["device_id"]:
        raise CertError("device_cert missing device_id")
    if _decoded(cert["root_public_key"], "device_cert root_public_key") != root:
        raise CertError("device_cert.root_public_key does not match identity_cert")
    signature = _decoded(cert["signature"], "device_cert signature", 64)
    key = _decoded(signing["public_key"], "device_cert signing_public_key", 32)
    _verified(root, signature, cert, "device_cert signature")
    return key


def check_attestation(cert: Any, agent_root: bytes, operator_root: bytes) -> None:
    cert = _typed(cert, "operator_attestation", "attestation type")
    names = ("operator_root_public_key", "agent_root_public_key", "signature")
    if not _strings(cert, *names):
        raise CertError("operator_attestation missing required fields")
    operator, agent, signature = (_decoded(cert[n], "attestation field") for n in names)
    if operator != operator_root:
        raise CertError("attestation.operator_root_public_key != paired user")
    if agent != agent_root:
        raise CertError("attestation.agent_root_public_key != agent identity_cert")
    _verified(operator, signature, cert, "attestation signature")


def check_subkey(cert: Any, device_key: bytes, device_id: str, now: int) -> bytes:
    """The subkey; a CryptoError's reason tells what is wrong."""
    if not isinstance(cert, dict) or cert.get("type") != "subkey_cert" or cert.get("version") != 1:
        raise CryptoError("malformed")
    public_key = unb64(cert.get("subkey_public_key"))
    if len(public_key) != 32 or cert.get("subkey_id") != key_id("sk", public_key):
        raise CryptoError("id_mismatch")
    if cert.get("device_id") != device_id:
        raise CryptoError("device_mismatch")
    if not verify_json(device_key, unb64(cert.get("signature")), cert):
        raise CryptoError("signature_invalid")
    if is_expired(cert.get("expires_at"), now):
        raise CryptoError("expired")
    return public_key


def check_revocation(cert: Any, root: bytes) -> tuple[str, int]:
    """Device id and the time from which it is revoked."""
    cert = _typed(cert, "device_revocation", "revocation type")
    if not _strings(cert, "device_id", "root_public_key", "signature") or type(cert.get("effective_from")) is not int:
        raise CertError("device_revocation missing required fields")
    if _decoded(cert["root_public_key"], "device_revocation root_public_key") != root:
        raise CertError("device_revocation.root_public_key does not match identity_cert")
    _verified(root, _decoded(cert["signature"], "device_revocation signature", 64), cert,
              "device_revocation signature")
    return cert["device_id"], cert["effective_from"]


def is_expired(expires_at: int | None, now: int) -> bool:
    return expires_at is not None and now >= expires_at


def needs_rotation(expires_at: int | None, now: int) -> bool:
    return expires_at is not None and expires_at <= now + ROTATION_MARGIN_MS
