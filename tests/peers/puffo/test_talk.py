# SPDX-License-Identifier: MIT
"""Two people on a server, each a program of its own, over TLS and plain, with everything that can go wrong."""

import asyncio
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time
import urllib.parse

import aiohttp
import pytest

from puffo import certs, envelope, keystore
from puffo.client import Client, Connection, HttpError
from puffo.crypto import CryptoError, b64, ed25519_public, request_headers, stream_connect, stream_url

HERE = pathlib.Path(__file__).resolve().parents[1]
NOISE = os.urandom(100_000)


class Server:
    def __init__(self, state, *args, tls=False, prefix=""):
        self.state, self.ca, self.tls = state, state / "ca-copy.pem", tls
        self.args = [*args, *(["--tls", "--ca-out", str(self.ca)] if tls else []),
                     *(["--prefix", prefix] if prefix else [])]
        self.port = 0
        state.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [HERE / "puffo-server", "--state", self.state, "--listen", f"127.0.0.1:{self.port}", *self.args],
            stdout=subprocess.PIPE, text=True)
        word, _, self.url = self.process.stdout.readline().rstrip("\n").partition(" ")
        assert word == "ready"
        self.port = urllib.parse.urlsplit(self.url).port

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        status = self.process.wait(60)
        self.process.stdout.close()
        return status

    def restart(self, number=signal.SIGTERM):
        self.stop(number)
        self.start()

    def call(self, method, target, body=None, headers=None, timeout=60):
        """Status, headers and body of anything, unsigned."""
        context = ssl.create_default_context(cafile=self.ca) if self.tls else None
        if self.tls:
            connection = http.client.HTTPSConnection("localhost", self.port, timeout=timeout, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, target, None if body is None else json.dumps(body), headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def control(self, method, name, body=None):
        status, _, data = self.call(method, f"/_control/{name}", body, timeout=300)
        assert status == 200, data
        return json.loads(data)

    def fault(self, name, **options):
        self.control("POST", "faults", {"fault": name, **options})

    def acks(self):
        return self.control("GET", "counters")["acks"]


class Human:
    def __init__(self, server, state, username):
        self.server, self.state = server, state
        self.slug = self("register", username)["slug"]

    def run(self, *args):
        ca = ["--ca", self.server.ca] if self.server.tls else []
        return subprocess.run([HERE / "puffo-human", "--state", self.state, "--server", self.server.url, *ca, *args],
                              capture_output=True, text=True, timeout=60)

    def __call__(self, *args):
        done = self.run("--json", *args)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def client(self):
        return Client(Connection(self.server.url, self.server.ca if self.server.tls else None), self.state / "keys",
                      self.slug)


@pytest.fixture
def servers(tmp_path):
    made = []

    def make(*args, **kwargs):
        made.append(Server(tmp_path / f"server{len(made)}", *args, **kwargs))
        return made[-1]
    yield make
    for server in made:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture
def server(servers):
    return servers()


@pytest.fixture
def people(server, tmp_path):
    return Human(server, tmp_path / "ann", "ann"), Human(server, tmp_path / "bob", "bob")


@pytest.fixture
def ann(people):
    return people[0]


@pytest.fixture
def bob(people):
    return people[1]


def texts(messages):
    return [m["text"] for m in messages]


# --- talking ---

@pytest.mark.parametrize("tls, prefix", [(False, ""), (True, "/v2")], ids=["plain", "tls"])
def test_conversation(servers, tmp_path, tls, prefix):
    server = servers(tls=tls, prefix=prefix)
    ann, bob = Human(server, tmp_path / "ann", "ann"), Human(server, tmp_path / "bob", "bob")
    ann("send", "--to", bob.slug, "Hello, Bob.\n\tÜber zwei Zeilen \U0001f600")
    message, = bob("read")
    assert message["text"] == "Hello, Bob.\n\tÜber zwei Zeilen \U0001f600"
    assert (message["sender_slug"], message["envelope_kind"], message["encrypted"]) == (ann.slug, "dm", True)
    assert bob("read") == []

    space = ann("create-space", "Lab")
    channel = ann("create-channel", space["space_id"], "ops")
    ann("invite", bob.slug, space["space_id"])
    server.restart(signal.SIGKILL)
    invite, = bob("invites")
    assert (invite["scope"], invite["inviter_slug"], invite["space_name"]) == ("space", ann.slug, "Lab")
    bob("accept", invite["invitation_event_id"])
    assert bob("invites") == []
    assert [c["channel_id"] for c in bob("channels", space["space_id"])] == [space["default_channel_id"]]
    ann("invite", bob.slug, space["space_id"], channel["channel_id"])
    bob("accept", "all")
    assert [(m["slug"], m["role"]) for m in bob("members", space["space_id"], channel["channel_id"])] == \
        [(ann.slug, "owner"), (bob.slug, "member")]

    root = ann("send", "--channel", space["space_id"], channel["channel_id"], "first")["envelope_id"]
    server.restart()
    assert texts(bob("read")) == ["first"]
    attachment = tmp_path / "noise.png"
    attachment.write_bytes(NOISE)
    reply = bob("send", "--thread", root, "--file", str(attachment), "second")["envelope_id"]
    message, = ann("read", "--wait", "10")
    assert (message["envelope_id"], message["thread_root_id"], message["text"]) == (reply, root, "second")
    saved, = ann("save", reply, str(tmp_path / "saved"))
    assert saved["mime_type"] == "image/png" and pathlib.Path(saved["path"]).read_bytes() == NOISE
    assert texts(ann("history", "--thread", root)) == ["first", "second"]


def test_server_sees_only_ciphertext(server, ann, bob, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("NEEDLE in a file")
    ann("send", "--to", bob.slug, "NEEDLE in a text", "--file", str(secret))
    server.stop()
    kept = b"".join(p.read_bytes() for p in server.state.glob("puffo.db*"))
    assert ann.slug.encode() in kept and b"NEEDLE" not in kept


def test_strangers_are_refused(server, ann, bob):
    space = ann("create-space", "Lab")
    for args in (["members", space["space_id"], space["default_channel_id"]], ["accept", "ev_x"],
                 ["invite", ann.slug, space["space_id"]], ["send", "--to", "nobody-0000", "x"],
                 ["send", "--channel", space["space_id"], space["default_channel_id"], "x"]):
        done = bob.run(*args)
        assert (done.returncode, done.stdout) == (1, "") and "Traceback" not in done.stderr, done.stderr
    # A channel list that is not for the caller is the page of §6.2.
    assert "not JSON" in bob.run("channels", space["space_id"]).stderr


def test_agent_is_registered_with_its_operator(server, ann, tmp_path):
    made = ann("create-agent", "helper", "--keys", str(tmp_path / "keys"))
    agent = Client(Connection(server.url), tmp_path / "keys", made["slug"])
    busy = {"status": "busy", "current_message_id": "msg_1"}
    assert agent.call("POST", "/agents/me/heartbeat", busy) == {"ok": True}
    with pytest.raises(HttpError) as caught:
        agent.call("POST", "/agents/me/heartbeat", {"status": "idle"})
    assert caught.value.status == 429
    assert ann("status", made["slug"])["status"] == "busy"
    assert ann("profile", made["slug"])["owner_slug"] == ann.slug
    ann("send", "--to", made["slug"], "do it")
    message_id = agent.pending()[0]["envelope_id"]
    run = {"run_id": "run_" + "0" * 32}
    agent.call("POST", f"/messages/{message_id}/processing/start", run)
    agent.call("POST", "/messages/processing/end:batch",
               {"runs": [{**run, "message_id": message_id, "succeeded": False, "error_text": "no"}]})
    assert ann("status", made["slug"])["status"] == "error"
    assert (tmp_path / "keys" / f"{made['slug']}.json").stat().st_mode & 0o777 == 0o600


def test_second_device(server, ann, bob, tmp_path):
    """What is written from now on is for both, and who has not heard of the second one is told of it."""
    first = bob("send", "--to", ann.slug, "before")["envelope_id"]
    made = ann("add-device", "--keys", str(tmp_path / "tablet"))
    tablet = Client(Connection(server.url), tmp_path / "tablet", ann.slug)
    assert tablet.identity.device_id == made["device_id"] != ann.client().identity.device_id
    tablet.rotate()
    assert tablet.pending() == []
    bob("send", "--to", ann.slug, "after")
    assert [m["text"] for m in ann("read")] == ["before", "after"]
    assert len(tablet.pending()) == 1 and tablet.pending()[0]["envelope_id"] != first
    server.control("POST", "settings", {"missing_devices": True})
    writer = bob.client()
    payload = envelope.new_payload(bob.slug, writer.session().subkey_id, "stale", recipient_slug=ann.slug)
    known = [r for r in writer.recipients([ann.slug, bob.slug]) if r[0] != made["device_id"]]
    answer = writer.call("POST", "/messages", envelope.seal(payload, writer.session().subkey_secret_key, known))
    assert answer["missing_devices"] == [made["device_id"]]


def test_devices_that_are_not_added(server, ann, bob, tmp_path):
    """Not with another's certificate, another's nonce, or a nonce for the second time."""
    client, other = ann.client(), bob.client()
    cert = certs.device_cert(client.identity.root_secret_key, os.urandom(32), os.urandom(32))
    foreign = certs.device_cert(other.identity.root_secret_key, os.urandom(32), os.urandom(32))

    def complete(who, nonce, body):
        with pytest.raises(HttpError) as caught:
            who.call("POST", f"/devices/enroll/{nonce}/complete", body)
        return caught.value.status

    nonce = client.connection.post("/devices/enroll/init", {"slug": ann.slug})["nonce"]
    assert complete(client, nonce, {"device_cert": foreign}) == 400
    assert complete(other, nonce, {"device_cert": foreign}) == 404
    assert complete(client, "x", {"device_cert": cert}) == 404
    client.call("POST", f"/devices/enroll/{nonce}/complete", {"device_cert": cert})
    assert complete(client, nonce, {"device_cert": cert}) == 404


# --- who is let in ---

def signed(human, method="GET", target="/spaces", body=b"", **changes):
    """Status of a request with headers of one's own making."""
    client = human.client()
    session = client.session()
    headers = request_headers(session.subkey_secret_key, human.slug, session.subkey_id, method, target, body,
                              timestamp=changes.pop("timestamp", None), nonce=changes.pop("nonce", None))
    headers.update(changes.pop("headers", {}))
    return client.connection.send(method, changes.pop("send_target", target), changes.pop("send_body", body),
                                  headers)[0]


def test_signatures_are_verified(server, ann, bob):
    now = int(time.time() * 1000)
    assert signed(ann) == 200
    assert signed(ann, nonce="A" * 22) == 200
    assert signed(ann, nonce="A" * 22) == 401, "a nonce twice"
    assert signed(ann, timestamp=now - 290_000) == 200
    assert signed(ann, timestamp=now - 310_000) == 401
    assert signed(ann, timestamp=now + 310_000) == 401
    assert signed(ann, send_target="/spaces?x=1") == 401
    assert signed(ann, target="/spaces?a=%3A", send_target="/spaces?a=:") == 401
    assert signed(ann, headers={"x-puffo-slug": bob.slug}) == 401
    assert signed(ann, headers={"x-puffo-signer-id": "sk_x"}) == 401
    assert signed(ann, headers={"x-puffo-signature": "AAAA"}) == 401
    for name in ("version", "slug", "signer-id", "timestamp", "nonce", "signature"):
        assert signed(ann, headers={f"x-puffo-{name}": ""}) == 401
    assert signed(ann, "POST", "/messages/ack", b'{"envelope_ids":[]}') == 200
    assert signed(ann, "POST", "/messages/ack", b'{"envelope_ids":[]}', send_body=b'{"envelope_ids": []}') == 401


def test_subkeys_are_checked(server, ann, bob):
    client = ann.client()
    identity = client.identity

    def post(device_id=identity.device_id, **changes):
        seed = os.urandom(32)
        cert = certs.subkey_cert(identity.device_signing_secret_key, identity.device_id, ed25519_public(seed),
                                 ttl_ms=changes.pop("ttl_ms", certs.SUBKEY_TTL_MS))
        body = json.dumps({"subkey_cert": {**cert, **changes}}).encode()
        headers = request_headers(identity.device_signing_secret_key, ann.slug, device_id, "POST",
                                  "/devices/subkeys", body)
        status, data = client.connection.send("POST", "/devices/subkeys", body, headers)
        return status, json.loads(data).get("error")
    assert post() == (200, None)
    assert post(ttl_ms=48 * 3_600_000) == (400, "INVALID_CERT")
    assert post(subkey_id="sk_x") == (400, "INVALID_CERT")
    assert post(device_id="dev_x") == (400, "DEVICE_NOT_FOUND")
    assert post(signature=b64(bytes(64))) == (400, "INVALID_CERT")


def test_expired_subkey_and_revoked_device(server, ann, bob):
    assert server.control("POST", "expire", {"slug": ann.slug})["subkeys"] == 1
    assert signed(ann) == 401
    ann("spaces")
    assert signed(ann) == 200, "the client has rotated"
    bob("revoke", bob("whoami")["device_id"])
    assert signed(bob) == 401
    # Who writes to bob now finds no device of his, only the sender's own copy goes out.
    assert ann("send", "--to", bob.slug, "are you there?")["devices_queued"] == 1


def test_clock(server, ann):
    server.control("POST", "settings", {"clock_offset_ms": 600_000})
    done = ann.run("spaces")
    assert done.returncode == 1 and "401" in done.stderr
    server.control("POST", "settings", {"clock_offset_ms": 0})
    ann("spaces")


def test_substituted_keys_are_refused(server, ann, bob):
    """A registry that lies: a device of a foreign root key, and a new identity for a known slug."""
    root, device, kem = (os.urandom(32) for _ in range(3))
    ann("send", "--to", bob.slug, "before")
    server.control("POST", "registry", {"kind": "device_cert", "slug": bob.slug,
                                        "cert": certs.device_cert(root, device, kem)})
    assert ann("send", "--to", bob.slug, "foreign device")["devices_queued"] == 2
    server.control("POST", "registry", {"kind": "identity_cert", "slug": bob.slug,
                                        "cert": certs.identity_cert(root, "human")})
    done = ann.run("send", "--to", bob.slug, "foreign root")
    assert done.returncode == 1 and "another root key" in done.stderr


def test_control_is_for_this_machine(server):
    status, _, _ = server.call("GET", "/_control/counters", headers={"Origin": "http://evil.example"})
    assert status == 403
    for method, name, body in (("POST", "faults", {"fault": "x"}), ("POST", "settings", {"x": 1}),
                               ("POST", "settings", []), ("POST", "streams", {"do": "x"}), ("POST", "bulk", {})):
        status, _, data = server.call(method, f"/_control/{name}", body)
        assert status == (200 if name == "streams" else 400), (name, data)
    assert server.call("GET", "/_control/nothing")[0] == 404


# --- faults of answers ---

def fault_of(server, human, name, **options):
    server.fault(name, route="GET /spaces", times=1, **options)
    done = human.run("--json", "spaces")
    human("spaces")
    return done


def test_answers_that_are_wrong(server, ann):
    done = fault_of(server, ann, "status", status=500)
    assert done.returncode == 1 and "500" in done.stderr
    assert "not JSON" in fault_of(server, ann, "html").stderr
    assert "not JSON" in fault_of(server, ann, "truncate").stderr
    assert "not JSON" in fault_of(server, ann, "body", body="{\"spaces\": ").stderr
    for name in ("drop", "cut", "lose_answer"):
        assert fault_of(server, ann, name).returncode == 1, name
    began = time.monotonic()
    assert fault_of(server, ann, "delay", seconds=1).returncode == 0 and time.monotonic() - began > 1
    began = time.monotonic()
    assert fault_of(server, ann, "trickle", bytes=2, seconds=0.1).returncode == 0 and time.monotonic() - began > 0.5
    assert fault_of(server, ann, "oversize", bytes=1_000_000).returncode == 0
    assert fault_of(server, ann, "status", status=401).returncode == 0, "401 once: a new subkey"
    assert [line["faults"] for line in server.control("GET", "log?kind=request")["lines"] if line["faults"]] == \
        [["status"], ["html"], ["truncate"], ["body"], ["drop"], ["cut"], ["lose_answer"], ["delay"], ["trickle"],
         ["oversize"], ["status"]]


def test_headers_and_sizes_of_faults(server):
    server.fault("status", status=429, headers={"Retry-After": "2"}, times=1)
    server.fault("status", status=307, headers={"Location": "http://127.0.0.1:1/"}, times=1)
    server.fault("delay", seconds=0, times=1, skip=2)
    status, headers, _ = server.call("GET", "/agents/x/status")
    assert (status, headers["Retry-After"]) == (429, "2")
    status, headers, _ = server.call("GET", "/agents/x/status")
    assert (status, headers["Location"]) == (307, "http://127.0.0.1:1/")
    assert server.call("GET", "/agents/x/status")[0] == 404
    assert [line["faults"] for line in server.control("GET", "log?kind=request")["lines"]] == \
        [["status"], ["status"], ["delay"]]
    for chunked in (False, True):
        server.fault("oversize", bytes=3_000_000, chunked=chunked, times=1)
        status, headers, data = server.call("GET", "/agents/x/status")
        assert len(data) == 3_000_000 and ("Content-Length" in headers) != chunked
    assert server.call("GET", "/no/such/route")[1]["Content-Type"].startswith("text/html")


def test_paging_that_does_not_advance(server, ann, bob):
    for name in ("has_more_stuck", "has_more_empty"):
        server.fault(name, route="GET /certs/sync", times=3)
        done = ann.run("send", "--to", bob.slug, "x")
        assert done.returncode == 1 and "do not advance" in done.stderr
        server.control("DELETE", "faults")
    server.control("POST", "settings", {"certs_page": 1, "events_page": 2})
    assert ann("send", "--to", bob.slug, "x")["devices_queued"] == 2
    space = ann("create-space", "Lab")["space_id"]
    for n in range(4):
        ann("create-channel", space, f"c{n}")
    names, cursor = [], ""
    for _ in range(3):
        page = ann("call", "GET", f"/spaces/{space}/events{cursor}")
        names += [e["payload"]["name"] for e in page["events"]]
        cursor = f"?since={page['next_cursor']}"
    assert names == ["Lab", "General", "c0", "c1", "c2", "c3"] and not page["has_more"]
    server.fault("has_more_stuck", route="GET /spaces/*/events")
    page = ann("call", "GET", f"/spaces/{space}/events{cursor}")
    assert page["has_more"] and f"?since={page['next_cursor']}" == cursor


def test_order_and_duplicates_of_pending(server, ann, bob):
    ids = server.control("POST", "bulk", {"to": bob.slug, "count": 3})["envelope_ids"]
    client = bob.client()

    def pending(**fault):
        if fault:
            server.fault(route="GET /messages/pending", times=1, **fault)
        return [e["envelope_id"] for e in client.pending()]
    assert pending() == ids
    assert pending(name="reverse") == ids[::-1]
    assert pending(name="twice") == [i for i in ids for _ in range(2)]
    server.control("POST", "settings", {"ignore_acks": True})
    client.acknowledge(ids[:2])
    assert pending() == ids
    server.control("POST", "settings", {"ignore_acks": False})
    client.acknowledge(ids[:2])
    assert pending() == ids[2:] and server.acks() == ids[:2] * 2
    assert server.control("GET", f"queue?slug={bob.slug}")["devices"] == {bob("whoami")["device_id"]: ids[2:]}
    server.control("POST", "settings", {"http_ack": False})
    assert "not JSON" in bob.run("read").stderr


# --- many messages, wrong messages ---

def test_ten_thousand(server, bob):
    began = time.monotonic()
    made = server.control("POST", "bulk", {"to": bob.slug, "count": 10_000, "text": "number {n}"})
    assert len(set(made["envelope_ids"])) == 10_000 and time.monotonic() - began < 240
    messages = bob.client().pending()
    assert [m["envelope_id"] for m in messages] == made["envelope_ids"]
    client = bob.client()
    assert [client.open(messages[n])["content"] for n in (0, 4999, 9999)] == \
        ["number 1", "number 5000", "number 10000"]
    server.restart(signal.SIGKILL)
    assert len(bob.client().pending()) == 10_000


def test_bulk_in_a_channel(server, ann, bob):
    space = ann("create-space", "Lab")
    made = server.control("POST", "bulk", {"channel_id": space["default_channel_id"], "count": 2, "sender": "zoe"})
    assert made["sender"].startswith("zoe-")
    assert texts(ann("read")) == ["message 1", "message 2"]
    assert made["sender"] in [m["slug"] for m in ann("members", space["space_id"], space["default_channel_id"])]


@pytest.mark.parametrize("spoil, reason", [
    ("ciphertext", "content_open_failed"), ("signature", "signature_invalid"), ("wrapped_key", "wrap_open_failed"),
    ("inner_route", "inner_outer_mismatch"), ("no_entry", "no_recipient_entry")])
def test_spoilt_messages(server, bob, spoil, reason):
    wrong, = server.control("POST", "bulk", {"to": bob.slug, "spoil": spoil})["envelope_ids"]
    good, = server.control("POST", "bulk", {"to": bob.slug, "text": "good"})["envelope_ids"]
    messages = bob("read")
    assert messages[0] == {"envelope_id": wrong, "error": reason}
    assert texts(messages[1:]) == ["good"] and server.acks() == [wrong, good]


def test_unencrypted_and_foreign_objects(server, bob):
    server.control("POST", "bulk", {"to": bob.slug, "spoil": "plaintext", "text": "open"})
    for envelope in ([], "x", None, {"envelope_id": "msg_x"},
                     {"envelope_id": 7, "sender_slug": bob.slug, "sent_at": 1}):
        server.control("POST", "queue", {"slug": bob.slug, "envelope": envelope})
    messages = bob("read")
    assert (messages[0]["text"], messages[0]["encrypted"]) == ("open", False)
    # The first check that fails names it: who is no recipient is told before ids are looked at.
    assert {m["error"] for m in messages[1:]} == {"malformed", "no_recipient_entry"}


# --- the stream ---

class Listener:
    """A client's end of the stream, for async with."""

    def __init__(self, human, **changes):
        self.client, self.changes = human.client(), changes

    async def __aenter__(self):
        session = self.client.session()
        self.http = aiohttp.ClientSession()
        try:
            self.ws = await self.http.ws_connect(stream_url(self.client.connection.url))
        except aiohttp.ClientError:
            await self.http.close()
            raise
        frame = stream_connect(session.subkey_secret_key, self.client.slug, session.subkey_id)
        await self.ws.send_json({**frame, **self.changes})
        return self

    async def __aexit__(self, *error):
        await self.ws.close()
        await self.http.close()

    async def frame(self, timeout=60):
        """A frame's object, or how the stream ended."""
        message = await self.ws.receive(timeout=timeout)
        if message.type == aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)
        return message.data if message.type == aiohttp.WSMsgType.CLOSE else message.type.name

    async def connected(self):
        assert (await self.frame())["type"] == "connected"
        return self


def streamed(test):
    def run(server, ann, bob):
        asyncio.run(test(server, ann, bob))
    run.__name__ = test.__name__
    return run


async def control(server, *args):
    return await asyncio.get_running_loop().run_in_executor(None, lambda: server.control(*args))


async def bulk(server, human, count=1):
    return (await control(server, "POST", "bulk", {"to": human.slug, "count": count}))["envelope_ids"]


@streamed
async def test_stream_pushes_and_acks(server, ann, bob):
    async with Listener(bob) as listener:
        await listener.connected()
        ids = await bulk(server, bob, 3)
        frames = [await listener.frame() for _ in ids]
        assert [f["envelope"]["envelope_id"] for f in frames] == ids and server.acks() == []
        await listener.ws.send_json({"type": "ack", "envelope_ids": ids[:2]})
        while server.acks() != ids[:2]:
            await asyncio.sleep(0.01)
        assert [e["envelope_id"] for e in bob.client().pending()] == ids[2:]
        line, = server.control("GET", "log?kind=ack")["lines"]
        assert (line["via"], line["slug"], line["ids"]) == ("frame", bob.slug, ids[:2])
        space = ann("create-space", "Lab")["space_id"]
        ann("invite", bob.slug, space)
        bob("accept", "all")
        event = await listener.frame()
        assert (event["type"], event["scope"], event["event"]["kind"]) == ("event", space, "accept_space_invite")
        ann("rotate")
        assert (await listener.frame())["entry"]["kind"] == "subkey_cert"


@streamed
async def test_stream_refuses(server, ann, bob):
    for changes in ({"signature": b64(bytes(64))}, {"subkey_id": "sk_x"}, {"slug": ann.slug}, {"timestamp": 1},
                    {"timestamp": "1"}, {"type": "hello"}, {"nonce": ""}):
        async with Listener(bob, **changes) as listener:
            assert await listener.frame() == 1008, changes
    assert server.control("GET", "counters")["counts"]["stream_rejected"] == 7


@streamed
async def test_stream_pings(server, ann, bob):
    server.control("POST", "settings", {"ping_seconds": 0.2, "pong_seconds": 1})
    async with Listener(bob) as listener:
        await listener.connected()
        for _ in range(8):
            assert await listener.frame() == {"type": "ping"}
            await listener.ws.send_json({"type": "pong"})
        while (frame := await listener.frame()) == {"type": "ping"}:
            pass
        assert frame == 1001


@streamed
async def test_stream_ends_in_every_way(server, ann, bob):
    for fault, end in (({"fault": "close_before", "code": 1011}, 1011), ({"fault": "wrong_answer"}, "welcome"),
                       ({"fault": "close_after"}, 1000), ({"fault": "abort_after"}, "CLOSED")):
        server.control("POST", "faults", {**fault, "slug": bob.slug, "times": 1})
        async with Listener(bob) as listener:
            if fault["fault"].endswith("_after"):
                await listener.connected()
            frame = await listener.frame()
            assert (frame["type"] if isinstance(frame, dict) else frame) == end, fault
    server.fault("status", route="WS /subscribe", status=503, times=1)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        async with Listener(bob):
            pass
    assert caught.value.status == 503
    for do, end in (("close", 4000), ("abort", "CLOSED"), ("cut", "CLOSED")):
        async with Listener(bob) as listener:
            await listener.connected()
            await asyncio.sleep(0.1)
            await control(server, "POST", "streams", {"do": do, "slug": bob.slug, "code": 4000})
            assert await listener.frame() == end, do


@streamed
async def test_stream_half_open(server, ann, bob):
    for do in ("fault", "control"):
        if do == "fault":
            server.fault("half_open", times=1)
        async with Listener(bob) as listener:
            await listener.connected()
            if do == "control":
                await control(server, "POST", "streams", {"do": "half_open"})
            ids = await bulk(server, bob)
            await listener.ws.ping()
            with pytest.raises(asyncio.TimeoutError):
                await listener.frame(timeout=1)
            assert ids[0] in [e["envelope_id"] for e in bob.client().pending()], "the rest of the server goes on"
            await control(server, "POST", "streams", {"do": "release"})
            assert await listener.frame() == "CLOSED"


@streamed
async def test_frames_that_are_wrong(server, ann, bob):
    async def of(listener, count=1):
        return [f["envelope"]["envelope_id"] for f in [await listener.frame() for _ in range(count)]]

    async with Listener(bob) as listener:
        await listener.connected()
        server.fault("frame_twice", route="FRAME message", times=1)
        ids = await bulk(server, bob)
        assert await of(listener, 2) == ids * 2
        server.fault("frame_swap", route="FRAME message", times=1)
        ids = await bulk(server, bob, 3)
        assert await of(listener, 3) == [ids[1], ids[0], ids[2]]
        server.fault("frame_lost", route="FRAME message", times=1)
        ids = await bulk(server, bob, 2)
        assert await of(listener) == ids[1:] and ids[0] in [e["envelope_id"] for e in bob.client().pending()]
        server.fault("frame_garbage", route="FRAME message", text="{", times=1)
        await bulk(server, bob)
        assert (await listener.ws.receive(timeout=60)).data == "{"
        server.fault("frame_big", route="FRAME message", bytes=2_000_000, times=1)
        await bulk(server, bob)
        assert len((await listener.ws.receive(timeout=60)).data) == 2_000_000
        server.fault("frame_cut", route="FRAME message", times=1)
        await bulk(server, bob)
        assert await listener.frame() == "CLOSED"
    server.control("POST", "settings", {"push_pending": True})
    async with Listener(bob) as listener:
        await listener.connected()
        expected = [e["envelope_id"] for e in bob.client().pending()]
        assert await of(listener, len(expected)) == expected


def test_half_of_a_frame_arrives(server, bob):
    """The bytes themselves: a frame's header promises more than comes before the end."""
    client = bob.client()
    session = client.session()
    server.fault("frame_cut", route="FRAME message", times=1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as sock:
        sock.sendall(b"GET /subscribe HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        data = json.dumps(stream_connect(session.subkey_secret_key, bob.slug, session.subkey_id)).encode()
        sock.sendall(b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data)
        seen = b""
        while b"session_id" not in seen:
            seen += sock.recv(65536)
        time.sleep(0.2)
        server.control("POST", "bulk", {"to": bob.slug})
        frame = b""
        with pytest.raises(ConnectionResetError):
            while piece := sock.recv(65536):
                frame += piece
    assert frame[:2] == b"\x81\x7e" and 4 < len(frame) < 4 + int.from_bytes(frame[2:4], "big")
    assert b'{"type":"message"' in frame


# --- the command line ---

def test_wrong_usage(tmp_path, server):
    for args in (["--state", str(tmp_path / "x"), "whoami"], ["--state", str(tmp_path / "x"), "register", "ann"],
                 ["--state", str(tmp_path / "x"), "--server", "ftp://x", "register", "ann"],
                 ["--state", str(tmp_path / "x"), "--server", server.url, "register", "Not A Name"]):
        done = subprocess.run([HERE / "puffo-human", *args], capture_output=True, text=True)
        assert done.returncode == 1 and done.stderr.startswith("puffo-human: ") and "Traceback" not in done.stderr
    for args, status in ((["--state", str(tmp_path), "--listen", "x"], 2), (["--listen", "127.0.0.1:0"], 2),
                         (["--state", str(tmp_path), "--set", "x=1"], 1),
                         (["--state", str(tmp_path), "--listen", f"127.0.0.1:{server.port}"], 1)):
        done = subprocess.run([HERE / "puffo-server", *args], capture_output=True, text=True)
        assert done.returncode == status and done.stderr and "Traceback" not in done.stderr, done.stderr
    assert server.stop() == 0


def test_foreign_authority_is_refused(servers, tmp_path):
    one, other = servers(tls=True), servers(tls=True)
    human = Human(one, tmp_path / "ann", "ann")
    one.ca = other.ca
    done = human.run("spaces")
    assert done.returncode == 1 and "CERTIFICATE_VERIFY_FAILED" in done.stderr


def test_keys_are_the_agents_format(ann):
    identity = keystore.load_identity(ann.state / "keys", ann.slug)
    text = (ann.state / "keys" / f"{ann.slug}.json").read_text()
    assert text == identity.text() and json.loads(text)["device_id"] == identity.device_id
    with pytest.raises(CryptoError):
        keystore.decode_secret("AAAA")
