# SPDX-License-Identifier: MIT
"""The WebSocket stream: handshake, pushes, acknowledgements, pings, and the ways it breaks."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web
from aiohttp.web_request import BaseRequest

from puffo.base import Refusal
from puffo.crypto import CryptoError, parse_object

if TYPE_CHECKING:
    from puffo.server import Server

CONNECT_SECONDS = 10
MAX_FRAME = 16 * 1024 * 1024
SWAP_SECONDS = 2.0
END = ("", "")


class Stream:
    def __init__(self, server: Server, http: BaseRequest):
        self.server, self.http = server, http
        self.ws = web.WebSocketResponse(timeout=2.0, compress=False, max_msg_size=MAX_FRAME)
        self.slug = self.device_id = ""
        self.session_id = secrets.token_urlsafe(16)
        self.frames: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self.pong_at = time.monotonic()
        self.dead = False
        self.closing: asyncio.Future[None] | None = None
        self.release = asyncio.Event()
        """Ends a half-open stream."""

    # --- for the rest of the server ---

    def send(self, kind: str, text: str) -> None:
        self.frames.put_nowait((kind, text))

    def send_json(self, frame: dict[str, Any]) -> None:
        self.send(frame["type"], json.dumps(frame, ensure_ascii=False, separators=(",", ":")))

    def show(self) -> dict[str, Any]:
        return {"session_id": self.session_id, "slug": self.slug, "device_id": self.device_id,
                "unsent": self.frames.qsize(), "half_open": self.dead}

    def half_open(self) -> None:
        """Neither reads nor writes any more; the connection stays."""
        self.dead = True
        if self.http.transport:
            self.http.transport.pause_reading()

    async def close(self, code: int) -> None:
        await self.ws.close(code=code, message=b"")

    async def cut(self, text: str) -> None:
        """Half of a frame, then a reset."""
        from puffo.server import drained, reset
        data = text_frame(text)
        if self.http.transport:
            self.http.transport.write(data[:max(3, len(data) // 2)])
            await drained(self.http)
            # What is in the kernel's buffer would go with a reset.
            await asyncio.sleep(0.05)
            reset(self.http)

    # --- a connection's life ---

    @staticmethod
    async def serve(server: Server, http: BaseRequest) -> web.StreamResponse:
        # Here because faults of a slug are known only after its first frame, and the upgrade comes before.
        refused = server.faults.take("WS", "/subscribe", None, ("status",)).get("status")
        if refused:
            server.log.add("stream_refused", status=refused.get("status", 503))
            return web.Response(status=refused.get("status", 503), headers=refused.get("headers"),
                                text=refused.get("message", "a fault on purpose"))
        stream = Stream(server, http)
        if not stream.ws.can_prepare(http).ok:
            return web.Response(status=400, text="not a WebSocket request")
        await stream.ws.prepare(http)
        server.log.add("stream_opened", session_id=stream.session_id)
        try:
            await stream.run()
        finally:
            if stream in server.streams:
                server.streams.remove(stream)
            server.log.add("stream_closed", session_id=stream.session_id, slug=stream.slug or None,
                           code=stream.ws.close_code)
        return stream.ws

    async def run(self) -> None:
        from puffo.server import reset
        frame = await self.first_frame()
        slug = frame.get("slug") if isinstance(frame.get("slug"), str) else None
        faults = self.server.faults.take("WS", "/subscribe", slug, ("close_before", "no_answer", "wrong_answer",
                                                                    "close_after", "half_open", "abort_after"))
        if "close_before" in faults:
            await self.close(faults["close_before"].get("code", 1000))
            return
        if "no_answer" in faults:
            await self.stay_silent()
            return
        try:
            signer = self.server.handshake(frame)
        except Refusal as e:
            self.server.log.add("stream_rejected", slug=slug, session_id=self.session_id, message=e.message)
            if self.server.settings.error_frame:
                await self.ws.send_json({"type": "error", "error": e.code, "message": e.message})
            await self.close(1008)
            return
        self.slug, self.device_id = signer.slug, signer.device_id
        # First, so that what is posted from now on is not missed between catching up and listening.
        self.server.streams.append(self)
        if "wrong_answer" in faults:
            await self.ws.send_json({"type": "welcome", "session_id": self.session_id})
        else:
            await self.ws.send_json({"type": "connected", "session_id": self.session_id})
        self.server.log.add("stream_connected", slug=self.slug, session_id=self.session_id)
        if "half_open" in faults:
            await self.stay_silent()
            return
        for name in ("close_after", "abort_after"):
            if name in faults:
                await asyncio.sleep(faults[name].get("seconds", 0))
                if name == "abort_after":
                    reset(self.http)
                else:
                    await self.close(faults[name].get("code", 1000))
                return
        await self.converse()

    async def first_frame(self) -> dict[str, Any]:
        """Anything that is no object is as good as an empty one."""
        try:
            message = await self.ws.receive(timeout=CONNECT_SECONDS)
            return parse_object(message.data) if message.type == WSMsgType.TEXT else {}
        except (asyncio.TimeoutError, CryptoError):
            return {}

    async def stay_silent(self) -> None:
        self.half_open()
        await self.release.wait()

    async def converse(self) -> None:
        if self.server.settings.push_pending:
            for row in self.server.store.pending(self.device_id, None):
                self.send("message", f'{{"type":"message","envelope":{row["envelope"]}}}')
        tasks = [asyncio.create_task(t) for t in (self.write(), self.ping())]
        try:
            await self.read()
            if self.dead:
                await self.release.wait()
        finally:
            if self.closing:
                await self.closing
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def read(self) -> None:
        async for message in self.ws:
            if self.dead:
                return
            try:
                frame = parse_object(message.data) if message.type == WSMsgType.TEXT else {}
            except CryptoError:
                self.server.log.add("bad_frame", slug=self.slug, session_id=self.session_id)
                await self.close(1007)
                return
            if frame.get("type") == "pong":
                self.pong_at = time.monotonic()
            elif frame.get("type") == "ack":
                self.acknowledge(frame.get("envelope_ids"))
            else:
                self.server.log.add("unknown_frame", slug=self.slug, session_id=self.session_id,
                                    type=str(frame.get("type")))

    def acknowledge(self, ids: Any) -> None:
        ids = [i for i in ids if isinstance(i, str)] if isinstance(ids, list) else []
        self.server.log.add("ack", via="frame", slug=self.slug, device_id=self.device_id, ids=ids)
        if not self.server.settings.ignore_acks:
            self.server.store.acknowledge(self.device_id, ids)

    async def ping(self) -> None:
        pinged_at = self.pong_at = time.monotonic()
        while True:
            await asyncio.sleep(0.1)
            now, settings = time.monotonic(), self.server.settings
            if self.dead:
                return
            if now - self.pong_at > settings.pong_seconds:
                self.server.log.add("pong_missing", slug=self.slug, session_id=self.session_id)
                # The reader ends with it, and what it cancels then is this task.
                self.closing = asyncio.ensure_future(self.close(1001))
                await asyncio.shield(self.closing)
                return
            if now - pinged_at >= settings.ping_seconds:
                pinged_at = now
                self.send_json({"type": "ping"})

    # --- frames out ---

    async def write(self) -> None:
        held: str | None = None
        while not self.dead:
            try:
                kind, text = await asyncio.wait_for(self.frames.get(), SWAP_SECONDS if held else None)
            except asyncio.TimeoutError:
                kind, text = END
            if self.dead:
                return
            faults = self.server.faults.take("FRAME", kind, self.slug) if kind else {}
            try:
                if "frame_swap" in faults and held is None:
                    held = text
                    continue
                if kind and not await self.write_one(kind, text, faults):
                    return
                if held is not None:
                    await self.ws.send_str(held)
                    held = None
            except (ConnectionError, RuntimeError):
                return

    async def write_one(self, kind: str, text: str, faults: dict[str, dict[str, Any]]) -> bool:
        """False when that was the last."""
        if "frame_lost" in faults:
            return True
        if "frame_cut" in faults:
            await self.cut(text)
            return False
        if "frame_garbage" in faults:
            text = faults["frame_garbage"].get("text", "{\"type\": \"mess")
        if "frame_big" in faults:
            text += " " * max(0, faults["frame_big"].get("bytes", 2 * MAX_FRAME) - len(text))
        for _ in range(2 if "frame_twice" in faults else 1):
            await self.ws.send_str(text)
        self.server.log.counts[f"frame {kind}"] += 1
        return True


def text_frame(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) < 126:
        return bytes([0x81, len(data)]) + data
    if len(data) < 65536:
        return bytes([0x81, 126]) + len(data).to_bytes(2, "big") + data
    return bytes([0x81, 127]) + len(data).to_bytes(8, "big") + data
