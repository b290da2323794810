# SPDX-License-Identifier: MIT
"""What can be made to go wrong, and the settings of a server.

A fault is an object {"fault": NAME, "route": "GET /spaces/*/events", "slug": S, "times": N, …}. Without route it holds
for every request, without slug for every signer, without times until it is cleared; "skip": N lets the first N pass.
The route is the method (or *) and a pattern of the path without query; the stream's is "WS /subscribe", and that of
pushed frames "FRAME message", "FRAME event" and so on. Faults of different names add up; of those
with one name the first that still holds counts, so that a list of them is a script.

On requests:
    status        answer "status" before doing anything, with "code", "message", "headers"; "html": true for a page
    html          200 with an HTML page
    body          200 with the text of "body"
    delay         wait "seconds" first (slow)
    hang          never answer and never close
    drop          close without an answer, before anything is done
    lose_answer   do what is asked, then close without an answer
    cut           do it, and close in the middle of the answer
    truncate      do it, and answer properly with the first half of the body only
    oversize      do it, and fill the body up with spaces to "bytes" (64 MiB); "chunked": true without a length
    trickle       do it, and send the answer in pieces of "bytes" with "seconds" between them
    reverse       /messages/pending in the wrong order
    twice         /messages/pending with every message two times
    has_more_empty    a page with has_more and nothing in it (/certs/sync, /spaces/…/events)
    has_more_stuck    the first page again and again, with has_more and a cursor that does not advance
On the stream, when a client connects:
    status        refuse the upgrade with "status" (its route must be "WS /subscribe")
    close_before  close with "code" instead of answering the handshake
    close_after   close with "code", "seconds" after the handshake; without times: a clean close in a loop
    wrong_answer  answer the handshake with a frame of another type
    no_answer     never answer the handshake
    half_open     after the handshake neither read nor write, nor close
    abort_after   reset the connection, "seconds" after the handshake
On pushed frames:
    frame_cut     half of the frame, then the connection is reset
    frame_twice   the frame two times
    frame_swap    the frame after the next one
    frame_lost    not at all (a message stays in the queue)
    frame_garbage "text" instead of the frame
    frame_big     the frame filled up with spaces to "bytes" (32 MiB)

A redirect is {"fault": "status", "status": 307, "headers": {"Location": "…"}}, a rate limit
{"fault": "status", "status": 429, "headers": {"Retry-After": "2"}, "times": 1}, a blob that is late
{"fault": "status", "status": 404, "route": "GET /blobs/*", "times": 2}, and a membership that is
{"fault": "html", "route": "GET /spaces/*/channels", "times": 3}.
"""

from __future__ import annotations

import fnmatch
from dataclasses import asdict, dataclass, field
from typing import Any

HTTP_FAULTS = ("status", "html", "body", "delay", "hang", "drop", "lose_answer", "cut", "truncate", "oversize",
               "trickle", "reverse", "twice", "has_more_empty", "has_more_stuck")
STREAM_FAULTS = ("close_before", "close_after", "wrong_answer", "no_answer", "half_open", "abort_after")
FRAME_FAULTS = ("frame_cut", "frame_twice", "frame_swap", "frame_lost", "frame_garbage", "frame_big")
OPTIONS = ("status", "code", "message", "headers", "html", "seconds", "bytes", "body", "text", "chunked")


@dataclass
class Settings:
    clock_offset_ms: int = 0
    """The server's clock against the real one; also in its Date headers."""
    later: bool = False
    """What is only known of later servers: seq and replay in answers, seq in frames, the members' settings."""
    missing_devices: bool = False
    http_ack: bool = True
    """Whether POST /messages/ack exists."""
    cache_certs: bool = False
    """/certs/sync answers in the form with a cache object."""
    error_frame: bool = False
    """Whether a refused handshake gets an error frame before the close."""
    push_pending: bool = False
    """What is queued is also pushed when a stream connects, so that it is seen twice."""
    ping_seconds: float = 15.0
    pong_seconds: float = 45.0
    heartbeat_ms: int = 10_000
    certs_page: int = 500
    events_page: int = 500
    pending_page: int | None = None
    ignore_acks: bool = False
    """Acknowledged messages stay in the queue."""
    envelope_bytes: int = 16 * 1024 * 1024
    blob_bytes: int = 8 * 1024 * 1024 + 64 * 1024
    plaintext_channels: list[str] = field(default_factory=list)
    """Channels that refuse encrypted messages."""

    def change(self, changes: dict[str, Any]) -> None:
        known = asdict(self)
        for name in changes:
            if name not in known:
                raise ValueError(f"no setting {name!r}; there are {', '.join(known)}")
        for name, value in changes.items():
            setattr(self, name, value)


@dataclass
class Fault:
    fault: str
    route: str = "*"
    slug: str | None = None
    times: int | None = None
    skip: int = 0
    hits: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def parse(spec: dict[str, Any]) -> Fault:
        spec = dict(spec)
        name = spec.pop("fault", None)
        if name not in (*HTTP_FAULTS, *STREAM_FAULTS, *FRAME_FAULTS):
            raise ValueError(f"no fault {name!r}")
        default = "FRAME *" if name in FRAME_FAULTS else "WS *" if name in STREAM_FAULTS else "*"
        fault = Fault(name, spec.pop("route", default), spec.pop("slug", None), spec.pop("times", None),
                      spec.pop("skip", 0))
        unknown = [k for k in spec if k not in OPTIONS]
        if unknown:
            raise ValueError(f"no option {unknown[0]!r} of fault {name}")
        fault.options = spec
        return fault

    def show(self) -> dict[str, Any]:
        shown = {k: v for k, v in asdict(self).items() if k != "options"}
        return {**shown, **self.options}

    def matches(self, method: str, path: str, slug: str | None) -> bool:
        if self.times is not None and self.hits >= self.skip + self.times:
            return False
        if self.slug is not None and self.slug != slug:
            return False
        if self.route == "*":
            return method not in ("WS", "FRAME")
        wanted, _, pattern = self.route.partition(" ")
        return wanted in ("*", method) and fnmatch.fnmatchcase(path, pattern)


class Faults:
    def __init__(self) -> None:
        self.list: list[Fault] = []

    def add(self, specs: Any) -> None:
        specs = specs if isinstance(specs, list) else [specs]
        self.list += [Fault.parse(s) for s in specs]

    def clear(self) -> None:
        self.list = []

    def take(self, method: str, path: str, slug: str | None,
             names: tuple[str, ...] | None = None) -> dict[str, dict[str, Any]]:
        """The faults for this occasion, by name, counted; of these names only."""
        found: dict[str, dict[str, Any]] = {}
        for fault in self.list:
            if names is not None and fault.fault not in names:
                continue
            if fault.fault not in found and fault.matches(method, path, slug):
                fault.hits += 1
                if fault.hits > fault.skip:
                    found[fault.fault] = fault.options
        return found
