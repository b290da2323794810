# SPDX-License-Identifier: MIT
"""The session's model endpoint, against the emulator of the providers: what goes through, what does not, what is
counted."""

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
from test_provider import DIALECTS, Peer, events

CLIENT = os.environ["OUTLET_CLIENT"]
KEY = "sk-test-secret"


@pytest.fixture(scope="module")
def peer():
    p = Peer()
    yield p
    p.stop()


@pytest.fixture(autouse=True)
def clean(peer):
    peer.call("POST", "/_reset", [])


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


@pytest.mark.parametrize("dialect", DIALECTS)
def test_bytes_and_counts(peer, start, dialect):
    outlet = start(dialect)
    direct = getattr(peer, dialect)("[[words: 50]] hello")
    status, headers, data = outlet.ask("[[words: 50]] hello")
    ids = re.compile(r'"(id|responseId|created)":("[^"]*"|\d+)')
    assert (status, headers["content-type"]) == (200, direct[1]["content-type"])
    assert ids.sub("", data.decode()) == ids.sub("", direct[2])
    seen = log(peer)[-1]
    assert KEY in json.dumps(seen["headers"]) and outlet.token not in json.dumps(seen)
    usage = outlet.usage()
    assert usage["status"] == 200 and not usage["estimated"]
    assert usage["output"] == 50 + (dialect == "google") and usage["input"] > 0     # it counts a thought
    assert usage["model"] == ("test-model" if dialect == "google" else "m")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("split", (1, 7))
def test_pieces(start, dialect, split):
    outlet = start(dialect)
    status, _, data = outlet.ask(f"[[words: 9]] [[split: {split}]] x")
    assert status == 200 and b"word9" in data
    assert outlet.usage()["output"] == 9 + (dialect == "google")


def test_whole_answer(start):
    outlet = start("anthropic")
    status, headers, data = outlet.ask("hello", stream=False)
    assert status == 200 and json.loads(data)["content"][0]["text"] == "You said: hello"
    assert headers["request-id"]
    usage = outlet.usage()
    assert usage["output"] == json.loads(data)["usage"]["output_tokens"] and not usage["estimated"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tokens(peer, start, dialect):
    outlet = start(dialect)
    for token in ("", "x", outlet.token[:-1], outlet.token + "x", KEY, outlet.token.swapcase()):
        status, _, data = outlet.request("POST", outlet.path, outlet.body("hi"), outlet.headers(token))
        assert status == 401, token
        assert error_of(dialect, data)[1] in ("authentication_error", "invalid_request_error", "UNAUTHENTICATED")
    # In any of the three places, but only one token.
    for headers, expected in (({"x-api-key": outlet.token}, 200), ({"authorization": "Bearer " + outlet.token}, 200),
                              ({"authorization": outlet.token}, 401), ({"authorization": "Basic " + outlet.token}, 401),
                              ({"x-api-key": outlet.token, "authorization": "Bearer " + outlet.token}, 200),
                              ({"x-api-key": outlet.token, "authorization": "Bearer x"}, 401), ({}, 401)):
        headers = {"content-type": "application/json", "anthropic-version": "2023-06-01", **headers}
        assert outlet.request("POST", outlet.path, outlet.body("hi"), headers)[0] == expected, headers
    old, outlet.token = outlet.token, outlet.order("token")
    while outlet.token.startswith("{"):
        outlet.token = outlet.line()
    assert outlet.request("POST", outlet.path, outlet.body("hi"), outlet.headers(old))[0] == 401
    assert outlet.ask("hi")[0] == 200
    assert all(e["status"] == 200 for e in log(peer))


def test_routes(peer, start):
    outlet = start("anthropic")
    assert outlet.request("HEAD", "/api/hello", headers={})[0] == 200
    assert json.loads(outlet.request("GET", "/v1/models")[2])["data"][0]["id"] == "test-model"
    for method, path, expected in (("GET", "/v1/messages", 405), ("POST", "/v1/models", 405), ("GET", "/v1/files", 404),
                                   ("POST", "/v1/messages/batches", 404), ("POST", "/v1/messages/", 404),
                                   ("POST", "/v1//messages", 404), ("POST", "/v1/./messages", 404),
                                   ("POST", "/v1/chat/completions", 404), ("POST", "/v1/messages?key=x", 400),
                                   ("POST", "/v1/messages?beta=true&beta2=1", 400), ("POST", "/_reset", 404),
                                   ("POST", "/v1/messages?beta=%41", 400), ("POST", "http://127.0.0.1:1/v1/messages", 404)):
        status, _, data = outlet.request(method, path, outlet.body("no") if method == "POST" else None)
        assert (status, bool(error_of("anthropic", data)[0])) == (expected, True), path
    assert len(log(peer)) == 0


def test_no_websocket(peer, start):
    """Codex asks in the other way at once on this status, and on no other."""
    outlet = start("openai")
    upgrade = {**outlet.headers(), "connection": "Upgrade", "upgrade": "websocket"}
    assert outlet.request("GET", "/v1/responses", headers=upgrade)[0] == 426
    assert outlet.request("GET", "/v1/responses")[0] == 405
    assert len(log(peer)) == 0


def test_headers(peer, start):
    outlet = start("anthropic")
    headers = {**outlet.headers(), "anthropic-beta": "a,b", "user-agent": "claude-cli/2", "x-app": "cli",
               "connection": "keep-alive, x-hop", "x-hop": "1", "cookie": "c=d", "accept-encoding": "gzip, br",
               "x-forwarded-for": "1.2.3.4", "te": "trailers"}
    status, answer, _ = outlet.request("POST", outlet.path, outlet.body("hi"), headers)
    assert status == 200 and answer["request-id"] and "set-cookie" not in answer
    seen = log(peer)[-1]
    assert seen["query"] == "beta=true"
    assert (seen["headers"]["anthropic-beta"], seen["headers"]["user-agent"], seen["headers"]["x-app"],
            seen["headers"]["x-api-key"]) == ("a,b", "claude-cli/2", "cli", KEY)
    assert seen["headers"]["host"] == f"127.0.0.1:{peer.port}"
    assert not {"x-hop", "cookie", "x-forwarded-for", "te", "authorization"} & set(seen["headers"])
    assert seen["headers"].get("accept-encoding", "identity") == "identity"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_errors_pass(start, dialect):
    outlet = start(dialect)
    for status in (400, 401, 403, 429, 500, 529):
        got, headers, data = outlet.ask(f"[[status: {status}]] [[retry-after: 7]] [[should-retry: false]]")
        assert got == status and f"scripted error {status}" in data.decode()
        assert dialect == "google" or headers["retry-after"] == "7"
        assert headers["x-should-retry"] == "false"
        usage = outlet.usage()
        assert (usage["status"], usage["input"], usage["output"]) == (status, 0, 0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_cut(start, dialect):
    outlet = start(dialect)
    with pytest.raises(http.client.IncompleteRead) as e:
        outlet.ask("[[words: 40]] [[cut: 20]]")
    assert b"word20" in e.value.partial and b"word21" not in e.value.partial
    usage = outlet.usage()
    assert usage["estimated"] and usage["output"] >= 20
    assert outlet.ask("go on")[0] == 200


def test_no_counts(start):
    outlet = start("openai")
    assert outlet.ask("[[words: 300]]", stream_options={})[0] == 200
    usage = outlet.usage()
    assert usage["estimated"] and 150 < usage["output"] < 1200 and usage["input"] > 10


def test_not_reached(start):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        outlet = start("anthropic", base_url=f"http://127.0.0.1:{s.getsockname()[1]}")
        status, _, data = outlet.ask("hi")
    assert (status, error_of("anthropic", data)[1]) == (502, "api_error")
    assert outlet.usage()["status"] == 0


def test_large_body(peer, start):
    outlet = start("anthropic")
    text = "x" * (20 * 1024 * 1024)
    assert outlet.ask(text + " [[reply: short]]")[0] == 200
    assert len(log(peer)[-1]["body"]["messages"][0]["content"]) > len(text)
    assert outlet.usage()["status"] == 200

    # Chunked, in odd pieces; the emulator wants a length, so that its refusal has to come through early.
    c = outlet.connect()
    body = outlet.body("y" * 500000).encode()
    c.request("POST", outlet.path, iter([body[i:i + 7777] for i in range(0, len(body), 7777)]),
              {**outlet.headers(), "transfer-encoding": "chunked"}, encode_chunked=True)
    assert c.getresponse().status == 411
    c.close()

    status, _, data = outlet.request("POST", outlet.path, b"z" * (33 * 1024 * 1024))
    assert (status, error_of("anthropic", data)[1]) == (413, "request_too_large")


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{pid}/status").read())[1]) * 1024


def test_slow_reader(peer, start):
    """A client that does not read holds the provider back, and little is kept for it."""
    outlet = start("anthropic")
    c = outlet.connect()
    c.request("POST", outlet.path, outlet.body("[[words: 400000]]"), outlet.headers())
    r = c.getresponse()
    assert r.status == 200
    before = resident(outlet.children()[0])
    time.sleep(1.5)
    assert log(peer)[-1]["outcome"] is None
    assert resident(outlet.children()[0]) < before + 8 * 1024 * 1024
    size = 0
    while data := r.read(65536):
        size += len(data)
    assert size > 400000 * 50
    c.close()
    assert outlet.usage()["output"] == 400000


def test_slow_writer(start):
    """A request goes out while it comes in."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        outlet = start("anthropic", base_url=f"http://127.0.0.1:{server.getsockname()[1]}")
        c = outlet.connect()
        c.putrequest("POST", outlet.path)
        for name, value in outlet.headers().items():
            c.putheader(name, value)
        c.putheader("content-length", "30")
        c.endheaders()
        c.send(b"first part")
        upstream, _ = server.accept()
        upstream.settimeout(60)
        got = b""
        while b"first part" not in got:
            got += upstream.recv(4096)
        c.send(b"20 bytes come later.")
        while b"later." not in got:
            got += upstream.recv(4096)
        upstream.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-n: 1\r\n\r\n{}")
        r = c.getresponse()
        assert (r.status, r.read(), r.headers["x-n"]) == (200, b"{}", "1")
        upstream.close()
        c.close()


def test_dead_connection(start):
    """A kept connection that dies under a request is no error: it is sent anew."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        outlet = start("anthropic", base_url=f"http://127.0.0.1:{server.getsockname()[1]}")
        answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"

        def serve():
            a, _ = server.accept()
            a.recv(65536)
            a.sendall(answer)
            a.recv(65536)       # the next request, which gets none
            a.close()
            b, _ = server.accept()
            data = b""
            while b"}]}" not in data:
                data += b.recv(65536)
            b.sendall(answer)
            b.close()
            result.append(data)

        result = []
        thread = threading.Thread(target=serve)
        thread.start()
        assert outlet.ask("one")[0] == 200
        assert outlet.ask("two")[0] == 200
        thread.join()
        assert b'"content": "two"' in result[0]


def test_client_gone(peer, start):
    outlet = start("anthropic")
    c = outlet.connect()
    c.request("POST", outlet.path, outlet.body("[[words: 20]] [[hang: 5]]"), outlet.headers())
    r = c.getresponse()
    assert r.status == 200
    r.read1(10)
    r.close()
    c.close()
    wait_for(lambda: log(peer)[-1]["outcome"] == "client-gone")
    usage = outlet.usage()
    assert usage["estimated"] and 0 < usage["output"] < 20

    # Before the answer begins: the question was asked all the same.
    c = outlet.connect()
    c.request("POST", outlet.path, outlet.body("z" * 4000 + " [[hang]]"), outlet.headers())
    wait_for(lambda: len(log(peer)) == 2)
    c.close()
    wait_for(lambda: log(peer)[-1]["outcome"] == "client-gone")
    usage = outlet.usage()
    assert usage["estimated"] and usage["input"] >= 1000
    assert outlet.stored("input_tokens") >= 1000


@pytest.fixture
def within_an_hour():
    """The budget's hour does not end during the test."""
    left = 3600 - time.time() % 3600
    if left < 20:
        time.sleep(left + 1)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.usefixtures("within_an_hour")
def test_budget(peer, start, dialect):
    outlet = start(dialect, "limits: {tokens_per_hour: 150}\n")
    assert outlet.ask("[[words: 100]]")[0] == 200
    outlet.usage()
    assert outlet.ask("[[words: 100]]")[0] == 200
    assert outlet.line() == "exceeded tokens"
    outlet.usage()
    for _ in range(2):
        status, headers, data = outlet.ask("[[words: 100]]")
        message, kind = error_of(dialect, data)
        assert (status, kind) == (429, {"anthropic": "rate_limit_error", "openai": "rate_limit_exceeded",
                                        "google": "RESOURCE_EXHAUSTED"}[dialect])
        assert 0 < int(headers["retry-after"]) <= 3600 and headers["x-should-retry"] == "false"
        assert "limits.tokens_per_hour" in message
    assert len(log(peer)) == 2
    if dialect == "anthropic":
        assert outlet.request("GET", "/v1/models")[0] == 200      # costs nothing

    # Restarts do not help, a higher limit does.
    outlet.stop()
    again = Outlet(outlet.directory, outlet.base_url, dialect, "limits: {tokens_per_hour: 150}\n")
    try:
        assert again.ask("hi")[0] == 429
        again.write("limits: {tokens_per_hour: 100000}\n")
        assert again.order("reload") == "ok"
        assert again.ask("hi")[0] == 200
    finally:
        again.stop()


@pytest.mark.usefixtures("within_an_hour")
def test_cost(start):
    outlet = start("anthropic", "limits: {cost_per_day: 0.001}\npricing:\n  m: {input: 0, output: 10}\n")
    assert outlet.ask("[[words: 60]]")[0] == 200
    assert outlet.usage()["cost"] == 600
    assert outlet.ask("[[words: 60]]")[0] == 200
    assert outlet.line() == "exceeded cost"
    assert outlet.ask("hi")[0] == 429


def test_fault(start):
    outlet = start("echo")
    outlet.dialect = "anthropic"
    assert outlet.ask("hi")[0] == 503
    outlet = start("anthropic")
    (outlet.directory / "agent.yml").write_text("runtime: [\n")
    assert outlet.ask("hi")[0] == 503


def test_process(peer, start):
    """Started when somebody comes, gone when nobody does, and not missed when it dies."""
    outlet = start("anthropic")
    assert outlet.children() == []
    assert outlet.ask("hi")[0] == 200
    first = outlet.children()
    assert len(first) == 1
    command = open(f"/proc/{first[0]}/cmdline").read() + open(f"/proc/{first[0]}/environ").read()
    assert KEY not in command and outlet.token not in command and str(outlet.directory) not in command
    wait_for(lambda: outlet.children() == [])
    assert outlet.ask("hi")[0] == 200
    second = outlet.children()
    assert second and second != first
    os.kill(second[0], 9)
    assert outlet.ask("hi")[0] == 200

    # An answer under way keeps it.
    c = outlet.connect()
    c.request("POST", outlet.path, outlet.body("[[words: 8]] [[slow: 500ms]]"), outlet.headers())
    r = c.getresponse()
    assert b"word8" in r.read()
    c.close()


def test_many_at_once(start):
    outlet = start("anthropic")
    results = []

    def one(i):
        status, _, data = outlet.ask(f"[[words: 30]] [[slow: 10ms]] {i}")
        results.append((status, sum(1 for e in events(data.decode()) if e["type"] == "content_block_delta")))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [(200, 30)] * 20
    assert sum(outlet.usage()["output"] for _ in range(20)) == 600


def test_hostile_heads(start):
    outlet = start("anthropic")

    def raw(data):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(60)
            s.connect(str(outlet.directory / "model.sock"))
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            got = b""
            try:
                while piece := s.recv(4096):
                    got += piece
            except ConnectionError:
                pass
            return got

    token = outlet.token.encode()
    for head in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST /v1/messages HTTP/1.1\r\n\r\n",
                 b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\nx-api-key: " + token +
                 b"\r\n\r\nhello",
                 b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: " + token + b"\r\nx-api-key: " + token + b"\r\n\r\n",
                 b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx: " + b"a" * 20000 + b"\r\n\r\n"):
        assert b" 200 " not in raw(head)
    assert outlet.ask("hi")[0] == 200


# ---- the proxy of strict ----

class Server:
    """Sends back what it gets, or does what a test says."""

    def __init__(self, serve=None):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.serve = serve or self.echo
        self.seen = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.one, args=(c,), daemon=True).start()

    def one(self, c):
        with c:
            try:
                self.serve(c)
            except ConnectionError:
                pass

    def echo(self, c):
        self.seen.append(b"")
        n = len(self.seen) - 1
        while data := c.recv(65536):
            self.seen[n] += data
            c.sendall(data)
        self.seen[n] += b"<end>"

    def stop(self):
        self.socket.close()


@pytest.fixture
def server():
    s = Server()
    yield s
    s.stop()


def allow(*hosts):
    return "sandbox:\n  allow_hosts: [" + ", ".join(f"'{h}'" for h in hosts) + "]\n"


def proxy_connect(outlet, target, version="1.1"):
    """The socket behind the answer's head, and its status."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(str(outlet.directory / "proxy.sock"))
    try:
        s.sendall(f"CONNECT {target} HTTP/{version}\r\nHost: {target}\r\n\r\n".encode())
    except BrokenPipeError:
        pass                    # a full proxy answers without having read; the answer is there
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = s.recv(1)
        assert byte, head
        head += byte
    return s, int(head.split()[1])


def exchange(s, data):
    s.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = s.recv(65536)
        assert piece
        got += piece
    return got


def refusal(outlet, target):
    s, status = proxy_connect(outlet, target)
    with s:
        text = b""
        while data := s.recv(4096):
            text += data
    return status, text.decode().strip()


def test_proxy_tunnel(start, server):
    outlet = start(more=allow(f"127.0.0.1:{server.port}"))
    s, status = proxy_connect(outlet, f"127.0.0.1:{server.port}")
    assert status == 200
    assert exchange(s, b"hello" * 10) == b"hello" * 10
    assert exchange(s, b"again") == b"again"
    s.shutdown(socket.SHUT_WR)
    assert s.recv(10) == b""
    s.close()
    wait_for(lambda: server.seen == [b"hello" * 10 + b"again<end>"])
    errors = outlet.stop()
    assert f"Proxy: connection to 127.0.0.1:{server.port} made" in errors
    assert f"Proxy: connection to 127.0.0.1:{server.port} ended, 55 bytes sent, 55 received." in errors


def test_proxy_names(start, server):
    # Found by name, and only because the address is listed, too.
    outlet = start(more=allow(f"localhost:{server.port}", f"127.0.0.1:{server.port}", f"[::1]:{server.port}"))
    s, status = proxy_connect(outlet, f"LOCALHOST:{server.port}")
    assert (status, exchange(s, b"x")) == (200, b"x")
    s.close()
    outlet = start(more=allow(f"localhost:{server.port}", "nosuchname.invalid"))
    status, text = refusal(outlet, f"localhost:{server.port}")
    assert status == 403 and "not on the internet" in text
    assert refusal(outlet, "nosuchname.invalid:443")[0] == 502
    wait_for(lambda: server.seen == [b"x<end>"])


def test_proxy_refusals(start, server):
    outlet = start(more=allow("example.org", "*.example.net"))
    for target in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", "example.org:80", "evil.example:443",
                   "example.net:443", "169.254.169.254:80", "[::1]:443", f"[::ffff:127.0.0.1]:{server.port}"):
        status, text = refusal(outlet, target)
        assert status == 403 and "sandbox.allow_hosts" in text, target
    for target in ("example.org", "2130706433:80", "127.1:80", "x@example.org:443", "example.org:99999"):
        assert refusal(outlet, target)[0] == 400, target
    outlet.write(allow(f"127.0.0.1:{server.port}"))
    assert outlet.order("reload") == "ok"
    s, status = proxy_connect(outlet, f"127.0.0.1:{server.port}")
    assert status == 200
    s.close()
    wait_for(lambda: server.seen == [b"<end>"])
    errors = outlet.stop()
    assert "Proxy: connection to 169.254.169.254:80 refused: The host is not listed" in errors


def test_proxy_refused_connection(start):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{s.getsockname()[1]}"
        outlet = start(more=allow(target))
        assert refusal(outlet, target)[0] == 502


def test_proxy_plain_request(peer, start):
    outlet = start(more=allow(f"127.0.0.1:{peer.port}"))
    c = UnixConnection(outlet.directory / "proxy.sock")
    c.request("POST", f"http://127.0.0.1:{peer.port}/v1/messages?x=1", outlet.body("plain"),
              {"content-type": "application/json", "anthropic-version": "2023-06-01", "x-api-key": "sk-test-own",
               "proxy-authorization": "Basic eDp5", "proxy-connection": "keep-alive", "connection": "keep-alive"})
    r = c.getresponse()
    assert r.status == 200 and b"plain" in r.read()
    seen = log(peer)[-1]
    assert (seen["path"], seen["query"], seen["headers"]["connection"]) == ("/v1/messages", "x=1", "close")
    assert not {"proxy-authorization", "proxy-connection"} & set(seen["headers"])
    c.close()
    assert KEY not in json.dumps(seen)
    for target in ("/v1/messages", "https://127.0.0.1/", "http://127.0.0.1:1/"):
        c = UnixConnection(outlet.directory / "proxy.sock")
        c.request("GET", target)
        assert c.getresponse().status in (400, 403)
        c.close()


def test_proxy_back_pressure(start):
    """Who does not read holds the other back; nothing is lost, and little is kept."""
    total = 40 * 1024 * 1024
    state = {"sent": 0}

    def serve(c):
        piece = b"x" * 65536
        while state["sent"] < total:
            state["sent"] += c.send(piece[:total - state["sent"]])
        c.shutdown(socket.SHUT_WR)
        state["back"] = c.recv(100)

    s = Server(serve)
    outlet = start(more=allow(f"127.0.0.1:{s.port}"))
    client, status = proxy_connect(outlet, f"127.0.0.1:{s.port}")
    assert status == 200
    pid = outlet.children()[0]
    before = resident(pid)

    def is_held():
        sent = state["sent"]
        time.sleep(0.5)
        return state["sent"] == sent > 0

    wait_for(is_held)
    assert state["sent"] < total
    ticks = [int(x) for x in open(f"/proc/{pid}/stat").read().split()[13:15]]
    assert sum(ticks) < 50 and resident(pid) < before + 4 * 1024 * 1024
    size = 0
    while data := client.recv(1 << 20):
        size += len(data)
    assert size == total
    # The other way is still open.
    client.sendall(b"thanks")
    wait_for(lambda: state.get("back") == b"thanks")
    client.close()
    s.stop()


def test_proxy_client_gone(start, server):
    outlet = start(more=allow(f"127.0.0.1:{server.port}"))
    s, _ = proxy_connect(outlet, f"127.0.0.1:{server.port}")
    exchange(s, b"abc")
    s.close()
    wait_for(lambda: server.seen == [b"abc<end>"])


def test_proxy_keeps_the_process(start, server):
    outlet = start(more=allow(f"127.0.0.1:{server.port}"))
    s, _ = proxy_connect(outlet, f"127.0.0.1:{server.port}")
    time.sleep(3)       # longer than an idle process stays
    assert exchange(s, b"still there") == b"still there"
    s.close()
    wait_for(lambda: outlet.children() == [])


def test_proxy_crowd(start, server):
    outlet = start(more=allow(f"127.0.0.1:{server.port}"))
    crowd = [proxy_connect(outlet, f"127.0.0.1:{server.port}") for _ in range(128)]
    assert [status for _, status in crowd] == [200] * 128
    s, status = proxy_connect(outlet, f"127.0.0.1:{server.port}")
    assert status == 503
    s.close()
    for i, (c, _) in enumerate(crowd):
        assert exchange(c, f"n{i}".encode()) == f"n{i}".encode()
        c.close()
    wait_for(lambda: proxy_connect(outlet, f"127.0.0.1:{server.port}")[1] == 200)


def test_proxy_outer(start, server):
    """With a proxy of the machine's, names are its matter; the list holds all the same."""
    requests = []

    def serve(c):
        head = b""
        while b"\r\n\r\n" not in head:
            head += c.recv(4096)
        requests.append(head.split(b"\r\n")[0])
        c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while data := c.recv(65536):
            c.sendall(data)

    outer = Server(serve)
    outlet = start(more=allow("only.example:8443"), env={"https_proxy": f"http://127.0.0.1:{outer.port}",
                                                         "no_proxy": "*"})
    s, status = proxy_connect(outlet, "only.example:8443")
    assert (status, exchange(s, b"through")) == (200, b"through")
    s.close()
    assert refusal(outlet, "other.example:8443")[0] == 403
    assert requests == [b"CONNECT only.example:8443 HTTP/1.1"]
    outer.stop()
