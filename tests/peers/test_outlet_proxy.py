# SPDX-License-Identifier: MIT
"""The proxy that a CLI in the sandbox profile strict has for the world, against servers of the test's."""

import json
import socket
import threading
import time

import pytest

from outlet_world import KEY, UnixConnection, log, resident, start, wait_for  # noqa: F401
from provider_peer import clean, peer  # noqa: F401


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
