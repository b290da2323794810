# SPDX-License-Identifier: MIT
"""Who may do what in system mode, decided by a real polkitd."""

import json
import os
import pathlib
import select
import signal

import pytest

from machine import BusError, User, output_text

DENIED = ("org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")
INTERFACE = "ai.puffo.Agents1.Agent"


@pytest.fixture(scope="module")
def agents(system_mode, alice, bob):
    """One agent of alice, one of bob."""
    made = {}
    for user in [alice, bob]:
        id = f"helper-{user.name}"
        path = system_mode.manager("CreateAgent", "sa{sv}", id, {"RuntimeKind": ("s", "chat-local")}, user=user)[0]
        made[user.name] = path
        agent = system_mode.agent(id)
        agent.wait_state("ready")
        assert agent.Owner == user.uid
    return made


def denied(suite, path, method, signature="", *args, user):
    with pytest.raises(BusError) as caught:
        suite.call(path, INTERFACE, method, signature, *args, user=user)
    assert caught.value.name in DENIED, caught.value
    return caught.value


def get(suite, path, name, user):
    return suite.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", INTERFACE, name, user=user)[0]


@pytest.mark.parametrize("method, signature, args", [
    ("Stop", "", []), ("Start", "", []), ("Restart", "", []), ("Delete", "", []), ("Archive", "", []),
    ("Pause", "", []),
    ("SetDisplayName", "s", ["mine now"]), ("WriteProfile", "s", ["obey bob"]), ("ReadProfile", "", []),
    ("SetRuntime", "a{sv}", [{"Model": ["s", "x"]}]),
    ("Submit", "sa{sv}", ["bobs-turn", {"Text": ["s", "tell me everything"]}]), ("ListMessages", "ssu", ["", "", 10]),
    ("Interrupt", "s", [""]), ("ListMemory", "", []), ("ListFiles", "s", [""]), ("OpenJournal", "a{sv}", [{}]),
])
def test_others_agent(system_mode, agents, bob, method, signature, args):
    denied(system_mode, agents["alice"], method, signature, *args, user=bob)
    assert system_mode.agent("helper-alice").State == "ready"


def ask(agent, user):
    """The agent asks for permission; the request's id."""
    directory = pathlib.Path(get(agent.suite, agent.path, "Directory", user))
    path = directory / "asks"
    path.write_text(json.dumps({"turn": "turn-1", "ask": f"ask-{os.urandom(4).hex()}", "tool": "Bash",
                                "input": {"command": "secret"}}) + "\n")
    agent.suite.wait(lambda: agent.suite.manager("ListApprovals", "sb", "", False, user=user)[0], 30, "it is open")
    return agent.suite.manager("ListApprovals", "sb", "", False, user=user)[0][0]["Id"]


def test_approvals(system_mode, agents, alice, bob):
    """An owner answers for his agents, nobody else does or sees what it is about."""
    root = User("root")
    id = ask(system_mode.agent("helper-alice"), alice)
    assert system_mode.manager("ListApprovals", "sb", "", False, user=bob)[0] == []
    for method, signature, args in [("ListApprovals", "sb", ["helper-alice", False]),
                                    ("ListApprovals", "sb", ["helper-alice", True]), ("Approve", "sbs", [id, True, ""])]:
        with pytest.raises(BusError) as caught:
            system_mode.manager(method, signature, *args, user=bob)
        assert caught.value.name in DENIED, caught.value
        assert "secret" not in caught.value.message
    for user in [alice, root]:
        row, = system_mode.manager("ListApprovals", "sb", "helper-alice", False, user=user)[0]
        assert row["Id"] == id and "secret" in row["Input"]
    assert [r["Id"] for r in system_mode.manager("ListApprovals", "sb", "", False, user=root)[0]] == [id]
    assert system_mode.agent("helper-alice").Status == "waiting-approval"
    system_mode.manager("Approve", "sbs", id, False, "no", user=alice)
    with pytest.raises(BusError) as caught:
        system_mode.manager("Approve", "sbs", id, True, "", user=root)
    assert caught.value.name == "ai.puffo.Agents1.Error.AlreadyAnswered"
    assert "denied by alice" in caught.value.message
    system_mode.manager("Approve", "sbs", ask(system_mode.agent("helper-alice"), alice), True, "", user=root)
    done = system_mode.manager("ListApprovals", "sb", "helper-alice", True, user=alice)[0]
    assert [(r["State"], r["AnsweredBy"], r["Reason"]) for r in done] == [("allowed", "root", ""),
                                                                         ("denied", "alice", "no")]


def test_own_agent(system_mode, agents, alice, bob):
    for user in [alice, bob]:
        path = agents[user.name]
        system_mode.call(path, INTERFACE, "SetDisplayName", "s", f"of {user.name}", user=user)
        _, stream = system_mode.call(path, INTERFACE, "Submit", "sa{sv}", f"turn-{user.name}",
                                     {"Text": ("s", "[[reply: at your service]]")}, user=user)
        assert json.loads(stream.splitlines()[-1])["type"] == "completed"
        system_mode.call(path, INTERFACE, "Stop", user=user)
        system_mode.call(path, INTERFACE, "Start", user=user)
        assert get(system_mode, path, "DisplayName", user) == f"of {user.name}"


def test_looking_is_free(system_mode, agents, bob):
    assert {"helper-alice", "helper-bob"} <= {a[0] for a in system_mode.manager("ListAgents", user=bob)[0]}
    state = system_mode.call(agents["alice"], "org.freedesktop.DBus.Properties", "Get", "ss", INTERFACE, "State",
                             user=bob)[0]
    assert state == "ready"


PRIVATE = {"DisplayName", "StatusText", "RuntimeKind", "Provider", "Model", "Harness", "SandboxProfile", "Slug",
           "OperatorSlug", "Directory", "Workspace", "WorkingDirectory", "QueueLength", "MessagesProcessed", "LastEvent",
           "Health"}


def test_what_others_see(system_mode, agents, alice, bob):
    """Whose it is and whether it runs; not what it is called, where it lies, what it does and why it cannot."""
    system_mode.call(agents["alice"], INTERFACE, "SetDisplayName", "s", "secret name", user=alice)
    for user, other in [(alice, bob), (bob, alice)]:
        path = agents[user.name]
        for name in PRIVATE:
            get(system_mode, path, name, user)
            with pytest.raises(BusError) as caught:
                get(system_mode, path, name, other)
            assert caught.value.name == DENIED[0], (name, caught.value)

        def all_of(reader):
            return system_mode.call(path, "org.freedesktop.DBus.Properties", "GetAll", "s", INTERFACE,
                                    user=reader)[0]
        mine, theirs, roots = all_of(user), all_of(other), all_of(User("root"))
        assert mine == roots and mine["Directory"] and mine["Workspace"] and mine["Health"]
        assert all(not theirs[name] for name in PRIVATE)
        assert {n: v for n, v in theirs.items() if n not in PRIVATE} == \
               {n: v for n, v in mine.items() if n not in PRIVATE}

        managed = system_mode.call("/ai/puffo/Agents1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects",
                                   user=other)[0]
        assert managed[path][INTERFACE] == theirs
        assert managed[agents[other.name]][INTERFACE]["Workspace"]
        listed = {a[0]: a[4] for a in system_mode.manager("ListAgents", user=other)[0]}
        assert listed[f"helper-{user.name}"] == "" and listed[f"helper-{other.name}"] != ""
    for name in ["Slug", "DeviceId"]:
        with pytest.raises(BusError) as caught:
            system_mode.call("/ai/puffo/Agents1/pairing", "org.freedesktop.DBus.Properties", "Get", "ss",
                             "ai.puffo.Agents1.Pairing", name, user=bob)
        assert caught.value.name == DENIED[0]


def test_problems_of_others(system_mode, agents, alice, bob):
    """They quote the file."""
    file = pathlib.Path("/var/lib/private/puffo/helper-alice/agent.yml")
    good = file.read_text()
    file.write_text(good + "secret-word: [\n")
    try:
        system_mode.manager("Reload", user=User("root"))
        for user, sees in [(alice, True), (bob, False), (User("root"), True)]:
            problems = system_mode.manager("ListProblems", user=user)[0]
            assert any(p[0] == str(file.parent) for p in problems) == sees
    finally:
        file.write_text(good)
        system_mode.manager("Reload", user=User("root"))


LISTEN = """
import dbus, dbus.mainloop.glib, sys
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus = dbus.SystemBus()
def heard(*arguments, **more):
    print(more["member"], arguments, flush=True)
bus.add_signal_receiver(heard, bus_name="ai.puffo.Agents1", member_keyword="member")
print("listening", flush=True)
GLib.MainLoop().run()
"""


def test_signals_tell_nothing(system_mode, agents, alice, bob):
    listener = bob.popen(["/usr/bin/python3", "-u", "-c", LISTEN])
    try:
        assert listener.stdout.readline() == "listening\n"
        path = system_mode.manager("CreateAgent", "sa{sv}", "quiet", {"DisplayName": ("s", "secret one"),
                                                                      "RuntimeKind": ("s", "chat-local")})[0]
        system_mode.agent("quiet").wait_state("ready")
        system_mode.call(path, INTERFACE, "SetDisplayName", "s", "secret two", user=alice)
        system_mode.call(path, INTERFACE, "Submit", "sa{sv}", "quiet-turn", {"Text": ("s", "[[reply: secret three]]")})
        system_mode.call(path, INTERFACE, "Delete", user=alice)
        heard = ""
        while "AgentRemoved" not in heard:
            assert select.select([listener.stdout], [], [], 20)[0], heard
            heard += os.read(listener.stdout.fileno(), 1 << 16).decode()
    finally:
        listener.kill()
        listener.communicate()
    assert "InterfacesAdded" in heard and "'DisplayName'" in heard and "'State'" in heard
    assert "secret" not in heard and "/var/lib" not in heard and "chat-local" not in heard


def test_rule_opens_the_view(system_mode, agents, bob):
    rule = pathlib.Path("/etc/polkit-1/rules.d/10-test-inspect.rules")
    rule.write_text('polkit.addRule(function (action, subject) {\n'
                    f'    if (action.id === "ai.puffo.agents.inspect" && subject.user === "{bob.name}")\n'
                    '        return polkit.Result.YES;\n});\n')
    try:
        def sees():
            try:
                return get(system_mode, agents["alice"], "Directory", bob)
            except BusError:
                return None
        assert system_mode.wait(sees, 20, "the rule holds").endswith("/helper-alice")
        assert all(a[4] for a in system_mode.manager("ListAgents", user=bob)[0])
    finally:
        rule.unlink()
    system_mode.wait(lambda: not sees(), 20, "the rule is gone")


LEAVE = """
import dbus, dbus.bus, dbus.lowlevel, sys
refused = 0
for n in range(20):
    bus = dbus.bus.BusConnection(dbus.bus.BUS_SYSTEM)
    for _ in range(15):
        message = dbus.lowlevel.MethodCallMessage("ai.puffo.Agents1", sys.argv[1], "ai.puffo.Agents1.Agent", "Pause")
        bus.send_message(message)
    try:
        bus.call_blocking("ai.puffo.Agents1", sys.argv[1], "ai.puffo.Agents1.Agent", "Pause", "", (), timeout=0.3)
    except dbus.DBusException as e:
        refused += "LimitsExceeded" in e.get_dbus_name()
    bus.close()
print(refused)
"""


# What follows a call is answered when puffod has seen the call.
RESUME = """
import dbus, dbus.mainloop.glib, sys
from gi.repository import GLib
dbus.mainloop.glib.DBusGMainLoop(set_as_default=True)
bus, loop = dbus.SystemBus(), GLib.MainLoop()

def end(word):
    print(word)
    loop.quit()

bus.call_async("ai.puffo.Agents1", sys.argv[1], "ai.puffo.Agents1.Agent", "Resume", "", (),
               lambda: end("resumed"), lambda e: end(e.get_dbus_name()), timeout=120)
bus.call_blocking("ai.puffo.Agents1", sys.argv[1], "org.freedesktop.DBus.Peer", "Ping", "", ())
print("asked", flush=True)
loop.run()
"""


def test_callers_that_leave_take_their_questions_along(system_mode, agents, alice, bob):
    """polkit is slow, and somebody asks, and leaves, and asks: that is not to keep others out. The bus knows of all of
    these questions until polkit has answered them, and takes no more than 128 of anybody."""
    pid = system_mode.main_pid("polkit.service")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert bob.run(["/usr/bin/python3", "-c", LEAVE, agents["alice"]]).stdout.strip() == "0"
        asked = alice.popen(["/usr/bin/python3", "-c", RESUME, agents["alice"]])
        assert asked.stdout.readline() == "asked\n"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert asked.stdout.readline() == "resumed\n"
    asked.communicate(timeout=60)
    assert system_mode.agent("helper-alice").wait_state("ready")


def test_root_may(system_mode, agents):
    root = User("root")
    system_mode.call(agents["alice"], INTERFACE, "Restart", user=root)
    system_mode.agent("helper-alice").wait_state("ready")


def test_settings_are_the_administrators(system_mode, bob):
    for method, signature, args in [("SetDefaultProvider", "s", ["echo"]),
                                    ("SetProvider", "sa{sv}", ["anthropic", {}])]:
        with pytest.raises(BusError) as caught:
            system_mode.manager(method, signature, *args, user=bob)
        assert caught.value.name in DENIED


def test_rule_of_an_administrator(system_mode, agents, bob):
    """polkit is really asked, with the agent in the details: a rule about one agent opens that one."""
    rule = pathlib.Path("/etc/polkit-1/rules.d/10-test.rules")
    rule.write_text('polkit.addRule(function (action, subject) {\n'
                    '    if (action.id === "ai.puffo.agents.manage" && action.lookup("agent") === "helper-alice" &&\n'
                    f'        subject.user === "{bob.name}") return polkit.Result.YES;\n}});\n')
    try:
        def may():
            try:
                system_mode.call(agents["alice"], INTERFACE, "SetDisplayName", "s", "by the rule", user=bob)
                return True
            except BusError as e:
                assert e.name in DENIED
                return False
        # polkitd watches the directory; when it has read the rule is its own affair.
        system_mode.wait(may, 20, "the rule holds")
        assert system_mode.agent("helper-alice").DisplayName == "by the rule"
    finally:
        rule.unlink()

    def may_not():
        try:
            system_mode.call(agents["alice"], INTERFACE, "SetDisplayName", "s", "still", user=bob)
            return False
        except BusError:
            return True
    system_mode.wait(may_not, 20, "the rule is gone")


def test_http_knows_the_owner(system_mode, agents, alice, bob):
    """The gateway is a user of its own that may pass on turns; it looks at whose they are."""
    assert output_text(system_mode.turn("helper-alice", "[[reply: yes]]", user=alice)) == "yes"
    for user, id in [(bob, "helper-alice"), (alice, "helper-bob")]:
        answer = system_mode.http("POST", "/v1/responses", {"model": id, "input": "x"}, user=user)
        assert answer.status in (401, 403, 404), answer
