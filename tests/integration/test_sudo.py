# SPDX-License-Identifier: MIT
"""The machine's suite turned on and off by people who are not root, through a real sudo."""

import pathlib
import shutil

import pytest

from machine import BASE, UNITS, Suite

RULES = pathlib.Path("/etc/sudoers.d/puffo-test")
SUDO = pathlib.Path("/usr/bin/sudo")


def allow(rule):
    RULES.write_text(rule + "\n")
    RULES.chmod(0o440)


@pytest.fixture
def system(alice):
    """Off before and after."""
    suite = Suite("system", alice)
    suite.stop()
    yield suite
    suite.systemctl("disable", *UNITS, check=False)
    suite.stop()
    RULES.unlink(missing_ok=True)
    for directory in pathlib.Path("/etc/systemd/system").glob("puffo*.d"):
        shutil.rmtree(directory)
    suite.systemctl("daemon-reload")
    for name in ["/var/lib/private/puffo", "/var/lib/puffo", "/var/lib/puffod", "/etc/puffo"]:
        shutil.rmtree(name, ignore_errors=True)
    pathlib.Path("/var/lib/private/puffo").mkdir(mode=0o755)


def is_off(suite):
    states = [suite.systemctl("is-enabled", unit, check=False).stdout.strip() for unit in UNITS]
    return all(state == "disabled" for state in states) and not any(
        suite.show(unit, "ActiveState") == "active" for unit in UNITS)


def is_on(suite):
    states = [suite.systemctl("is-enabled", unit, check=False).stdout.strip() for unit in UNITS]
    return all(state == "enabled" for state in states) and all(
        suite.show(unit, "ActiveState") == "active" for unit in UNITS)


def test_on_and_off(system, alice):
    allow("alice ALL=(ALL) NOPASSWD: ALL")
    assert is_off(system)
    result = alice.run(["agent-proxy", "enable", "--system"])
    assert result.stdout == f"enabled: {BASE}\n" and result.stderr == ""
    assert is_on(system)
    pid = system.main_pid("puffod.service")
    assert alice.run(["agent-proxy", "restart", "--system"]).returncode == 0
    assert system.main_pid("puffod.service") != pid
    result = alice.run(["agent-proxy", "disable", "--system"])
    assert result.stdout == "disabled\n" and result.stderr == ""
    assert is_off(system)


def test_address_and_key_go_along(system, alice):
    key = "sk-of-the-machine-" + "k" * 6000     # more than a page
    allow("alice ALL=(ALL) NOPASSWD: ALL")
    alice.run(["agent-proxy", "enable", "--system", "--port", "7013"],
              env={"AGENT_PROXY_API_KEY": key})
    base = "http://127.0.0.1:7013"
    assert system.http("GET", "/v1/models", base=base).status == 401
    header = {"Authorization": "Bearer " + key}
    assert system.http("GET", "/v1/models", headers=header, base=base).status == 200
    # sudo logs what it runs.
    logged = system.journal("_COMM=sudo")
    assert any("/agent-proxy enable --system --port 7013" in str(line["MESSAGE"]) for line in logged)
    assert not any("sk-of-the-machine" in str(line) for line in system.journal())


@pytest.mark.parametrize("rule", [
    pytest.param("# none", id="no-rights"),
    # The terminal that would be asked for the password is not there.
    pytest.param("alice ALL=(ALL) ALL", id="password"),
])
@pytest.mark.parametrize("verb", ["enable", "disable", "restart"])
def test_refused_by_sudo(system, alice, rule, verb):
    allow(rule)
    result = alice.run(["agent-proxy", verb, "--system"], check=False)
    assert result.returncode == 1 and result.stdout == ""
    *first, ours, command = result.stderr.splitlines()
    assert first and all(line.startswith("sudo: ") for line in first)
    assert ours == "agent-proxy: this needs root; run by hand:"
    assert command.split()[0] == "sudo" and command.endswith(f"/agent-proxy {verb} --system")
    assert is_off(system)


def test_no_sudo_at_all(system, alice):
    hidden = SUDO.rename("/usr/bin/sudo.hidden")
    try:
        result = alice.run(["agent-proxy", "enable", "--system"], check=False)
    finally:
        hidden.rename(SUDO)
    assert result.returncode == 1 and result.stdout == ""
    ours, command = result.stderr.splitlines()
    assert ours == "agent-proxy: this needs root; run by hand:" and command.endswith("/agent-proxy enable --system")
    assert is_off(system)


def test_cgroups_are_unified(system):
    """What the machine is meant to be: everything else here would pass with the old hierarchies, too."""
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    assert {(m[1], m[2]) for m in mounts if m[2].startswith("cgroup")} == {("/sys/fs/cgroup", "cgroup2")}
    # The kernel may have others mounted elsewhere.
    assert "0::/system.slice/" in pathlib.Path("/proc/self/cgroup").read_text()
