# SPDX-License-Identifier: MIT
"""Agents as puffo-gateway shows them: the list, the feed of what happens, who is hired, and what waits for a word.

    GATEWAY=build/daemon/gateway/puffo-gateway python3 -m pytest tests/unit/test_gateway_agents.py
"""

import itertools
import pathlib
import signal
import socket
import time

import dbus.bus
import dbus.lowlevel
import pytest

from gateway_world import Feed, bare, wait, world  # noqa: F401


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


def test_interrupt(world):
    """Whatever an agent is at, without knowing how its turn is called."""
    assert world.request("POST", "/agents/engineer_alice/interrupt", {})[:2] == (200, {"interrupted": False})
    events = world.stream("[[hang]]")
    events.until("response.output_text.delta")
    assert world.request("POST", "/agents/engineer_alice/interrupt")[:2] == (200, {"interrupted": True})
    assert list(events)[-1]["type"] == "response.incomplete"
    status, answer, _ = world.request("POST", "/agents/no%20one/interrupt", {})
    assert status == 404 and answer["error"]["code"] == "agent_not_found"
    assert world.request("GET", "/agents/engineer_alice/interrupt")[2]["allow"] == "POST"
    evil = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    assert world.request("POST", "/agents/engineer_alice/interrupt", "", evil)[0] == 403


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
    # Guessing is slow, also for who knows the key. That cookie was the first of ten.
    guesses = itertools.count()

    def guess():
        return bare.request("POST", "/session", {"key": f"wrong {next(guesses)}"}, page)
    seen = [guess() for _ in range(9)]
    assert [s[0] for s in seen] == 9 * [401] and seen[0][1]["error"]["code"] == "invalid_api_key"
    wait(lambda: guess()[0] == 429, "no more guesses are taken")
    # Who is in already stays in.
    assert bare.request("GET", "/agents", headers=page | cookie)[0] == 200


def test_guessed_keys(bare):
    """As slow for who shows them directly. A client that was set up badly, and goes on and on, locks out nobody."""
    bare.start_puffod()
    bare.start_gateway(AGENT_PROXY_API_KEY="right", AGENT_PROXY_HOME=str(bare.directory))
    bare.ready()

    def ask(key, scheme="Bearer"):
        return bare.request("GET", "/v1/models", headers={"Authorization": f"{scheme} {key}"})
    inside = bare.connect()

    def ask_inside():
        """Who has shown the right one on this connection does not have to wait."""
        inside.request("GET", "/v1/models", headers={"Authorization": "Bearer right"})
        answer = inside.getresponse()
        return answer.read() and answer.status
    assert ask_inside() == 200 and ask("right")[0] == 200
    for _ in range(30):
        assert ask("of last year")[0] == 401
        assert bare.request("GET", "/v1/models")[0] == 401
    assert ask("right")[0] == 200
    guesses = itertools.count()
    assert [ask(f"guess {next(guesses)}")[0] for _ in range(9)] == [401] * 9

    def refused(request):
        """Now and then a guess is free again: what is asked right behind one that was refused is refused, too."""
        return wait(lambda: ask_inside() == 200 and ask(f"guess {next(guesses)}")[0] == 429 and
                    (a := request())[0] == 429 and a, "it is refused")
    status, answer, headers = refused(lambda: ask("right"))
    assert answer["error"]["code"] == "rate_limit_exceeded" and headers["retry-after"]
    # A cookie is a guess of the key, too.
    page = {"Sec-Fetch-Site": "same-origin", "Cookie": "agent_proxy=99999999999.guess"}
    refused(lambda: bare.request("GET", "/agents", headers=page))
    refused(lambda: bare.request("POST", "/session", {"key": "right"}, {"Content-Type": "application/json"}))
    assert ask_inside() == 200
    inside.close()
    assert bare.request("GET", "/healthz")[0] == 200
    wait(lambda: ask("right")[0] == 200, "the guesses are forgotten in time", 120)


def test_page_session_without_a_key(world):
    status, answer, headers = world.request("POST", "/session", {"key": "any"})
    assert status == 204 and "set-cookie" not in headers
