# SPDX-License-Identifier: MIT
"""agent-proxy status and list: the service, its agents, and what runs below each (agent-proxy, section 7)."""

import json
import re

import pytest

from machine import BASE
from terminal import Terminal
from test_harness_unit import Hands

ID = "stanley"
# A tool of the agent's with a child of its own, and arguments that nobody is to see.
TOOL = ("bash -c 'sleep 4242 & sleep 4243; wait' builder --api-key=hunter2hunter2 --token sk-abcdefghijklmnopqrstuvwx "
        + "x" * 100 + " & wait")


@pytest.fixture(scope="module")
def suite(user_mode):
    user_mode.agent("manager").wait_state("ready")
    user_mode.hire("engineer", "stan").call("Stop")
    return user_mode


@pytest.fixture(scope="module")
def hands(suite):
    made = Hands(suite, ID)
    made.wait_ready()
    made.start(TOOL)
    made.wait_state("running")
    suite.wait(lambda: "sleep 4243" in status(suite).stdout, 60, "the tool runs", lambda: status(suite).stdout)
    yield made
    made.remove()


def status(suite, *options, check=True):
    return suite.user.run(["agent-proxy", "status", *options], check=check)


def assert_tree(out, id):
    """sandbox → bash → its two sleeps, each below the other."""
    lines = out.splitlines()
    begin = next(i for i, line in enumerate(lines) if re.match(rf"[├└]─ {id} ", line))
    depth = {}
    for line in lines[begin + 1:]:
        match = re.match(r"([│ ]+)[├└]─ (\d+) (.*)", line)
        if not match:
            break
        depth[match[3]] = (len(match[1]), match[3])
    tool = next(d for command, d in depth.items() if command.startswith('bash -c "sleep 4242'))
    sandbox = next(d for command, d in depth.items() if "puffo-sandbox" in command)
    assert sandbox[0] < tool[0] < depth["sleep 4242"][0] == depth["sleep 4243"][0]


def test_the_whole_tree(suite, hands):
    out = status(suite).stdout
    lines = out.splitlines()
    assert lines[0] == f"puffo-gateway.service  {suite.main_pid('puffo-gateway.service')}  active  {BASE}"
    assert lines[1] == f"puffod.service  {suite.main_pid('puffod.service')}  active"
    assert re.fullmatch(rf"├─ manager  {suite.agent('manager').MainPID}  ready", lines[2])
    assert f"─ {ID}  {hands.agent.MainPID}  ready\n" in out and "─ engineer_stan  -  stopped\n" in out
    assert_tree(out, ID)
    assert all(len(line) <= 80 for line in lines), out
    assert "hunter2" not in out and "abcdefghij" not in out and "--api-key=*" in out
    shown = status(suite, "--json").stdout
    assert "hunter2" not in shown and "abcdefghij" not in shown
    agent = next(a for a in json.loads(shown)["agents"] if a["id"] == ID)
    by_pid = {p["pid"]: p for p in agent["processes"]}
    sleeper = next(p for p in agent["processes"] if p["command"] == "sleep 4243")
    assert by_pid[sleeper["parent"]]["command"].startswith('bash -c "sleep 4242')


def test_there_is_one_daemon(suite):
    second = suite.user.run(["agent-proxy", "daemon"], check=False)
    pid = suite.main_pid("puffo-gateway.service")
    assert second.returncode == 1 and second.stderr == f"agent-proxy: the service is running already (pid {pid})\n"


def test_it_works_while_the_daemon_is_down(suite, hands):
    pid = hands.agent.MainPID
    suite.systemctl("stop", "puffo-gateway.socket", "puffo-gateway.service", "puffod.socket",
                    "puffod-credentials.socket", "puffod.service")
    try:
        down = status(suite, check=False)
        assert down.returncode == 3 and down.stderr == ""
        lines = down.stdout.splitlines()
        assert lines[:2] == ["puffo-gateway.service  -  inactive", "puffod.service  -  inactive"]
        assert re.match(r"├─ manager  \d+  ready", lines[2])
        assert re.search(rf"[├└]─ {ID}  {pid}  ", down.stdout)
        assert_tree(down.stdout, ID)
        # To look is not to start.
        assert suite.show("puffod.service", "ActiveState") == "inactive"
        as_json = status(suite, "--json", check=False)
        assert as_json.returncode == 3 and json.loads(as_json.stdout)["puffod"]["state"] == "inactive"
        # And init makes the workspace, and says what to do.
        init = suite.user.run(["agent-proxy", "init", "early"], check=False)
    finally:
        suite.start()
    # D-Bus may bring puffod up for who asks: then there is an agent, else a workspace for later.
    assert (suite.user.home / ".agent_proxy/early/AGENTS.md").is_file()
    if init.returncode != 0:
        assert init.stderr == "agent-proxy: daemon is not running (try 'agent-proxy enable')\n"


def test_init_with_no_daemon_to_be_had(suite, bob):
    """Not even by activation: the workspace is made all the same."""
    bus = suite.user.runtime / "bus-without-puffod"
    daemon = suite.user.popen(["dbus-daemon", "--nofork", "--print-address", f"--address=unix:path={bus}",
                               "--config-file=/usr/share/dbus-1/session.conf"],
                              env={"XDG_DATA_DIRS": "/nonexistent", "XDG_DATA_HOME": "/nonexistent"})
    try:
        env = {"DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}", "AGENT_PROXY_HOME": str(suite.user.home / "fresh-home")}
        assert daemon.stdout.readline()
        init = suite.user.run(["agent-proxy", "hire", "engineer", "early"], check=False, env=env)
        assert init.returncode == 1 and init.stdout == ""
        assert init.stderr == "agent-proxy: daemon is not running (try 'agent-proxy enable')\n"
        workspace = suite.user.home / "fresh-home/engineer_early"
        assert (workspace / "SOUL.md").is_file() and (workspace / "AGENTS.md").is_file()
        for command in [["list"], ["stop", "engineer_early"], ["connect", "engineer_early", "/"]]:
            down = suite.user.run(["agent-proxy", *command], check=False, env=env)
            assert down.returncode == 1 and down.stdout == "", command
            assert down.stderr == "agent-proxy: daemon is not running (try 'agent-proxy enable')\n", command
    finally:
        daemon.kill()
        daemon.communicate()


def test_list_for_people_and_for_programs(suite):
    suite.agent("manager").wait_state("ready")
    piped = suite.user.run(["agent-proxy", "list"]).stdout
    lines = [line.split("\t") for line in piped.splitlines()]
    assert lines[0] == ["manager", "ready", str(suite.agent("manager").MainPID)]
    assert [line[0] for line in lines[1:]] == sorted(line[0] for line in lines[1:])
    assert ["engineer_stan", "stopped", "-"] in lines
    with Terminal(suite.user, ["agent-proxy", "list"]) as terminal:
        assert terminal.wait() == 0
        shown = terminal.shown().replace("\r\n", "\n")
    assert re.match(r"AGENT +STATE +PID\nmanager +ready +\d+\n", shown)
    assert "\t" not in shown
    column = shown.index("STATE")
    assert all(line[column - 1] == " " and line[column] != " " for line in shown.splitlines())
    as_json = json.loads(suite.user.run(["agent-proxy", "list", "--json"]).stdout)
    assert as_json[0]["agent"] == "manager" and as_json[0]["state"] == "ready"
