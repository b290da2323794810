# SPDX-License-Identifier: MIT
"""The OpenAI Responses API for provider.py, as far as Codex uses it.

Tools may be functions or namespaces of functions; those of a namespace are known by both names, as
"mcp__puffo__send_message".
"""

from provider_dialects import Dialect, OpenAI, Refused, check_members, require, word_count

MEMBERS = {"model", "stream", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "reasoning",
           "store", "include", "prompt_cache_key", "client_metadata", "text", "service_tier", "previous_response_id",
           "metadata", "max_output_tokens", "temperature", "top_p", "truncation", "user", "prompt_cache_retention",
           "stream_options"}


class Responses(Dialect):
    name = "openai-responses"

    def authorise(self, headers, keyless):
        OpenAI().authorise(headers, keyless)

    def functions(self, body):
        """(namespace or None, function) of everything that is offered."""
        for tool in body.get("tools", []):
            if tool.get("type") == "function":
                yield None, tool
            elif tool.get("type") == "namespace":
                for inner in tool.get("tools", []):
                    yield tool["name"], inner

    def offered(self, body):
        if body.get("tool_choice") == "none":
            return []
        return [f"{namespace}__{tool['name']}" if namespace else tool["name"]
                for namespace, tool in self.functions(body)]

    def results(self, body):
        found = []
        for item in reversed(body["input"]):
            if item.get("type") != "function_call_output":
                break
            output = item["output"]
            found.insert(0, output if isinstance(output, str) else
                         "".join(p.get("text", "") for p in output if isinstance(p, dict)))
        return found

    def thoughts(self, body):
        return None

    def check(self, body, path_model):
        check_members(body, MEMBERS, "request")
        require(isinstance(body.get("model"), str) and body["model"], "you must provide a model parameter")
        require(isinstance(body.get("input"), list) and body["input"], "Invalid 'input': empty array")
        calls = set()
        for i, item in enumerate(body["input"]):
            require(isinstance(item, dict), f"input[{i}]: expected an object")
            kind = item.get("type", "message")
            if kind == "message":
                require(item.get("role") in ("system", "developer", "user", "assistant"), f"Invalid input[{i}].role")
                require(isinstance(item.get("content"), (str, list)), f"Invalid input[{i}].content")
            elif kind == "function_call":
                require(isinstance(item.get("arguments"), str), f"input[{i}].arguments: not a string")
                calls.add(item.get("call_id"))
            elif kind == "function_call_output":
                require(item.get("call_id") in calls,
                        f"No tool call found for function call output {item.get('call_id')}.")
        if body["model"] == "missing-model":
            raise Refused(404, "The model `missing-model` does not exist or you do not have access to it.")

    @staticmethod
    def text_of(item):
        content = item["content"]
        if isinstance(content, str):
            return content
        return "".join(p.get("text", "") for p in content if p.get("type") in ("input_text", "output_text"))

    def last_text(self, body):
        step, in_calls = 0, False
        for item in reversed(body["input"]):
            kind = item.get("type", "message")
            if kind == "message" and item["role"] == "user":
                return self.text_of(item), step
            step += kind == "function_call" and not in_calls
            in_calls = kind == "function_call"
        return "", step

    def streaming(self, body, action, query):
        return body.get("stream") is True

    def usage(self, text, n):
        prompt = word_count(text)
        return {"input_tokens": prompt, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": n,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": prompt + n}

    def response(self, body, serial, status, output, usage=None, **more):
        return {"id": f"resp_{serial:012d}", "object": "response", "created_at": 1700000000, "status": status,
                "model": body["model"], "output": output, "usage": usage, "error": None, "incomplete_details": None,
                **more}

    def message(self, serial, text, status="completed"):
        return {"type": "message", "id": f"msg_{serial:012d}", "status": status, "role": "assistant",
                "content": [{"type": "output_text", "text": text, "annotations": []}] if text else []}

    def call(self, body, serial, i, call):
        item = {"type": "function_call", "id": f"fc_{serial:08d}_{i}", "call_id": f"call_{serial:08d}_{i}",
                "name": call["name"], "arguments": call["arguments"], "status": "completed"}
        for namespace, tool in self.functions(body):
            if namespace and f"{namespace}__{tool['name']}" == call["name"]:
                item["name"], item["namespace"] = tool["name"], namespace
        return item

    def output(self, body, serial, chunks, b):
        text = "".join(chunks)
        return ([self.message(serial, text)] if text else []) + \
               [self.call(body, serial, i, call) for i, call in enumerate(b.get("tools", []))]

    def stream(self, body, serial, text, chunks, b):
        number = 0

        def event(kind, **members):
            nonlocal number
            number += 1
            return self.sse({"type": kind, "sequence_number": number - 1, **members}, kind)

        usage = self.usage(text, len(chunks))
        yield False, event("response.created", response=self.response(body, serial, "in_progress", []))
        index = 0
        if chunks:
            item = self.message(serial, "", "in_progress")
            yield False, event("response.output_item.added", output_index=0, item=item)
            for chunk in chunks:
                yield True, event("response.output_text.delta", item_id=item["id"], output_index=0, content_index=0,
                                  delta=chunk)
            yield False, event("response.output_item.done", output_index=0, item=self.message(serial, "".join(chunks)))
            index = 1
        for i, call in enumerate(b.get("tools", [])):
            item = self.call(body, serial, i, call)
            yield False, event("response.output_item.added", output_index=index + i,
                               item={**item, "arguments": "", "status": "in_progress"})
            for piece in self.call_chunks(call):
                yield True, event("response.function_call_arguments.delta", item_id=item["id"], output_index=index + i,
                                  delta=piece)
            yield False, event("response.output_item.done", output_index=index + i, item=item)
        output = self.output(body, serial, chunks, b)
        if b.get("length"):
            yield False, event("response.incomplete", response=self.response(
                body, serial, "incomplete", output, usage, incomplete_details={"reason": "max_output_tokens"}))
            return
        yield False, event("response.completed", response=self.response(body, serial, "completed", output, usage))

    def whole(self, body, serial, text, chunks, b):
        return self.response(body, serial, "completed", self.output(body, serial, chunks, b),
                             self.usage(text, len(chunks)))

    def error(self, status, message, kind):
        return OpenAI().error(status, message, kind)

    def stream_error(self, kind):
        return self.sse({"type": "response.failed", "sequence_number": 1000, "response": {
            "id": "resp_failed", "object": "response", "status": "failed", "output": [],
            "error": {"code": kind or "server_error", "message": "The model failed."}}}, "response.failed")

    def headers(self, serial):
        return {"x-request-id": f"req_{serial:012d}"}
