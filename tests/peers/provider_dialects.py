# SPDX-License-Identifier: MIT
"""The three dialects of provider.py: what is asked, said and refused in each, and how a turn is scripted."""

import base64
import hashlib
import json
import re

# Not every "]]" is an end: lists within lists of a tool's arguments have them too.
DIRECTIVE = re.compile(r"\[\[\s*([a-z-]+)\s*(?::\s*(.*?))?\s*\]\](?![\]}])", re.DOTALL)
NUMBERS = {"words", "cut", "end", "hang", "stream-error", "status", "split", "times", "slow", "delay", "at-step"}
FLAGS = {"empty", "length", "refuse", "garbage", "no-tools", "no-images"}
TEXTS = {"reply", "retry-after", "should-retry", "error", "think", "hold"}
TROUBLES = {"status", "cut", "end", "hang", "hold", "stream-error", "garbage", "empty", "length", "refuse"}


class Refused(Exception):
    """An error answer, before any reply."""

    def __init__(self, status, message, kind=None):
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind


def behaviour_parse(text):
    """Directives of the last paragraph that has any."""
    for paragraph in reversed(re.split(r"\n[ \t]*\n", text)):
        found = DIRECTIVE.findall(paragraph)
        if found:
            b = behaviour_clean({name: value for name, value in found if name != "think"})
            steps = steps_parse(found)
            return {**b, "steps": steps} if steps else b
    return {}


def steps_parse(found):
    """The steps of a turn that call tools."""
    steps = [{"tools": []}]
    for name, value in found:
        if name == "then":
            steps.append({"tools": []})
        elif name == "tool":
            tool, _, arguments = value.strip().partition(" ")
            steps[-1]["tools"].append({"name": tool, "arguments": arguments.strip()})
        elif name == "say":
            steps[-1]["reply"] = value
        elif name == "think":
            steps[-1]["think"] = value
    return [s for s in steps if s["tools"]]


def behaviour_clean(raw):
    result = {}
    for name, value in raw.items():
        if name in NUMBERS:
            number = re.match(r"\d+", str(value if value is not True else "") or "")
            result[name] = int(number.group()) if number else {"stream-error": 1}.get(name, 0)
        elif name in FLAGS:
            result[name] = value not in (False, None, "false")
        elif name == "tools":
            result[name] = [{"name": t["name"], "arguments": t["arguments"] if isinstance(t.get("arguments"), str) else
                             json.dumps(t.get("arguments", {}))} for t in value]
        elif name in TEXTS:
            result[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return result


class Dialect:
    """What one vendor's requests, stream and errors look like."""

    content_type = "text/event-stream; charset=utf-8"

    def text_chunks(self, text):
        return re.findall(r"\s*\S+|\s+$", text)

    def call_chunks(self, call):
        """What goes out of a call piece by piece."""
        return [call["arguments"][i:i + 7] for i in range(0, len(call["arguments"]), 7)]

    def tool_name(self, body, name):
        for offered in self.offered(body):
            if offered == name or offered.endswith("__" + name):
                return offered
        return name

    @staticmethod
    def check_tool(tool, name, schema, what):
        require(isinstance(name, str) and re.fullmatch("[a-zA-Z0-9_-]{1,64}", name), f"{what}: bad name of a tool")
        require(isinstance(schema, dict) and schema.get("type") == "object", f"{what}: schema of type object expected")

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


def images_of(body):
    """Type and content, in short, of each image of a request in any dialect."""
    if isinstance(body, list):
        return [image for part in body for image in images_of(part)]
    if not isinstance(body, dict):
        return []
    # In a tool's schema these are names of parameters, with an object behind each.
    url = body.get("url", body.get("image_url"))
    if isinstance(body.get("media_type"), str):
        kind, data = body["media_type"], body["data"]
    elif isinstance(body.get("mimeType"), str):
        kind, data = body["mimeType"], body["data"]
    elif isinstance(url, str) and url.startswith("data:"):
        kind, data = url[5:].split(";base64,")
    else:
        return images_of(list(body.values()))
    return [f"{kind} {hashlib.sha256(base64.b64decode(data)).hexdigest()[:16]}"]


MAGIC = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff", "image/gif": b"GIF8", "image/webp": b"RIFF"}


def check_image(kind, data, what, without=(), largest=None):
    """As the services do: base64 of what it is said to be, and not too much of it."""
    require(kind in MAGIC and kind not in without, f"{what}: the media type {kind} is not supported")
    require(isinstance(data, str) and data, f"{what}: image data expected")
    require(largest is None or len(data) <= largest, f"{what}: image exceeds {largest} bytes")
    try:
        content = base64.b64decode(data, validate=True)
    except ValueError:
        content = b""
    require(content.startswith(MAGIC[kind]), f"{what}: Could not process image")


def signature(text):
    return "sig-" + hashlib.sha256(text.encode()).hexdigest()[:16]


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
            if kind == "image":
                source = block.get("source")
                check_members(block, {"type", "source", "cache_control"}, what)
                check_members(source, {"type", "media_type", "data"}, what)
                require(source.get("type") == "base64", f"{what}.source.type: bad value")
                check_image(source.get("media_type"), source.get("data"), what, largest=5 * 1024 * 1024)
        control = block.get("cache_control")
        require(control is None or (isinstance(control, dict) and control.get("type") == "ephemeral"),
                f"{what}.cache_control: bad value")
        return 1 if control else 0

    def check_tools(self, body):
        names = []
        for i, tool in enumerate(body.get("tools", [])):
            check_members(tool, {"name", "description", "input_schema", "cache_control", "strict"}, f"tools.{i}")
            self.check_tool(tool, tool.get("name"), tool.get("input_schema"), f"tools.{i}")
            names.append(tool["name"])
        require(len(set(names)) == len(names), "tools: Tool names must be unique.")
        if "tool_choice" in body:
            require(names, "tool_choice: may only be specified while providing tools")
            require(body["tool_choice"].get("type") in ("auto", "any", "none", "tool"), "tool_choice: bad type")
        pending = []
        for i, message in enumerate(body["messages"]):
            blocks = message["content"] if isinstance(message["content"], list) else []
            results = [b.get("tool_use_id") for b in blocks if b["type"] == "tool_result"]
            require(results == pending, f"messages.{i}: `tool_use` ids were found without `tool_result` blocks "
                    f"immediately after: {pending} {results}")
            first = [b["type"] for b in blocks[:len(results)]]
            require(first == ["tool_result"] * len(results), f"messages.{i}: tool_result blocks must come first")
            pending = [b.get("id") for b in blocks if b["type"] == "tool_use"]
            require(names or not pending, "Requests which include `tool_use` blocks must define tools")
            for b in blocks:
                if b["type"] == "tool_use":
                    check_members(b, {"type", "id", "name", "input", "cache_control"}, f"messages.{i}")
                    require(isinstance(b.get("input"), dict), f"messages.{i}: tool_use.input: should be a dictionary")
                    require(re.fullmatch("[a-zA-Z0-9_-]+", b.get("id", "")), f"messages.{i}: tool_use.id: bad pattern")
                elif b["type"] == "tool_result":
                    check_members(b, {"type", "tool_use_id", "content", "is_error", "cache_control"}, f"messages.{i}")
                    require(isinstance(b.get("content", ""), (str, list)), f"messages.{i}: tool_result.content")
                elif b["type"] == "thinking":
                    require(b.get("signature") == signature(b.get("thinking", "")),
                            f"messages.{i}: Invalid `signature` in `thinking` block")

    def offered(self, body):
        choice = body.get("tool_choice", {}).get("type", "auto")
        return [] if choice == "none" else [t["name"] for t in body.get("tools", [])]

    def results(self, body):
        """The texts of the results at the end."""
        blocks = body["messages"][-1]["content"]
        return [b.get("content", "") for b in blocks if b["type"] == "tool_result"] if isinstance(blocks, list) else []

    def thoughts(self, body):
        blocks = [b for m in body["messages"] if isinstance(m["content"], list) for b in m["content"]]
        return [b["thinking"] for b in blocks if b["type"] == "thinking"]

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
        if "context_management" in body:
            # Claude Code, whose versions of late say what is new in messages of the system's among the others.
            messages = body["messages"] = [m for m in messages if m.get("role") != "system"]
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
        self.check_tools(body)
        if body["model"] == "missing-model":
            raise Refused(404, "model: missing-model")

    def last_text(self, body):
        """The last text of the user, and how often tools were called since then."""
        step = 0
        for message in reversed(body["messages"]):
            content = message["content"]
            if isinstance(content, str):
                content = [{"type": "text", "text": content}]
            if message["role"] == "user":
                texts = [b["text"] for b in content if b.get("type") == "text"]
                if texts:
                    return texts[-1], step
            else:
                step += any(b.get("type") == "tool_use" for b in content)
        return "", step

    def streaming(self, body, action, query):
        return body.get("stream") is True

    def message(self, body, serial, content, stop, usage):
        return {"id": f"msg_{serial:012d}", "type": "message", "role": "assistant", "model": body["model"],
                "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}

    def stop(self, b):
        return "refusal" if b.get("refuse") else "max_tokens" if b.get("length") else \
            "tool_use" if b.get("tools") else "end_turn"

    def usage(self, body, text):
        cached = '"cache_control"' in json.dumps(body)
        return {"input_tokens": word_count(text), "cache_creation_input_tokens": 3 if cached else 0,
                "cache_read_input_tokens": 2 if cached else 0, "output_tokens": 1}

    def stream(self, body, serial, text, chunks, b):
        usage = self.usage(body, text)
        yield False, self.sse({"type": "message_start", "message": self.message(body, serial, [], None, usage)},
                              "message_start")
        index = 0

        def begin(block):
            return False, self.sse({"type": "content_block_start", "index": index, "content_block": block},
                                   "content_block_start")

        def delta(d, counts=True):
            return counts, self.sse({"type": "content_block_delta", "index": index, "delta": d}, "content_block_delta")

        def end():
            return False, self.sse({"type": "content_block_stop", "index": index}, "content_block_stop")

        if "think" in b:
            yield begin({"type": "thinking", "thinking": "", "signature": ""})
            yield delta({"type": "thinking_delta", "thinking": b["think"]}, False)
            yield delta({"type": "signature_delta", "signature": signature(b["think"])}, False)
            yield end()
            index += 1
        if chunks:
            yield begin({"type": "text", "text": ""})
        yield False, self.sse({"type": "ping"}, "ping")
        for chunk in chunks:
            yield delta({"type": "text_delta", "text": chunk})
        if chunks:
            yield end()
            index += 1
        for i, call in enumerate(b.get("tools", [])):
            yield begin({"type": "tool_use", "id": f"toolu_{serial:08d}_{i}", "name": call["name"], "input": {}})
            for piece in self.call_chunks(call):
                yield delta({"type": "input_json_delta", "partial_json": piece})
            yield end()
            index += 1
        yield False, self.sse({"type": "message_delta", "delta": {"stop_reason": self.stop(b), "stop_sequence": None},
                               "usage": {"output_tokens": len(chunks)}}, "message_delta")
        yield False, self.sse({"type": "message_stop"}, "message_stop")

    def whole(self, body, serial, text, chunks, b):
        content = [{"type": "text", "text": "".join(chunks)}] if chunks else []
        content += [{"type": "tool_use", "id": f"toolu_{serial:08d}_{i}", "name": call["name"],
                     "input": json.loads(call["arguments"] or "{}")} for i, call in enumerate(b.get("tools", []))]
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
                if part["type"] == "image_url":
                    check_members(part, {"type", "image_url"}, what)
                    check_members(part.get("image_url"), {"url", "detail"}, what)
                    found = re.fullmatch("data:([a-z/]+);base64,(.*)", part["image_url"].get("url", ""))
                    require(found, f"{what}: a data: URL expected")
                    check_image(found[1], found[2], what)
        else:
            require(isinstance(content, str), f"{what}: expected a string or an array")

    def check_tools(self, body):
        names = []
        for i, tool in enumerate(body.get("tools", [])):
            check_members(tool, {"type", "function"}, f"tools[{i}]")
            require(tool.get("type") == "function", f"Invalid tools[{i}].type")
            check_members(tool.get("function"), {"name", "description", "parameters", "strict"}, f"tools[{i}]")
            self.check_tool(tool, tool["function"].get("name"), tool["function"].get("parameters"), f"tools[{i}]")
            names.append(tool["function"]["name"])
        require("tools" not in body or names, "[] is too short - 'tools'")
        require("tool_choice" not in body or names, "'tool_choice' is only allowed when 'tools' are specified.")
        pending = []
        for i, message in enumerate(body["messages"]):
            if message["role"] == "tool":
                require(pending and message.get("tool_call_id") == pending.pop(0),
                        "messages with role 'tool' must be a response to a preceding message with 'tool_calls'.")
                continue
            require(not pending, "An assistant message with 'tool_calls' must be followed by tool messages responding "
                    f"to each 'tool_call_id': {pending}")
            for call in message.get("tool_calls", []):
                check_members(call, {"id", "type", "function"}, f"messages[{i}].tool_calls")
                require(call.get("type") == "function", f"messages[{i}].tool_calls: bad type")
                check_members(call.get("function"), {"name", "arguments"}, f"messages[{i}].tool_calls")
                require(isinstance(call["function"].get("arguments"), str), f"messages[{i}]: arguments: not a string")
                pending.append(call["id"])
            require("tool_calls" not in message or pending, f"[] is too short - 'messages[{i}].tool_calls'")
            require(message["role"] != "assistant" or message.get("content") is not None or pending,
                    f"messages[{i}]: content or tool_calls expected")
        require(not pending, f"tool messages are missing: {pending}")

    def offered(self, body):
        return [] if body.get("tool_choice") == "none" else [t["function"]["name"] for t in body.get("tools", [])]

    def results(self, body):
        found = []
        for message in reversed(body["messages"]):
            if message["role"] != "tool":
                break
            found.insert(0, message["content"])
        return found

    def thoughts(self, body):
        return None

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
        self.check_tools(body)
        if body["model"] == "missing-model":
            raise Refused(404, "The model `missing-model` does not exist or you do not have access to it.")

    def last_text(self, body):
        step = 0
        for message in reversed(body["messages"]):
            content = message["content"] if "content" in message else None
            if message["role"] == "user":
                if isinstance(content, str):
                    return content, step
                texts = [p.get("text", "") for p in content if p.get("type") == "text"]
                return texts[-1] if texts else "", step
            step += "tool_calls" in message
        return "", step

    def streaming(self, body, action, query):
        return body.get("stream") is True

    def stop(self, b):
        return "length" if b.get("length") else "tool_calls" if b.get("tools") else "stop"

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
        for i, call in enumerate(b.get("tools", [])):
            yield False, delta({"tool_calls": [{"index": i, "id": f"call_{serial:08d}_{i}", "type": "function",
                                                "function": {"name": call["name"], "arguments": ""}}]})
            for piece in self.call_chunks(call):
                yield True, delta({"tool_calls": [{"index": i, "function": {"arguments": piece}}]})
        if b.get("refuse"):
            yield False, delta({"refusal": "I cannot help with that."})
        yield False, delta({}, self.stop(b))
        if with_usage:
            yield False, chunk_event([], self.usage(text, len(chunks)))
        yield False, self.sse("[DONE]")

    def whole(self, body, serial, text, chunks, b):
        message = {"role": "assistant", "content": "".join(chunks) or None,
                   "refusal": "I cannot help with that." if b.get("refuse") else None}
        if b.get("tools"):
            message["tool_calls"] = [{"id": f"call_{serial:08d}_{i}", "type": "function", "function": call}
                                     for i, call in enumerate(b["tools"])]
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
    # What may stand for a signature that was lost, says the vendor.
    NO_SIGNATURE = "skip_thought_signature_validator"
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
            if "inlineData" in part:
                check_members(part["inlineData"], {"mimeType", "data"}, f"{what}.parts")
                check_image(part["inlineData"].get("mimeType"), part["inlineData"].get("data"), f"{what}.parts",
                            without={"image/gif"})
            if "text" in part:
                check_text(part["text"], f"{what}.parts")
                require(not part.get("thought") or part.get("thoughtSignature") == signature(part["text"]),
                        "Thought is missing its thought_signature.")

    def check_tools(self, body):
        names = []
        for tool in body.get("tools", []):
            check_members(tool, {"functionDeclarations"}, "tools")
            for i, f in enumerate(tool.get("functionDeclarations", [])):
                check_members(f, {"name", "description", "parameters", "parametersJsonSchema", "response"}, "tools")
                self.check_tool(f, f.get("name"), f.get("parametersJsonSchema"), f"functionDeclarations[{i}]")
                names.append(f["name"])
        if "toolConfig" in body:
            mode = body["toolConfig"].get("functionCallingConfig", {}).get("mode")
            require(mode in ("AUTO", "ANY", "NONE", "VALIDATED"), "Invalid value at 'tool_config'")
        pending = []
        asked = max((i for i, c in enumerate(body["contents"])
                     if c.get("role") == "user" and any("text" in p for p in c["parts"])), default=0)
        for i, content in enumerate(body["contents"]):
            results = []
            for part in self.once(content["parts"]):
                call, result = part.get("functionCall"), part.get("functionResponse")
                if result is not None:
                    check_members(result, {"id", "name", "response"}, "functionResponse")
                    require(isinstance(result.get("response"), dict), "functionResponse.response: not an object")
                    results.append(result["name"])
                elif call is not None:
                    check_members(call, {"id", "name", "args"}, "functionCall")
                    require(isinstance(call.get("args", {}), dict), "functionCall.args: not an object")
                    # Gemini CLI gives calls ids of its own, and forgets their signatures with the process. The service
                    # insists on them behind the last text of the user only.
                    past = "id" in call and i < asked
                    require(part.get("thoughtSignature") == signature(call["name"]) or
                            past and part.get("thoughtSignature") in (None, self.NO_SIGNATURE),
                            "Function call is missing a thought_signature in functionCall parts.")
            require(results == pending, "Please ensure that the number of function response parts is equal to the "
                    "number of function call parts of the function call turn.")
            pending = [p["functionCall"]["name"] for p in content["parts"] if "functionCall" in p]

    @staticmethod
    def once(parts):
        """Gemini CLI 0.61 says each result twice in a conversation that goes on."""
        return [p for i, p in enumerate(parts) if "id" not in p.get("functionResponse", {}) or p not in parts[:i]]

    def offered(self, body):
        if body.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode") == "NONE":
            return []
        return [f["name"] for t in body.get("tools", []) for f in t.get("functionDeclarations", [])]

    def results(self, body):
        found = [p["functionResponse"]["response"] for p in body["contents"][-1]["parts"] if "functionResponse" in p]
        return [r.get("output", r.get("error", "")) for r in found]

    def thoughts(self, body):
        return [p["text"] for c in body["contents"] for p in c["parts"] if p.get("thought")]

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
        self.check_tools(body)
        if path_model == "missing-model":
            raise Refused(404, "models/missing-model is not found for API version v1beta")

    def last_text(self, body):
        step = 0
        for content in reversed(body["contents"]):
            if content["role"] == "user":
                texts = [p["text"] for p in content["parts"] if "text" in p]
                if texts:
                    return texts[-1], step
            else:
                step += any("functionCall" in p for p in content["parts"])
        return "", step

    def call_chunks(self, call):
        return [call["arguments"]]

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

    def call_part(self, call):
        part = {"functionCall": {"name": call["name"]}, "thoughtSignature": signature(call["name"])}
        arguments = json.loads(call["arguments"] or "{}")
        if arguments:           # left out when there are none
            part["functionCall"]["args"] = arguments
        return part

    def stream(self, body, serial, text, chunks, b):
        prompt = word_count(text)
        if "think" in b:
            candidate = self.candidate(b["think"])
            candidate["content"]["parts"][0].update({"thought": True, "thoughtSignature": signature(b["think"])})
            yield False, self.sse(self.response(serial, candidate, prompt, 1))
        for i, chunk in enumerate(chunks):
            yield True, self.sse(self.response(serial, self.candidate(chunk), prompt, i + 1))
        for call in b.get("tools", []):
            candidate = self.candidate("")
            try:
                candidate["content"]["parts"] = [self.call_part(call)]
            except ValueError:  # arguments come parsed here, or not at all
                yield True, self.sse(self.response(serial, self.candidate("", "MALFORMED_FUNCTION_CALL"), prompt, 1))
                return
            yield True, self.sse(self.response(serial, candidate, prompt, 1))
        yield False, self.sse(self.response(serial, self.candidate("", self.finish(b)), prompt, len(chunks)))

    def whole(self, body, serial, text, chunks, b):
        candidate = self.candidate("".join(chunks), self.finish(b))
        candidate["content"].setdefault("parts", []).extend(self.call_part(c) for c in b.get("tools", []))
        return self.response(serial, candidate, word_count(text), len(chunks))

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
