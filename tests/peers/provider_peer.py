# SPDX-License-Identifier: MIT
"""The emulator of the providers as a process, for those who ask it something."""

import http.client
import json
import pathlib
import subprocess
import sys

import pytest

PROVIDER = pathlib.Path(__file__).with_name("provider.py")
DIALECTS = ("anthropic", "openai", "google")


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
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
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
