# SPDX-License-Identifier: MIT
"""A model endpoint (outlet-client) in front of the emulator of the providers. $OUTLET_CLIENT names the program."""

import http.client
import json
import os
import queue
import re
import socket
import sqlite3
import subprocess
import threading
import time

import pytest

CLIENT = os.environ["OUTLET_CLIENT"]
KEY = "sk-test-secret"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=60):
        super().__init__("localhost", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Outlet:
    """A session's side with its puffo-outlet."""

    def __init__(self, directory, base_url, dialect="anthropic", more="", env=None):
        self.directory = directory
        self.dialect = dialect
        self.base_url = base_url
        self.write(more)
        self.errors = open(directory / "errors", "w+")
        self.process = subprocess.Popen([CLIENT, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env={**os.environ, **(env or {})})
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        self.token = self.line()

    def write(self, more):
        (self.directory / "agent.yml").write_text(
            f"runtime:\n  kind: chat-local\n  provider: {self.dialect}\n  api_key: {KEY}\n"
            f"  llm_base_url: {self.base_url}\n{more}")

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def line(self, timeout=60):
        return self.lines.get(timeout=timeout)

    def usage(self):
        return json.loads(self.line())

    def order(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.line()

    def stop(self):
        self.process.stdin.close()
        status = self.process.wait(timeout=60)
        self.process.stdout.close()
        self.errors.seek(0)
        errors = self.errors.read()
        self.errors.close()
        assert status == 0 and KEY not in errors and self.token not in errors, errors
        assert "Sanitizer" not in errors and "runtime error" not in errors, errors
        return errors

    def stored(self, column):
        with sqlite3.connect(f"file:{self.directory}/messages.db?mode=ro", uri=True) as db:
            return db.execute(f"SELECT sum({column}) FROM model_usage").fetchone()[0]

    def children(self):
        out = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(self.process.pid)], stdout=subprocess.PIPE,
                             text=True, check=False).stdout
        return [int(line.split()[0]) for line in out.splitlines() if "puffo-outlet" in line]

    def connect(self, timeout=60):
        return UnixConnection(self.directory / "model.sock", timeout)

    def body(self, text, **changes):
        if self.dialect == "anthropic":
            body = {"model": "m", "max_tokens": 10, "stream": True, "messages": [{"role": "user", "content": text}]}
        elif self.dialect == "openai":
            body = {"model": "m", "stream": True, "stream_options": {"include_usage": True},
                    "messages": [{"role": "user", "content": text}]}
        else:
            body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        return json.dumps({**body, **changes})

    path = property(lambda self: {"anthropic": "/v1/messages?beta=true", "openai": "/v1/chat/completions",
                                  "google": "/v1beta/models/m:streamGenerateContent?alt=sse"}[self.dialect])

    def headers(self, token=None):
        token = self.token if token is None else token
        name, value = {"anthropic": ("x-api-key", token), "openai": ("authorization", f"Bearer {token}"),
                       "google": ("x-goog-api-key", token)}[self.dialect]
        return {"content-type": "application/json", "anthropic-version": "2023-06-01", name: value}

    def request(self, method, path, body=None, headers=None):
        c = self.connect()
        try:
            c.request(method, path, body, self.headers() if headers is None else headers)
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def ask(self, text, **changes):
        return self.request("POST", self.path, self.body(text, **changes))


@pytest.fixture
def start(tmp_path, peer):
    started = []

    def do(dialect="anthropic", more="", base_url=None, env=None):
        directory = tmp_path / str(len(started))
        directory.mkdir()
        started.append(Outlet(directory, base_url or f"http://127.0.0.1:{peer.port}", dialect, more, env))
        return started[-1]

    yield do
    for outlet in started:
        if outlet.process.poll() is None:
            outlet.stop()


def log(peer):
    return [json.loads(line) for line in peer.call("GET", "/_log")[2].splitlines()]


def wait_for(condition, timeout=60):
    until = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < until, "it did not come to that in time"
        time.sleep(0.02)


def error_of(dialect, data):
    error = json.loads(data)["error"]
    assert dialect != "anthropic" or json.loads(data)["type"] == "error"
    return error["message"], error["status" if dialect == "google" else "type"]


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) * 1024
