# SPDX-License-Identifier: MIT
"""The emulator itself: that its dialects, its refusals and its directives are what provider.py promises."""

import http.client
import json

import pytest

from provider_peer import DIALECTS, clean, events, peer  # noqa: F401


def said(text):
    parts = []
    for e in events(text):
        parts.append(e.get("delta", {}).get("text", ""))
        parts += [c["delta"].get("content") or "" for c in e.get("choices", [])]
        parts += [p["text"] for c in e.get("candidates", []) for p in c["content"].get("parts", [])]
    return "".join(parts)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_reply(peer, dialect):
    ask = getattr(peer, dialect)
    status, headers, text = ask("héllo wörld")
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    assert said(text) == "You said: héllo wörld"
    assert said(ask("[[reply: ünïcode\nand more]] [[split: 1]]")[2]) == "ünïcode\nand more"
    assert said(ask("[[words: 3]]")[2]) == "word1 word2 word3"
    assert said(ask("[[cut: 2]] a b c d")[2]) == "You said:"
    assert said(ask("[[end: 3]] a b c d")[2]) == "You said: a"
    assert said(ask("[[status: 401]]\n\n[[reply: second]]\n\nlast")[2]) == "second"
    assert "verload" in ask("[[stream-error: 1]] x")[2] or dialect == "openai"
    assert ask("[[garbage]]")[2].startswith("<!DOCTYPE html>")
    assert said(ask("[[empty]]")[2]) == ""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_errors(peer, dialect):
    ask = getattr(peer, dialect)
    assert ask("x", key="wrong")[0] in (400, 401)
    assert ask("x", model="missing-model")[0] == 404
    assert ask("x", unknown=1)[0] == 400
    status, headers, text = ask("[[status: 429]] [[retry-after: 2]]")
    assert status == 429
    assert headers["retry-after"] == "2" if dialect != "google" else '"retryDelay": "2s"' in text
    assert ask("[[status: 529]] [[times: 1]] y")[0] == 529
    assert said(ask("[[status: 529]] [[times: 1]] y")[2]) == "You said: y"


def test_strict(peer):
    assert peer.call("POST", "/v1/messages", {}, {"x-api-key": "sk-test-1"})[0] == 400
    assert peer.anthropic("x", messages=[{"role": "assistant", "content": "x"}])[0] == 400
    assert peer.anthropic(" ")[0] == 400
    assert peer.anthropic("x", max_tokens=0)[0] == 400
    assert peer.google("x", contents=[{"role": "assistant", "parts": [{"text": "x"}]}])[0] == 400
    assert peer.openai("x", key=None)[0] == 401
    assert said(peer.openai("x", key=None, prefix="/ollama")[2]) == "You said: x"
    assert peer.openai("x", max_tokens=1, max_completion_tokens=1)[0] == 400
    assert json.loads(peer.call("GET", "/ollama/v1/models")[2])["data"][0]["id"] == "test-model"


def test_script_log_counts(peer):
    peer.call("POST", "/_script", [{"status": 529}, "[[reply: two]]", {}])
    assert peer.anthropic("a")[0] == 529
    assert said(peer.anthropic("a")[2]) == "two"
    assert said(peer.openai("a")[2]) == "You said: a"
    assert said(peer.openai("b")[2]) == "You said: b"
    assert json.loads(peer.call("GET", "/_counts")[2]) == {"a": 3, "b": 1}
    assert json.loads(peer.call("GET", "/_counts?contains=a")[2]) == {"count": 3}
    log = [json.loads(line) for line in peer.call("GET", "/_log")[2].splitlines()]
    assert [e["status"] for e in log] == [529, 200, 200, 200]
    assert log[0]["headers"]["x-api-key"] == "sk-test-1" and log[0]["outcome"] == "complete"


def test_not_streamed(peer):
    assert json.loads(peer.anthropic("x", stream=False)[2])["content"][0]["text"] == "You said: x"
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    status, _, text = peer.call("POST", "/v1/chat/completions", body, {"authorization": "Bearer sk-test-"})
    assert status == 200 and json.loads(text)["choices"][0]["message"]["content"] == "You said: x"


def test_client_gone(peer):
    c = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=60)
    body = {"model": "m", "max_tokens": 1, "stream": True, "messages": [{"role": "user", "content": "[[hang]]"}]}
    c.request("POST", "/v1/messages", json.dumps(body), {"content-type": "application/json", "x-api-key": "sk-test-1",
                                                         "anthropic-version": "2023-06-01"})
    while not peer.call("GET", "/_log")[2]:
        pass
    c.close()
    while json.loads(peer.call("GET", "/_log")[2])["outcome"] is None:
        pass
    assert json.loads(peer.call("GET", "/_log")[2])["outcome"] == "client-gone"


@pytest.mark.parametrize("early", [True, False])
def test_held_back(peer, early):
    if early:
        peer.call("POST", "/_release/now")
    c = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=60)
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "[[words: 3]] [[hold: now]]"}]}
    c.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json",
                                                                 "authorization": "Bearer sk-test-"})
    answer = c.getresponse()
    text = b""
    while b"word1" not in text:
        text += answer.read1()
    if not early:
        assert b"word2" not in text and json.loads(peer.call("GET", "/_log")[2])["outcome"] is None
        peer.call("POST", "/_release/others")
        peer.call("POST", "/_release/now")
    assert b"word3" in text + answer.read()
    c.close()


SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
NAMES = ("mcp__puffo__send_message", "mcp__puffo__list_spaces")


class Talk:
    """A client of each dialect that calls tools as the services want it."""

    def __init__(self, peer, dialect, text):
        self.peer, self.dialect, self.body = peer, dialect, {"model": "m"}
        if dialect == "google":
            self.body["contents"] = [{"role": "user", "parts": [{"text": text}]}]
            functions = [{"name": n, "parametersJsonSchema": SCHEMA} for n in NAMES]
            self.body["tools"] = [{"functionDeclarations": functions}]
            return
        self.body["messages"] = [{"role": "user", "content": text}]
        if dialect == "openai":
            self.body["tools"] = [{"type": "function", "function": {"name": n, "parameters": SCHEMA}} for n in NAMES]
        else:
            self.body.update({"max_tokens": 100, "tools": [{"name": n, "input_schema": SCHEMA} for n in NAMES]})

    def ask(self):
        """Status, what was said, and [name, arguments text] of the calls; the whole reply is kept."""
        self.body["stream"] = True
        if self.dialect == "google":
            body = {k: v for k, v in self.body.items() if k not in ("stream", "model")}
            path = "/v1beta/models/m:streamGenerateContent?alt=sse"
            status, _, text = self.peer.call("POST", path, body, {"x-goog-api-key": "sk-test-1"})
            contents = [c["content"] for e in events(text) for c in e.get("candidates", [])]
            self.parts = [p for content in contents for p in content.get("parts", [])]
            calls = [[p["functionCall"]["name"], json.dumps(p["functionCall"].get("args", {}))]
                     for p in self.parts if "functionCall" in p]
            said_here = "".join(p.get("text", "") for p in self.parts if not p.get("thought"))
        elif self.dialect == "openai":
            status, _, text = self.peer.call("POST", "/v1/chat/completions", self.body,
                                             {"authorization": "Bearer sk-test-1"})
            deltas = [c["delta"] for e in events(text) for c in e.get("choices", [])]
            said_here, self.calls = "".join(d.get("content") or "" for d in deltas), []
            for piece in (p for d in deltas for p in d.get("tool_calls", [])):
                if piece["index"] == len(self.calls):
                    self.calls.append({"id": piece["id"], "type": "function", "function": dict(piece["function"])})
                else:
                    self.calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
            calls = [[c["function"]["name"], c["function"]["arguments"]] for c in self.calls]
            self.said = said_here
        else:
            status, _, text = self.peer.call("POST", "/v1/messages", self.body,
                                             {"x-api-key": "sk-test-1", "anthropic-version": "2023-06-01"})
            self.blocks = []
            for e in events(text):
                if e["type"] == "content_block_start":
                    self.blocks.append({**e["content_block"], "json": ""})
                elif e["type"] == "content_block_delta":
                    d = e["delta"]
                    for name in ("text", "thinking", "signature"):
                        if name in d:
                            self.blocks[-1][name] += d[name]
                    self.blocks[-1]["json"] += d.get("partial_json", "")
            calls = [[b["name"], b["json"]] for b in self.blocks if b["type"] == "tool_use"]
            said_here = "".join(b["text"] for b in self.blocks if b["type"] == "text")
            for b in self.blocks:
                text_of_it = b.pop("json")
                if b["type"] == "tool_use":
                    b["input"] = json.loads(text_of_it or "{}")
        return status, said_here, calls

    def answer(self, *results):
        if self.dialect == "google":
            names = [p["functionCall"]["name"] for p in self.parts if "functionCall" in p]
            self.body["contents"] += [
                {"role": "model", "parts": self.parts},
                {"role": "user", "parts": [{"functionResponse": {"name": n, "response": {"output": r}}}
                                           for n, r in zip(names, results)]}]
        elif self.dialect == "openai":
            self.body["messages"].append({"role": "assistant", "content": self.said or None, "tool_calls": self.calls})
            self.body["messages"] += [{"role": "tool", "tool_call_id": c["id"], "content": r}
                                      for c, r in zip(self.calls, results)]
        else:
            ids = [b["id"] for b in self.blocks if b["type"] == "tool_use"]
            self.body["messages"] += [
                {"role": "assistant", "content": self.blocks},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": i, "content": r}
                                             for i, r in zip(ids, results)]}]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tools(peer, dialect):
    talk = Talk(peer, dialect, 'hi [[think: hm]] [[say: One moment.]] [[tool: list_spaces]] '
                               '[[tool: send_message {"text": "a [b] c"}]]\n'
                               '[[then]] [[tool: unknown {"deep": {"list": [1, [2]]}}]] [[reply: Done.]]')
    first = "" if dialect != "google" else "{}"
    status, text, calls = talk.ask()
    assert (status, text) == (200, "One moment.")
    assert calls[0] == [NAMES[1], first] and calls[1][0] == NAMES[0]
    assert json.loads(calls[1][1]) == {"text": "a [b] c"}

    talk.answer("none", "sent")
    status, text, calls = talk.ask()
    assert (status, text) == (200, "")
    assert calls[0][0] == "unknown" and json.loads(calls[0][1]) == {"deep": {"list": [1, [2]]}}

    talk.answer("no such tool")
    assert talk.ask() == (200, "Done.", [])
    log = [json.loads(line) for line in peer.call("GET", "/_log")[2].splitlines()]
    assert [e["step"] for e in log] == [1, 2, 3]
    assert [e["results"] for e in log] == [[], ["none", "sent"], ["no such tool"]]
    assert log[0]["offered"] == list(NAMES)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tools_strict(peer, dialect):
    script = '[[tool: list_spaces {"a": 1}]] [[tool: list_spaces {"a": 2}]] [[reply: x]]'
    talk = Talk(peer, dialect, script)
    assert len(talk.ask()[2]) == 2
    talk.answer("only one")
    assert talk.ask()[0] == 400

    if dialect != "openai":     # what was thought has to come back
        talk = Talk(peer, dialect, "[[think: hm]] " + script)
        talk.ask()
        if dialect == "google":
            for part in talk.parts:
                part.pop("thoughtSignature")
        else:
            talk.blocks = [b for b in talk.blocks if b["type"] != "thinking"]
        talk.answer("1", "2")
        assert talk.ask()[0] == 400

    talk = Talk(peer, dialect, "[[no-tools]] y")
    status, _, _ = talk.ask()
    assert status == 400
    del talk.body["tools"]
    assert talk.ask()[:2] == (200, "You said: y")

    talk = Talk(peer, dialect, script)
    if dialect == "google":
        talk.body["toolConfig"] = {"functionCallingConfig": {"mode": "NONE"}}
    else:
        talk.body["tool_choice"] = {"type": "none"} if dialect == "anthropic" else "none"
    assert talk.ask() == (200, "x", [])


def test_calls_of_gemini_cli(peer):
    """A conversation that goes on in another process: calls with ids of its own, which has lost their signatures."""
    offered = [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"type": "object"}}]}]
    said, text = {"role": "user", "parts": [{"text": "a"}]}, {"role": "user", "parts": [{"text": "b"}]}

    def status(call, result, *end, n=1):
        model = {"role": "model", "parts": [call]}
        result = {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}, **result}}] * n}
        return peer.google("", contents=[said, model, result, *end], tools=offered)[0]

    end = ({"role": "model", "parts": [{"text": "x"}]}, text)
    own, none = {"name": "f", "args": {}, "id": "f_1"}, {"name": "f", "args": {}}
    stand_in = {"thoughtSignature": "skip_thought_signature_validator"}
    assert status({"functionCall": own}, {"id": "f_1"}, *end) == 200
    assert status({"functionCall": own}, {"id": "f_1"}, *end, n=2) == 200
    assert status({"functionCall": own, **stand_in}, {"id": "f_1"}, *end) == 200
    # Not in the turn that goes on, not for others, and not any other.
    assert status({"functionCall": own}, {"id": "f_1"}) == 400
    assert status({"functionCall": own, **stand_in}, {"id": "f_1"}) == 400
    assert status({"functionCall": none}, {}, *end) == 400
    assert status({"functionCall": none, **stand_in}, {}, *end) == 400
    assert status({"functionCall": own, "thoughtSignature": "x"}, {"id": "f_1"}, *end) == 400
    assert status({"functionCall": none}, {}, *end, n=2) == 400


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tools_troubles(peer, dialect):
    talk = Talk(peer, dialect, '[[tool: list_spaces {"a": 1}]] [[reply: x]] '
                               '[[status: 503]] [[at-step: 2]] [[times: 1]]')
    assert talk.ask()[0] == 200
    talk.answer("r")
    assert talk.ask()[0] == 503
    assert talk.ask() == (200, "x", [])
    peer.call("POST", "/_script", [{"tools": [{"name": "send_message", "arguments": {"text": "ü"}}], "reply": "s"}])
    status, text, calls = Talk(peer, dialect, "z").ask()
    assert (status, text, calls[0][0]) == (200, "s", NAMES[0]) and json.loads(calls[0][1]) == {"text": "ü"}


def responses(peer, text, **changes):
    body = {"model": "m", "stream": True, "input": [{"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": text}]}], **changes}
    status, _, out = peer.call("POST", "/v1/responses", body, {"authorization": "Bearer sk-test-1"})
    return status, [json.loads(line[6:]) for line in out.splitlines() if line.startswith("data: ")] or json.loads(out)


def test_responses(peer):
    """What Codex asks with: only items that are done and a completion with an id count there."""
    status, events = responses(peer, "Hello there")
    assert status == 200
    done, = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert done["content"][0]["text"] == "You said: Hello there"
    assert events[-1]["type"] == "response.completed" and events[-1]["response"]["id"]
    assert events[-1]["response"]["usage"]["input_tokens"] == 2
    assert "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta") == "You said: Hello there"

    tools = [{"type": "function", "name": "exec_command", "parameters": {"type": "object"}},
             {"type": "namespace", "name": "mcp__puffo", "tools": [
                 {"type": "function", "name": "send_message", "parameters": {"type": "object"}}]}]
    asked = "[[tool: exec_command {\"cmd\":\"ls\"}]] [[then]] [[tool: send_message {\"a\":1}]] [[reply: Done.]]"
    _, events = responses(peer, asked, tools=tools)
    call, = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert (call["name"], json.loads(call["arguments"])) == ("exec_command", {"cmd": "ls"})
    before = [{"type": "message", "role": "user", "content": asked}, call,
              {"type": "function_call_output", "call_id": call["call_id"], "output": "a file"}]
    _, events = responses(peer, "", input=before, tools=tools)
    second, = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert (second["namespace"], second["name"]) == ("mcp__puffo", "send_message")
    after = [*before, second, {"type": "function_call_output", "call_id": second["call_id"], "output": "sent"}]
    _, events = responses(peer, "", input=after, tools=tools)
    assert [e["item"]["content"][0]["text"] for e in events if e["type"] == "response.output_item.done"] == ["Done."]
    log = [json.loads(line) for line in peer.call("GET", "/_log")[2].splitlines()]
    assert [e["results"] for e in log][-2:] == [["a file"], ["sent"]]


def test_responses_troubles(peer):
    assert responses(peer, "x [[status: 429]]")[0] == 429
    assert responses(peer, "x", model="missing-model")[0] == 404
    status, error = responses(peer, "x", input=[{"type": "function_call_output", "call_id": "c", "output": "o"}])
    assert status == 400 and "No tool call found" in error["error"]["message"]
    assert responses(peer, "x", surprise=1)[0] == 400
    _, events = responses(peer, "x [[stream-error]] [[error: context_length_exceeded]]")
    assert events[-1]["response"]["error"]["code"] == "context_length_exceeded"
    _, events = responses(peer, "a b [[length]]")
    assert events[-1]["type"] == "response.incomplete"


@pytest.mark.parametrize("name", ["url", "media_type", "mimeType", "data"])
def test_what_a_tool_calls_its_arguments_is_no_image(peer, name):
    schema = {"type": "object", "properties": {name: {"type": "string"}}}
    tools = [{"name": "look", "description": "Looks.", "input_schema": schema}]
    status, _, text = peer.anthropic("x", tools=tools)
    assert status == 200 and said(text) == "You said: x"
