# SPDX-License-Identifier: MIT
"""Registration, devices, subkeys, the certificate registry, profiles and agents' status."""

from __future__ import annotations

import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from puffo import certs
from puffo.base import Refusal, Request, bad, conflict, forbidden, list_of, not_found, paged, route, text_of
from puffo.crypto import CryptoError, b64, key_id, unb64

if TYPE_CHECKING:
    from puffo.server import Server

PENDING_MS = 3_600_000
MAX_SUBKEY_MS = 48 * 3_600_000
PROFILE_LIMITS = {"display_name": 60, "avatar_url": 2000, "bio": 2000, "role": 140, "role_short": 32, "soul": 100_000}


def _checked(check: Any, *args: Any) -> Any:
    try:
        return check(*args)
    except certs.CertError as e:
        raise bad(str(e), "INVALID_CERT") from None
    except CryptoError as e:
        raise bad(f"certificate: {e.reason}", "INVALID_CERT") from None


def _device_checked(cert: Any, root: bytes) -> str:
    signing = _checked(certs.check_device, cert, root)
    encryption = cert["keys"].get("encryption")
    if not isinstance(encryption, dict) or encryption.get("algorithm") != "x25519" or \
            len(_checked(unb64, encryption.get("public_key"))) != 32:
        raise bad("device_cert.keys.encryption is not an x25519 key", "INVALID_CERT")
    if cert["device_id"] != key_id("dev", signing):
        raise bad("device_id is not derived from the signing key", "INVALID_CERT")
    return cert["device_id"]


def _profile_checked(body: dict[str, Any]) -> dict[str, Any]:
    changes = {k: v for k, v in body.items() if k in PROFILE_LIMITS}
    for name, value in changes.items():
        if value is not None and (not isinstance(value, str) or len(value) > PROFILE_LIMITS[name]):
            raise bad(f"{name} must be a string of at most {PROFILE_LIMITS[name]} characters")
    return changes


def _register(server: Server, body: dict[str, Any], identity_type: str, operator_slug: str | None,
              attestation: Any = None) -> tuple[str, str, str, int]:
    """An account that waits for its slug binding: slug, device id, token, end of waiting."""
    username = text_of(body, "username", 40)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", username):
        raise bad("username must be lower-case letters, digits and hyphens")
    profile = _profile_checked(body)
    cert = body.get("identity_cert")
    root = _checked(certs.check_identity, cert)
    assert isinstance(cert, dict)
    if cert.get("identity_type") != identity_type:
        raise bad(f"identity_type must be {identity_type}", "INVALID_CERT")
    device_id = _device_checked(body.get("device_cert"), root)
    store, now = server.store, server.now()
    if store.one("SELECT 1 FROM accounts WHERE root_key = ? AND active", b64(root)) or \
            store.one("SELECT 1 FROM devices WHERE device_id = ?", device_id):
        raise conflict("this identity is registered already")
    slug, token, expires_at = f"{username}-{secrets.token_hex(2)}", secrets.token_urlsafe(24), now + PENDING_MS
    while store.one("SELECT 1 FROM accounts WHERE slug = ?", slug):
        slug = f"{username}-{secrets.token_hex(2)}"
    with store.transaction():
        store.run("DELETE FROM accounts WHERE root_key = ? AND NOT active", b64(root))
        store.run("INSERT INTO accounts (slug, root_key, identity_type, operator_slug, username, display_name,"
                  " avatar_url, profile_updated_at, identity_cert) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", slug,
                  b64(root), identity_type, operator_slug, username, profile.get("display_name"),
                  profile.get("avatar_url"), now, json.dumps(cert))
        store.run("INSERT INTO pending_accounts VALUES (?, ?, ?, ?, ?)", token, slug, json.dumps(body["device_cert"]),
                  json.dumps(attestation) if attestation else None, expires_at)
    return slug, device_id, token, expires_at


@route("POST", "/signup", "none")
async def signup(server: Server, request: Request) -> dict[str, Any]:
    body = request.json()
    text_of(body, "invite_code")
    slug, device_id, token, _ = _register(server, body, "human", None)
    return {"slug": slug, "device_id": device_id, "pending_token": token}


@route("POST", "/agents")
async def create_agent(server: Server, request: Request) -> dict[str, Any]:
    body, operator = request.json(), server.account_of(request)
    if operator["identity_type"] != "human":
        raise forbidden("only a human operates agents")
    agent_root, operator_root = _checked(certs.check_identity, body.get("identity_cert")), unb64(operator["root_key"])
    if body["identity_cert"].get("declared_operator_public_key") != operator["root_key"]:
        raise bad("declared_operator_public_key is not the operator's root key", "INVALID_CERT")
    _checked(certs.check_attestation, body.get("attestation"), agent_root, operator_root)
    slug, device_id, token, expires_at = _register(server, body, "agent", request.slug, body["attestation"])
    return {"agent_slug": slug, "agent_device_id": device_id, "pending_token": token, "pending_expires_at": expires_at}


@route("POST", "/certs/slug_binding", "none")
async def bind_slug(server: Server, request: Request) -> dict[str, Any]:
    body, store = request.json(), server.store
    row = store.one("SELECT * FROM pending_accounts WHERE token = ?", text_of(body, "pending_token"))
    account = store.one("SELECT * FROM accounts WHERE slug = ?", row["slug"]) if row else None
    if not row or not account or row["expires_at"] <= server.now():
        raise not_found("no such pending registration")
    binding = body.get("slug_binding")
    if _checked(certs.check_slug_binding, binding, unb64(account["root_key"])) != row["slug"]:
        raise bad("the binding is for another slug", "INVALID_CERT")
    device, slug = json.loads(row["device_cert"]), row["slug"]
    with store.transaction():
        store.run("UPDATE accounts SET active = 1 WHERE slug = ?", slug)
        store.run("INSERT INTO devices VALUES (?, ?, ?, NULL)", device["device_id"], slug,
                  device["keys"]["signing"]["public_key"])
        store.run("DELETE FROM pending_accounts WHERE token = ?", row["token"])
        entries = [store.register("identity_cert", slug, json.loads(account["identity_cert"])),
                   store.register("slug_binding", slug, binding), store.register("device_cert", slug, device)]
        if row["attestation"]:
            entries.append(store.register("operator_attestation", slug, json.loads(row["attestation"])))
    for entry in entries:
        server.registry_changed(entry)
    return {"ok": True, "slug": slug}


@route("POST", "/devices/subkeys", "device")
async def add_subkey(server: Server, request: Request) -> dict[str, Any]:
    signer, store, now = request.signer, server.store, server.now()
    assert signer is not None
    cert = request.json().get("subkey_cert")
    device = store.one("SELECT * FROM devices WHERE device_id = ?", signer.device_id)
    assert device is not None
    key = _checked(certs.check_subkey, cert, unb64(device["signing_key"]), signer.device_id, now)
    issued_at, expires_at = cert.get("issued_at"), cert.get("expires_at")
    if type(issued_at) is not int or type(expires_at) is not int:
        raise bad("issued_at and expires_at must be integers", "INVALID_CERT")
    if expires_at - issued_at >= MAX_SUBKEY_MS or expires_at - now >= MAX_SUBKEY_MS:
        raise bad("a subkey lives less than 48 hours", "INVALID_CERT")
    if store.one("SELECT 1 FROM subkeys WHERE subkey_id = ?", cert["subkey_id"]):
        raise conflict("this subkey is registered already")
    with store.transaction():
        store.run("INSERT INTO subkeys VALUES (?, ?, ?, ?, ?)", cert["subkey_id"], signer.slug, signer.device_id,
                  b64(key), expires_at)
        entry = store.register("subkey_cert", signer.slug, cert)
    server.registry_changed(entry)
    return {"ok": True, "subkey_id": cert["subkey_id"], "seq": entry["seq"]}


@route("POST", "/devices/enroll/init", "none")
async def begin_enrolment(server: Server, request: Request) -> dict[str, Any]:
    """Asked for by the new device, which nobody knows yet."""
    slug, store = text_of(request.json(), "slug"), server.store
    if not store.account(slug):
        raise not_found("no such user")
    nonce, expires_at = secrets.token_urlsafe(24), server.now() + PENDING_MS
    store.run("INSERT INTO enrolments VALUES (?, ?, ?)", nonce, slug, expires_at)
    return {"nonce": nonce, "expires_at": expires_at}


@route("POST", "/devices/enroll/{nonce}/complete")
async def complete_enrolment(server: Server, request: Request, nonce: str) -> dict[str, Any]:
    """By a device that is known, for the new one: its certificate is signed with the root key."""
    store, cert = server.store, request.json().get("device_cert")
    asked = store.one("SELECT * FROM enrolments WHERE nonce = ?", nonce)
    if not asked or asked["slug"] != request.slug or asked["expires_at"] <= server.now():
        raise not_found("no such enrolment")
    device_id = _device_checked(cert, unb64(server.account_of(request)["root_key"]))
    if store.one("SELECT 1 FROM devices WHERE device_id = ?", device_id):
        raise conflict("this device is registered already")
    with store.transaction():
        store.run("DELETE FROM enrolments WHERE nonce = ?", nonce)
        store.run("INSERT INTO devices VALUES (?, ?, ?, NULL)", device_id, request.slug,
                  cert["keys"]["signing"]["public_key"])
        entry = store.register("device_cert", request.slug, cert)
    server.registry_changed(entry)
    return {"ok": True, "device_id": device_id}


@route("POST", "/devices/{device}/revoke")
async def revoke_device(server: Server, request: Request, device_id: str) -> dict[str, Any]:
    cert, root = request.json(), unb64(server.account_of(request)["root_key"])
    revoked, effective_from = _checked(certs.check_revocation, cert, root)
    if revoked != device_id:
        raise bad("the revocation is for another device")
    device = server.store.one("SELECT * FROM devices WHERE device_id = ?", device_id)
    if not device or device["slug"] != request.slug:
        raise not_found("no such device")
    with server.store.transaction():
        server.store.run("UPDATE devices SET revoked_from = ? WHERE device_id = ?", effective_from, device_id)
        entry = server.store.register("device_revocation", request.slug, cert)
    server.registry_changed(entry)
    return {"ok": True, "seq": entry["seq"]}


# --- reading the registry ---

CACHE: dict[str, tuple[str, str | None]] = {
    "identity_cert": ("identities", None), "slug_binding": ("slug_bindings", None),
    "device_cert": ("devices", "device_id"), "subkey_cert": ("subkeys", "subkey_id"),
    "device_revocation": ("device_revocations", "device_id"),
    "operator_attestation": ("operator_attestations", None), "operator_revocation": ("operator_revocations", None)}


def _cache(entries: list[dict[str, Any]]) -> dict[str, Any]:
    cache: dict[str, Any] = {name: {} for name, _ in CACHE.values()}
    for entry in entries:
        if entry["kind"] in CACHE:
            name, key = CACHE[entry["kind"]]
            cache[name][entry["cert"].get(key) if key else entry["slug"]] = entry["cert"]
    return cache


@route("GET", "/certs/sync")
async def sync_certs(server: Server, request: Request) -> dict[str, Any]:
    slugs, since = request.slugs(), request.number("since", 0, 0, 2 ** 62)
    limit = request.number("limit", server.settings.certs_page, 1, server.settings.certs_page)
    if "has_more_stuck" in request.faults:
        since = 0
    marks = ",".join("?" * len(slugs))
    rows = server.store.all(f"SELECT * FROM registry WHERE slug IN ({marks}) AND seq > ? ORDER BY seq LIMIT ?",
                            *slugs, since, limit + 1)
    entries = [{"seq": r["seq"], "kind": r["kind"], "slug": r["slug"], "cert": json.loads(r["cert"])}
               for r in rows[:limit]]
    more = len(rows) > limit
    cursor = str(entries[-1]["seq"]) if more else None
    if server.settings.cache_certs:
        return {"cache": _cache(entries), "has_more": more, "next_cursor": cursor}
    return paged(request, {"entries": entries, "has_more": more, "next_cursor": cursor}, "entries")


@route("GET", "/certs/active", later=True)
async def active_certs(server: Server, request: Request) -> dict[str, Any]:
    slugs = request.slugs()
    marks = ",".join("?" * len(slugs))
    rows = server.store.all("SELECT r.slug, r.cert FROM registry r JOIN devices d ON d.device_id ="
                            " json_extract(r.cert, '$.device_id') WHERE r.kind = 'device_cert'"
                            f" AND r.slug IN ({marks}) AND (d.revoked_from IS NULL OR d.revoked_from > ?)"
                            " ORDER BY r.seq", *slugs, server.now())
    certificates = [(r["slug"], json.loads(r["cert"])) for r in rows]
    return {"devices": [{"slug": slug, "device_id": c["device_id"], "created_at": c.get("issued_at"),
                         "kem_public_key": c["keys"]["encryption"]["public_key"],
                         "signing_public_key": c["keys"]["signing"]["public_key"]} for slug, c in certificates]}


# --- profiles ---

@route("GET", "/identities/profiles")
async def profiles(server: Server, request: Request) -> dict[str, Any]:
    rows = [r for r in (server.store.account(s) for s in request.slugs()) if r]
    return {"profiles": [{
        "slug": r["slug"], "username": r["username"], "display_name": r["display_name"],
        "avatar_url": r["avatar_url"], "bio": r["bio"], "role": r["role"] or "", "role_short": r["role_short"] or "",
        "profile_updated_at": r["profile_updated_at"], "owner_slug": r["operator_slug"]} for r in rows]}


@route("PATCH", "/identities/self")
async def change_profile(server: Server, request: Request) -> dict[str, Any]:
    changes, now = _profile_checked(request.json()), server.now()
    if "role_short" in changes and "role" not in changes:
        raise bad("role_short needs role")
    with server.store.transaction():
        for name, value in changes.items():
            server.store.run(f"UPDATE accounts SET {name} = ? WHERE slug = ?", value, request.slug)
        server.store.run("UPDATE accounts SET profile_updated_at = ? WHERE slug = ?", now, request.slug)
    return {"ok": True, "profile_updated_at": now}


# --- agents' status ---

def write_status(server: Server, slug: str, status: str, message_id: str | None, error_text: str | None,
                 heartbeat: bool) -> None:
    now = server.now()
    server.store.run(
        "INSERT INTO statuses VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (slug) DO UPDATE SET status = excluded.status,"
        " current_message_id = excluded.current_message_id, error_text = excluded.error_text,"
        " written_at = excluded.written_at,"
        " last_heartbeat_at = coalesce(excluded.last_heartbeat_at, statuses.last_heartbeat_at)",
        slug, status, message_id, error_text, now if heartbeat else None, now)


def error_text_of(body: dict[str, Any]) -> str | None:
    value = body.get("error_text")
    if value is not None and (not isinstance(value, str) or len(value) > 1024):
        raise bad("error_text must be a string of at most 1024 characters")
    return value


@route("POST", "/agents/me/heartbeat")
async def heartbeat(server: Server, request: Request) -> dict[str, Any]:
    body, now = request.json(), server.now()
    if body.get("status") not in ("idle", "busy", "error"):
        raise bad("status must be idle, busy or error")
    message_id = body.get("current_message_id")
    if message_id is not None and not isinstance(message_id, str):
        raise bad("current_message_id must be a string")
    error_text = error_text_of(body)
    if server.account_of(request)["identity_type"] != "agent":
        raise forbidden("only an agent has a status")
    row = server.store.one("SELECT written_at FROM statuses WHERE slug = ?", request.slug)
    if row and now - row["written_at"] < server.settings.heartbeat_ms:
        raise Refusal(429, "RATE_LIMITED", "one heartbeat in 10 s")
    write_status(server, request.slug, body["status"], message_id, error_text, True)
    return {"ok": True}


def _status(server: Server, slug: str) -> dict[str, Any]:
    row = server.store.one("SELECT * FROM statuses WHERE slug = ?", slug)
    names = ("status", "current_message_id", "error_text", "last_heartbeat_at")
    return {"slug": slug, **{k: row[k] if row else None for k in names}}


@route("GET", "/agents/{slug}/status", "none")
async def agent_status(server: Server, request: Request, slug: str) -> dict[str, Any]:
    account = server.store.account(slug)
    if not account or account["identity_type"] != "agent":
        raise not_found("no such agent")
    return _status(server, slug)


@route("POST", "/agents/status:batch")
async def agent_statuses(server: Server, request: Request) -> dict[str, Any]:
    return {"statuses": [_status(server, s) for s in list_of(request.json(), "slugs", str)]}
