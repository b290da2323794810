# SPDX-License-Identifier: MIT
"""Below /_control/, for tests: what goes wrong, and what happened. Answers on loopback only; bodies are JSON.

    GET    /_control/settings          all settings          POST {NAME: VALUE, …}   changes some
    GET    /_control/faults            with their hits       POST {FAULT} or [{FAULT}, …]   adds
    DELETE /_control/faults            clears them
    GET    /_control/counters          {"counts": {KIND: n}, "requests": {"METHOD /path": n},
                                        "statuses": {"200": n}, "streams": live ones, "connections": n,
                                        "acks": [envelope ids in order]}
    GET    /_control/log?after=N&kind=K   {"lines": […], "last": N}: all that happened, in one order; each line has n,
           at (ms) and kind: request (method, path, query, slug, status, faults), ack (via: frame or http; slug,
           device_id, ids), stream_opened, stream_connected, stream_rejected, stream_refused, stream_closed,
           pong_missing, bad_frame, unknown_frame. "wait=SECONDS": while there is none, until there is one
    DELETE /_control/log               forgets lines and counters
    GET    /_control/streams           those that are connected
    POST   /_control/streams           {"do": …, "slug": …} to all, or to this user's; answers {"streams": n}:
           close ("code"), abort (a reset), half_open, cut (half of a frame, then a reset; "frame"), send ("frame": an
           object, or "text": any text), release (of half-open ones: they are reset)
    GET    /_control/queue?slug=S      {"devices": {DEVICE: [envelope ids not acknowledged, in order]}}
    POST   /_control/queue             {"slug", "envelope": {…}, "push": true}: any object for the user's devices
    POST   /_control/bulk              really sealed messages: {"to": SLUG} or {"channel_id"}, "count", "text" (where
           "{n}" is their number), "start" (1), "sender" (a user name, "bulk"; made when it does not exist, and made a
           member of the channel), "push" (true: to live streams as well), "thread_root_id", "reply_to_id", "sent_at",
           "spoil": what is wrong with them (ciphertext, signature, wrapped_key, inner_route, no_entry; or plaintext:
           in the unencrypted form). Answers {"sender", "envelope_ids", "devices", "seconds"}
    POST   /_control/expire            {"slug"}: the user's subkeys end now; {"slug", "in_ms": N}: then
    POST   /_control/revoke            {"device_id"}: the server refuses the device, without a certificate
    POST   /_control/registry          {"kind", "slug", "cert"}: any row for the certificate registry
    GET    /_control/accounts          {"accounts": [{"slug", "identity_type", "operator_slug", "devices": […]}]}
    GET    /_control/statuses          {"statuses": […], "runs": […]}: what agents reported
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import pathlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Awaitable, Callable

from aiohttp import web
from aiohttp.web_request import BaseRequest

from puffo.base import Refusal, bad, not_found, text_of
from puffo.bulk import Puppets
from puffo.crypto import CryptoError, parse_json

if TYPE_CHECKING:
    from puffo.server import Server


class Control:
    def __init__(self, server: Server, state: pathlib.Path):
        self.server, self.puppets = server, Puppets(server, state / "senders")
        self.calls: dict[tuple[str, str], Callable[[Any, Any], Awaitable[Any]]] = {
            (verb.upper(), name): getattr(self, f"{verb}_{name}") for verb, name in
            (n.split("_", 1) for n in dir(self) if n.startswith(("get_", "post_", "delete_")))}

    async def __call__(self, http: BaseRequest) -> web.Response:
        peer = http.transport.get_extra_info("peername") if http.transport else None
        # A browser's page on this machine is no test either.
        if not peer or not ipaddress.ip_address(peer[0]).is_loopback or "Origin" in http.headers:
            return web.json_response({"error": "FORBIDDEN", "message": "only from this machine"}, status=403)
        name = http.raw_path.partition("?")[0][len("/_control/"):]
        call = self.calls.get((http.method, name))
        if not call:
            return web.json_response({"error": "NOT_FOUND", "message": "no such control"}, status=404)
        try:
            data = await http.read()
            body = parse_json(data) if data else {}
            return web.json_response(await call(http.query, body))
        except Refusal as e:
            return web.json_response({"error": e.code, "message": e.message}, status=e.status)
        except (CryptoError, ValueError, TypeError, KeyError, AttributeError) as e:
            return web.json_response({"error": "BAD_REQUEST", "message": str(e)}, status=400)

    # --- settings and faults ---

    async def get_settings(self, query: Any, body: Any) -> Any:
        return asdict(self.server.settings)

    async def post_settings(self, query: Any, body: Any) -> Any:
        self.server.settings.change(body)
        return asdict(self.server.settings)

    async def get_faults(self, query: Any, body: Any) -> Any:
        return {"faults": [f.show() for f in self.server.faults.list]}

    async def post_faults(self, query: Any, body: Any) -> Any:
        self.server.faults.add(body)
        return await self.get_faults(query, body)

    async def delete_faults(self, query: Any, body: Any) -> Any:
        self.server.faults.clear()
        return {"faults": []}

    # --- what happened ---

    async def get_counters(self, query: Any, body: Any) -> Any:
        log = self.server.log
        return {"counts": dict(log.counts), "requests": dict(log.requests), "statuses": dict(log.statuses),
                "connections": log.counts["connection"], "streams": len(self.server.streams),
                "acks": [i for line in log.lines if line["kind"] == "ack" for i in line["ids"]]}

    async def get_log(self, query: Any, body: Any) -> Any:
        after, kind, log = int(query.get("after", "0")), query.get("kind"), self.server.log
        end = asyncio.get_running_loop().time() + float(query.get("wait", "0"))
        while True:
            lines = [line for line in log.lines if line["n"] > after and kind in (None, line["kind"])]
            left = end - asyncio.get_running_loop().time()
            if lines or left <= 0:
                return {"lines": lines, "last": log.n}
            await log.more(left)

    async def delete_log(self, query: Any, body: Any) -> Any:
        self.server.log.clear()
        return {"last": self.server.log.n}

    # --- streams ---

    async def get_streams(self, query: Any, body: Any) -> Any:
        return {"streams": [s.show() for s in self.server.streams]}

    async def post_streams(self, query: Any, body: Any) -> Any:
        from puffo.server import reset
        chosen = [s for s in self.server.streams if body.get("slug") in (None, s.slug)]
        what = body.get("do")
        frame = body.get("frame", {"type": "message", "envelope": {"envelope_id": "x" * 300}})
        for stream in chosen:
            if what == "close":
                await stream.close(body.get("code", 1000))
            elif what == "abort":
                reset(stream.http)
            elif what == "half_open":
                stream.half_open()
            elif what == "cut":
                await stream.cut(json.dumps(frame))
            elif what == "send":
                stream.send("sent", body["text"] if "text" in body else json.dumps(frame))
            elif what == "release":
                if stream.dead:
                    stream.release.set()
                    reset(stream.http)
            else:
                raise bad("do must be close, abort, half_open, cut, send or release")
        return {"streams": len(chosen)}

    # --- messages ---

    async def get_queue(self, query: Any, body: Any) -> Any:
        slug = query.get("slug", "")
        return {"devices": {d: [r["envelope_id"] for r in self.server.store.pending(d, None)] for d in
                            self.server.store.column("SELECT device_id FROM devices WHERE slug = ?", slug)}}

    async def post_queue(self, query: Any, body: Any) -> Any:
        store, envelope = self.server.store, body["envelope"]
        text = json.dumps(envelope)
        envelope_id = str(envelope.get("envelope_id")) if isinstance(envelope, dict) else ""
        devices = store.column("SELECT device_id FROM devices WHERE slug = ?", text_of(body, "slug"))
        for device_id in devices:
            seq = store.enqueue(device_id, envelope_id, text)
            if body.get("push", True):
                self.server.deliver(device_id, seq, text)
        return {"devices": len(devices)}

    async def post_bulk(self, query: Any, body: Any) -> Any:
        return await self.puppets.create(dict(body))

    # --- accounts ---

    async def post_expire(self, query: Any, body: Any) -> Any:
        changed = self.server.store.run("UPDATE subkeys SET expires_at = ? WHERE slug = ?",
                                        self.server.now() + int(body.get("in_ms", 0)), text_of(body, "slug"))
        return {"subkeys": changed.rowcount}

    async def post_revoke(self, query: Any, body: Any) -> Any:
        changed = self.server.store.run("UPDATE devices SET revoked_from = ? WHERE device_id = ?", self.server.now(),
                                        text_of(body, "device_id"))
        if not changed.rowcount:
            raise not_found("no such device")
        return {"ok": True}

    async def post_registry(self, query: Any, body: Any) -> Any:
        entry = self.server.store.register(text_of(body, "kind"), text_of(body, "slug"), body["cert"])
        self.server.registry_changed(entry)
        return entry

    async def get_accounts(self, query: Any, body: Any) -> Any:
        store = self.server.store
        rows = store.all("SELECT slug, identity_type, operator_slug FROM accounts WHERE active ORDER BY rowid")
        return {"accounts": [{**dict(r), "devices": store.column("SELECT device_id FROM devices WHERE slug = ?",
                                                                 r["slug"])} for r in rows]}

    async def get_statuses(self, query: Any, body: Any) -> Any:
        store = self.server.store
        return {"statuses": [dict(r) for r in store.all("SELECT * FROM statuses ORDER BY slug")],
                "runs": [dict(r) for r in store.all("SELECT * FROM runs ORDER BY rowid")]}
