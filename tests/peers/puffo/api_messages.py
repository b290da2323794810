# SPDX-License-Identifier: MIT
"""Messages, their queues and acknowledgement, processing reports, and blobs."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import TYPE_CHECKING, Any

from puffo.api_accounts import error_text_of, write_status
from puffo.base import (Refusal, Reply, Request, bad, conflict, forbidden, html_page, id_of, integer_of, list_of,
                        not_found, route, text_of)
from puffo.crypto import CryptoError, canonical, unb64

if TYPE_CHECKING:
    from puffo.server import Server

ROUTE = ("space_id", "channel_id", "recipient_slug")
RUN_ID = re.compile(r"run_[0-9a-f]{32}")
MAX_RECIPIENTS = 4096


# --- sending ---

def _bytes_of(obj: dict[str, Any], name: str, size: int | None = None) -> None:
    try:
        data = unb64(obj.get(name))
    except CryptoError:
        raise bad(f"{name} must be base64url") from None
    if size is not None and len(data) != size:
        raise bad(f"{name} must be {size} bytes")


def _form_checked(envelope: dict[str, Any]) -> None:
    """Everything but the ciphertext, which is nobody's business here."""
    id_of(envelope, "envelope_id", "msg")
    if envelope.get("type") != "message_envelope" or envelope.get("version") != 1:
        raise bad("not a message_envelope of version 1")
    kinds = {"channel": ("space_id", "channel_id"), "dm": ("recipient_slug",)}
    kind = envelope.get("envelope_kind")
    if kind not in kinds:
        raise bad("envelope_kind must be channel or dm")
    for name in ROUTE:
        if name not in envelope:
            raise bad(f"{name} is missing; it must be null where it does not apply")
        if name in kinds[kind]:
            text_of(envelope, name)
        elif envelope[name] is not None:
            raise bad(f"{name} must be null in a {kind} envelope")
    integer_of(envelope, "sent_at")
    _bytes_of(envelope, "content_nonce", 12)
    _bytes_of(envelope, "content_ciphertext")
    recipients = list_of(envelope, "recipients", dict, MAX_RECIPIENTS)
    if not recipients:
        raise bad("recipients is empty")
    for entry in recipients:
        text_of(entry, "device_id")
        _bytes_of(entry, "hpke_enc", 32)
        _bytes_of(entry, "wrapped_content_key", 48)


def _audience(server: Server, envelope: dict[str, Any], slug: str) -> list[str]:
    """Who may read it; refuses a sender who may not write there."""
    if envelope["envelope_kind"] == "dm":
        if not server.store.account(envelope["recipient_slug"]):
            raise not_found("no such user")
        return list(dict.fromkeys([slug, envelope["recipient_slug"]]))
    channel_id = envelope["channel_id"]
    if not server.store.channel(envelope["space_id"], channel_id):
        raise not_found("channel not found")
    if not server.store.channel_role(channel_id, slug):
        raise forbidden("only for members of the channel")
    if channel_id in server.settings.plaintext_channels:
        raise bad("the channel is plaintext; send via the unencrypted form")
    return server.store.channel_slugs(channel_id)


def live_devices(server: Server, slugs: list[str]) -> list[str]:
    marks = ",".join("?" * len(slugs))
    return server.store.column(f"SELECT device_id FROM devices WHERE slug IN ({marks})"
                               " AND (revoked_from IS NULL OR revoked_from > ?)", *slugs, server.now())


def digest_of(envelope: dict[str, Any]) -> str:
    """The same for the same message, whoever its recipients are."""
    return hashlib.sha256(canonical({k: v for k, v in envelope.items() if k != "recipients"})).hexdigest()


def keep(server: Server, envelope: dict[str, Any], text: str, digest: str,
         allowed: set[str]) -> tuple[int, list[tuple[str, int]]]:
    """A new message and its rows in the queues: its seq, and (device, seq in the queue) pairs."""
    store, envelope_id = server.store, envelope["envelope_id"]
    seq = store.run("INSERT INTO messages (envelope_id, digest, sender_slug, channel_id, recipient_slug, posted_at,"
                    " envelope) VALUES (?, ?, ?, ?, ?, ?, ?)", envelope_id, digest, envelope["sender_slug"],
                    envelope["channel_id"], envelope["recipient_slug"], server.now(), text).lastrowid or 0
    devices = dict.fromkeys(r["device_id"] for r in envelope["recipients"])
    return seq, [(d, store.enqueue(d, envelope_id)) for d in devices if d in allowed]


@route("POST", "/messages")
async def post_message(server: Server, request: Request) -> Reply:
    if len(request.body) > server.settings.envelope_bytes:
        raise Refusal(413, "PAYLOAD_TOO_LARGE", "the envelope is too large")
    envelope, store, settings = request.json(), server.store, server.settings
    _form_checked(envelope)
    if envelope.get("sender_slug") != request.slug:
        raise forbidden("sender_slug is not the signer")
    audience = _audience(server, envelope, request.slug)
    envelope_id = envelope["envelope_id"]
    digest = digest_of(envelope)
    text = json.dumps(envelope, ensure_ascii=False, separators=(",", ":"))
    known = store.one("SELECT * FROM messages WHERE envelope_id = ?", envelope_id)
    if known and (known["digest"] != digest or known["sender_slug"] != request.slug):
        raise conflict("another message has this envelope_id")

    devices = list(dict.fromkeys(r["device_id"] for r in envelope["recipients"]))
    allowed = set(live_devices(server, audience))
    had = {r["device_id"] for r in json.loads(known["envelope"])["recipients"]} if known else set()
    with store.transaction():
        if known:
            seq = known["seq"]
            queued = [(d, store.enqueue(d, envelope_id, text)) for d in devices if d in allowed and d not in had]
            old = json.loads(known["envelope"])
            old["recipients"] += [r for r in envelope["recipients"] if r["device_id"] not in had]
            store.run("UPDATE messages SET envelope = ? WHERE envelope_id = ?", json.dumps(old), envelope_id)
        else:
            seq, queued = keep(server, envelope, text, digest, allowed)
    for device_id, queue_seq in queued:
        server.deliver(device_id, queue_seq, text)
    answer: dict[str, Any] = {"ok": True, "envelope_id": envelope_id, "devices_queued": len(queued)}
    if settings.later:
        answer.update(seq=seq, replay=known is not None and not queued)
    if settings.missing_devices:
        answer["missing_devices"] = sorted(allowed - set(devices) - had)
    return Reply(201, answer)


# --- the queue ---

@route("GET", "/messages/pending")
async def pending(server: Server, request: Request) -> Reply:
    assert request.signer is not None
    rows = server.store.pending(request.signer.device_id, server.settings.pending_page)
    if "reverse" in request.faults:
        rows.reverse()
    if "twice" in request.faults:
        rows = [r for r in rows for _ in range(2)]
    items = ",".join(f'{{"seq":{r["seq"]},"envelope":{r["envelope"]}}}' for r in rows)
    return Reply(200, f'{{"messages":[{items}]}}'.encode("utf-8", "surrogatepass"))


@route("POST", "/messages/ack")
async def acknowledge(server: Server, request: Request) -> Reply | dict[str, Any]:
    if not server.settings.http_ack:
        return html_page()
    assert request.signer is not None
    ids, device_id = list_of(request.json(), "envelope_ids", str), request.signer.device_id
    server.log.add("ack", via="http", slug=request.slug, device_id=device_id, ids=ids)
    removed = 0 if server.settings.ignore_acks else server.store.acknowledge(device_id, ids)
    return {"ok": True, "acknowledged": removed}


# --- processing ---

def _message_for(server: Server, slug: str, message_id: Any) -> str:
    row = server.store.one("SELECT * FROM messages WHERE envelope_id = ?",
                           message_id if isinstance(message_id, str) else "")
    if not row:
        raise not_found("no such message")
    audience = server.store.channel_slugs(row["channel_id"]) if row["channel_id"] else \
        [row["sender_slug"], row["recipient_slug"]]
    if slug not in audience:
        raise forbidden("the message is for others")
    return row["envelope_id"]


def _run_id(body: dict[str, Any]) -> str:
    run_id = body.get("run_id")
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise bad("run_id must be run_ and 32 hexadecimal digits")
    return run_id


def _own_run(server: Server, slug: str, run_id: str, message_id: str) -> Any:
    row = server.store.one("SELECT * FROM runs WHERE run_id = ?", run_id)
    if row and (row["slug"], row["message_id"]) != (slug, message_id):
        raise conflict("this run is of another message")
    return row


@route("POST", "/messages/{message}/processing/start")
async def processing_start(server: Server, request: Request, message_id: str) -> dict[str, Any]:
    run_id = _run_id(request.json())
    _message_for(server, request.slug, message_id)
    with server.store.transaction():
        if not _own_run(server, request.slug, run_id, message_id):
            server.store.run("INSERT INTO runs (run_id, slug, message_id, started_at) VALUES (?, ?, ?, ?)", run_id,
                             request.slug, message_id, server.now())
            write_status(server, request.slug, "busy", message_id, None, False)
    return {"ok": True}


def _end(server: Server, slug: str, run: dict[str, Any], message_id: Any) -> tuple[bool, str | None]:
    run_id, error_text = _run_id(run), error_text_of(run)
    if not isinstance(run.get("succeeded"), bool):
        raise bad("succeeded must be a boolean")
    message_id, now = _message_for(server, slug, message_id), server.now()
    if not _own_run(server, slug, run_id, message_id):
        server.store.run("INSERT INTO runs (run_id, slug, message_id, started_at) VALUES (?, ?, ?, ?)", run_id, slug,
                         message_id, now)
    server.store.run("UPDATE runs SET ended_at = ?, succeeded = ?, error_text = ? WHERE run_id = ?", now,
                     int(run["succeeded"]), error_text, run_id)
    return run["succeeded"], error_text


def _end_all(server: Server, slug: str, runs: list[tuple[dict[str, Any], Any]]) -> dict[str, Any]:
    with server.store.transaction():
        ended = [_end(server, slug, run, message_id) for run, message_id in runs]
        failed = [text for good, text in ended if not good]
        write_status(server, slug, "error" if failed else "idle", None, next((t for t in failed if t), None), False)
    return {"ok": True}


@route("POST", "/messages/{message}/processing/end")
async def processing_end(server: Server, request: Request, message_id: str) -> dict[str, Any]:
    return _end_all(server, request.slug, [(request.json(), message_id)])


@route("POST", "/messages/processing/end:batch")
async def processing_end_batch(server: Server, request: Request) -> dict[str, Any]:
    runs = list_of(request.json(), "runs", dict, 1000)
    if not runs:
        raise bad("runs is empty")
    return _end_all(server, request.slug, [(run, run.get("message_id")) for run in runs])


# --- blobs ---

@route("POST", "/blobs/upload")
async def upload(server: Server, request: Request) -> dict[str, Any]:
    if len(request.body) > server.settings.blob_bytes:
        raise Refusal(413, "PAYLOAD_TOO_LARGE", "the blob is too large")
    if not request.body:
        raise bad("the blob is empty")
    store, transaction_id = server.store, request.query.get("transaction_id")
    row = store.one("SELECT * FROM blobs WHERE slug = ? AND transaction_id = ?", request.slug, transaction_id)
    if row and row["data"] != request.body:
        raise conflict("this transaction_id uploaded something else")
    if not row:
        store.run("INSERT INTO blobs VALUES (?, ?, ?, ?, ?)", f"blob_{secrets.token_hex(16)}", request.slug,
                  request.body, server.now(), transaction_id)
        row = store.one("SELECT * FROM blobs WHERE rowid = last_insert_rowid()")
    assert row is not None
    return {"blob_id": row["blob_id"], "size_bytes": len(row["data"]), "uploaded_at": row["uploaded_at"]}


@route("GET", "/blobs/{blob}")
async def download(server: Server, request: Request, blob_id: str) -> Reply:
    row = server.store.one("SELECT data FROM blobs WHERE blob_id = ?", blob_id)
    if not row:
        raise not_found("no such blob")
    return Reply(200, bytes(row["data"]), "application/octet-stream")
