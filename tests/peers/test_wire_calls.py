# SPDX-License-Identifier: MIT
"""The wire room's client and its keys, its calls, and its ways to the server."""

import json
import os
import select
import socket
import subprocess
import threading

import pytest

from puffo.process import Server
from wire_world import Client, cleanup, client, keys, requests_of, server, slug  # noqa: F401


# --- keys ---

def subkey_posts(server, slug):
    return len(requests_of(server, slug, "/devices/subkeys"))


def test_subkey_that_expired_is_renewed_by_a_call(server, client, slug, keys):
    session = json.loads((keys / f"{slug}.session.json").read_text())
    server.control("expire", {"slug": slug})
    assert client.ask("spaces")["reply"] == "ok"
    assert subkey_posts(server, slug) == 2
    renewed = json.loads((keys / f"{slug}.session.json").read_text())
    assert renewed["subkey_id"] != session["subkey_id"]
    assert (keys / f"{slug}.session.json").stat().st_mode & 0o777 == 0o600


def test_subkey_that_the_stream_refuses_is_renewed(server, client, slug):
    server.control("expire", {"slug": slug})
    server.control("streams", {"do": "abort"})
    client.expect(state="waiting")
    client.expect(state="connected")
    assert subkey_posts(server, slug) == 2


def test_session_file_is_used_by_the_next_start(server, client, slug, keys, cleanup):
    client.kill()
    again = Client(keys, slug, server.url)
    cleanup.append(again)
    again.expect(caught_up=0)
    assert subkey_posts(server, slug) == 1


def test_two_processes_make_one_subkey(server, slug, keys, cleanup):
    clients = [Client(keys, slug, server.url) for _ in range(3)]
    cleanup.extend(clients)
    for c in clients:
        c.expect(state="connected")
    assert subkey_posts(server, slug) == 1


def test_expired_session_file(server, slug, keys, cleanup):
    (keys / f"{slug}.session.json").write_text(json.dumps(
        {"slug": slug, "subkey_id": "sk_old", "subkey_secret_key": "A" * 43, "expires_at": 1}))
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    assert subkey_posts(server, slug) == 1


def test_broken_session_file_is_replaced(server, slug, keys, cleanup):
    (keys / f"{slug}.session.json").write_text("{")
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    assert json.loads((keys / f"{slug}.session.json").read_text())["slug"] == slug


def test_device_that_is_not_seen_at_once(server, slug, keys, cleanup):
    server.fault("status", route="POST /devices/subkeys", status=400, code="DEVICE_NOT_FOUND", times=2)
    server.fault("status", route="GET /spaces", status=401, times=1)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    assert subkey_posts(server, slug) == 3


@pytest.mark.parametrize("minutes", [10, -10])
def test_clock_that_is_off(server, client, slug, minutes):
    posts = subkey_posts(server, slug)
    server.control("settings", {"clock_offset_ms": minutes * 60000})
    for _ in range(5):
        reply = client.ask("spaces")
        assert (reply["reply"], reply["status"]) == ("status", 401)
        assert "clock is" in reply["error"]
    # A clock is not put right by new keys.
    assert subkey_posts(server, slug) - posts <= 4
    server.control("settings", {"clock_offset_ms": 0})
    assert client.ask("spaces")["reply"] == "ok"


# --- calls ---

def test_every_call(server, client, slug):
    assert client.ask("spaces")["n"] == 0
    profile = client.ask(f"profiles {slug} nobody-0000")
    assert (profile["n"], profile["first"]) == (1, slug)
    assert client.ask("rename Robby")["reply"] == "ok"
    assert client.ask(f"profiles {slug}")["json"]["profiles"][0]["display_name"] == "Robby"
    certificates = client.ask(f"certs {slug}")
    assert {e["kind"] for e in certificates["json"]["entries"]} >= {"identity_cert", "device_cert", "subkey_cert"}

    blob = client.ask("upload hello")
    assert blob["read"] == 0
    assert client.ask(f"download {blob['first']}")["size"] == 5
    assert client.ask("heartbeat")["reply"] == "ok"
    assert client.ask("heartbeat")["status"] == 429

    message = server.bulk(slug, 1)[0]
    client.expect(envelope=message)
    ids = ["run_" + digit * 32 for digit in "123"]
    assert client.ask(f"run {message} {ids[0]}")["reply"] == "ok"
    assert client.ask(f"ran {message} {ids[0]}")["reply"] == "ok"
    assert client.ask(f"ran-all {message} {ids[1]} {ids[2]}")["reply"] == "ok"
    runs = {r["run_id"]: r for r in server.control("statuses")["runs"]}
    assert set(runs) == set(ids)
    assert client.ask(f"run msg_unknown {ids[0]}")["status"] == 404


def test_calls_that_are_answered_with_something_else(server, client):
    server.fault("html", route="GET /spaces")
    reply = client.ask("spaces")
    assert (reply["reply"], reply["status"]) == ("protocol", 200)
    server.clear()

    for body, problem in (("[]", "no JSON object"), ("{}", "no spaces"), ('{"spaces":{}}', "no list"),
                          ('{"spaces":[1]}', "none of"), ('{"spaces":[{"name":"x"}]}', "none of"), ("", "empty")):
        server.fault("body", route="GET /spaces", body=body)
        reply = client.ask("spaces")
        assert reply["reply"] == "ok" and reply["read"] < 0 and problem in reply["read_error"], reply
        server.clear()


def test_redirects_are_not_followed(server, client):
    server.fault("status", route="GET /spaces", status=307, headers={"Location": server.url + "/certs/sync"})
    reply = client.ask("spaces")
    assert (reply["reply"], reply["status"]) == ("protocol", 307)
    assert "GET /certs/sync" not in server.counters()["requests"]


def test_patience(server, client):
    server.fault("status", route="GET /spaces", status=429, headers={"Retry-After": "1"}, times=2)
    assert client.ask("spaces")["reply"] == "ok"
    server.fault("status", route="POST /agents/me/heartbeat", status=429, times=1)
    reply = client.ask("heartbeat")
    assert (reply["reply"], reply["status"], reply["transient"]) == ("status", 429, True)


def test_refusals_have_their_words(server, client):
    server.fault("status", route="GET /spaces", status=403, code="FORBIDDEN", message="not\x1b[31m yours")
    reply = client.ask("spaces")
    assert (reply["status"], reply["code"], reply["transient"]) == (403, "FORBIDDEN", False)
    assert reply["error"] == "HTTP 403 FORBIDDEN: not?[31m yours"
    server.clear()
    server.fault("status", route="GET /spaces", status=502, html=True)
    assert client.ask("spaces")["transient"] is True


def test_answers_that_break_off(server, client):
    server.fault("cut", route="GET /spaces", times=1)
    reply = client.ask("spaces")
    assert (reply["reply"], reply["transient"]) == ("network", True)
    server.fault("oversize", route="GET /spaces", times=1, chunked=True)
    assert client.ask("spaces")["reply"] == "protocol"
    server.fault("trickle", route="GET /spaces", times=1, bytes=3, seconds=0.01)
    assert client.ask("spaces")["reply"] == "ok"


def test_blob_that_is_late(server, client):
    blob = client.ask("upload hello")["first"]
    server.fault("status", route="GET /blobs/*", status=404, times=1)
    assert client.ask(f"download {blob}")["size"] == 5
    client.say("download ../../etc/passwd")
    client.expect(refused=...)


def test_ids_are_escaped_and_signed_as_sent(server, client):
    for path in ("/spaces?a=%2F..%2f&b=%3A:", "/spaces/../spaces/./x%20y", "/spaces//x"):
        assert client.ask(f"get {path}")["status"] != 401
    reply = client.ask("members a/b ../c?d#é")
    assert reply["status"] != 401
    assert "GET /spaces/a%2Fb/channels/..%2Fc%3Fd%23%C3%A9/members" in {
        line["method"] + " " + line["path"] for line in server.log("request")}


# --- ways to the server ---

def test_tls_with_an_own_authority(tmp_path, cleanup, keys):
    ca = tmp_path / "ca.pem"
    server = Server(tmp_path / "server", "--tls", "--ca-out", ca, "--prefix", "/api/v2")
    cleanup.append(server)
    slug = server.register(keys, "bot")
    distrusting = Client(keys, slug, server.url)
    cleanup.append(distrusting)
    assert "certificate" in distrusting.expect(state="waiting")["reason"]
    reply = distrusting.ask("spaces")
    assert (reply["reply"], reply["transient"]) == ("tls", False)
    distrusting.kill()

    client = Client(keys, slug, server.url + "//", str(ca))
    cleanup.append(client)
    client.expect(caught_up=0)
    ids = server.bulk(slug, 5)
    for i in ids:
        client.expect(envelope=i, verdict="taken")
    server.control("streams", {"do": "cut"})
    client.expect(state="connected")


class Proxy:
    """An HTTP proxy that knows CONNECT and counts."""

    def __init__(self):
        self.targets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(4096)
            if not data:
                return
            head += data
        method, target = head.split()[:2]
        self.targets.append((method.decode(), target.decode()))
        host, _, port = target.decode().rpartition(":")
        upstream = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        pair = [client, upstream]
        while True:
            for ready in select.select(pair, [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    client.close()
                    upstream.close()
                    return
                pair[1 - pair.index(ready)].sendall(data)


def test_proxy(tmp_path, cleanup, keys):
    ca = tmp_path / "ca.pem"
    server = Server(tmp_path / "server", "--tls", "--ca-out", ca)
    cleanup.append(server)
    slug = server.register(keys, "bot")
    proxy = Proxy()
    client = Client(keys, slug, server.url, str(ca), env={"HTTPS_PROXY": proxy.url, "NO_PROXY": ""})
    cleanup.append(client)
    client.expect(caught_up=0)
    assert {m for m, _ in proxy.targets} == {"CONNECT"} and len(proxy.targets) >= 2
    client.kill()

    direct = Client(keys, slug, server.url, str(ca), env={"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"})
    cleanup.append(direct)
    direct.expect(caught_up=0)


# --- files ---

def test_bad_key_files(server, keys, slug):
    for text, problem in (("{", "not JSON"), ("{}", "'slug' is missing")):
        (keys / "x-1.json").write_text(text)
        result = subprocess.run([os.environ["WIRE_CLIENT"], keys, "x-1", server.url], capture_output=True, text=True)
        assert result.returncode == 1 and problem in result.stdout
