# SPDX-License-Identifier: MIT
"""The session's model endpoint, against the emulator of the providers: what goes through, what does not, what is
counted."""

import http.client
import json
import os
import re
import socket
import threading
import time

import pytest

from outlet_world import KEY, Outlet, error_of, log, resident, start, wait_for  # noqa: F401
from provider_peer import DIALECTS, clean, events, peer  # noqa: F401


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
