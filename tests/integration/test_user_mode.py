# SPDX-License-Identifier: MIT
"""A user's own suite, as driven with busctl, systemctl and journalctl."""

import json
import os
import pathlib
import re
import select
import signal
import subprocess
import zipfile

import pytest

from machine import ASK_FOR_CREDENTIAL, BusError, output_text
from test_units import assert_read_only, declared

SECRET = "sk-test-alice"
STARTED, STOPPED, TURN_STARTED, TURN_ENDED = (f"7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a{n}" for n in ["01", "02", "06", "07"])


@pytest.fixture(scope="module")
def engineer(user_mode):
    return user_mode.hire("engineer", "alice")


def session_unit(id):
    escaped = subprocess.run(["systemd-escape", id], check=True, capture_output=True, text=True).stdout.strip()
    return f"puffo-session@{escaped}.service"


def test_manager_agent_is_there(user_mode, alice):
    agent = user_mode.agent("manager")
    agent.wait_state("ready")
    workspace = alice.home / ".agent_proxy/manager"
    for name in ["SOUL.md", "AGENTS.md", "memory/memory.md"]:
        assert oct((workspace / name).stat().st_mode & 0o777) == "0o600"
        assert (workspace / name).stat().st_uid == alice.uid
    assert len(list((workspace / "notes").glob("daily-*.md"))) == 1
    assert agent.Workspace == str(workspace)


def test_hire_is_idempotent(user_mode, engineer):
    pid = user_mode.main_pid(session_unit("engineer_alice"))
    path, again, created = user_mode.manager("Hire", "ss", "engineer", "alice")
    assert (again, created) == (pid, False)
    assert path == engineer.path == "/ai/puffo/Agents1/agent/engineer_5falice"
    assert engineer.MainPID == pid
    assert engineer.Unit == session_unit("engineer_alice") and engineer.Slice == "puffo-engineer_alice.slice"


def test_busctl_shows_everything(user_mode, engineer):
    out = user_mode.busctl("introspect", "ai.puffo.Agents1", engineer.path).stdout
    for kind, name, *_ in declared("ai.puffo.Agents1.Agent"):
        assert re.search(rf"^\.{name}\s+{kind}\s", out, re.M), f"{kind} {name} is not shown"
    assert re.search(r'^\.State\s+property\s+s\s+"ready"\s+emits-change', out, re.M)
    tree = user_mode.busctl("tree", "--list", "ai.puffo.Agents1").stdout.split()
    assert {"/ai/puffo/Agents1", "/ai/puffo/Agents1/pairing", engineer.path} <= set(tree)


def test_object_manager(user_mode, engineer):
    objects = user_mode.call("/ai/puffo/Agents1", "org.freedesktop.DBus.ObjectManager", "GetManagedObjects")[0]
    assert objects[engineer.path]["ai.puffo.Agents1.Agent"]["Id"] == "engineer_alice"


def test_turn_is_streamed_over_the_bus(user_mode, engineer):
    _, text = engineer.call("Submit", "sa{sv}", "bus-turn-1", {"Text": ("s", "[[reply: one two three]]")})
    events = [json.loads(line) for line in text.splitlines()]
    kinds = [e["type"] for e in events]
    assert [e["seq"] for e in events] == list(range(len(events)))
    assert kinds[0] in ("queued", "started") and kinds[-1] == "completed"
    assert "".join(e["text"] for e in events if e["type"] == "delta") == "one two three"
    # The same id again: nothing new is queued, the same events come.
    _, again = engineer.call("Submit", "sa{sv}", "bus-turn-1", {"Text": ("s", "[[reply: one two three]]")})
    assert again == text
    turn = engineer.call("GetTurn", "s", "bus-turn-1")[0]
    assert turn["Status"] == "completed"
    assert engineer.call("ListMessages", "ssu", "", "", 10)[0][-1][2] == "one two three"


def test_busctl_can_stop_it(user_mode, engineer):
    user_mode.busctl("call", "ai.puffo.Agents1", engineer.path, "ai.puffo.Agents1.Agent", "Stop")
    assert engineer.State == "stopped" and engineer.Desired == "stopped" and engineer.MainPID == 0
    assert user_mode.systemctl("list-units", "--plain", "--no-legend", session_unit("engineer_alice")).stdout == ""
    assert user_mode.show("puffo-engineer_alice.slice", "TasksCurrent") in ("", "0", "[not set]")
    user_mode.busctl("call", "ai.puffo.Agents1", engineer.path, "ai.puffo.Agents1.Agent", "Start")
    assert engineer.State == "ready" and engineer.MainPID > 0


def test_journal_has_the_story(user_mode, engineer):
    lines = user_mode.journal("PUFFO_AGENT=engineer_alice")
    ids = [line["MESSAGE_ID"] for line in lines if "MESSAGE_ID" in line]
    story = [STARTED, TURN_STARTED, TURN_ENDED, STOPPED, STARTED]
    rest = iter(ids)
    assert all(id in rest for id in story), f"not in this order: {ids}"
    turns = {line.get("PUFFO_TURN") for line in lines if line.get("MESSAGE_ID") == TURN_STARTED}
    assert "bus-turn-1" in turns
    explained = user_mode.user.run(["journalctl", "--user", "-x", "-n1", f"MESSAGE_ID={TURN_ENDED}"]).stdout
    assert "has ended turn bus-turn-1" in explained


def test_journal_over_the_bus(user_mode, engineer):
    out = engineer.call("OpenJournal", "a{sv}", {"Lines": ("u", 1000)})[-1]
    assert TURN_STARTED in {json.loads(line).get("MESSAGE_ID") for line in out.splitlines()}


def test_unit_is_what_was_promised(user_mode, engineer):
    unit = session_unit("engineer_alice")
    expected = {"Type": "notify", "Restart": "on-failure", "RestartUSec": "10s", "WatchdogUSec": "1min",
                "KillMode": "mixed", "StartLimitIntervalUSec": "0", "Slice": "puffo-engineer_alice.slice",
                "CollectMode": "inactive", "PrivateUsers": "yes", "ProtectControlGroups": "yes",
                "NoNewPrivileges": "yes", "ProtectSystem": "strict"}
    assert {k: user_mode.show(unit, k) for k in expected} == expected
    assert int(user_mode.show("puffo-engineer_alice.slice", "MemoryHigh")) == 2 << 30
    assert user_mode.show("puffo-engineer_alice.slice", "TasksMax") == "512"
    assert user_mode.show(unit, "StatusText") != ""


def test_session_is_shut_in(user_mode, engineer):
    pid = engineer.MainPID
    assert_read_only(pid, "/", "/sys/fs/cgroup")
    assert re.search(r"^CapEff:\s+0+$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)


def test_no_secret_shows(user_mode, engineer, alice):
    unit = session_unit("engineer_alice")
    assert SECRET not in user_mode.systemctl("show", unit).stdout
    assert SECRET not in user_mode.systemctl("cat", unit).stdout
    for name in [unit, "puffod.service", "puffo-gateway.service"]:
        pid = user_mode.main_pid(name)
        for file in ["environ", "cmdline"]:
            assert SECRET.encode() not in pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
    journal = subprocess.run(["journalctl", "--all", "--output=export"], capture_output=True, check=True).stdout
    assert SECRET.encode() not in journal
    assert SECRET not in json.dumps(engineer.properties())
    assert SECRET not in json.dumps(user_mode.call("/ai/puffo/Agents1", "org.freedesktop.DBus.Properties", "GetAll",
                                                   "s", "ai.puffo.Agents1.Manager"))
    for path in [alice.home / ".puffo-agent/daemon.yml"]:
        assert oct(path.stat().st_mode & 0o777) == "0o600"


def test_only_sessions_are_heard_on_the_private_bus(user_mode, engineer, alice):
    """A process of the same user that is nobody's session is thrown out, whatever it says."""
    address = f"unix:path={alice.runtime}/puffo/private"
    said = alice.run(["busctl", f"--address={address}", "call", "ai.puffo.Private1", "/ai/puffo/Private1",
                      "ai.puffo.Private1.Manager", "Register"], check=False, timeout=30)
    assert said.returncode != 0
    assert engineer.State == "ready"


def test_credential_is_for_its_own_unit(user_mode, engineer, alice):
    """Whatever the user runs has the user's uid: another agent's hands among it."""
    ask = ["/usr/bin/python3", "-c", ASK_FOR_CREDENTIAL, alice.runtime / "puffo/credentials", engineer.Unit]
    assert alice.run(ask).stdout.strip() == "0"
    unit = session_unit("nobody-s").replace("session", "harness")
    out = alice.run(["systemd-run", "--user", "--quiet", "--pipe", "--wait", "--collect", f"--unit={unit}", *ask])
    assert out.stdout.strip() == "0"


def test_agents_outlive_the_daemons(user_mode, engineer):
    pid = engineer.MainPID
    before = user_mode.main_pid("puffod.service")
    user_mode.systemctl("restart", "puffod.service", "puffo-gateway.service")
    assert user_mode.main_pid("puffod.service") not in (0, before)
    assert engineer.wait_state("ready") and engineer.MainPID == pid
    assert output_text(user_mode.turn("engineer_alice", "[[reply: still here]]")) == "still here"


ASK_OFTEN = """
import dbus, dbus.bus, dbus.lowlevel, sys
def message():
    m = dbus.lowlevel.MethodCallMessage("ai.puffo.Agents1", sys.argv[1], "ai.puffo.Agents1.Agent", "GetTurn")
    m.append("no-such-turn")
    return m
bus = dbus.bus.BusConnection(dbus.bus.BUS_SESSION)
for _ in range(int(sys.argv[2])):
    bus.send_message(message())
try:
    bus.send_message_with_reply_and_block(message(), 10)
except dbus.DBusException as e:
    print(e.get_dbus_name())
"""


def test_calls_of_a_session_that_hangs_are_bounded(user_mode, engineer, alice):
    """Each of them is a message that is kept, and mostly a descriptor."""
    ask = ["/usr/bin/python3", "-c", ASK_OFTEN, engineer.path]
    pid = engineer.MainPID
    os.kill(pid, signal.SIGSTOP)
    try:
        assert alice.run([*ask, "300"]).stdout.strip().endswith(".LimitsExceeded")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert user_mode.wait(lambda: alice.run([*ask, "0"]).stdout.strip().endswith(".NoSuchTurn"), 30, "it answers")
    assert engineer.MainPID == pid


def test_bus_activation(user_mode, engineer):
    user_mode.systemctl("stop", "puffod.service", "puffod.socket", "puffod-credentials.socket")
    assert user_mode.show("puffod.service", "ActiveState") == "inactive"
    assert engineer.MainPID > 0
    assert user_mode.show("puffod.service", "ActiveState") == "active"
    assert user_mode.show("puffod.socket", "ActiveState") == "active"


def test_everything_comes_back(user_mode, engineer):
    """What a reboot does to a user: all units go, the desired states stay."""
    idle = user_mode.hire("researcher", "carl")
    idle.call("Stop")
    user_mode.stop()
    assert user_mode.systemctl("list-units", "--plain", "--no-legend", "puffo-session@*").stdout == ""
    user_mode.start()
    engineer.wait_state("ready")
    user_mode.agent("manager").wait_state("ready")
    assert idle.State == "stopped" and idle.Desired == "stopped"
    messages = engineer.call("ListMessages", "ssu", "", "", 50)[0]
    assert "one two three" in [m[2] for m in messages]


def test_edit_is_noticed(user_mode, engineer, alice):
    file = alice.home / ".agent_proxy/.state/agents/engineer_alice/agent.yml"
    text = file.read_text()
    alice.run(["sed", "-i", "s/^display_name:.*/display_name: Alice the Engineer/", file])
    user_mode.wait(lambda: engineer.DisplayName == "Alice the Engineer", 20, "the new name")
    alice.run(["tee", file], input=text)
    user_mode.wait(lambda: engineer.DisplayName != "Alice the Engineer", 20, "the old name")


def test_limits_are_changed_while_it_runs(user_mode, engineer, alice):
    pid = engineer.MainPID
    file = alice.home / ".agent_proxy/.state/agents/engineer_alice/agent.yml"
    text = file.read_text()
    alice.run(["tee", file], input=text + "limits:\n  memory_high: 123M\n")
    user_mode.wait(lambda: user_mode.show(engineer.Slice, "MemoryHigh") == str(123 << 20), 20, "the limit")
    assert engineer.MainPID == pid
    alice.run(["tee", file], input=text)
    user_mode.wait(lambda: user_mode.show(engineer.Slice, "MemoryHigh") == str(2 << 30), 20, "the old limit")


def test_awkward_ids(user_mode, alice):
    path = user_mode.manager("CreateAgent", "sa{sv}", "helper-9a7c", {"RuntimeKind": ("s", "chat-local")})[0]
    agent = user_mode.agent("helper-9a7c")
    assert agent.path == path
    agent.wait_state("ready")
    assert agent.Unit == r"puffo-session@helper\x2d9a7c.service" and agent.Slice == r"puffo-helper\x2d9a7c.slice"
    assert user_mode.main_pid(agent.Unit) == agent.MainPID
    with pytest.raises(BusError, match="AgentExists"):
        user_mode.manager("CreateAgent", "sa{sv}", "helper-9a7c", {})
    assert agent.Workspace == str(alice.home / ".puffo-agent/agents/helper-9a7c/workspace")


def test_unavailable_runtime_says_so(user_mode):
    user_mode.manager("CreateAgent", "sa{sv}", "coder",
                      {"RuntimeKind": ("s", "cli-docker"), "Harness": ("s", "claude-code")})
    agent = user_mode.agent("coder")
    agent.wait_state("failed")
    assert "not available in this version" in agent.StatusText and "cli-docker" in agent.StatusText
    assert agent.MainPID > 0, "a lasting fault is shown, not looped over"
    agent.call("Delete")


def test_export_import(user_mode, alice):
    agent = user_mode.agent("helper-9a7c")
    agent.call("WriteProfile", "s", "You are a helper.\n")
    output_text(user_mode.turn("helper-9a7c", "[[reply: noted]]"))
    archive = alice.home / "helper.zip"
    agent.call("Export", "ha{sv}", {"open": str(archive)}, {"Messages": ("b", True)})
    with zipfile.ZipFile(archive) as z:
        names = z.namelist()
        assert any(n.endswith("profile.md") for n in names) and any(n.endswith("agent.yml") for n in names)
        assert not any(SECRET.encode() in z.read(n) for n in names)
    agent.call("Delete")
    assert "helper-9a7c" not in user_mode.agents()
    assert not (alice.home / ".puffo-agent/agents/helper-9a7c").exists()


def test_archive(user_mode, alice):
    user_mode.hire("writer", "bo")
    where = pathlib.Path(user_mode.agent("writer_bo").call("Archive")[0])
    assert where.is_dir() and (where / "agent.yml").is_file()
    assert "writer_bo" not in user_mode.agents()
    with pytest.raises(BusError):
        user_mode.agent("manager").call("Archive")


def test_idle_costs_nothing(user_mode, engineer):
    """Nothing of ours wakes up while nobody asks for anything."""
    def ticks():
        total = {}
        for name in ["puffod.service", "puffo-gateway.service", session_unit("engineer_alice")]:
            fields = pathlib.Path(f"/proc/{user_mode.main_pid(name)}/status").read_text()
            total[name] = int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", fields, re.M).group(1))
        return total

    engineer.wait_state("ready")
    before = ticks()
    # Five seconds of looking at nothing; watchdogs of 30 and 60 s may ring once in that time, or twice.
    select.select([], [], [], 5)
    after = ticks()
    assert all(after[name] - before[name] <= 6 for name in before), (before, after)


def test_second_user_is_another_world(user_mode, alice, bob):
    """Another user's request is not taken for the owner's."""
    answer = user_mode.http("GET", "/v1/models", user=bob)
    assert answer.status == 401 and answer.json["error"]["code"] == "api_key_required"
    assert user_mode.http("GET", "/v1/models").status == 200
