# SPDX-License-Identifier: MIT
"""agent-proxy and puffoctl as a user types them."""

import json
import os
import re
import signal

import pytest

from machine import BASE, Suite


@pytest.fixture(scope="module")
def enabled(alice, provider):
    """Everything off, nothing configured: the commands themselves have to bring it up."""
    from conftest import forget, use_provider
    suite = Suite("user", alice)
    suite.stop()
    forget(alice)
    out = alice.run(["agent-proxy", "enable"]).stdout
    assert out == f"enabled: {BASE}\n"
    use_provider(suite, provider)
    yield suite
    alice.run(["agent-proxy", "disable"], check=False)
    suite.stop()
    forget(alice)


def proxy(suite, *args, check=True, input=None, env=None, cwd=None):
    options = {"cwd": cwd} if cwd else {}
    return suite.user.run(["agent-proxy", *args], check=check, input=input, env=env, **options)


def test_enable(enabled, alice):
    for unit in ["puffod.socket", "puffod-credentials.socket", "puffod.service", "puffo-gateway.socket",
                 "puffo-gateway.service"]:
        assert enabled.systemctl("is-enabled", unit, check=False).stdout.strip() == "enabled", unit
        assert enabled.show(unit, "ActiveState") == "active", unit
    assert os.path.exists(f"/var/lib/systemd/linger/{alice.name}")
    enabled.agent("manager").wait_state("ready")
    # Again: nothing changes, nothing restarts.
    pid = enabled.main_pid("puffod.service")
    assert proxy(enabled, "enable").stdout == f"enabled: {BASE}\n"
    assert enabled.main_pid("puffod.service") == pid


def test_init(enabled):
    out = proxy(enabled, "init", "Researcher").stdout
    id, pid = out.split()
    assert out == f"researcher {pid}\n" and id == "researcher"
    assert int(pid) == enabled.main_pid("puffo-session@researcher.service")
    # Whether it is new is not known to init, so nothing is said of that.
    assert json.loads(proxy(enabled, "init", "--json", "researcher").stdout) == {"agent": "researcher", "pid": int(pid)}


def test_hire(enabled):
    first = proxy(enabled, "hire", "engineer", "alice").stdout
    assert re.fullmatch(r"engineer_alice \d+\n", first)
    assert proxy(enabled, "hire", "engineer", "alice").stdout == first
    shown = json.loads(proxy(enabled, "hire", "--json", "engineer", "alice").stdout)
    assert shown["agent"] == "engineer_alice" and str(shown["pid"]) == first.split()[1]


def test_list(enabled):
    lines = [line.split("\t") for line in proxy(enabled, "list").stdout.splitlines()]
    assert [line[0] for line in lines] == ["manager", "engineer_alice", "researcher"]
    assert all(line[1] == "ready" and int(line[2]) > 0 for line in lines)
    assert [a["agent"] for a in json.loads(proxy(enabled, "list", "--json").stdout)] == [line[0] for line in lines]


def test_status(enabled):
    out = proxy(enabled, "status").stdout
    lines = out.splitlines()
    gateway = enabled.main_pid("puffo-gateway.service")
    assert re.match(rf"puffo-gateway\.service +{gateway} +active +{re.escape(BASE)}", lines[0])
    assert re.match(rf"puffod\.service +{enabled.main_pid('puffod.service')} +active", lines[1])
    for id in ["manager", "engineer_alice", "researcher"]:
        pid = enabled.agent(id).MainPID
        assert re.search(rf"[├└]─ {id} +{pid} +ready", out)


def test_connect(enabled, alice, provider):
    work = alice.home / "work"
    work.mkdir(exist_ok=True)
    os.chown(work, alice.uid, alice.gid)
    provider.reset()
    typed = "[[reply: first answer]]\n\n[[reply: second answer]]\n/quit\n"
    result = proxy(enabled, "connect", "engineer_alice", input=typed, cwd=work)
    assert "first answer\n" in result.stdout and result.stdout.endswith("second answer\n")
    assert result.stderr == f"engineer_alice {enabled.agent('engineer_alice').MainPID}\n"
    texts = [entry["text"] for entry in provider.log()]
    assert texts[0] == f"Now let us work on working dir: {work}"
    assert enabled.agent("engineer_alice").WorkingDirectory == str(work)


def test_connect_refuses(enabled):
    gone = proxy(enabled, "connect", "engineer_alice", "/no/such/place", check=False)
    assert gone.returncode == 1 and gone.stderr == "agent-proxy: not a directory: /no/such/place\n"
    unknown = proxy(enabled, "connect", "nobody", check=False)
    assert unknown.returncode == 1 and unknown.stderr == "agent-proxy: no such agent: nobody\n"


def test_connect_says_when_a_turn_fails(enabled):
    typed = "[[status: 400]]\n[[reply: on we go]]\n"
    result = proxy(enabled, "connect", "engineer_alice", "/", input=typed, check=False)
    assert result.returncode == 1 and "error: " in result.stderr and "on we go" in result.stdout


def test_stop(enabled):
    assert proxy(enabled, "stop", "researcher").stdout == "stop queued: researcher\n"
    agent = enabled.agent("researcher")
    agent.wait_state("stopped", deadline=30)
    proxy(enabled, "restart")
    assert agent.State == "stopped"
    proxy(enabled, "init", "researcher")
    assert agent.State == "ready"
    proxy(enabled, "stop", "--wait", "researcher")
    assert agent.State == "stopped"
    assert proxy(enabled, "stop", "researcher").returncode == 0
    assert re.search(r"researcher +- +stopped", proxy(enabled, "status").stdout)


def test_restart_leaves_agents_alone(enabled):
    pid = enabled.agent("engineer_alice").MainPID
    daemon = enabled.main_pid("puffod.service")
    assert proxy(enabled, "restart").stdout == "restarted\n"
    assert enabled.main_pid("puffod.service") != daemon
    assert enabled.agent("engineer_alice").MainPID == pid


@pytest.mark.parametrize("args, code, error", [
    (["init", "../x"], 2, "invalid role name: '../x'"),
    (["init", ""], 2, "invalid role name: ''"),
    (["init", "a b"], 2, "invalid role name: 'a b'"),
    (["init", "ünï"], 2, "invalid role name: 'ünï'"),
    (["hire", "engineer", "a/b"], 2, "invalid agent name: 'a/b'"),
    (["hire", "engineer", "x" * 100], 2, f"invalid agent name: '{'x' * 100}'"),
    (["hire", "engineer"], 2, None),
    (["stop", "nobody"], 1, "no such agent: nobody"),
    (["frobnicate"], 2, None),
    ([], 2, None),
    (["enable", "--ip", "999.1.1.1"], 2, None),
    (["enable", "--port", "70000"], 2, None),
    (["enable", "--ip", "0.0.0.0"], 1, None),
])
def test_errors(enabled, args, code, error):
    result = proxy(enabled, *args, check=False)
    assert result.returncode == code and result.stderr
    if error:
        assert result.stderr == f"agent-proxy: {error}\n"


def test_an_address_in_the_settings_that_is_none(enabled, alice):
    """It is told where that stands; what is typed wins, and is read all the same."""
    settings = alice.home / ".agent_proxy/.state/config.yaml"
    assert not settings.exists()
    try:
        for line, fault in [("port: x", "'x' is no port"), ("ip: here", "'here' is no IP address")]:
            alice.write(settings, line + "\n")
            refused = proxy(enabled, "enable", check=False)
            assert refused.returncode == 1 and refused.stderr.startswith(f"agent-proxy: {settings}: {fault}")
        assert proxy(enabled, "enable", "--ip", "127.0.0.1").stdout == f"enabled: {BASE}\n"
        assert proxy(enabled, "enable", "--port", "x", check=False).returncode == 2
    finally:
        settings.unlink()


def test_another_port(enabled, alice):
    assert proxy(enabled, "enable", "--port", "7013").stdout == "enabled: http://127.0.0.1:7013\n"
    assert enabled.http("GET", "/healthz", base="http://127.0.0.1:7013").status == 200
    assert enabled.get("/ai/puffo/Agents1", "ai.puffo.Agents1.Manager", "Addresses") == ["http://127.0.0.1:7013"]
    assert proxy(enabled, "enable", "--port", "7011").stdout == f"enabled: {BASE}\n"
    assert enabled.http("GET", "/healthz").status == 200


def test_key_from_the_environment(enabled, alice):
    """"agent-proxy enable" keeps the key in a credential file, never in a unit."""
    proxy(enabled, "enable", env={"AGENT_PROXY_API_KEY": "key-of-alice"})
    key = alice.home / ".agent_proxy/.state/api-key"
    assert oct(key.stat().st_mode & 0o777) == "0o600"
    assert "key-of-alice" not in enabled.systemctl("cat", "puffo-gateway.service").stdout
    assert "key-of-alice" not in enabled.systemctl("show", "puffo-gateway.service").stdout
    assert enabled.http("GET", "/v1/models").status == 401
    assert enabled.http("GET", "/v1/models", headers={"Authorization": "Bearer key-of-alice"}).status == 200
    proxy(enabled, "disable")
    key.unlink(missing_ok=True)
    proxy(enabled, "enable")
    assert enabled.http("GET", "/v1/models").status == 200


def test_daemon(enabled, alice):
    """The program that upstream's service ran: brings it up, follows, ends when it is told to."""
    proxy(enabled, "disable")
    enabled.stop()
    process = alice.popen(["agent-proxy", "daemon"])
    try:
        enabled.wait(lambda: enabled.show("puffo-gateway.service", "ActiveState") == "active", 30, "the gateway runs")
        # 503 until the gateway has seen puffod's agents.
        enabled.wait(lambda: enabled.http("GET", "/healthz").status == 200, 30, "the gateway answers")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=90)
        assert enabled.show("puffo-gateway.service", "ActiveState") != "active"
    finally:
        process.kill()
        process.communicate()
        proxy(enabled, "enable")


def test_enable_with_a_masked_unit(enabled):
    """To try enable is no advice to who just did."""
    enabled.systemctl("mask", "puffod-credentials.socket")
    try:
        refused = proxy(enabled, "enable", check=False)
        assert refused.returncode == 1 and refused.stdout == ""
        assert "masked" in refused.stderr and "systemctl --user unmask" in refused.stderr
        assert "try 'agent-proxy" not in refused.stderr
    finally:
        enabled.systemctl("unmask", "puffod-credentials.socket")
    assert proxy(enabled, "enable").stdout == f"enabled: {BASE}\n"


def test_connect_what_is_not_utf8(enabled, alice):
    made = alice.run(["bash", "-c", "mkdir -p $'/tmp/not-\\xff' && agent-proxy connect engineer_alice $'/tmp/not-\\xff'"],
                     check=False)
    assert made.returncode == 1 and "not UTF-8" in made.stderr and "not ready" not in made.stderr
    said = alice.run(["bash", "-c", "printf 'a\\xff\\nb\\0c\\nfine\\n' | agent-proxy connect engineer_alice /tmp"],
                     check=False)
    assert said.returncode == 1 and said.stderr.count("error: the line is not UTF-8\n") == 2
    assert "fine" in said.stdout


def test_disable_without_the_right_to_turn_lingering_off(enabled, alice):
    """What could not be undone is still to be undone the next time."""
    mark = alice.home / ".agent_proxy/.state/linger-was-off"
    alice.run(["touch", str(mark)])
    env = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
    assert proxy(enabled, "disable", check=False, env=env).returncode == 1
    assert mark.exists() and os.path.exists(f"/var/lib/systemd/linger/{alice.name}")
    mark.unlink()
    proxy(enabled, "enable")


# As sessions do that lose puffod, or are just being started; and as HTTP clients do, for whom the gateway asks puffod.
KNOCK = """
import socket, sys, time
while True:
    for path in sys.argv[1:]:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(1)
            try:
                s.connect(path)
            except OSError:
                pass
    with socket.socket() as s:
        s.settimeout(0.05)
        try:
            s.connect(("127.0.0.1", 7011))
            s.sendall(b"GET /agents HTTP/1.0\\r\\n\\r\\n")
            s.recv(1)
        except OSError:
            pass
    time.sleep(0.01)
"""


def test_disable_while_somebody_connects(enabled, alice):
    """What is stopped is not started again by who connects to a socket that is about to be closed."""
    argv = ["/usr/bin/python3", "-c", KNOCK, *[alice.runtime / "puffo" / name for name in ("private", "credentials")]]
    knocking = alice.popen(argv)
    try:
        for _ in range(5):
            proxy(enabled, "disable")
            for unit in ["puffod.socket", "puffod-credentials.socket", "puffod.service"]:
                assert enabled.show(unit, "ActiveState") == "inactive"
            proxy(enabled, "enable")
    finally:
        knocking.kill()
        knocking.communicate()


# Without a pause, as fast as can be: nobody is kept from stopping it all.
FLOOD = """
import socket, sys
while True:
    for path in sys.argv[1:]:
        with socket.socket(socket.AF_UNIX) as s:
            try:
                s.connect(path)
            except OSError:
                pass
"""


def test_disable_in_a_flood(enabled, alice):
    paths = [alice.runtime / "puffo" / name for name in ("credentials", "private")]
    floods = [alice.popen(["/usr/bin/python3", "-c", FLOOD, path]) for path in paths for _ in range(2)]
    try:
        for _ in range(2):
            proxy(enabled, "disable")
            assert enabled.show("puffod.service", "ActiveState") == "inactive"
            # It was not by force.
            assert enabled.show("puffod.service", "Result") == "success"
            proxy(enabled, "enable")
    finally:
        for flood in floods:
            flood.kill()
            flood.communicate()


def test_disable(enabled, alice):
    alice.run(["agent-proxy", "disable"])
    for unit in ["puffod.socket", "puffod.service", "puffo-gateway.socket", "puffo-gateway.service"]:
        assert enabled.systemctl("is-enabled", unit, check=False).stdout.strip() == "disabled"
        assert enabled.show(unit, "ActiveState") == "inactive"
    assert enabled.systemctl("list-units", "--plain", "--no-legend", "puffo-session@*").stdout == ""
    # Lingering was not turned on by enable, so it is not turned off.
    assert os.path.exists(f"/var/lib/systemd/linger/{alice.name}")
    assert (alice.home / ".agent_proxy/engineer_alice/SOUL.md").is_file()
    assert proxy(enabled, "disable").returncode == 0
    status = proxy(enabled, "status", check=False)
    assert status.returncode == 3 and re.match(r"puffo-gateway\.service +- +inactive", status.stdout)


@pytest.mark.parametrize("program", ["puffoctl", "agent-proxy"])
def test_help(alice, program):
    assert program in alice.run([program, "--help"]).stdout
    assert re.search(r"\d+\.\d+", alice.run([program, "--version"]).stdout)
