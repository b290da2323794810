# SPDX-License-Identifier: MIT
"""The real puffo-gateway on a bus of its own, with a double of puffod (tests/peers/puffod.py) at the other end.

    GATEWAY=build/daemon/gateway/puffo-gateway python3 -m pytest tests/unit/test_gateway.py
"""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time

import dbus.bus
import dbus.lowlevel
import pytest

GATEWAY = os.environ["GATEWAY"]
PUFFOD = pathlib.Path(__file__).parent.parent / "peers/puffod.py"
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen>
<policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


def wait(condition, what, seconds=60):
    """The seconds are for what never comes: a busy machine may take most of them for what does."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.01)
    return result


class Events:
    """A stream of server-sent events, as they come."""

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    def __iter__(self):
        kind = None
        for line in self.answer:
            if line.startswith(b"event: "):
                kind = line[7:-1].decode()
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                assert event["type"] == kind
                self.seen.append(event)
                yield event

    def until(self, type):
        for event in self:
            if event["type"] == type:
                return event
        raise AssertionError(f"the stream ended without {type}")


class World:
    def __init__(self, directory):
        self.directory = directory
        self.calls_path = directory / "calls"
        self.processes, self.puffod, self.gateway = [], None, None
        (directory / "bus.conf").write_text(BUS.format(path=directory / "bus"))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PUFFO_LOG_LEVEL": "debug",
                            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={directory}/bus",
                            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/bus",
                            **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
        # The address is printed when somebody listens there; the socket's file is there before.
        bus = self.spawn(["dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork", "--print-address=1"],
                         stdout=subprocess.PIPE)
        assert bus.stdout.readline().startswith(b"unix:")

    def spawn(self, command, **more):
        process = subprocess.Popen(command, **{"env": self.environment, **more})
        self.processes.append(process)
        return process

    def start_puffod(self, **environment):
        self.calls_path.unlink(missing_ok=True)
        self.puffod = self.spawn(["/usr/bin/python3", PUFFOD, self.calls_path], env=self.environment | environment)
        wait(lambda: self.calls("ready"), "puffod is up")

    def listen(self, address="127.0.0.1"):
        listener = socket.create_server((address, 0))
        self.port = listener.getsockname()[1]
        return listener

    def start_gateway(self, listener=None, mode="--user", **environment):
        """As systemd would: the socket is descriptor 3, and the environment says so."""
        listener = listener or self.listen()
        self.listener = listener

        def pass_socket():
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)         # it may have been 3 before

        self.environment |= environment
        self.errors = open(self.directory / "gateway.log", "w")
        command = f"LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=responses exec {GATEWAY} {mode}"
        self.gateway = self.spawn(["sh", "-c", command], close_fds=False, preexec_fn=pass_socket, stderr=self.errors)

    def ready(self):
        wait(lambda: self.request("GET", "/healthz")[0] == 200, "the gateway has the agents")

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        codes = {p: p.wait(timeout=60) for p in self.processes}
        if self.gateway:
            self.listener.close()
            self.errors.close()
            log = (self.directory / "gateway.log").read_text()
            assert "Sanitizer" not in log and "runtime error" not in log, log
        return codes

    def connect(self, receive_buffer=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if receive_buffer:
            connection.sock = socket.socket()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.sock.connect(("127.0.0.1", self.port))
        return connection

    def request(self, method, path, body=None, headers={}):
        connection = self.connect()
        connection.request(method, path, json.dumps(body) if isinstance(body, (dict, list)) else body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.headers["x-request-id"] and answer.headers["cache-control"] == "no-store"
        return answer.status, json.loads(text) if text else None, answer.headers

    def create(self, text, **fields):
        return self.request("POST", "/v1/responses", {"model": "engineer_alice", "input": text, **fields})

    def stream(self, text, receive_buffer=None, **fields):
        self.connection = self.connect(receive_buffer)
        body = {"model": "engineer_alice", "input": text, "stream": True, **fields}
        self.connection.request("POST", "/v1/responses", json.dumps(body))
        answer = self.connection.getresponse()
        assert answer.status == 200 and answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        return Events(answer)

    def hang_up(self, events):
        # The response object holds the socket, too.
        events.answer.close()
        self.connection.close()

    def poke(self, path, method, signature, *args):
        """Has the double do something."""
        bus = dbus.bus.BusConnection(self.environment["DBUS_SESSION_BUS_ADDRESS"])
        bus.call_blocking("ai.puffo.Agents1", "/ai/puffo/Agents1" + path, "x.Test", method, signature, args)
        bus.close()

    def calls(self, word=""):
        lines = self.calls_path.read_text().splitlines() if self.calls_path.exists() else []
        return [l for l in lines if word in l]


class Feed:
    """GET /agents/events, event by event; comments count as one of the name None."""

    def __init__(self, world, headers={}, receive_buffer=None):
        self.connection = world.connect(receive_buffer)
        self.connection.request("GET", "/agents/events", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.headers["content-type"] == "text/event-stream; charset=utf-8"

    def __iter__(self):
        kind = None
        for line in self.answer:
            if line.startswith(b"event: "):
                kind = line[7:-1].decode()
            elif line.startswith(b"data: "):
                yield kind, json.loads(line[6:])
            elif line.startswith(b":"):
                yield None, line.decode()

    def next(self):
        return next(iter(self))

    def close(self):
        self.answer.close()
        self.connection.close()


@pytest.fixture
def bare(tmp_path):
    w = World(tmp_path)
    yield w
    w.stop()


@pytest.fixture
def world(bare):
    bare.start_puffod()
    bare.start_gateway()
    bare.ready()
    return bare


def test_answers(world):
    status, response, _ = world.create("hello", instructions="be kind", metadata={"a": "b"}, conversation="c-1")
    assert status == 200 and response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == "Hello to you."
    assert world.request("GET", "/v1/responses/" + response["id"])[1] == response
    submitted = json.loads(world.calls("Submit ")[0].split(" ", 3)[3])
    assert submitted == {"Text": "hello", "Instructions": "be kind", "Conversation": "c-1", "Store": "1",
                         "Source": "responses"}


def test_files(world):
    content = [{"type": "input_text", "text": "look"},
               {"type": "input_file", "filename": "ä.txt", "file_data": "data:text/plain;base64,aGk="},
               {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBORw0KGgo="}]
    status, response, _ = world.create([{"role": "user", "content": content}])
    assert status == 200 and response["status"] == "completed"
    assert world.calls("File ") == ["File ä.txt text/plain file 6869", "File image-1.png image/png image 89504e470d0a1a0a"]
    items = world.request("GET", f"/v1/responses/{response['id']}/input_items")[1]["data"]
    assert items[0]["content"] == [content[0], {"type": "input_file", "filename": "ä.txt"},
                                   {"type": "input_image", "detail": "auto", "image_url": None}]
    status, response, _ = world.create([{"role": "user", "content": content[1:2]}])
    assert status == 200 and json.loads(world.calls("Submit ")[-1].split(" ", 3)[3]).get("Text") is None


def test_hire(world):
    status, answer, _ = world.request("POST", "/hire", {"role": "Writer", "name": "bo"})
    assert status == 201 and answer["agent"] == "writer_bo" and answer["pid"] == 4242 and answer["created"]
    assert world.request("POST", "/hire", {"role": "Writer", "name": "bo"})[0] == 200
    status, answer, _ = world.request("POST", "/hire", {"role": "writer", "name": "late"})
    assert status == 202 and answer["pid"] is None and answer["state"] == "starting"
    for body, param in [({"role": "x"}, "name"), ({"role": "../x", "name": "y"}, "role"),
                        ({"role": "x", "name": "-y"}, "name"), ({"role": 7, "name": "y"}, "role"),
                        ({"role": "x", "name": "ü"}, "name"), ("{", None)]:
        status, answer, _ = world.request("POST", "/hire", body)
        assert status == 400 and answer["error"]["param"] == param
    assert "writer_bo" in [m["id"] for m in world.request("GET", "/v1/models")[1]["data"]]
    status, answer, _ = world.request("POST", "/hire", {"role": "x/y", "name": "y"})
    assert answer["error"]["message"].startswith("invalid role name: 'x/y'")
    status, answer, _ = world.request("POST", "/hire", {"role": "r" * 32, "name": "n" * 32})
    assert status == 400 and answer["error"]["param"] == "name"
    assert answer["error"]["message"].startswith("invalid agent name: ")


def test_hire_meets_a_restart(world):
    """The next puffod knows the agent that the last one died over, and says so before the gateway has its list."""
    first = world.puffod
    world.start_puffod(AGENTS="writer_crash", SLOW_LIST="300")      # waits in the bus's queue for the name
    status, answer, _ = world.request("POST", "/hire", {"role": "writer", "name": "crash"})
    assert first.wait(timeout=60) == 1
    assert status == 200 and answer["agent"] == "writer_crash" and not answer["created"]


@pytest.mark.parametrize("name", ["removed", "masked", "slow"])
def test_hire_that_may_be_tried_again(world, name):
    status, answer, headers = world.request("POST", "/hire", {"role": "writer", "name": name})
    assert status == 503 and answer["error"]["code"] == "agent_not_ready" and headers["retry-after"] == "10"
    assert headers["x-should-retry"] == "true"


def test_hire_in_system_mode(bare):
    """Agents that the gateway makes are the gateway's: only who has the key may use them."""
    bare.start_puffod()
    bare.start_gateway(mode="--system")
    bare.ready()
    status, answer, _ = bare.request("POST", "/hire", {"role": "writer", "name": "bo"})
    assert status == 403 and "agent-proxy hire --system" in answer["error"]["message"]
    assert not bare.calls("Hire")


def test_capitals(world):
    assert world.create("hello", model="Engineer_Alice")[1]["model"] == "Engineer_Alice"
    assert world.request("GET", "/v1/models/MANAGER")[1]["id"] == "manager"


def test_changes_without_values(world):
    """What is not for everybody on the bus is in no signal."""
    def shown():
        return {a["agent"]: (a["workspace"], a["status_text"]) for a in world.request("GET", "/agents")[1]["agents"]}

    before = shown()
    bus = dbus.bus.BusConnection(world.environment["DBUS_SESSION_BUS_ADDRESS"])
    for values in [{"QueueLength": dbus.UInt32(1)}, {"Workspace": "/elsewhere"}, {"StatusText": "one"},
                   {"StatusText": "two"}, {"StatusText": "three"}]:
        bus.call_blocking("ai.puffo.Agents1", "/ai/puffo/Agents1/agent/manager", "x.Test", "Change", "a{sv}",
                          (dbus.Dictionary(values, signature="sv"),))
    bus.close()
    wait(lambda: shown()["manager"] == ("/elsewhere", "three"), "the gateway has asked")
    assert {i: s for i, s in shown().items() if i != "manager"} == {i: s for i, s in before.items() if i != "manager"}
    assert 1 <= len(world.calls("GetAll manager")) <= 4 and not world.calls("GetAll bot")


def test_signals_of_others(world):
    """Whoever is on the bus can send us a signal that looks like one of puffod's."""
    bus = dbus.bus.BusConnection(world.environment["DBUS_SESSION_BUS_ADDRESS"])
    [gateway] = [n for n in bus.list_names() if n.startswith(":") and world.gateway.pid == bus.call_blocking(
        "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixProcessID", "s",
        (n,))]
    before = world.request("GET", "/agents")[1]

    def send(path, interface, member, signature, *args):
        message = dbus.lowlevel.SignalMessage(path, interface, member)
        message.set_destination(gateway)
        message.append(*args, signature=signature)
        bus.send_message(message)
        bus.flush()

    root, agent = "/ai/puffo/Agents1", "ai.puffo.Agents1.Agent"
    send(root, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", "oa{sa{sv}}", root + "/agent/evil",
         {agent: {"Id": "evil", "Owner": dbus.UInt32(0)}})
    send(root + "/agent/manager", "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", agent,
         {"State": "failed", "Workspace": "/evil"}, [])
    send(root, "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved", "oas", root + "/agent/bot", [agent])
    send("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", "sss", "ai.puffo.Agents1", "",
         bus.get_unique_name())
    # Comes behind those, and its answer behind what they did.
    bus.call_blocking(gateway, "/", "org.freedesktop.DBus.Peer", "Ping", "", ())
    assert world.request("GET", "/agents")[1] == before
    send(root + "/agent/manager", "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", agent,
         {"State": "failed"}, [])
    bus.call_blocking(gateway, "/", "org.freedesktop.DBus.Peer", "Ping", "", ())
    assert world.request("GET", "/agents")[1] == before
    # Puffod's own still count.
    assert world.request("POST", "/hire", {"role": "writer", "name": "bo"})[0] == 201
    bus.close()


def test_feed(world):
    manager = "/agent/manager"
    feed = Feed(world)
    kind, first = feed.next()
    assert kind == "agents" and first == world.request("GET", "/agents")[1]
    assert [a["agent"] for a in first["agents"]] == ["manager", "bot", "engineer_alice"]
    world.poke(manager, "ChangeTo", "a{sv}", dbus.Dictionary({"State": "busy", "Status": "busy"}, signature="sv"))
    kind, agent = feed.next()
    assert (kind, agent) == ("agent", first["agents"][0] | {"state": "busy", "status": "busy"})
    world.poke(manager, "Change", "a{sv}", dbus.Dictionary({"StatusText": "thinking"}, signature="sv"))
    assert feed.next() == ("agent", agent | {"status_text": "thinking"})
    # What is not shown is no event: the next one is of the new agent.
    world.poke(manager, "ChangeTo", "a{sv}", dbus.Dictionary({"QueueLength": dbus.UInt32(3)}, signature="sv"))
    world.request("POST", "/hire", {"role": "writer", "name": "bo"})
    kind, agent = feed.next()
    assert kind == "agent" and agent["agent"] == "writer_bo" and agent["workspace"] == "/home/x/writer_bo"
    world.poke("", "Remove", "s", "writer_bo")
    assert feed.next() == ("agent", {"agent": "writer_bo", "removed": True})
    feed.close()


def test_feed_over_a_restart(world):
    """The next puffod tells what has changed meanwhile; who reads hears of that, and of nothing else."""
    feeds = [Feed(world) for _ in range(3)]
    for feed in feeds:
        feed.next()
    world.puffod.terminate()
    world.puffod.wait()
    world.start_puffod(AGENTS="writer_new")
    for feed in feeds:
        kind, agent = feed.next()
        assert kind == "agent" and agent["agent"] == "writer_new"
        feed.close()


def test_feed_ends_with_the_gateway(world):
    feed = Feed(world)
    feed.next()
    world.gateway.send_signal(signal.SIGTERM)
    assert list(feed) == []
    assert world.gateway.wait(timeout=60) == 0


def test_feed_that_nobody_reads(world):
    """A reader that does not read costs a bounded amount of memory, and gets a proper end when it comes to itself."""
    feed = Feed(world, receive_buffer=4096)
    assert feed.next()[0] == "agents"
    connection = dbus.bus.BusConnection(world.environment["DBUS_SESSION_BUS_ADDRESS"])
    other, n = Feed(world), 0
    other.next()
    for i in range(400):
        values = dbus.Dictionary({"State": f"{i} " + 20000 * "x"}, signature="sv")
        connection.call_blocking("ai.puffo.Agents1", "/ai/puffo/Agents1/agent/bot", "x.Test", "ChangeTo", "a{sv}",
                                 (values,))
        assert other.next()[1]["state"].startswith(f"{i} ")
    connection.close()
    status = (pathlib.Path("/proc") / str(world.gateway.pid) / "status").read_text()
    seen = [event for kind, event in feed if kind == "agent"]       # ends by itself
    assert 0 < len(seen) < 400 and [e["state"].split()[0] for e in seen] == [str(i) for i in range(len(seen))]
    size, most = (int(status.split(f"{word}:")[1].split()[0]) for word in ["VmSize", "VmHWM"])
    if size < 1 << 30:          # else it is full of a sanitizer's shadows
        assert most < 30000
    other.close()


def test_many_idle_readers(bare):
    """Each costs little more than its connection, and what they had is given back."""
    def memory():
        rollup = (pathlib.Path("/proc") / str(bare.gateway.pid) / "smaps_rollup").read_text()
        return int(rollup.split("Pss:")[1].split()[0])

    bare.start_puffod()
    bare.start_gateway()
    bare.ready()
    before, n = memory(), 300
    sockets = [socket.create_connection(("127.0.0.1", bare.port), timeout=60) for _ in range(n)]
    for s in sockets:
        s.sendall(b"GET /agents/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % bare.port)

    def all_read(what):
        for s in sockets:
            data = b""
            while what not in data:
                data += s.recv(65536)
                assert data

    all_read(b"event: agents")
    with_readers = memory()
    bare.poke("/agent/manager", "ChangeTo", "a{sv}", dbus.Dictionary({"State": "busy"}, signature="sv"))
    all_read(b'"state":"busy"')
    for s in sockets:
        s.close()
    size = int((pathlib.Path("/proc") / str(bare.gateway.pid) / "status").read_text().split("VmSize:")[1].split()[0])
    if size < 1 << 30:          # else it is full of a sanitizer's shadows
        assert with_readers - before < n * 30
        wait(lambda: memory() - before < n * 30 / 2, "the memory is given back")


def test_approvals(world):
    alice = "/agent/engineer_5falice"
    assert world.request("GET", "/approvals")[1] == {"approvals": []}
    feed = Feed(world)
    feed.next()
    world.poke(alice, "ChangeTo", "a{sv}", dbus.Dictionary({"State": "busy"}, signature="sv"))
    assert feed.next()[0] == "agent"
    world.poke("", "Ask", "sss", "engineer_alice:1a", "engineer_alice", '{"command":"ls\\n"}')
    kind, approval = feed.next()
    assert kind == "approval" and approval["id"] == "engineer_alice:1a" and approval["agent"] == "engineer_alice"
    assert approval["tool"] == "Bash" and approval["input"] == {"command": "ls\n"} and approval["state"] == "pending"
    assert approval["expires"] == approval["created"] + 300 and abs(approval["created"] - time.time()) < 120
    world.poke("", "Ask", "sss", "engineer_alice:2b", "engineer_alice", '{"command":"cut of')
    assert feed.next()[1]["input"] == '{"command":"cut of'
    got = world.request("GET", "/approvals")[1]["approvals"]
    assert [a["id"] for a in got] == ["engineer_alice:1a", "engineer_alice:2b"] and got[0] == approval
    for body, param in [({}, "decision"), ({"decision": "yes"}, "decision"), ({"decision": None}, "decision"),
                        ({"decision": "deny", "reason": 1}, "reason"), ("[]", None)]:
        status, answer, _ = world.request("POST", "/approvals/engineer_alice:1a", body)
        assert status == 400 and answer["error"]["param"] == param
    assert not world.calls("Approve")
    status, answer, _ = world.request("POST", "/approvals/engineer_alice%3A1a", {"decision": "allow"})
    assert status == 200 and answer == {"id": "engineer_alice:1a", "state": "allowed"}
    assert feed.next() == ("approval", {"id": "engineer_alice:1a", "agent": "engineer_alice", "state": "allowed"})
    status, answer, headers = world.request("POST", "/approvals/engineer_alice:1a", {"decision": "deny"})
    assert status == 409 and answer["error"]["code"] == "already_answered" and "allowed" in answer["error"]["message"]
    assert headers["x-should-retry"] == "false"
    body = {"decision": "deny", "reason": "no, not"}
    status, answer, _ = world.request("POST", "/approvals/engineer_alice:2b", body)
    assert status == 200 and answer["state"] == "denied"
    assert world.calls("Approve engineer_alice:2b False 'no, not'")
    for id in ["engineer_alice:zz", "nobody:1", "x", "manager%2F"]:
        status, answer, _ = world.request("POST", "/approvals/" + id, {"decision": "deny"})
        assert status == 404 and answer["error"]["code"] == "approval_not_found"
    feed.close()


def test_messages(world):
    status, page, _ = world.request("GET", "/agents/Manager/messages")
    assert status == 200 and page["has_more"] and len(page["messages"]) == 50
    assert page["messages"][-1] == {"id": "m299", "role": "assistant", "text": "text 299", "at": 1795226603,
                                    "response_id": "resp_4a5a67bb" + 40 * "0", "files": []}
    assert page["messages"][-2]["files"] == ["a.txt", "b.png"]
    assert page["messages"][0]["response_id"] is None
    status, page, _ = world.request("GET", "/agents/manager/messages?limit=200&before=m100")
    assert [m["id"] for m in page["messages"]] == [f"m{i}" for i in range(100)] and not page["has_more"]
    for query, param in [("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"),
                         ("before=" + 200 * "x", "before")]:
        status, answer, _ = world.request("GET", "/agents/manager/messages?" + query)
        assert status == 400 and answer["error"]["param"] == param
    assert world.request("GET", "/agents/manager/messages?before=nothing")[0] == 400
    status, answer, _ = world.request("GET", "/agents/no%20one/messages")
    assert status == 404 and answer["error"]["code"] == "agent_not_found" and "'no one'" in answer["error"]["message"]


def test_page_session(bare):
    bare.start_puffod()
    bare.start_gateway(AGENT_PROXY_API_KEY="one,two")
    bare.ready()
    page = {"Sec-Fetch-Site": "same-origin", "Content-Type": "application/json"}
    status, answer, headers = bare.request("POST", "/session", {"key": "two"}, page)
    assert status == 204 and answer is None
    value, rest = headers["set-cookie"].split("; ", 1)
    assert rest == "HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000"
    assert abs(int(value.removeprefix("agent_proxy=").split(".")[0]) - time.time() - 2592000) < 120
    cookie = {"Cookie": value}
    assert bare.request("GET", "/agents", headers=page | cookie)[0] == 200
    assert bare.request("GET", "/agents", headers=cookie)[0] == 401
    assert bare.request("GET", "/agents", headers=cookie | {"Sec-Fetch-Site": "none"})[0] == 401
    assert bare.request("GET", "/agents", headers=page | {"Cookie": value[:-1] + "#"})[0] == 401
    assert bare.request("GET", "/agents", headers=cookie | {"Sec-Fetch-Site": "cross-site"})[0] == 403
    feed = Feed(bare, page | cookie)
    assert feed.next()[0] == "agents"
    feed.close()
    status, answer, headers = bare.request("DELETE", "/session", headers=page | cookie)
    assert status == 204 and headers["set-cookie"] == "agent_proxy=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"
    for body, status in [({}, 400), ({"key": 1}, 400), ("x", 400)]:
        assert bare.request("POST", "/session", body, page)[0] == status
    assert bare.request("PUT", "/session")[2]["allow"] == "POST, DELETE"
    assert bare.request("POST", "/session", {"key": "two"}, page | {"Origin": "http://evil.example"})[0] == 403
    # Guessing is slow, also for who knows the key.
    seen = [bare.request("POST", "/session", {"key": f"wrong {i}"}, page) for i in range(10)]
    assert [s[0] for s in seen] == 10 * [401] and seen[0][1]["error"]["code"] == "invalid_api_key"
    wait(lambda: bare.request("POST", "/session", {"key": "wrong"}, page)[0] == 429, "no more guesses are taken")
    assert bare.request("GET", "/agents", headers=page | cookie)[0] == 200


def test_page_session_without_a_key(world):
    status, answer, headers = world.request("POST", "/session", {"key": "any"})
    assert status == 204 and "set-cookie" not in headers


def test_chat_completions(world):
    """The same turns in the older dress: what is before the last answer is history, each message an item."""
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "one"},
                {"role": "assistant", "content": "two"}, {"role": "tool", "tool_call_id": "c", "content": "x"},
                {"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "file", "file": {
                    "filename": "a.txt", "file_data": "YQ=="}}]}]
    body = {"model": "engineer_alice", "messages": messages, "temperature": 0.5,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}}
    status, answer, _ = world.request("POST", "/v1/chat/completions", body)
    assert status == 200 and answer["object"] == "chat.completion"
    assert answer["choices"] == [{"index": 0, "message": {"role": "assistant", "content": '{"answer": "yes"}',
                                                          "refusal": None}, "finish_reason": "stop", "logprobs": None}]
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
    submitted = json.loads(world.calls("Submit ")[0].split(" ", 3)[3])
    assert submitted["Text"] == "hello" and submitted["Store"] == "0"
    assert submitted["History"] == "system: be kind\n\nuser: one\n\nassistant: two"
    assert '"type":"object"' in submitted["Instructions"]
    assert world.calls("File ") == ["File a.txt application/octet-stream file 61"]

    connection = world.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps({
        "model": "engineer_alice", "messages": [{"role": "user", "content": "[[two]]"}], "stream": True}))
    lines = connection.getresponse().read().decode().split("\n\n")
    connection.close()
    assert all(line.startswith("data: ") for line in lines[:-1]) and lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line[6:]) for line in lines[:-2]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""} and "usage" not in chunks[0]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hello to you.\n\nHello to you."
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}

    for wrong, param in [({}, "messages"), ({"messages": "x"}, "messages"), ({"messages": [7]}, "messages[0]"),
                         ({"messages": [{"role": "user"}]}, "messages[0].content"),
                         ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0]"),
                         ({"messages": messages[:3]}, "messages"),
                         ({"messages": messages, "response_format": {"type": "xml"}}, "response_format.type")]:
        status, answer, _ = world.request("POST", "/v1/chat/completions", {"model": "engineer_alice", **wrong})
        assert status == 400 and answer["error"]["param"] == param, wrong
        assert "input" not in answer["error"]["message"].split("Supported")[0]
    body["messages"] = [{"role": "user", "content": "[[fail]]"}]
    status, answer, headers = world.request("POST", "/v1/chat/completions", body)
    assert status == 429 and answer["error"]["code"] == "rate_limit_exceeded" and headers["x-should-retry"] == "false"


def test_one_conversation_only(world):
    status, answer, headers = world.create("[[main-only]]", conversation="other")
    assert status == 400 and answer["error"]["code"] == "unsupported_value"
    assert answer["error"]["param"] == "conversation" and "one conversation" in answer["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_head(world, stream):
    status, answer, headers = world.create("[[queue-full]]", stream=stream)
    assert status == 429 and answer["error"]["type"] == "rate_limit_error" and headers["retry-after"] == "5"
    assert headers["x-should-retry"] is None
    status, answer, headers = world.create("[[not-ready]]", stream=stream)
    assert status == 503 and answer["error"]["code"] == "agent_not_ready" and headers["x-should-retry"] == "true"
    status, answer, headers = world.create("x", model="nobody", stream=stream)
    assert status == 404 and answer["error"]["code"] == "model_not_found"
    status, answer, _ = world.create("x", previous_response_id="resp_4a5a67bb" + 40 * "0", stream=stream)
    assert status == 400 and answer["error"]["code"] == "previous_response_not_found"


def test_previous_is_running(world):
    events = world.stream("[[hang]]")
    id = events.until("response.created")["response"]["id"]
    status, answer, headers = world.create("x", previous_response_id=id)
    assert status == 409 and answer["error"]["code"] == "response_in_progress"
    assert headers["x-should-retry"] == "false"
    world.hang_up(events)


def test_head_comes_before_a_slow_agent(world):
    """The client's patience does not hang on the agent's."""
    events = world.stream("[[late: 2000]]")
    assert events.until("response.created")["response"]["status"] == "in_progress"
    assert not world.calls("Submitted")
    assert list(events)[-1]["type"] == "response.completed"


def test_queued(world):
    kinds = [e["type"] for e in world.stream("[[ahead]]")]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]


def test_session_dies(world):
    events = world.stream("[[crash]]")
    all = list(events)
    assert [e["sequence_number"] for e in all] == list(range(len(all)))
    output = all[-1]["response"]["output"]
    assert [(i["status"], i["content"][0]["text"]) for i in output] == [("incomplete", "Hello "),
                                                                        ("completed", "Hello to you.")]
    assert len({l.split()[2] for l in world.calls("Submit ")}) == 1 and len(world.calls("Submit ")) == 2


def test_client_leaves(world):
    events = world.stream("[[hang]]")
    events.until("response.output_text.delta")
    world.hang_up(events)
    wait(lambda: world.calls("Interrupt"), "the turn is interrupted")
    id = events.seen[0]["response"]["id"]
    assert world.request("GET", "/v1/responses/" + id)[1]["status"] == "cancelled"


def test_client_leaves_before_the_agent_has_it(world):
    """The turn is on its way and cannot be called back: it is interrupted as soon as it is there."""
    events = world.stream("[[late: 1500]] [[hang]]")
    events.until("response.created")
    world.hang_up(events)
    wait(lambda: world.calls("Interrupt"), "the turn is interrupted")


def test_background_client_leaves(world):
    events = world.stream("[[words: 20]] [[slow: 20]]", background=True)
    id = events.until("response.output_text.delta") and events.seen[0]["response"]["id"]
    world.hang_up(events)
    response = wait(lambda: (r := world.request("GET", "/v1/responses/" + id)[1])["status"] == "completed" and r,
                    "the turn goes on")
    assert len(response["output"][0]["content"][0]["text"].split()) == 20
    assert not world.calls("Interrupt")


def test_someone_else_listens(world):
    events = world.stream("[[words: 100]] [[slow: 20]]")
    id = events.until("response.output_text.delta") and events.seen[0]["response"]["id"]
    first, connection = world.connection, world.connect()
    connection.request("GET", f"/v1/responses/{id}?stream=true")
    other = Events(connection.getresponse())
    other.until("response.output_text.delta")
    world.connection = first
    world.hang_up(events)
    assert list(other)[-1]["type"] == "response.completed"
    assert not world.calls("Interrupt")
    connection.close()


def test_stream_again(world):
    events = list(world.stream("[[two]]"))
    id = events[0]["response"]["id"]
    # Later is a second later: nothing of it may be the time of asking.
    time.sleep(1.1)
    for after in [None, 0, 5, 17]:
        connection = world.connect()
        query = "stream=true" + ("" if after is None else f"&starting_after={after}")
        connection.request("GET", f"/v1/responses/{id}?{query}")
        assert list(Events(connection.getresponse())) == events[0 if after is None else after + 1:]
        connection.close()
    assert world.request("GET", f"/v1/responses/{id}?stream=true&starting_after=x")[0] == 400
    status, response, _ = world.create("[[gone]]")
    status, answer, _ = world.request("GET", f"/v1/responses/{response['id']}?stream=true")
    assert status == 400 and answer["error"]["code"] == "stream_not_available"


def test_stream_again_after_a_crash(world):
    """Numbers of the log that the crash took along say nothing about the new one."""
    before = list(world.stream("[[crash]]"))
    id, last = before[0]["response"]["id"], before[-1]["sequence_number"]
    for after in [3, last - 1, last]:
        status, answer, _ = world.request("GET", f"/v1/responses/{id}?stream=true&starting_after={after}")
        assert status == 400 and answer["error"]["code"] == "stream_not_available"
    connection = world.connect()
    connection.request("GET", f"/v1/responses/{id}?stream=true")
    again = list(Events(connection.getresponse()))
    connection.close()
    assert [e["sequence_number"] for e in again] == list(range(len(again)))
    assert again[-1]["type"] == "response.completed" and again[-1]["response"]["output"][0]["status"] == "completed"


def test_slow_client(world):
    """A client that does not read stops the stream, not the gateway, and gets all of it in the end."""
    # More than what the kernel's buffers take.
    events = world.stream("[[words: 2500]] [[fat: 4096]] [[slow: 1]]", receive_buffer=65536, instructions="x" * 300000)
    wait(lambda: world.calls("blocked"), "the gateway stops reading", 60)
    assert world.request("GET", "/healthz")[0] == 200
    seen = list(events)
    assert seen[-1]["type"] == "response.completed"
    deltas = [e["delta"] for e in seen if e["type"] == "response.output_text.delta"]
    assert deltas == [f"wörd{i}{'x' * 4096} " for i in range(2500)]


def test_deadline(bare):
    bare.start_puffod()
    state = bare.directory / ".agent_proxy/.state"
    state.mkdir(parents=True)
    (state / "config.yaml").write_text("sync_timeout: 1\n")
    bare.start_gateway()
    bare.ready()
    status, answer, headers = bare.create("[[hang]]")
    assert status == 504 and answer["error"]["code"] == "timeout" and headers["x-should-retry"] == "false"
    wait(lambda: bare.calls("Interrupt"), "the turn is interrupted")


def test_puffod_restarts(world):
    """A request that comes while puffod is away waits for it, and a running stream does not notice."""
    events = world.stream("[[words: 60]] [[slow: 20]]")
    events.until("response.output_text.delta")
    world.puffod.terminate()
    world.puffod.wait()
    status = {}
    thread = threading.Thread(target=lambda: status.update(code=world.create("while it is away")[0]))
    thread.start()
    world.start_puffod()
    thread.join()
    assert status["code"] == 200
    world.hang_up(events)


def test_without_puffod(bare):
    bare.start_gateway()
    wait(lambda: bare.request("GET", "/healthz")[0] == 503, "the gateway is up")
    status, answer, headers = bare.request("GET", "/v1/models")
    assert status == 503 and answer["error"]["code"] == "agent_not_ready" and headers["retry-after"] == "10"


def test_goodbye(world):
    events = world.stream("[[hang]]")
    events.until("response.output_text.delta")
    world.gateway.send_signal(signal.SIGTERM)
    last = list(events)[-1]
    assert last["type"] == "error" and events.seen[0]["response"]["id"] in last["message"]
    assert last["sequence_number"] == len(events.seen) - 1
    assert world.gateway.wait(timeout=60) == 0
    assert not world.calls("Interrupt")


def test_key(bare):
    bare.start_puffod()
    bare.start_gateway(AGENT_PROXY_API_KEY="one,two")
    bare.ready()
    status, answer, headers = bare.request("GET", "/v1/models")
    assert status == 401 and headers["www-authenticate"] == "Bearer" and answer["error"]["code"] is None
    status, answer, headers = bare.request("GET", "/v1/models", headers={"Authorization": "Bearer three"})
    assert status == 401 and answer["error"]["code"] == "invalid_api_key" and "three" not in json.dumps(answer)
    assert bare.request("GET", "/v1/models", headers={"Authorization": "bearer two"})[0] == 200


def test_open_address_without_a_key(bare):
    bare.start_gateway(bare.listen("0.0.0.0"))
    assert bare.gateway.wait(timeout=60) == 78
    assert "AGENT_PROXY_API_KEY" in (bare.directory / "gateway.log").read_text()


def test_refusals(world):
    for method, path, headers, status, code in [
            ("GET", "/v1/models", {"Host": f"evil.example:{world.port}"}, 403, "permission_denied"),
            ("GET", "/v1/models", {"Origin": "http://evil.example"}, 403, "permission_denied"),
            ("GET", "/v1/models", {"Sec-Fetch-Site": "cross-site"}, 403, "permission_denied"),
            ("POST", "/hire", {"Cookie": "a=b", "Content-Type": "text/plain"}, 415, "unsupported_media_type"),
            ("GET", "/v1/responses", {"Upgrade": "websocket", "Connection": "Upgrade"}, 426,
             "websocket_not_supported"),
            ("POST", "/v1/responses/compact", {}, 404, "unsupported_endpoint"),
            ("GET", "/v1/nothing", {}, 404, None),
            ("GET", "/v1/responses/resp_x", {}, 404, None),
            ("POST", "/v1/responses", {"Content-Length": "99999999999"}, 413, "request_too_large")]:
        got, answer, _ = world.request(method, path, None, headers)
        assert (got, answer["error"]["code"]) == (status, code), path
    connection = world.connect()
    connection.putrequest("GET", "/v1/conversations/x")
    connection._buffer[0] = b"GET /v1/conversations/\xff\x1b[2J HTTP/1.1"
    connection.endheaders()
    assert json.loads(connection.getresponse().read())["error"]["message"].endswith("/v1/conversations/??[2J.")
    connection.close()
    for headers in [{"Transfer-Encoding ": "chunked"}, {"Transfer-Encoding": "gzip"},
                    {"Content-Length": "3", "Transfer-Encoding": "chunked"}]:
        got, answer, _ = world.request("POST", "/v1/responses", None, headers)
        assert got == 400 and "head of the request" in answer["error"]["message"]
    got, answer, _ = world.request("GET", "/v1/models", None, {"X-Large": "x" * 20000})
    assert got == 431 and "16 KiB" in answer["error"]["message"]
    for head in [b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /health z HTTP/1.1\r\nHost: localhost\r\n\r\n"]:
        with socket.create_connection(("127.0.0.1", world.port), timeout=60) as s:
            s.sendall(head)
            answer = http.client.HTTPResponse(s)
            answer.begin()
            assert answer.status == 400 and json.loads(answer.read())["error"]["type"] == "invalid_request_error"
    assert not world.calls("Submit")
    got, answer, headers = world.request("PUT", "/v1/responses")
    assert got == 405 and headers["allow"] == "POST"


def test_oversize_chunked(world):
    def body():
        for _ in range(17):
            yield b"x" * 1024 * 1024

    connection = world.connect()
    connection.request("POST", "/v1/responses", body(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    answer = connection.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["error"]["code"] == "request_too_large"
    connection.close()
