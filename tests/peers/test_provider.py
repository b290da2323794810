# SPDX-License-Identifier: MIT
"""The emulator itself: that its three dialects, its refusals and its directives are what provider.py promises."""

import http.client
import json
import pathlib
import subprocess
import sys

import pytest

PROVIDER = pathlib.Path(__file__).with_name("provider.py")


class Peer:
    def __init__(self, *args):
        self.process = subprocess.Popen([sys.executable, PROVIDER, "--listen", "127.0.0.1:0", *args],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline().rpartition(":")[2])

    def stop(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()

    def call(self, method, path, body=None, headers=None):
        """Status, headers, text; the text may be cut short."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = None if body is None else json.dumps(body)
            c.request(method, path, data, {"content-type": "application/json", **(headers or {})})
            r = c.getresponse()
            try:
                return r.status, r.headers, r.read().decode()
            except http.client.IncompleteRead as e:
                return r.status, r.headers, e.partial.decode()
        finally:
            c.close()

    def anthropic(self, text, key="sk-test-1", **changes):
        body = {"model": "m", "max_tokens": 10, "stream": True, "messages": [{"role": "user", "content": text}],
                **changes}
        return self.call("POST", "/v1/messages", body, {"x-api-key": key, "anthropic-version": "2023-06-01"})

    def openai(self, text, key="sk-test-1", prefix="", **changes):
        body = {"model": "m", "stream": True, "stream_options": {"include_usage": True},
                "messages": [{"role": "user", "content": text}], **changes}
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.call("POST", f"{prefix}/v1/chat/completions", body, headers)

    def google(self, text, key="sk-test-1", model="m", **changes):
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}], **changes}
        path = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
        return self.call("POST", path, body, {"x-goog-api-key": key})


@pytest.fixture(scope="module")
def peer():
    p = Peer()
    yield p
    p.stop()


@pytest.fixture(autouse=True)
def clean(peer):
    peer.call("POST", "/_reset", [])


def events(text):
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def said(text):
    parts = []
    for e in events(text):
        parts.append(e.get("delta", {}).get("text", ""))
        parts += [c["delta"].get("content") or "" for c in e.get("choices", [])]
        parts += [p["text"] for c in e.get("candidates", []) for p in c["content"].get("parts", [])]
    return "".join(parts)


DIALECTS = ("anthropic", "openai", "google")


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
    c = http.client.HTTPConnection("127.0.0.1", peer.port, timeout=20)
    body = {"model": "m", "max_tokens": 1, "stream": True, "messages": [{"role": "user", "content": "[[hang]]"}]}
    c.request("POST", "/v1/messages", json.dumps(body), {"content-type": "application/json", "x-api-key": "sk-test-1",
                                                         "anthropic-version": "2023-06-01"})
    while not peer.call("GET", "/_log")[2]:
        pass
    c.close()
    while json.loads(peer.call("GET", "/_log")[2])["outcome"] is None:
        pass
    assert json.loads(peer.call("GET", "/_log")[2])["outcome"] == "client-gone"
