#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Stands in for puffo-sandbox and the CLI that it starts: reads the launch, then speaks as Claude Code does, or, by
its arguments, as Hermes, Gemini CLI (of the words below they know [[wait]] and [[reply: text]]) or Codex' app-server
([[reply: text]]; and of the file DIRECTORY/codex the words "die": when it is to open a conversation, "silent": it
answers nothing, "logged-out"), or as Codex' exec.

    scripted-cli.py DIRECTORY

Written from the protocol, without a look at the driver. Every start, message and answer is a line of DIRECTORY/log (JSON).
A message whose uuid it has had before is not answered. Others are answered with "You said: <text>" in one text block,
unless they say otherwise:

    [[reply: text]]      what to say; several of them are several messages
    [[die]]              half of an answer, then SIGKILL; the file DIRECTORY/died is made, and where it is there already
                         the answer is given in full
    [[die: 3]]           the same with exit status 3, before a word is said
    [[hang]]             half of an answer, then nothing until there is an interruption
    [[noise]]            as [[hang]], with a sign of life that says nothing every few milliseconds
    [[deaf]]             as [[hang]], and interruptions are not heard either
    [[wait]]             half of an answer; the other half when the file DIRECTORY/go is there
    [[asklater: NAME]]   with [[wait]]: asks for leave before the other half, and says as that what it was told
    [[auth]]             not logged in; as long as there is the file DIRECTORY/logged-out, always
    [[limit: 2]]         overloaded for the first two messages of this conversation
    [[bye]]              half a megabyte of an answer, and the end of the process right behind it
    [[late]]             with [[hang]]: asks for leave when it is interrupted, before it says that it was
    [[linger]]           takes a second from the end of its input to its own
    [[tool: NAME]]       calls a tool, which is said to have succeeded
    [[ask: NAME]]        asks for leave, and says what it was told
    [[garbage]]          a line that is no JSON, then the answer
    [[other]]            a message that is another one in the end than it was when it was streamed
"""

import json
import os
import pathlib
import re
import select
import signal
import sys
import time
import uuid

DIRECTORY = pathlib.Path(sys.argv[1])
SESSIONS = DIRECTORY / "sessions"


def log(kind, **more):
    with open(DIRECTORY / "log", "a", encoding="utf-8") as f:
        f.write(json.dumps({"kind": kind, "pid": os.getpid(), **more}) + "\n")


def exactly(n):
    data = b""
    while len(data) < n:
        part = os.read(0, n - len(data))
        if not part:
            sys.exit(78)
        data += part
    return data


class Input:
    def __init__(self):
        self.data = b""

    def line(self, seconds=None):
        """None: nothing for so long. An empty string: the end."""
        while b"\n" not in self.data:
            if not select.select([0], [], [], seconds)[0]:
                return None
            part = os.read(0, 65536)
            if not part:
                return ""
            self.data = (self.data + part).lstrip(b"\n")
        line, _, self.data = self.data.partition(b"\n")
        return line.decode()


class Claude:
    def __init__(self, argv):
        self.argv, self.input = argv, Input()
        self.session = str(uuid.uuid4())
        self.turns, self.lingers, self.seen = 0, False, set()
        resumed = [a.partition("=")[2] for a in argv if a.startswith("--resume=")]
        if resumed:
            self.session = resumed[0]
            if not (SESSIONS / self.session).exists():
                self.say({"type": "result", "subtype": "error_during_execution", "is_error": True, "num_turns": 0,
                          "session_id": self.session,
                          "errors": [f"No conversation found with session ID: {self.session}"]})
                print(f"No conversation found with session ID: {self.session}", file=sys.stderr, flush=True)
                sys.exit(1)

    def say(self, value):
        os.write(1, (json.dumps({"uuid": str(uuid.uuid4()), **value}) + "\n").encode())

    def event(self, **event):
        self.say({"type": "stream_event", "event": event, "session_id": self.session, "parent_tool_use_id": None})

    def begin(self, text):
        """A message, streamed up to there."""
        self.message = f"msg_{uuid.uuid4().hex[:12]}"
        self.event(type="message_start", message={"id": self.message, "type": "message", "role": "assistant",
                                                  "model": "m", "content": [], "usage": {"input_tokens": 7}})
        self.event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
        self.delta(text)

    def delta(self, text):
        self.event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def end(self, text):
        self.say({"type": "assistant", "session_id": self.session, "parent_tool_use_id": None,
                  "message": {"id": self.message, "type": "message", "role": "assistant", "model": "m",
                              "content": [{"type": "text", "text": text}], "stop_reason": None, "usage": {}}})
        self.event(type="content_block_stop", index=0)
        self.event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={})
        self.event(type="message_stop")

    def message_of(self, text):
        self.begin(text[:len(text) // 2])
        self.delta(text[len(text) // 2:])
        self.end(text)

    def result(self, text="", **more):
        self.say({"type": "result", "subtype": "success", "is_error": False, "result": text, "num_turns": 1,
                  "session_id": self.session, "total_cost_usd": 0.01 * self.turns, "terminal_reason": "completed",
                  "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3,
                            "cache_creation_input_tokens": 2}, **more})

    def failure(self, error, status, text):
        self.say({"type": "assistant", "session_id": self.session, "parent_tool_use_id": None, "error": error,
                  "message": {"id": f"msg_{uuid.uuid4().hex[:12]}", "model": "<synthetic>", "role": "assistant",
                              "content": [{"type": "text", "text": text}], "usage": {}}})
        self.result(text, is_error=True, api_error_status=status, terminal_reason="api_error")

    def interrupted(self, late=False, noise=False):
        """Until there is an interruption."""
        while True:
            line = self.input.line(0.02 if noise else None)
            if line is None:
                self.say({"type": "keep_alive"})
                self.say({"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10})
                continue
            if not line:
                sys.exit(0)
            request = json.loads(line)
            log("control", request=request)
            if request.get("request", {}).get("subtype") == "interrupt":
                if late:
                    self.ask("Bash")
                self.say({"type": "control_response", "response": {"subtype": "success", "response": {},
                                                                   "request_id": request["request_id"]}})
                self.say({"type": "result", "subtype": "error_during_execution", "is_error": True, "num_turns": 1,
                          "session_id": self.session, "terminal_reason": "aborted_streaming",
                          "errors": ["interrupted"], "usage": {}})
                return

    def tool(self, name, output, is_error=False):
        tool = f"toolu_{uuid.uuid4().hex[:12]}"
        self.say({"type": "assistant", "session_id": self.session, "parent_tool_use_id": None,
                  "message": {"id": f"msg_{uuid.uuid4().hex[:12]}", "role": "assistant", "model": "m", "usage": {},
                              "content": [{"type": "tool_use", "id": tool, "name": name, "input": {"x": 1}}]}})
        self.say({"type": "user", "session_id": self.session, "parent_tool_use_id": None,
                  "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": tool,
                                                           "content": output, "is_error": is_error}]}})

    def ask(self, name):
        request = str(uuid.uuid4())
        self.say({"type": "control_request", "request_id": request,
                  "request": {"subtype": "can_use_tool", "tool_name": name, "input": {"command": "touch x"},
                              "tool_use_id": f"toolu_{uuid.uuid4().hex[:8]}"}})
        answer = json.loads(self.input.line())
        log("answer", answer=answer)
        return answer["response"]["response"]["behavior"]

    def turn(self, text):
        self.turns += 1
        self.say({"type": "system", "subtype": "init", "session_id": self.session, "cwd": os.getcwd(), "tools": [],
                  "mcp_servers": [{"name": "puffo", "status": "connected"}], "model": "m",
                  "permissionMode": "default"})
        directives = dict(re.findall(r"\[\[(\w+)(?:: ([^\]]*))?\]\]", text))
        if "die" in directives:
            died = DIRECTORY / "died"
            first = not died.exists()
            died.touch()
            if first and directives["die"]:
                sys.exit(int(directives["die"]))
            if first:
                self.begin("Half an ")
                time.sleep(0.05)
                os.kill(os.getpid(), signal.SIGKILL)
        self.lingers = self.lingers or "linger" in directives
        if "garbage" in directives:
            os.write(1, b"this is no JSON\n")
        if "auth" in directives or (DIRECTORY / "logged-out").exists():
            return self.failure("authentication_failed", 401, "Invalid API key · Fix external API key")
        if "limit" in directives:
            seen = DIRECTORY / "limited"
            n = int(seen.read_text()) if seen.exists() else 0
            seen.write_text(str(n + 1))
            if n < int(directives["limit"]):
                return self.failure("overloaded", 529, "API Error: Repeated 529 Overloaded errors.")
        if directives.keys() & {"hang", "deaf", "noise"}:
            self.begin("Half an ")
            if "deaf" in directives:
                signal.pause()
            return self.interrupted("late" in directives, "noise" in directives)
        if "tool" in directives:
            self.tool(directives["tool"], "done")
        said = re.findall(r"\[\[reply: ([^\]]*)\]\]", text) or [f"You said: {text}"]
        if "ask" in directives:
            said = [f"I was told: {self.ask(directives['ask'])}"]
        if "wait" in directives:
            self.begin("First ")
            while not (DIRECTORY / "go").exists():
                time.sleep(0.02)
            rest = f"{self.ask(directives['asklater'])}." if "asklater" in directives else "second."
            self.delta(rest)
            self.end(f"First {rest}")
            self.result(f"First {rest}")
            if (DIRECTORY / "leave").exists():
                sys.exit(0)
            return None
        if "other" in directives:
            self.begin("a")
            self.end("ä!")
            return self.result("ä!")
        if "bye" in directives:
            said = ["bye " * 5000] * 25
        for one in said:
            self.message_of(one)
        self.result(said[-1])
        if "bye" in directives:
            sys.exit(0)

    def run(self):
        while line := self.input.line():
            value = json.loads(line)
            if value["type"] == "control_request":
                log("control", request=value)
                self.say({"type": "control_response", "response": {"subtype": "success", "response": {},
                                                                   "request_id": value["request_id"]}})
            elif value["type"] == "user":
                if value.get("uuid") in self.seen:
                    log("again")
                    continue
                self.seen.add(value.get("uuid"))
                text = value["message"]["content"]
                text = text if isinstance(text, str) else "".join(b.get("text", "") for b in text)
                log("text", text=text, session=self.session)
                SESSIONS.mkdir(exist_ok=True)
                (SESSIONS / self.session).touch()
                self.turn(text)
        if self.lingers:
            time.sleep(1)
        log("end")


def pieces(text):
    """Of an answer, with a wait for DIRECTORY/go where that is asked for."""
    said = re.findall(r"\[\[reply: ([^\]]*)\]\]", text) or [f"You said: {text}"]
    if "[[wait]]" not in text:
        yield said[0]
        return
    yield "First "
    while not (DIRECTORY / "go").exists():
        time.sleep(0.02)
    yield "second."


def hermes(argv):
    text = next(a.partition("=")[2] for a in argv if a.startswith("--query="))
    log("text", text=text)
    for piece in pieces(text):
        print(piece[0].upper() + piece[1:], flush=True)    # "word." alone is none of its answer
    print("session_id: h1", flush=True)


def gemini():
    data = b""
    while part := os.read(0, 65536):
        data += part
    text = data.decode()
    log("text", text=text)

    def say(kind, **more):
        os.write(1, (json.dumps({"type": kind, "timestamp": str(time.time_ns()), **more}) + "\n").encode())

    say("init", session_id="11112222-3333-4444-5555-666677778888", model="m")
    say("message", role="user", content=text)
    for piece in pieces(text):
        say("message", role="assistant", content=piece, delta=True)
    say("result", status="success", stats={"total_tokens": 15, "input_tokens": 10, "output_tokens": 5, "cached": 3})


def codex():
    incoming, words = Input(), DIRECTORY / "codex"
    turns, threads = 0, DIRECTORY / "threads"

    def say(**value):
        os.write(1, (json.dumps(value) + "\n").encode())

    while line := incoming.line():
        request = json.loads(line)
        method, word = request["method"], words.read_text() if words.exists() else ""
        log("asked", method=method)
        if word == "silent" or "id" not in request:
            continue
        if word == "die" and method.startswith("thread/"):
            print("thread 'main' panicked", file=sys.stderr, flush=True)
            sys.exit(101)
        if method == "initialize":
            say(id=request["id"], result={"userAgent": "puffo/0.169.0 (Debian)"})
        elif method == "account/read":
            account = None if word == "logged-out" else {"type": "apiKey"}
            say(id=request["id"], result={"account": account, "requiresOpenaiAuth": True})
        elif method == "thread/resume" and not (threads / request["params"]["threadId"]).exists():
            say(id=request["id"], error={"code": -32600, "message": "no rollout found for thread id x"})
        elif method in ("thread/start", "thread/resume"):
            thread = request["params"].get("threadId") or str(uuid.uuid4())
            say(id=request["id"], result={"thread": {"id": thread}})
        elif method == "turn/start":
            turns += 1
            text = request["params"]["input"][0]["text"]
            log("text", text=text)
            threads.mkdir(exist_ok=True)
            (threads / thread).touch()
            of = {"threadId": thread, "turnId": f"turn-{turns}"}
            say(id=request["id"], result={"turn": {"id": f"turn-{turns}", "status": "inProgress"}})
            say(method="turn/started", params={**of, "turn": {"id": f"turn-{turns}", "status": "inProgress"}})
            item = {"type": "userMessage", "id": f"u{turns}"}
            say(method="item/completed", params={**of, "item": item})
            item = {"type": "agentMessage", "id": f"m{turns}", "text": next(pieces(text))}
            say(method="item/completed", params={**of, "item": item})
            say(method="turn/completed", params={**of, "turn": {"id": f"turn-{turns}", "status": "completed"}})


def codex_exec(argv):
    resumed = argv[argv.index("resume") + 1] if "resume" in argv else None
    data = b""
    while part := os.read(0, 65536):
        data += part
    log("text", text=data.decode())
    threads, thread = DIRECTORY / "threads", resumed or str(uuid.uuid4())
    threads.mkdir(exist_ok=True)
    turns = int((threads / thread).read_text()) + 1 if resumed else 1
    (threads / thread).write_text(str(turns))
    usage = {"input_tokens": 10 * turns, "cached_input_tokens": 3 * turns, "output_tokens": 5 * turns}

    def say(**line):
        os.write(1, (json.dumps(line) + "\n").encode())

    say(type="thread.started", thread_id=thread)
    say(type="turn.started")
    text = "".join(pieces(data.decode()))
    say(type="item.completed", item={"id": "item_1", "type": "agent_message", "text": text})
    say(type="turn.completed", usage=usage)


def main():
    launch = json.loads(exactly(int(exactly(9), 16)))
    log("start", **launch)
    if launch["argv"][1] == "chat":
        hermes(launch["argv"])
    elif "exec" in launch["argv"]:
        codex_exec(launch["argv"])
    elif "app-server" in launch["argv"]:
        codex()
    elif "-p" not in launch["argv"]:
        gemini()
    else:
        Claude(launch["argv"]).run()


if __name__ == "__main__":
    main()
