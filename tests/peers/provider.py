#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Emulator of three model providers' streaming APIs, for tests on loopback.

    provider.py [--listen 127.0.0.1:PORT] [--log FILE] [--keyless] [--tls CERTIFICATE KEY]

Prints "listening on http://127.0.0.1:PORT" (https with --tls; port 0: any free one) and serves, below any path prefix:

    POST …/v1/messages                                 Anthropic Messages
    POST …/v1/chat/completions                         OpenAI Chat Completions
    POST …/v1/responses                                OpenAI Responses
    POST …/v1beta/models/M:streamGenerateContent       Google Gemini (needs ?alt=sse), and :generateContent
    GET  …/v1/models                                   a list of one model, test-model

Keys that begin with "sk-test-" are right, all others wrong. The OpenAI dialect needs no key below the path prefix
/ollama or with --keyless, as local servers do. Requests are checked as the real services do: unknown members, roles,
headers, empty texts. The model "missing-model" does not exist.

The reply is "You said: <last user message>" in chunks of one word. Directives in the last user message change that,
and are left out of the reply. When the message has several paragraphs, those of the last paragraph that has any count.

    [[reply: text]]        what to say                  [[words: 200]]        say "word1 word2 … word200"
    [[empty]]              say nothing                  [[split: 3]]          write the body 3 bytes at a time
    [[slow: 50ms]]         wait before each chunk       [[delay: 200ms]]      wait before the status line
    [[cut: 5]]             after 5 chunks drop the connection
    [[end: 5]]             after 5 chunks end the body properly, without the terminal event
    [[hang]], [[hang: 5]]  no byte at all, or none after 5 chunks, until the client goes away
    [[hold: NAME]]         none after the first chunk until somebody says POST /_release/NAME, before or after this
    [[stream-error]], [[stream-error: 5]]   after 1 (or 5) chunks an error inside the stream
    [[length]]             end as cut by the token limit
    [[refuse]]             refuse
    [[status: 429]]        an error of that status in the dialect's form, with
      [[retry-after: 2]]   … that header
      [[should-retry: false]]   … x-should-retry
      [[error: insufficient_quota]]   … this type, code or status text (also for stream-error)
    [[garbage]]            an HTML page with status 200; with [[status: 502]], with that one
    [[times: 1]]           whatever goes wrong goes wrong for the first call with this text only

A turn may call tools, when the request offers any. It is scripted in one paragraph, step by step; what the last step
says is the [[reply]] (or the plain one). "step" counts the calls of a turn: those behind its last user text.

    [[tool: NAME JSON]]    call this tool ("send_message" finds mcp__puffo__send_message) with these arguments, which
                           go out as they are, good JSON or not ("]]," within: "] ],"); several of
                           them are called in one step
    [[say: text]]          what to say in this step in front of the calls
    [[think: text]]        what to think in front of that: a signed block, which has to come back unchanged
    [[then]]               the next step begins
    [[at-step: 2]]         troubles (see above) happen in the second step only
    [[no-tools]]           refuse requests that offer tools, as models without them do
    [[no-images]]          refuse requests with images

    Hello [[say: One moment.]] [[tool: list_spaces {}]] [[then]] [[tool: send_message {"text":"hi"}]] [[reply: Done.]]

Google's calls come without ids and with a thoughtSignature that has to come back. Results are checked: each call has
one, in its place. A request with tools and tool_choice none (mode NONE) gets the reply.

POST /_script takes a JSON list of behaviours for the next requests, in order: objects with the same names
({"status": 429, "retry-after": 1}, {"cut": 3}, {"garbage": true}, {} for the plain reply) or strings of directives.
They replace what the message says. Tools are called there by "tools": [{"name": N, "arguments": {…} or a string}].
An empty list clears it.

    GET  /_log       JSON lines, one per request: n, method, path, query, headers, body, dialect, text, step, offered
                     (names of the tools that may be called), results (texts of the tools' results at the end), status,
                     outcome ("complete", "cut", "client-gone", or null while it runs)
    GET  /_counts    {last user message: how many calls asked it}; /_counts?contains=X: {"count": N} over those with X
    POST /_reset     forgets log, counts, script and what was released
"""

import argparse
import http.server
import json
import re
import select
import signal
import socket
import ssl
import sys
import threading
import time
import urllib.parse

from provider_dialects import (DIRECTIVE, TROUBLES, Anthropic, Google, OpenAI, Refused, behaviour_clean,
                               behaviour_parse, images_of, require)
from provider_responses import Responses

MAX_BODY = 32 * 1024 * 1024


class Gone(Exception):
    """The client has closed the connection."""


class State:
    """What all connections share."""

    def __init__(self, log_path, keyless):
        self.lock = threading.Lock()
        self.log_file = open(log_path, "a", encoding="utf-8") if log_path else None
        self.keyless = keyless
        self.serial = 0
        self.reset()

    def reset(self):
        self.log, self.counts, self.tries, self.script, self.released = [], {}, {}, [], set()

    def add(self, entry):
        with self.lock:
            self.serial += 1
            entry["n"] = self.serial
            self.log.append(entry)
            if self.log_file:
                self.log_file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                self.log_file.flush()

    def behaviour(self, text, step, tools):
        """Counts the call; what to do with it. tools: whether some may be called."""
        with self.lock:
            self.counts[text] = self.counts.get(text, 0) + 1
            n = self.tries[text, step] = self.tries.get((text, step), 0) + 1
            if self.script:
                scripted = self.script.pop(0)
                return behaviour_clean(scripted) if isinstance(scripted, dict) else behaviour_parse(scripted)
        b = behaviour_parse(text)
        if n > b.get("times", n) or step + 1 != b.get("at-step", step + 1):
            b = {k: v for k, v in b.items() if k not in TROUBLES}
        steps = b.pop("steps", [])
        if tools and step < len(steps):
            b.pop("words", None)
            b = {**b, "reply": "", **steps[step]}
        return b


ROUTES = [(re.compile(r"^(?P<prefix>.*)/v1/messages$"), Anthropic()),
          (re.compile(r"^(?P<prefix>.*)/v1/chat/completions$"), OpenAI()),
          (re.compile(r"^(?P<prefix>.*)/v1/responses$"), Responses()),
          (re.compile(r"^(?P<prefix>.*)/v1beta/models/(?P<model>[^/:]+):(?P<action>(streamG|g)enerateContent)$"),
           Google())]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "provider-emulator"
    state = None

    def log_message(self, *args):
        pass

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send_whole(self, status, body, content_type="application/json", headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def wait(self, seconds):
        """Sleeps, but not longer than the client stays."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if until is None else max(0, until - time.monotonic())
            readable, _, _ = select.select([self.connection], [], [], left)
            if not readable:
                return
            # Below TLS, which cannot peek.
            if socket.socket.recv(self.connection, 1, socket.MSG_PEEK) == b"":
                raise Gone()
            if until is None or left > 0:       # bytes of a next request: not ours to read yet
                time.sleep(0.01)
            if left == 0:
                return

    def read_body(self):
        if self.headers.get("transfer-encoding"):
            self.close_connection = True
            raise Refused(411, "a content-length is required")
        try:
            size = int(self.headers.get("content-length", "0"))
        except ValueError:
            size = -1
        if not 0 <= size <= MAX_BODY:
            self.close_connection = True
            raise Refused(413, "Request exceeds the maximum size", "request_too_large")
        data = self.rfile.read(size)
        if len(data) < size:
            raise Gone()
        return data

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query)
        state = self.state
        if url.path == "/_log":
            with state.lock:
                lines = [json.dumps(e, ensure_ascii=False) + "\n" for e in state.log]
            self.send_whole(200, "".join(lines).encode(), "application/x-ndjson")
        elif url.path == "/_counts":
            with state.lock:
                counts = dict(state.counts)
            if "contains" in query:
                counts = {"count": sum(n for text, n in counts.items() if query["contains"][0] in text)}
            self.send_whole(200, counts)
        elif url.path.endswith("/v1/models"):
            key = self.headers.get("x-api-key") or self.headers.get("authorization")
            if key is not None and not re.sub("^Bearer ", "", key).startswith("sk-test-"):
                self.send_whole(401, OpenAI().error(401, "Incorrect API key provided.", None))
            elif self.headers.get("x-api-key"):
                model = {"type": "model", "id": "test-model", "display_name": "Test",
                         "created_at": "2025-01-01T00:00:00Z"}
                self.send_whole(200, {"data": [model], "has_more": False, "first_id": model["id"],
                                      "last_id": model["id"]})
            else:
                model = {"id": "test-model", "object": "model", "created": 1700000000, "owned_by": "tests"}
                self.send_whole(200, {"object": "list", "data": [model]})
        else:
            self.send_whole(404, {"error": {"message": f"no route GET {url.path}", "type": "invalid_request_error"}})

    def do_POST(self):
        url = urllib.parse.urlsplit(self.path)
        entry = {"method": "POST", "path": url.path, "query": url.query, "dialect": None, "text": None, "status": None,
                 "outcome": None, "headers": {k.lower(): v for k, v in self.headers.items()}, "body": None}
        try:
            data = self.read_body()
            if url.path in ("/_script", "/_reset") or url.path.startswith("/_release/"):
                self.control(url.path, data)
                return
            for pattern, dialect in ROUTES:
                match = pattern.match(url.path)
                if match:
                    self.serve(entry, dialect, match.groupdict(), urllib.parse.parse_qs(url.query), data)
                    return
            raise Refused(404, f"no route POST {url.path}")
        except Refused as e:
            self.send_whole(e.status, {"error": {"message": e.message, "type": "invalid_request_error"}})
        except (Gone, ConnectionError):
            entry["outcome"] = "client-gone"
            self.close_connection = True

    def control(self, path, data):
        if path == "/_reset":
            with self.state.lock:
                self.state.reset()
        elif path != "/_script":
            with self.state.lock:
                self.state.released.add(urllib.parse.unquote(path.removeprefix("/_release/")))
        else:
            try:
                script = json.loads(data)
                if not isinstance(script, list) or not all(isinstance(s, (dict, str)) for s in script):
                    raise ValueError("expected a list of objects or strings")
            except ValueError as e:
                raise Refused(400, f"script: {e}")
            with self.state.lock:
                self.state.script = script
        self.send_whole(200, {"ok": True})

    def serve(self, entry, dialect, match, query, data):
        entry["dialect"] = dialect.name
        headers = entry["headers"]
        text, b = None, {}
        try:
            try:
                entry["body"] = body = json.loads(data.decode("utf-8"))
            except ValueError:
                entry["body"] = data.decode("utf-8", "replace")
                raise Refused(400, "The request body is not valid JSON")
            finally:
                self.state.add(entry)
            require(headers.get("content-type", "").startswith("application/json"),
                    "content-type must be application/json")
            dialect.authorise(headers, self.state.keyless or match["prefix"].endswith("/ollama"))
            model = urllib.parse.unquote(match.get("model") or "")
            dialect.check(body, model)
            streaming = dialect.streaming(body, match.get("action"), query)
            text, step = dialect.last_text(body)
            entry["text"], entry["step"] = text, step + 1
            entry["offered"], entry["results"] = dialect.offered(body), dialect.results(body)
            b = self.state.behaviour(text, step, entry["offered"])
            require(not (b.get("no-tools") and "tools" in body), f"{body.get('model', model)} does not support tools")
            entry["images"] = images_of(body)
            require(not (b.get("no-images") and entry["images"]), "this model does not support image input")
            self.check_thoughts(dialect, body, text, step)
            if b.get("tools"):
                b["tools"] = [{**t, "name": dialect.tool_name(body, t["name"])} for t in b["tools"]]
            self.wait_for(b.get("delay", 0))
            if "status" in b and not b.get("garbage"):
                raise Refused(b["status"] or 500, f"scripted error {b['status']}", b.get("error"))
        except Refused as e:
            self.refuse(entry, dialect, e, b)
            return
        self.answer(entry, dialect, body, text, streaming, b)

    def check_thoughts(self, dialect, body, text, step):
        """What the turn has thought so far must be here again."""
        thoughts, steps = dialect.thoughts(body), behaviour_parse(text).get("steps", [])
        expected = [s["think"] for s in steps[:step] if "think" in s]
        require(thoughts is None or thoughts == expected,
                "`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified.")

    def wait_for(self, milliseconds):
        if milliseconds:
            self.wait(milliseconds / 1000)

    def refuse(self, entry, dialect, e, b):
        extra = dict(dialect.headers(entry["n"]))
        error = dialect.error(e.status, e.message, e.kind)
        if "retry-after" in b:
            extra["retry-after"] = b["retry-after"]
            if dialect.name == "google":
                del extra["retry-after"]
                error["error"]["details"] = [{"@type": "type.googleapis.com/google.rpc.RetryInfo",
                                              "retryDelay": b["retry-after"] + "s"}]
        if "should-retry" in b:
            extra["x-should-retry"] = b["should-retry"]
        entry["status"] = e.status
        self.send_whole(e.status, error, headers=extra)
        entry["outcome"] = "complete"

    def answer(self, entry, dialect, body, text, streaming, b):
        if b.get("garbage"):
            entry["status"] = b.get("status") or 200
            page = b"<!DOCTYPE html>\n<html><body><h1>Sign in to the network</h1></body></html>\n"
            self.send_whole(entry["status"], page, "text/html; charset=utf-8")
            entry["outcome"] = "complete"
            return
        if b.get("hang") == 0:
            self.wait(None)
        reply = b.get("reply")
        if reply is None and "words" in b:
            reply = " ".join(f"word{i + 1}" for i in range(b["words"]))
        if reply is None:
            reply = "You said: " + DIRECTIVE.sub("", text).strip()
        chunks = [] if b.get("empty") or (b.get("refuse") and "reply" not in b) else dialect.text_chunks(reply)
        entry["status"] = 200
        if streaming:
            self.stream(entry, dialect, body, text, chunks, b)
        else:
            self.send_whole(200, dialect.whole(body, entry["n"], text, chunks, b), headers=dialect.headers(entry["n"]))
            entry["outcome"] = "complete"

    def stream(self, entry, dialect, body, text, chunks, b):
        self.send_response(200)
        self.send_header("content-type", dialect.content_type)
        self.send_header("cache-control", "no-cache")
        self.send_header("transfer-encoding", "chunked")
        for name, value in dialect.headers(entry["n"]).items():
            self.send_header(name, value)
        self.end_headers()
        sent, total = 0, len(chunks) + sum(len(dialect.call_chunks(t)) for t in b.get("tools", []))
        for is_text, event in dialect.stream(body, entry["n"], text, chunks, b):
            # Stops come before the next chunk or, when the reply is shorter than that, before its end.
            if is_text or sent == total:
                if self.stop_here(entry, dialect, b, sent, is_text):
                    return
            if is_text:
                self.wait_for(b.get("slow", 0))
                sent += 1
            self.write_chunk(event.encode(), b.get("split", 0))
        self.wfile.write(b"0\r\n\r\n")
        entry["outcome"] = "complete"

    def stop_here(self, entry, dialect, b, sent, more):
        def due(name):
            return name in b and (sent >= b[name] or not more)

        if due("stream-error"):
            self.write_chunk(dialect.stream_error(b.get("error")).encode(), b.get("split", 0))
        if due("stream-error") or due("end"):
            self.wfile.write(b"0\r\n\r\n")
            entry["outcome"] = "complete"
            return True
        if due("cut"):
            entry["outcome"] = "cut"
            self.close_connection = True
            return True
        if due("hang"):
            self.wait(None)
        while "hold" in b and sent == 1 and b["hold"] not in self.state.released:
            self.wait(0.02)
        return False

    def write_chunk(self, data, split):
        for i in range(0, len(data), split or len(data)):
            piece = data[i:i + (split or len(data))]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    tls = None

    def finish_request(self, request, client_address):
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        try:
            request = self.tls.wrap_socket(request, server_side=True)
        except (ssl.SSLError, OSError):     # a client that does not trust us
            return
        with request:
            super().finish_request(request, client_address)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], (ConnectionError, Gone)):
            super().handle_error(request, client_address)


def main():
    parser = argparse.ArgumentParser(description="Emulator of model providers' streaming APIs")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT")
    parser.add_argument("--log", metavar="FILE", help="append the requests as JSON lines")
    parser.add_argument("--keyless", action="store_true", help="the OpenAI dialect needs no key")
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), help="PEM files to serve https with")
    args = parser.parse_args()
    host, _, port = args.listen.rpartition(":")
    Handler.state = State(args.log, args.keyless)
    server = Server((host or "127.0.0.1", int(port)), Handler)
    if args.tls:
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(*args.tls)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    scheme = "https" if args.tls else "http"
    print(f"listening on {scheme}://{server.server_address[0]}:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
