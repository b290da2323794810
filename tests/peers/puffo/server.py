# SPDX-License-Identifier: MIT
"""The server itself: connections, signed requests and what goes wrong with their answers on purpose."""

from __future__ import annotations

import asyncio
import collections
import email.utils
import socket
import struct
import time
import urllib.parse
from typing import Any, AsyncIterator, Iterable

from aiohttp import web
from aiohttp.web_request import BaseRequest

from puffo import api_accounts, api_messages, api_spaces  # noqa: F401 (they register their routes)
from puffo.base import Refusal, Reply, Request, Signer, find_route, html_page, unauthorized
from puffo.crypto import SKEW_MS, now_ms, request_verify, stream_message, timestamp_fresh, unb64, CryptoError, verify
from puffo.faults import Faults, Settings
from puffo.store import Store
from puffo.stream import Stream

MAX_BODY = 64 * 1024 * 1024
LOG_LINES = 200_000
SIGNED = ("version", "slug", "signer-id", "timestamp", "nonce", "signature")
# Faults that take the place of an answer, and those that change the way it is sent.
INSTEAD = ("hang", "drop", "status", "html", "body")


class Log:
    """What happened, in order, for tests to read."""

    def __init__(self) -> None:
        self.lines: collections.deque[dict[str, Any]] = collections.deque(maxlen=LOG_LINES)
        self.counts: collections.Counter[str] = collections.Counter()
        self.requests: collections.Counter[str] = collections.Counter()
        self.statuses: collections.Counter[str] = collections.Counter()
        self.n = 0
        self.event = asyncio.Event()

    def add(self, kind: str, **members: Any) -> dict[str, Any]:
        self.n += 1
        line = {"n": self.n, "at": now_ms(), "kind": kind, **members}
        self.lines.append(line)
        self.counts[kind] += 1
        self.event.set()
        return line

    async def more(self, seconds: float) -> None:
        """Returns when there is another line, or after that time."""
        self.event.clear()
        try:
            await asyncio.wait_for(self.event.wait(), seconds)
        except asyncio.TimeoutError:
            pass

    def clear(self) -> None:
        """The numbers of the lines go on."""
        for held in (self.lines, self.counts, self.requests, self.statuses):
            held.clear()


class Listener(web.Server):
    """Counts connections, and takes bodies as large as they come."""

    def __init__(self, server: Server):
        super().__init__(server.handle, request_factory=self.make_request, access_log=None, keepalive_timeout=75)
        self.server = server

    def connection_made(self, handler: Any, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self.server.log.counts["connection"] += 1

    def make_request(self, message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> BaseRequest:
        return BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop(),
                           client_max_size=MAX_BODY)


class Server:
    def __init__(self, store: Store, prefix: str = "", settings: Settings | None = None):
        self.store, self.prefix = store, prefix.rstrip("/")
        self.settings, self.faults, self.log = settings or Settings(), Faults(), Log()
        self.streams: list[Stream] = []
        self.nonces: dict[tuple[str, str], float] = {}
        self.control: Any = None
        """A callable that takes the requests below /_control/."""

    # --- what the endpoints use ---

    def now(self) -> int:
        return now_ms() + self.settings.clock_offset_ms

    def account_of(self, request: Request) -> Any:
        account = self.store.account(request.slug)
        assert account is not None
        return account

    def is_online(self, slug: str) -> bool:
        return any(s.slug == slug for s in self.streams)

    def deliver(self, device_id: str, queue_seq: int, envelope: str) -> None:
        seq = f',"seq":{queue_seq}' if self.settings.later else ""
        for stream in self.streams:
            if stream.device_id == device_id:
                stream.send("message", f'{{"type":"message","envelope":{envelope}{seq}}}')

    def push(self, slugs: Iterable[str], frame: dict[str, Any]) -> None:
        slugs = set(slugs)
        for stream in self.streams:
            if stream.slug in slugs:
                stream.send_json(frame)

    def registry_changed(self, entry: dict[str, Any]) -> None:
        self.push(self.store.acquaintances(entry["slug"]), {"type": "cert_update", "entry": entry})

    # --- who signed ---

    def use_nonce(self, signer_id: str, nonce: str) -> bool:
        """False when it was used before. They are forgotten when no fresh timestamp can come with them any more."""
        now = time.monotonic()
        while self.nonces:
            first = next(iter(self.nonces))
            if self.nonces[first] > now - 2 * SKEW_MS / 1000:
                break
            del self.nonces[first]
        if (signer_id, nonce) in self.nonces:
            return False
        self.nonces[signer_id, nonce] = now
        return True

    def subkey(self, slug: str, subkey_id: str) -> Any:
        row = self.store.one("SELECT s.*, d.revoked_from FROM subkeys s JOIN devices d USING (device_id)"
                             " WHERE subkey_id = ? AND s.slug = ?", subkey_id, slug)
        if not row:
            raise unauthorized("unknown signer")
        if row["expires_at"] <= self.now():
            raise unauthorized("the subkey is expired")
        if row["revoked_from"] is not None and row["revoked_from"] <= self.now():
            raise unauthorized("the device is revoked")
        return row

    def signer_key(self, slug: str, signer_id: str, auth: str) -> tuple[str, bytes]:
        """Device id and public key."""
        if auth == "subkey":
            row = self.subkey(slug, signer_id)
            return row["device_id"], unb64(row["public_key"])
        device = self.store.one("SELECT * FROM devices WHERE device_id = ? AND slug = ?", signer_id, slug)
        if not device:
            raise Refusal(400, "DEVICE_NOT_FOUND", "no such device of this user")
        if device["revoked_from"] is not None and device["revoked_from"] <= self.now():
            raise unauthorized("the device is revoked")
        return signer_id, unb64(device["signing_key"])

    def authenticate(self, request: Request, auth: str) -> Signer:
        values = {name: request.headers.get(f"x-puffo-{name}", "") for name in SIGNED}
        missing = [name for name, value in values.items() if not value]
        if missing:
            raise unauthorized(f"no x-puffo-{missing[0]}")
        if not timestamp_fresh(values["timestamp"], self.now()):
            raise unauthorized("the timestamp is more than 5 minutes off")
        device_id, key = self.signer_key(values["slug"], values["signer-id"], auth)
        target = request.target.encode("utf-8", "surrogateescape")
        if not request_verify(key, request.method, target, values["timestamp"], values["nonce"], request.body,
                              values["signature"]):
            raise unauthorized("the signature does not verify")
        if not self.use_nonce(values["signer-id"], values["nonce"]):
            raise unauthorized("the nonce was used before")
        return Signer(values["slug"], device_id)

    def handshake(self, frame: dict[str, Any]) -> Signer:
        slug, subkey_id, nonce, timestamp, signature = \
            (frame.get(k) for k in ("slug", "subkey_id", "nonce", "timestamp", "signature"))
        if frame.get("type") != "connect" or not all(isinstance(v, str) and v for v in (slug, subkey_id, nonce)) or \
                type(timestamp) is not int:
            raise unauthorized("not a connect frame")
        assert isinstance(slug, str) and isinstance(subkey_id, str) and isinstance(nonce, str)
        if abs(self.now() - timestamp) > SKEW_MS:
            raise unauthorized("the timestamp is more than 5 minutes off")
        row = self.subkey(slug, subkey_id)
        try:
            good = verify(unb64(row["public_key"]), unb64(signature),
                          stream_message(slug, subkey_id, nonce, timestamp))
        except (CryptoError, UnicodeError):
            good = False
        if not good:
            raise unauthorized("the signature does not verify")
        if not self.use_nonce(subkey_id, nonce):
            raise unauthorized("the nonce was used before")
        return Signer(slug, row["device_id"])

    # --- requests ---

    async def handle(self, http: BaseRequest) -> web.StreamResponse:
        target = http.raw_path
        if target.startswith("/_control/"):
            return await self.control(http)
        if not target.startswith(self.prefix + "/"):
            return await self.send(http, html_page(), {})
        target = target[len(self.prefix):]
        path, _, query = target.partition("?")
        if path == "/subscribe" and http.method == "GET":
            return await Stream.serve(self, http)
        request = Request(http.method, target, path, dict(urllib.parse.parse_qsl(query, keep_blank_values=True)),
                          http.headers, await http.read())
        request.faults = self.faults.take(request.method, path, http.headers.get("x-puffo-slug"))
        line = self.log.add("request", method=request.method, path=path, query=query,
                            slug=http.headers.get("x-puffo-slug"), faults=list(request.faults), status=None)
        self.log.requests[f"{request.method} {path}"] += 1
        if "delay" in request.faults:
            await asyncio.sleep(request.faults["delay"].get("seconds", 1.0))
        reply = self.instead(request) if any(f in request.faults for f in INSTEAD) else await self.answer(request)
        if reply:
            line["status"] = reply.status
            self.log.statuses[str(reply.status)] += 1
        return await self.send(http, reply, request.faults)

    async def answer(self, request: Request) -> Reply:
        route, parts = find_route(request.method, request.path, self.settings.later)
        if not route:
            return html_page()
        try:
            if route.auth != "none":
                request.signer = self.authenticate(request, route.auth)
            result = await route.handler(self, request, *(urllib.parse.unquote(p) for p in parts))
        except Refusal as e:
            return e.reply()
        return result if isinstance(result, Reply) else Reply(200, result)

    @staticmethod
    def instead(request: Request) -> Reply | None:
        if "hang" in request.faults or "drop" in request.faults:
            return None
        if "status" in request.faults:
            options = request.faults["status"]
            status, headers = options.get("status", 500), dict(options.get("headers", {}))
            if options.get("html"):
                reply = html_page(status)
            else:
                reply = Reply(status, {"error": options.get("code", "FAULT"),
                                       "message": options.get("message", "a fault on purpose")})
            reply.headers = headers
            return reply
        if "body" in request.faults:
            return Reply(200, request.faults["body"].get("body", "").encode())
        return html_page()

    # --- answers ---

    def date(self) -> str:
        return email.utils.formatdate(self.now() / 1000, usegmt=True)

    async def send(self, http: BaseRequest, reply: Reply | None,
                   faults: dict[str, dict[str, Any]]) -> web.StreamResponse:
        if "hang" in faults:
            await gone(http)
        if reply is None or "lose_answer" in faults:
            reset(http)
            return web.Response()
        data = reply.data()
        if "truncate" in faults:
            data = data[:len(data) // 2]
        size = len(data)
        if "oversize" in faults:
            size = max(size, faults["oversize"].get("bytes", 64 * 1024 * 1024))
        response = web.StreamResponse(status=reply.status, headers={"Content-Type": reply.content_type,
                                                                    "Date": self.date(), **reply.headers})
        if faults.get("oversize", {}).get("chunked"):
            response.enable_chunked_encoding()
        else:
            response.content_length = size
        try:
            await response.prepare(http)
            async for piece in pieces(data, size, faults):
                await response.write(piece)
            if "cut" in faults:
                await drained(http)
                reset(http)
            else:
                await response.write_eof()
        except (ConnectionError, asyncio.CancelledError) as e:
            if isinstance(e, asyncio.CancelledError):
                raise
        return response

    def stop(self) -> None:
        for stream in self.streams:
            stream.release.set()


async def pieces(data: bytes, size: int, faults: dict[str, dict[str, Any]]) -> AsyncIterator[bytes]:
    """The body as the faults want it: cut short, slow, or filled up with spaces to the size."""
    if "cut" in faults:
        yield data[:len(data) // 2]
        return
    if "trickle" in faults:
        step, pause = max(1, faults["trickle"].get("bytes", 1)), faults["trickle"].get("seconds", 0.1)
        for at in range(0, len(data), step):
            yield data[at:at + step]
            await asyncio.sleep(pause)
    elif data:
        yield data
    left = size - len(data)
    while left:
        yield b" " * min(left, 65536)
        left -= min(left, 65536)


async def drained(http: BaseRequest) -> None:
    """Until what was written is the kernel's."""
    transport = http.transport
    while transport and not transport.is_closing() and transport.get_write_buffer_size():
        await asyncio.sleep(0.01)


async def gone(http: BaseRequest) -> None:
    """Until the client closes."""
    while http.transport and not http.transport.is_closing():
        await asyncio.sleep(0.05)


def reset(http: BaseRequest) -> None:
    """Ends the connection with an RST."""
    transport = http.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
