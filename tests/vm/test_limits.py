# SPDX-License-Identifier: MIT
"""Limits that hold: the machine has the controllers that a container's tests can only look at as properties. Runs in
the machine of tests/vm/vm."""

import json
import os
import pathlib
import re
import time

import pytest

from machine import User
from test_harness_unit import Hands, mode  # noqa: F401

MIB = 1 << 20

HOG = """exec python3 -c '
print("begins", flush=True)
held = [b"x" * (8 << 20) for _ in range(200)]
print("has it")
'"""

FORKER = """exec python3 -c '
import os, time
count = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
        count += 1
except OSError as e:
    print(count, e.errno, flush=True)
time.sleep(1000)
'"""

# A CLI that takes all memory there is as soon as it is asked for something.
GREEDY = """#!/usr/bin/python3 -B
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "control_request":
        print(json.dumps({"type": "control_response", "response": {
            "subtype": "success", "request_id": message["request_id"], "response": {}}}), flush=True)
    if message["type"] == "user":
        print(json.dumps({"type": "system", "subtype": "init", "session_id": "5f0c9a52-9d5e-4a52-8d56-0f0d3ed1a001",
                          "tools": [], "mcp_servers": [{"name": "puffo", "status": "connected"}], "model": "m",
                          "permissionMode": "bypassPermissions"}), flush=True)
        held = [b"x" * (8 << 20) for _ in range(200)]
        print("has it", file=sys.stderr)
"""


def group_of(suite, unit):
    return pathlib.Path("/sys/fs/cgroup" + suite.show(unit, "ControlGroup"))


def facts(path):
    return {key: int(value) for key, value in (line.split() for line in path.read_text().splitlines())}


def limit(suite, agent_yml, id, text, **properties):
    """Another budget for an agent, when the service manager has it."""
    rest = re.sub(r"(?ms)^limits:\n(  .*\n)*", "", agent_yml.read_text())
    agent_yml.write_text(rest + (f"limits:\n  {text}\n" if text else ""))
    suite.manager("Reload", user=User("root") if suite.scope == "system" else None)
    suite.wait(lambda: properties == {name: suite.show(f"puffo-{id}.slice", name) for name in properties}, 60,
               f"{id} has {properties}")


@pytest.fixture(scope="module")
def hands(mode):  # noqa: F811
    made = Hands(mode, "bounded", SandboxProfile="workspace")
    made.wait_ready()
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def nothing_left(request):
    yield
    if "hands" in request.fixturenames:
        request.getfixturevalue("hands").ask("stop")


def bound(hands, text, **properties):
    limit(hands.suite, hands.directory / "agent.yml", hands.id, text, **properties)


def test_the_machine_has_controllers():
    there = set(pathlib.Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
    assert there >= {"cpu", "memory", "pids"}


def test_memory(hands):
    bound(hands, "memory_max: 200M", MemoryMax=str(200 * MIB))
    session = hands.suite.main_pid(hands.session)
    for _ in range(2):
        invocation = hands.start(HOG)["InvocationID"]
        assert hands.ask("rest") == "begins\n"
        end = hands.ask("wait", invocation=invocation)
        assert (end["Result"], end["MemoryMax"]) == ("oom-kill", 200 * MIB), end
    hands.wait_state("none")
    # The session has gone on as if nothing had been.
    assert hands.suite.main_pid(hands.session) == session and hands.agent.State == "ready"
    # What takes less is not disturbed.
    hands.start("exec python3 -c 'b = b\"x\" * (20 << 20); print(len(b))'")
    assert hands.ask("rest") == f"{20 << 20}\n"


def test_tasks(hands):
    bound(hands, "tasks_max: 40", TasksMax="40")
    hands.start(FORKER)
    count, errno = map(int, hands.ask("line").split())
    assert 5 < count < 40 and errno == 11
    assert facts_of_pids(hands) <= 40
    # There is room for what has been there before: it answers, and stops what it had started.
    hands.ask("stop")
    hands.start("echo after")
    assert hands.ask("rest") == "after\n"


def facts_of_pids(hands):
    return int((group_of(hands.suite, f"puffo-{hands.id}.slice") / "pids.current").read_text())


def test_cpu(hands):
    bound(hands, "cpu_quota: 20%", CPUQuotaPerSecUSec="200ms")
    hands.start("echo ready; while :; do :; done")
    assert hands.ask("line") == "ready\n"
    stat = group_of(hands.suite, f"puffo-{hands.id}.slice") / "cpu.stat"
    begin, before = time.monotonic(), facts(stat)
    hands.suite.wait(lambda: facts(stat)["nr_throttled"] > before["nr_throttled"] + 20, 120, "it is held back")
    share = (facts(stat)["usage_usec"] - before["usage_usec"]) / 1e6 / (time.monotonic() - begin)
    assert share < 0.3, share


def test_freeze(hands):
    bound(hands, "", TasksMax="512")
    hands.start("while :; do echo tick; sleep 0.05; done")
    assert hands.ask("line") == "tick\n"
    group = group_of(hands.suite, hands.unit)
    for _ in range(3):
        assert hands.ask("freeze", freeze=True) is True
        hands.wait_state("frozen")
        hands.suite.wait(lambda: facts(group / "cgroup.events")["frozen"] == 1, 60, "the kernel has frozen it")
        used = facts(group / "cpu.stat")["usage_usec"]
        time.sleep(1)
        assert facts(group / "cpu.stat")["usage_usec"] == used
        assert hands.ask("freeze", freeze=False) is False
        hands.wait_state("running")
        hands.suite.wait(lambda: facts(group / "cpu.stat")["usage_usec"] > used, 60, "it goes on")
    assert hands.ask("line") == "tick\n"
    hands.ask("freeze", freeze=True)
    hands.ask("stop")
    assert hands.agent.HarnessState == "none"


def test_a_turn_that_takes_all_memory(mode):  # noqa: F811
    """Whoever has asked is told what happened and how much there was."""
    program = pathlib.Path("/usr/local/bin/claude")
    program.write_text(GREEDY)
    program.chmod(0o755)
    suite = mode
    suite.manager("CreateAgent", "sa{sv}", "greedy", {
        "RuntimeKind": ("s", "cli-local"), "Harness": ("s", "claude-code"), "Provider": ("s", "anthropic"),
        "SandboxProfile": ("s", "workspace")})
    agent = suite.agent("greedy")
    directory = (suite.user.home / ".puffo-agent/agents/greedy" if suite.scope == "user" else
                 pathlib.Path("/var/lib/private/puffo/greedy"))
    try:
        agent.wait_state("ready")
        limit(suite, directory / "agent.yml", "greedy", "memory_max: 250M", MemoryMax=str(250 * MIB))
        agent.wait_state("ready")
        session = suite.main_pid(agent.Unit)
        told = suite.http("POST", "/v1/responses", {"model": "greedy", "input": "Take it all."})
        assert "memory limit of 250 MiB" in json.dumps(told.json), told
        assert suite.main_pid(agent.Unit) == session and agent.State == "ready"
        assert any("oom-kill" in str(entry.get("MESSAGE")) for entry in suite.journal())
    finally:
        agent.call("Delete")
        program.unlink()
        assert not os.path.exists(directory)
