# SPDX-License-Identifier: MIT
"""What agent-proxy promises, line by line (agent-proxy, section 16): test_NN_… is for line NN. Where a line needs more,
or something that is not here, other files have it as well:

 1  test_cli.test_enable                              9  test_connect, test_cli.test_connect
 2  test_workspaces.test_what_init_makes             10  test_http.test_published_curl_lines, test_key
 3  test_cli.test_hire                               11  test_http.test_official_client,
                                                        test_hands_codex.test_as_a_client
 4  test_workspaces.test_nothing_is_written_over     12  test_status
 5  test_crash.test_session_dies                     13  test_cli.test_errors
 6  test_cli.test_restart_leaves_agents_alone        14  test_http.test_turns_queue
 7  test_cli.test_stop, test_hands.test_stop_leaves_nothing
 8  test_user_mode.test_everything_comes_back        16  test_user_mode.test_no_secret_shows
"""

import json
import pathlib
import re
import subprocess
import time

import pytest

from conftest import forget, use_provider
from machine import BASE, BusError, Suite, User, output_text
from puffo_town import quick_restarts

HOME = ".agent_proxy"
KEY = "the-key-of-all-clients"
NAMES = ["../x", "a/b", "", "A B", "-x", "x" * 100, "ünï", "a_b_c", "x-"]


@pytest.fixture(scope="module")
def suite(alice, provider):
    """As test_01 leaves it: enabled in an empty home."""
    made = Suite("user", alice)
    made.stop()
    forget(alice)
    alice.run(["agent-proxy", "enable"])
    use_provider(made, provider)
    yield made
    alice.run(["agent-proxy", "disable"], check=False)
    made.stop()
    forget(alice)


def proxy(suite, *args, check=True, **options):
    return suite.user.run(["agent-proxy", *args], check=check, **options)


def session(id):
    return f"puffo-session@{id}.service"


def processes(suite, unit):
    group = suite.show(unit, "ControlGroup").lstrip("/")
    files = (pathlib.Path("/sys/fs/cgroup") / group).rglob("cgroup.procs") if group else []
    return [int(pid) for file in files for pid in file.read_text().split()]


def test_01_a_fresh_home(suite):
    for unit in ["puffod.socket", "puffo-gateway.socket", "puffod.service", "puffo-gateway.service"]:
        assert suite.show(unit, "ActiveState") == "active"
    suite.agent("manager").wait_state("ready")
    suite.wait(lambda: suite.http("GET", "/healthz").status == 200, 60, "the port answers")
    made = {str(p.relative_to(suite.user.home / HOME / "manager"))
            for p in (suite.user.home / HOME / "manager").rglob("*") if p.is_file()}
    assert {"SOUL.md", "AGENTS.md", "memory/memory.md"} < made and len(made) == 4
    note = (made - {"SOUL.md", "AGENTS.md", "memory/memory.md"}).pop()
    assert re.fullmatch(r"notes/daily-\d{4}-\d\d-\d\d\.md", note)


def test_02_init_prints_a_live_pid(suite):
    id, pid = proxy(suite, "init", "researcher").stdout.split()
    assert id == "researcher" and int(pid) == suite.main_pid(session("researcher"))
    assert pathlib.Path(f"/proc/{pid}").is_dir()


def test_03_hired_twice(suite):
    first = proxy(suite, "hire", "engineer", "alice").stdout
    assert re.fullmatch(r"engineer_alice \d+\n", first)
    assert proxy(suite, "hire", "Engineer", "Alice").stdout == first
    assert proxy(suite, "init", "engineer_alice").stdout == first


def test_05_killed_it_comes_back_after_ten_seconds_however_often(suite):
    agent = suite.agent("engineer_alice")
    suite.turn("engineer_alice", "[[reply: before]] Remember me.")
    pid = suite.kill(session("engineer_alice"))
    agent.wait_state("restarting")
    suite.wait(lambda: agent.State == "ready" and agent.MainPID not in (0, pid), 90, "it is back")
    shown = dict(line.split("=", 1) for line in suite.systemctl("show", session("engineer_alice")).stdout.splitlines())
    waited = int(shown["ExecMainStartTimestampMonotonic"]) - int(shown["ActiveExitTimestampMonotonic"])
    assert shown["RestartUSec"] == "10s" and shown["StartLimitIntervalUSec"] == "0"
    # Above it, what a machine with other work to do takes for it.
    assert 9_900_000 <= waited < 60_000_000
    # Ten in a row; the pause is shortened, there is no count that it goes by.
    quick_restarts(suite.user)
    suite.manager("Reload")
    proxy(suite, "stop", "--wait", "engineer_alice")
    proxy(suite, "init", "engineer_alice")
    for _ in range(10):
        pid = suite.kill(session("engineer_alice"))
        suite.wait(lambda: agent.State == "ready" and agent.MainPID not in (0, pid), 90, "it is back again")
    (suite.user.home / HOME / ".state/config.yaml").unlink()
    suite.manager("Reload")
    # The conversation is the same.
    history = [m["text"] for m in suite.http("GET", "/agents/engineer_alice/messages").json["messages"]]
    assert history == ["[[reply: before]] Remember me.", "before"]


def test_06_restart_leaves_agents_and_brings_back_who_is_down(suite):
    kept, killed = suite.agent("researcher"), suite.agent("engineer_alice")
    pid, daemon = kept.MainPID, suite.main_pid("puffod.service")
    restart = suite.user.popen(["agent-proxy", "restart"])
    dead = suite.kill(session("engineer_alice"))
    assert restart.communicate(timeout=120)[0] == "restarted\n" and restart.returncode == 0
    assert suite.main_pid("puffod.service") != daemon and kept.MainPID == pid
    suite.wait(lambda: killed.State == "ready" and killed.MainPID not in (0, dead), 90, "who was killed is back")
    # It answers when the command says so.
    assert proxy(suite, "restart").returncode == 0
    assert output_text(suite.turn("engineer_alice", "[[reply: at once]]")) == "at once"
    proxy(suite, "restart", "--agents")
    suite.wait(lambda: kept.State == "ready" and kept.MainPID not in (0, pid), 90, "a new process")


def test_07_stop_is_queued_and_stays(suite):
    agent = suite.agent("researcher")
    begun = time.monotonic()
    assert proxy(suite, "stop", "researcher").stdout == "stop queued: researcher\n"
    # Not a second of waiting for the session's own end, which it does not wait for; the rest is this machine's.
    assert time.monotonic() - begun < 10
    agent.wait_state("stopped", deadline=60)
    for kind in ["session", "harness"]:
        assert processes(suite, f"puffo-{kind}@researcher.service") == []
    # For longer than a crash would take to be repaired.
    end = time.monotonic() + 12
    while time.monotonic() < end:
        assert agent.State == "stopped"
        time.sleep(0.5)
    proxy(suite, "restart")
    assert agent.State == "stopped" and agent.Desired == "stopped"
    assert proxy(suite, "init", "researcher").stdout == f"researcher {agent.MainPID}\n"


def test_08_after_a_reboot(suite):
    """Everything of the user's ends, his service manager with it; the machine then starts that as it does at boot."""
    proxy(suite, "stop", "--wait", "researcher")
    proxy(suite, "stop", "--wait", "manager")
    before = suite.agent("engineer_alice").MainPID
    manager = f"user@{suite.user.uid}.service"
    User("root").run(["systemctl", "stop", manager])
    assert not pathlib.Path(f"/proc/{before}").exists()
    User("root").run(["systemctl", "start", manager])
    # Nobody has logged in, and nobody has asked for anything.
    suite.wait(lambda: suite.show("puffod.service", "ActiveState") == "active", 90, "puffod is back")
    suite.agent("manager").wait_state("ready", deadline=90)
    suite.agent("engineer_alice").wait_state("ready", deadline=90)
    assert suite.agent("engineer_alice").MainPID != before
    assert suite.agent("researcher").State == "stopped"
    suite.wait(lambda: suite.http("GET", "/healthz").status == 200, 60, "the port answers")
    # The manager agent came first.
    started = {id: int(suite.show(session(id), "ExecMainStartTimestampMonotonic"))
               for id in ["manager", "engineer_alice"]}
    assert started["manager"] <= started["engineer_alice"]
    proxy(suite, "init", "researcher")


def test_09_connect_with_a_script(suite, provider):
    provider.reset()
    result = proxy(suite, "connect", "engineer_alice", "/tmp", input="[[reply: first]]\n[[reply: second]]\n")
    assert result.returncode == 0 and result.stdout.endswith("first\nsecond\n")
    assert [e["text"] for e in provider.log()] == ["Now let us work on working dir: /tmp", "[[reply: first]]",
                                                   "[[reply: second]]"]
    assert suite.agent("engineer_alice").WorkingDirectory == "/tmp"


def test_09_connect_without_anybody_who_could_answer(suite, provider):
    suite.manager("SetProvider", "sa{sv}", "anthropic", {"ApiKey": ("s", ""), "BaseUrl": ("s", "")})
    agent = suite.agent("engineer_alice")
    try:
        agent.wait_state("failed")
        begun = time.monotonic()
        refused = proxy(suite, "connect", "engineer_alice", "/tmp", input="hello\n", check=False)
        assert (refused.returncode, refused.stdout, refused.stderr) == (1, "", "not ready\n")
        assert time.monotonic() - begun < 60
        # init, list and status say what is missing.
        init = proxy(suite, "init", "engineer_alice", check=False)
        assert init.returncode == 1 and "agent-proxy: engineer_alice is not ready" in init.stderr
        why = agent.StatusText
        assert why and why in init.stderr and why in proxy(suite, "list").stderr
        assert why in proxy(suite, "status").stdout
    finally:
        use_provider(suite, provider)
    agent.wait_state("ready")


@pytest.fixture
def with_key(suite):
    proxy(suite, "enable", env={"AGENT_PROXY_API_KEY": KEY})
    suite.wait(lambda: suite.http("GET", "/healthz").status == 200, 60, "the gateway answers")
    yield KEY
    proxy(suite, "disable")
    (suite.user.home / HOME / ".state/api-key").unlink(missing_ok=True)
    proxy(suite, "enable")
    suite.wait(lambda: suite.http("GET", "/healthz").status == 200, 60, "the gateway answers")


def test_10_both_published_uses(suite, with_key):
    hired = suite.user.run(["curl", "-s", f"{BASE}/hire", "-H", "Content-Type: application/json", "-H",
                            f"Authorization: Bearer {KEY}", "-d", '{"role":"writer","name":"bo"}']).stdout
    assert json.loads(hired)["agent"] == "writer_bo" and json.loads(hired)["pid"] > 0
    streamed = suite.user.run(["curl", "-sN", f"{BASE}/v1/responses", "-H", "Content-Type: application/json", "-H",
                               f"Authorization: Bearer {KEY}", "-d",
                               '{"model":"writer_bo","input":"[[reply: fine]] status?","stream":true}']).stdout
    assert "event: response.completed\n" in streamed and "fine" in streamed


def test_10_and_16_the_key_is_asked_for_and_shows_nowhere(suite, with_key):
    paths = [("GET", "/v1/models"), ("POST", "/v1/responses"), ("GET", "/v1/responses/resp_1"), ("POST", "/hire"),
             ("GET", "/agents"), ("GET", "/agents/events"), ("GET", "/agents/manager/messages"), ("GET", "/approvals"),
             ("POST", "/approvals/1")]
    for method, path in paths:
        body = {"role": "a", "name": "b", "input": "x", "decision": "allow"} if method == "POST" else None
        for headers in [{}, {"Authorization": "Bearer nonsense"}]:
            assert suite.http(method, path, body, headers=headers).status == 401, (method, path, headers)
    assert suite.http("GET", "/healthz").status == 200
    assert suite.http("GET", "/").status in (200, 404)
    right = {"Authorization": f"Bearer {KEY}"}
    assert suite.http("GET", "/agents", headers=right).status == 200
    with suite.stream("writer_bo", "[[words: 60]] [[slow: 50ms]]"):
        seen = [suite.systemctl("show", "puffo*").stdout, suite.systemctl("cat", "puffo*").stdout,
                proxy(suite, "status").stdout, proxy(suite, "list", "--json").stdout,
                subprocess.run(["journalctl", "--all", "--output=export"], capture_output=True,
                               check=True).stdout.decode("utf-8", "replace")]
        for process in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                # Whoever runs as the user: his agents and their tools.
                if process.stat().st_uid == suite.user.uid and int(process.name) != suite.user.uid:
                    seen += [(process / name).read_bytes().decode("utf-8", "replace")
                             for name in ["environ", "cmdline"]]
            except OSError:
                continue
    for secret in [KEY, "sk-test-alice"]:
        assert not [text[:200] for text in seen if secret in text], secret


@pytest.mark.parametrize("name", NAMES)
def test_13_names_that_are_refused(suite, name):
    for command in [["init", "--", name], ["hire", "--", name, "bo"], ["hire", "--", "engineer", name]]:
        if command == ["init", "--", "a_b_c"] or "_" not in name or command[0] == "hire":
            refused = proxy(suite, *command, check=False)
            what = "agent" if command[-1] == name and command[0] == "hire" else "role"
            assert refused.returncode == 2
            assert refused.stderr == f"agent-proxy: invalid {what} name: '{name}'\n", command
    for body, param in [({"role": name, "name": "bo"}, "role"), ({"role": "engineer", "name": name}, "name")]:
        refused = suite.http("POST", "/hire", body)
        assert refused.status == 400 and refused.json["error"]["param"] == param, refused
    for method, arguments in [("Init", [name]), ("Hire", [name, "bo"]), ("Hire", ["engineer", name])]:
        with pytest.raises(BusError) as refused:
            suite.manager(method, "s" * len(arguments), *arguments)
        assert refused.value.name == "ai.puffo.Agents1.Error.InvalidName"


def test_13_upper_case_is_lowered(suite):
    pid = suite.agent("engineer_alice").MainPID
    assert proxy(suite, "init", "Engineer_ALICE").stdout == f"engineer_alice {pid}\n"
    assert suite.http("POST", "/hire", {"role": "ENGINEER", "name": "Alice"}).json["agent"] == "engineer_alice"
    assert suite.manager("Hire", "ss", "Engineer", "alice")[1:] == [pid, False]
    assert output_text(suite.turn("Engineer_Alice", "[[reply: it is me]]")) == "it is me"
    assert proxy(suite, "connect", "ENGINEER_ALICE", "/", input="").stderr == f"engineer_alice {pid}\n"


def test_settings_of_the_waits(suite):
    """Section 13: what is out of range is told, with file and line, and changes nothing."""
    settings = suite.user.home / HOME / ".state/config.yaml"
    agent = suite.hire("engineer", "slow")
    agent.call("Stop")
    suite.user.write(f"{HOME}/.state/config.yaml", "start_timeout: 1\nconnect_timeout: 1\n")
    drop_in = suite.user.write(".config/systemd/user/puffo-session@engineer_slow.service.d/slow.conf",
                               "[Service]\nExecStartPre=/bin/sleep 20\n")
    try:
        suite.systemctl("daemon-reload")
        suite.manager("Reload")
        begun = time.monotonic()
        refused = proxy(suite, "init", "engineer_slow", check=False)
        assert refused.returncode == 1 and "engineer_slow is not ready" in refused.stderr
        refused = proxy(suite, "connect", "engineer_slow", "/", check=False)
        assert refused.returncode == 1 and refused.stderr == "not ready\n"
        assert time.monotonic() - begun < 20 and agent.Desired == "running"
        for line in ["start_timeout: 81", "connect_timeout: soon", "agent_limit: 1.5", "restart_sec: 0", "queue_limit: 0",
                     "queue_limit: many", "turn_timeout: 86401", "turn_timeout: [1]"]:
            suite.user.write(f"{HOME}/.state/config.yaml", f"port: 7011\n{line}\n")
            suite.manager("Reload")
            key = line.partition(":")[0]
            assert f"{settings}:2: {key}: a number" in str(suite.manager("ListProblems")[0]), line
    finally:
        drop_in.unlink()
        drop_in.parent.rmdir()
        settings.unlink()
        suite.systemctl("daemon-reload")
        suite.manager("Reload")
    assert suite.manager("ListProblems")[0] == []
    agent.call("Delete")


def test_settings_of_the_turns(suite):
    """How many may wait, and how long a turn may be silent: an agent's own limit wins."""
    settings = suite.user.home / HOME / ".state/config.yaml"
    suite.user.write(f"{HOME}/.state/config.yaml", "queue_limit: 2\nturn_timeout: 3\n")
    try:
        suite.manager("Reload")
        agent = suite.hire("engineer", "limited")
        ended = suite.turn("engineer_limited", "[[hang]] nothing comes")
        assert ended["status"] == "incomplete" and ended["incomplete_details"] == {"reason": "max_output_tokens"}

        path = suite.user.home / HOME / ".state/agents/engineer_limited/agent.yml"
        text = path.read_text()
        assert "task_timeout_seconds" not in text
        suite.user.write(path, text.replace("runtime:\n", "runtime:\n  task_timeout_seconds: 600\n"))
        ask = {"model": "engineer_limited", "input": "[[hang]] long enough", "background": True}
        first = suite.http("POST", "/v1/responses", ask)
        agent.wait_state("busy")
        assert [suite.http("POST", "/v1/responses", ask).status for _ in range(3)] == [200, 200, 429]
        time.sleep(5)       # its turns begin with what agent.yml says then
        assert suite.http("GET", f"/v1/responses/{first.json['id']}").json["status"] == "in_progress"
        agent.call("Delete")
    finally:
        settings.unlink()
        suite.manager("Reload")


def test_14_two_at_once_and_the_33rd_that_waits(suite, provider):
    agent = suite.hire("engineer", "popular")
    with suite.stream("engineer_popular", "[[words: 20]] [[slow: 50ms]] one") as first:
        second = suite.turn("engineer_popular", "[[reply: two]]")
        assert output_text(second) == "two"
        assert "response.completed" in str(first.process.stdout.read())
    hanging = suite.http("POST", "/v1/responses",
                         {"model": "engineer_popular", "input": "[[hang]]", "background": True})
    agent.wait_state("busy")
    bodies = [suite.http("POST", "/v1/responses",
                         {"model": "engineer_popular", "input": f"number {i}", "background": True})
              for i in range(33)]
    assert [b.status for b in bodies[:32]] == [200] * 32 and bodies[32].status == 429
    assert hanging.status == 200
    agent.call("Delete")


def test_15_who_closes_the_stream_interrupts(suite, provider):
    agent = suite.hire("engineer", "heard")
    with suite.stream("engineer_heard", "[[words: 5000]] [[slow: 100ms]] on and on"):
        suite.wait(lambda: agent.State == "busy" and provider.count("on and on") == 1, 60, "the model is asked")
    agent.wait_state("ready")
    suite.wait(lambda: provider.outcomes("on and on") == ["client-gone"], 60, "the model is told",
               lambda: provider.outcomes("on and on"))
