#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Emulator of three model providers' streaming APIs, for tests on loopback.

    provider.py [--listen 127.0.0.1:PORT] [--log FILE] [--keyless] [--tls CERTIFICATE KEY]

Prints "listening on http://127.0.0.1:PORT" (https with --tls; port 0: any free one) and serves, below any path prefix:

    POST …/v1/messages                                 Anthropic Messages
    POST …/v1/chat/completions                         OpenAI Chat Completions
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
    [[stream-error]], [[stream-error: 5]]   after 1 (or 5) chunks an error inside the stream
    [[length]]             end as cut by the token limit
    [[refuse]]             refuse
    [[status: 429]]        an error of that status in the dialect's form, with
      [[retry-after: 2]]   … that header
      [[should-retry: false]]   … x-should-retry
      [[error: insufficient_quota]]   … this type, code or status text (also for stream-error)
    [[garbage]]            an HTML page with status 200; with [[status: 502]], with that one
    [[times: 1]]           whatever goes wrong goes wrong for the first call with this text only

POST /_script takes a JSON list of behaviours for the next requests, in order: objects with the same names
({"status": 429, "retry-after": 1}, {"cut": 3}, {"garbage": true}, {} for the plain reply) or strings of directives.
They replace what the message says. An empty list clears it.

    GET  /_log       JSON lines, one per request: n, method, path, query, headers, body, dialect, text, status, outcome
                     ("complete", "cut", "client-gone", or null while it runs)
    GET  /_counts    {last user message: how many calls asked it}; /_counts?contains=X: {"count": N} over those with X
    POST /_reset     forgets log, counts and script
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

MAX_BODY = 32 * 1024 * 1024
DIRECTIVE = re.compile(r"\[\[\s*([a-z-]+)\s*(?::\s*(.*?))?\s*\]\]", re.DOTALL)
NUMBERS = {"words", "cut", "end", "hang", "stream-error", "status", "split", "times", "slow", "delay"}
FLAGS = {"empty", "length", "refuse", "garbage"}
TEXTS = {"reply", "retry-after", "should-retry", "error"}
TROUBLES = {"status", "cut", "end", "hang", "stream-error", "garbage", "empty", "length", "refuse"}


class Refused(Exception):
    """An error answer, before any reply."""

    def __init__(self, status, message, kind=None):
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind


class Gone(Exception):
    """The client has closed the connection."""


def behaviour_parse(text):
    """Directives of the last paragraph that has any."""
    for paragraph in reversed(re.split(r"\n[ \t]*\n", text)):
        found = DIRECTIVE.findall(paragraph)
        if found:
            return behaviour_clean({name: value for name, value in found})
    return {}


def behaviour_clean(raw):
    result = {}
    for name, value in raw.items():
        if name in NUMBERS:
            number = re.match(r"\d+", str(value if value is not True else "") or "")
            result[name] = int(number.group()) if number else {"stream-error": 1}.get(name, 0)
        elif name in FLAGS:
            result[name] = value not in (False, None, "false")
        elif name in TEXTS:
            result[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return result


class Dialect:
    """What one vendor's requests, stream and errors look like."""

    content_type = "text/event-stream; charset=utf-8"

    def text_chunks(self, text):
        return re.findall(r"\s*\S+|\s+$", text)

    @staticmethod
    def sse(data, event=None):
        head = f"event: {event}\n" if event else ""
        body = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
        return f"{head}data: {body}\n\n"


def require(condition, message, kind=None, status=400):
    if not condition:
        raise Refused(status, message, kind)


def check_members(obj, allowed, what):
    require(isinstance(obj, dict), f"{what}: Input should be an object")
    for name in obj:
        require(name in allowed, f"{name}: Extra inputs are not permitted in {what}")


def check_text(text, what):
    require(isinstance(text, str), f"{what}: Input should be a string")
    require(text.strip() != "", f"{what}: text content must be non-empty")


def word_count(text):
    return len(text.split())


class Anthropic(Dialect):
    name = "anthropic"
    TYPES = {400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error",
             404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error", 500: "api_error",
             504: "timeout_error", 529: "overloaded_error"}

    def authorise(self, headers, keyless):
        key = headers.get("x-api-key") or re.sub("^Bearer ", "", headers.get("authorization", ""))
        require(key.startswith("sk-test-"), "invalid x-api-key", status=401)
        require("anthropic-version" in headers, "anthropic-version: header is required")
        require(headers["anthropic-version"] == "2023-06-01", "anthropic-version: not a valid version")

    def check_block(self, block, role, what):
        require(isinstance(block, dict), f"{what}: Input should be an object")
        kind = block.get("type")
        if kind == "text":
            check_members(block, {"type", "text", "cache_control", "citations"}, what)
            check_text(block.get("text"), what)
        else:
            known = {"user": {"image", "document", "tool_result"},
                     "assistant": {"tool_use", "thinking", "redacted_thinking"}, "system": set()}
            require(kind in known[role], f"{what}: Input tag '{kind}' does not match any of the expected tags")
        control = block.get("cache_control")
        require(control is None or (isinstance(control, dict) and control.get("type") == "ephemeral"),
                f"{what}.cache_control: bad value")
        return 1 if control else 0

    def check(self, body, path_model):
        check_members(body, {"model", "max_tokens", "messages", "system", "tools", "tool_choice", "stream",
                             "temperature", "top_p", "top_k", "stop_sequences", "thinking", "output_config",
                             "metadata", "service_tier", "context_management"}, "request")
        require(isinstance(body.get("model"), str), "model: Field required")
        tokens = body.get("max_tokens")
        require(isinstance(tokens, int) and tokens >= 1, "max_tokens: Input should be greater than or equal to 1")
        controls = 0
        if isinstance(body.get("system"), list):
            controls += sum(self.check_block(b, "system", f"system.{i}") for i, b in enumerate(body["system"]))
        elif "system" in body:
            require(isinstance(body["system"], str), "system: Input should be a string or a list")
        messages = body.get("messages")
        require(isinstance(messages, list) and messages, "messages: at least one message is required")
        for i, message in enumerate(messages):
            check_members(message, {"role", "content"}, f"messages.{i}")
            role, content = message.get("role"), message.get("content")
            require(role in ("user", "assistant"), f"messages.{i}.role: should be 'user' or 'assistant'")
            if isinstance(content, list):
                require(content, f"messages.{i}: content must be non-empty")
                controls += sum(self.check_block(b, role, f"messages.{i}.content.{j}") for j, b in enumerate(content))
            else:
                check_text(content, f"messages.{i}.content")
        require(messages[0]["role"] == "user", "messages: first message must use the \"user\" role")
        require(messages[-1]["role"] == "user", "This model does not support assistant message prefill. "
                "The conversation must end with a user message.")
        require(controls <= 4, "A maximum of 4 blocks with cache_control may be provided.")
        if body["model"] == "missing-model":
            raise Refused(404, "model: missing-model")

    def last_text(self, body):
        content = [m for m in body["messages"] if m["role"] == "user"][-1]["content"]
        if isinstance(content, str):
            return content
        texts = [b["text"] for b in content if b.get("type") == "text"]
        return texts[-1] if texts else ""

    def streaming(self, body, action, query):
        return body.get("stream") is True

    def message(self, body, serial, content, stop, usage):
        return {"id": f"msg_{serial:012d}", "type": "message", "role": "assistant", "model": body["model"],
                "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}

    def stop(self, b):
        return "refusal" if b.get("refuse") else "max_tokens" if b.get("length") else "end_turn"

    def usage(self, body, text):
        cached = '"cache_control"' in json.dumps(body)
        return {"input_tokens": word_count(text), "cache_creation_input_tokens": 3 if cached else 0,
                "cache_read_input_tokens": 2 if cached else 0, "output_tokens": 1}

    def stream(self, body, serial, text, chunks, b):
        usage = self.usage(body, text)
        yield False, self.sse({"type": "message_start", "message": self.message(body, serial, [], None, usage)},
                              "message_start")
        if chunks:
            yield False, self.sse({"type": "content_block_start", "index": 0,
                                   "content_block": {"type": "text", "text": ""}}, "content_block_start")
        yield False, self.sse({"type": "ping"}, "ping")
        for chunk in chunks:
            yield True, self.sse({"type": "content_block_delta", "index": 0,
                                  "delta": {"type": "text_delta", "text": chunk}}, "content_block_delta")
        if chunks:
            yield False, self.sse({"type": "content_block_stop", "index": 0}, "content_block_stop")
        yield False, self.sse({"type": "message_delta", "delta": {"stop_reason": self.stop(b), "stop_sequence": None},
                               "usage": {"output_tokens": len(chunks)}}, "message_delta")
        yield False, self.sse({"type": "message_stop"}, "message_stop")

    def whole(self, body, serial, text, chunks, b):
        content = [{"type": "text", "text": "".join(chunks)}] if chunks else []
        usage = {**self.usage(body, text), "output_tokens": len(chunks)}
        return self.message(body, serial, content, self.stop(b), usage)

    def error(self, status, message, kind):
        return {"type": "error", "error": {"type": kind or self.TYPES.get(status, "api_error"), "message": message},
                "request_id": "req_test"}

    def stream_error(self, kind):
        error = {"type": kind or "overloaded_error", "message": "Overloaded"}
        return self.sse({"type": "error", "error": error}, "error")

    def headers(self, serial):
        return {"request-id": f"req_{serial:012d}"}


class OpenAI(Dialect):
    name = "openai"
    CODES = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}

    def authorise(self, headers, keyless):
        authorization = headers.get("authorization")
        if authorization is None and keyless:
            return
        require(authorization is not None, "You didn't provide an API key.", status=401)
        require(keyless or authorization.startswith("Bearer sk-test-"), "Incorrect API key provided.", status=401)

    def check_content(self, content, what, optional):
        if content is None and optional:
            return
        if isinstance(content, list):
            require(content, f"{what}: empty array")
            for part in content:
                require(isinstance(part, dict) and isinstance(part.get("type"), str), f"{what}: bad part")
        else:
            require(isinstance(content, str), f"{what}: expected a string or an array")

    def check(self, body, path_model):
        check_members(body, {"model", "messages", "max_tokens", "max_completion_tokens", "tools", "tool_choice",
                             "parallel_tool_calls", "stream", "stream_options", "temperature", "top_p", "stop", "seed",
                             "reasoning_effort", "verbosity", "response_format", "store", "metadata", "service_tier",
                             "user", "safety_identifier", "prompt_cache_key", "n"}, "request")
        require(isinstance(body.get("model"), str) and body["model"], "you must provide a model parameter")
        require(not ("max_tokens" in body and "max_completion_tokens" in body),
                "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.")
        for name in ("max_tokens", "max_completion_tokens"):
            require(name not in body or (isinstance(body[name], int) and body[name] >= 1), f"Invalid '{name}'")
        require("stream_options" not in body or body.get("stream") is True,
                "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
        if "stream_options" in body:
            check_members(body["stream_options"], {"include_usage", "include_obfuscation"}, "stream_options")
        messages = body.get("messages")
        require(isinstance(messages, list) and messages, "Invalid 'messages': empty array")
        for i, message in enumerate(messages):
            check_members(message, {"role", "content", "name", "tool_calls", "tool_call_id", "refusal"},
                          f"messages[{i}]")
            role = message.get("role")
            require(role in ("system", "developer", "user", "assistant", "tool"), f"Invalid messages[{i}].role")
            self.check_content(message.get("content"), f"messages[{i}].content", role == "assistant")
        talk = [m for m in messages if m["role"] not in ("system", "developer")]
        require(talk and talk[0]["role"] == "user", "The first message must be the user's.")
        if body["model"] == "missing-model":
            raise Refused(404, "The model `missing-model` does not exist or you do not have access to it.")

    def last_text(self, body):
        content = [m for m in body["messages"] if m["role"] == "user"][-1]["content"]
        if isinstance(content, str):
            return content
        texts = [p.get("text", "") for p in content if p.get("type") == "text"]
        return texts[-1] if texts else ""

    def streaming(self, body, action, query):
        return body.get("stream") is True

    def stop(self, b):
        return "length" if b.get("length") else "stop"

    def usage(self, text, n):
        prompt = word_count(text)
        return {"prompt_tokens": prompt, "completion_tokens": n, "total_tokens": prompt + n,
                "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}

    def stream(self, body, serial, text, chunks, b):
        with_usage = body.get("stream_options", {}).get("include_usage") is True

        def chunk_event(choices, usage=None):
            chunk = {"id": f"chatcmpl-{serial}", "object": "chat.completion.chunk", "created": 1700000000,
                     "model": body["model"], "choices": choices}
            if with_usage:
                chunk["usage"] = usage
            return self.sse(chunk)

        def delta(d, finish=None):
            return chunk_event([{"index": 0, "delta": d, "logprobs": None, "finish_reason": finish}])

        yield False, delta({"role": "assistant", "content": "", "refusal": None})
        for chunk in chunks:
            yield True, delta({"content": chunk})
        if b.get("refuse"):
            yield False, delta({"refusal": "I cannot help with that."})
        yield False, delta({}, self.stop(b))
        if with_usage:
            yield False, chunk_event([], self.usage(text, len(chunks)))
        yield False, self.sse("[DONE]")

    def whole(self, body, serial, text, chunks, b):
        message = {"role": "assistant", "content": "".join(chunks) or None,
                   "refusal": "I cannot help with that." if b.get("refuse") else None}
        return {"id": f"chatcmpl-{serial}", "object": "chat.completion", "created": 1700000000, "model": body["model"],
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": self.stop(b)}],
                "usage": self.usage(text, len(chunks))}

    def error(self, status, message, kind):
        return {"error": {"message": message, "param": None, "code": kind or self.CODES.get(status),
                          "type": "insufficient_quota" if kind == "insufficient_quota" else
                                  "server_error" if status >= 500 else "invalid_request_error"}}

    def stream_error(self, kind):
        return self.sse({"error": {"message": "The server had an error while processing your request.",
                                   "type": "server_error", "param": None, "code": kind}})

    def headers(self, serial):
        return {"x-request-id": f"req_{serial:012d}"}


class Google(Dialect):
    name = "google"
    STATUS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
              429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}

    def authorise(self, headers, keyless):
        key = headers.get("x-goog-api-key")
        require(key is not None, "Method doesn't allow unregistered callers.", status=403)
        require(key.startswith("sk-test-"), "API key not valid. Please pass a valid API key.", kind="API_KEY_INVALID")

    def check_content(self, content, what, roles):
        check_members(content, {"role", "parts"}, what)
        require(content.get("role", roles[0]) in roles, "Please use a valid role: user, model.")
        parts = content.get("parts")
        require(isinstance(parts, list) and parts, f"* {what}.parts: must not be empty.")
        for part in parts:
            check_members(part, {"text", "thought", "thoughtSignature", "inlineData", "fileData", "functionCall",
                                 "functionResponse"}, f"{what}.parts")
            if "text" in part:
                check_text(part["text"], f"{what}.parts")

    def check(self, body, path_model):
        check_members(body, {"contents", "systemInstruction", "tools", "toolConfig", "generationConfig",
                             "safetySettings", "cachedContent"}, "request")
        contents = body.get("contents")
        require(isinstance(contents, list) and contents, "* contents: contents is not specified")
        for i, content in enumerate(contents):
            self.check_content(content, f"contents[{i}]", ("user", "model"))
        if "systemInstruction" in body:
            self.check_content(body["systemInstruction"], "systemInstruction", ("user", "system"))
        check_members(body.get("generationConfig", {}),
                      {"maxOutputTokens", "temperature", "topP", "topK", "stopSequences", "responseMimeType",
                       "responseSchema", "responseJsonSchema", "thinkingConfig", "candidateCount", "seed"},
                      "generationConfig")
        require(contents[0].get("role") == "user" and contents[-1].get("role") == "user",
                "Please ensure that multiturn requests begin and end with a user role.")
        if path_model == "missing-model":
            raise Refused(404, "models/missing-model is not found for API version v1beta")

    def last_text(self, body):
        parts = [c for c in body["contents"] if c["role"] == "user"][-1]["parts"]
        texts = [p["text"] for p in parts if "text" in p]
        return texts[-1] if texts else ""

    def streaming(self, body, action, query):
        if action != "streamGenerateContent":
            return False
        require(query.get("alt") == ["sse"], "alt=sse is the only streaming form served here")
        return True

    def finish(self, b):
        return "SAFETY" if b.get("refuse") else "MAX_TOKENS" if b.get("length") else "STOP"

    def response(self, serial, candidate, prompt, n):
        usage = {"promptTokenCount": prompt, "totalTokenCount": prompt + n + 1, "thoughtsTokenCount": 1}
        if n:
            usage["candidatesTokenCount"] = n
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "test-model",
                "responseId": f"resp{serial:08d}"}

    def candidate(self, text, finish=None):
        result = {"content": {"role": "model"}, "index": 0}
        if text:
            result["content"]["parts"] = [{"text": text}]
        if finish:
            result["finishReason"] = finish
        return result

    def sse(self, data, event=None):
        return super().sse(data).replace("\n", "\r\n")

    def stream(self, body, serial, text, chunks, b):
        prompt = word_count(text)
        for i, chunk in enumerate(chunks):
            yield True, self.sse(self.response(serial, self.candidate(chunk), prompt, i + 1))
        yield False, self.sse(self.response(serial, self.candidate("", self.finish(b)), prompt, len(chunks)))

    def whole(self, body, serial, text, chunks, b):
        return self.response(serial, self.candidate("".join(chunks), self.finish(b)), word_count(text), len(chunks))

    def error(self, status, message, kind, retry_after=None):
        error = {"code": status, "message": message, "status": self.STATUS.get(status, "UNKNOWN")}
        if kind == "API_KEY_INVALID":
            error["details"] = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": kind,
                                 "domain": "googleapis.com"}]
        elif kind:
            error["status"] = kind
        return {"error": error}

    def stream_error(self, kind):
        error = {"code": 503, "message": "The model is overloaded.", "status": kind or "UNAVAILABLE"}
        return self.sse({"error": error})

    def headers(self, serial):
        return {}


class State:
    """What all connections share."""

    def __init__(self, log_path, keyless):
        self.lock = threading.Lock()
        self.log_file = open(log_path, "a", encoding="utf-8") if log_path else None
        self.keyless = keyless
        self.serial = 0
        self.reset()

    def reset(self):
        self.log, self.counts, self.script = [], {}, []

    def add(self, entry):
        with self.lock:
            self.serial += 1
            entry["n"] = self.serial
            self.log.append(entry)
            if self.log_file:
                self.log_file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                self.log_file.flush()

    def behaviour(self, text):
        """Counts the call; what to do with it."""
        with self.lock:
            n = self.counts[text] = self.counts.get(text, 0) + 1
            if self.script:
                step = self.script.pop(0)
                return behaviour_clean(step) if isinstance(step, dict) else behaviour_parse(step)
        b = behaviour_parse(text)
        if n > b.get("times", n):
            b = {k: v for k, v in b.items() if k not in TROUBLES}
        return b


ROUTES = [(re.compile(r"^(?P<prefix>.*)/v1/messages$"), Anthropic()),
          (re.compile(r"^(?P<prefix>.*)/v1/chat/completions$"), OpenAI()),
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
            if url.path in ("/_script", "/_reset"):
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
            text = entry["text"] = dialect.last_text(body)
            b = self.state.behaviour(text)
            self.wait_for(b.get("delay", 0))
            if "status" in b and not b.get("garbage"):
                raise Refused(b["status"] or 500, f"scripted error {b['status']}", b.get("error"))
        except Refused as e:
            self.refuse(entry, dialect, e, b)
            return
        self.answer(entry, dialect, body, text, streaming, b)

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
        sent = 0
        for is_text, event in dialect.stream(body, entry["n"], text, chunks, b):
            # Stops come before the next text chunk or, when the reply is shorter than that, before its end.
            if is_text or sent == len(chunks):
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
