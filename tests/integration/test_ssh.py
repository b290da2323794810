# SPDX-License-Identifier: MIT
"""Another machine's agents, over a real ssh: alice's key opens bob's account."""

import json
import pathlib
import re
import shutil
import subprocess

import pytest

from machine import User

SSHD = pathlib.Path("/usr/sbin/sshd")
UNIT = "puffo-test-sshd.service"
CONFIG = """ListenAddress 127.0.0.1
HostKey {key}
PasswordAuthentication no
UsePAM yes
"""


def root(*argv):
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def sshd(alice, bob, tmp_path_factory):
    if not SSHD.exists():
        packages = list(pathlib.Path("/srv/puffo/sshd").glob("openssh-server_*.deb"))
        assert packages, "no sshd here, and none in /srv/puffo/sshd: ./check fetches it"
        unpacked = tmp_path_factory.mktemp("openssh-server")
        root("dpkg-deb", "-x", packages[0], unpacked)
        for name in ["usr/sbin/sshd", "etc/pam.d/sshd"]:
            shutil.copy2(unpacked / name, f"/{name}")
        root("useradd", "--system", "--home-dir", "/run/sshd", "--shell", "/usr/sbin/nologin", "sshd")
    directory = tmp_path_factory.mktemp("sshd")
    root("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / "host")
    (directory / "config").write_text(CONFIG.format(key=directory / "host"))
    root("systemd-run", "--quiet", f"--unit={UNIT}", "--property=RuntimeDirectory=sshd",
         "--property=RuntimeDirectoryMode=0755", SSHD, "-D", "-e", "-f", directory / "config")
    alice.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", alice.write(".ssh/x", "").parent / "id_ed25519"])
    bob.write(".ssh/authorized_keys", (alice.home / ".ssh/id_ed25519.pub").read_text())
    host = " ".join((directory / "host.pub").read_text().split()[:2])
    known = alice.write(".ssh/known_hosts", f"localhost {host}\n")
    # Connections are refused until it listens.
    probe = "for i in {1..100}; do (exec 3<>/dev/tcp/127.0.0.1/22) 2>/dev/null && exit; sleep 0.1; done; exit 1"
    root("bash", "-c", probe)
    yield known
    root("systemctl", "stop", UNIT)
    for user in [alice, bob]:
        shutil.rmtree(user.home / ".ssh")


@pytest.fixture(scope="module")
def bobs_suite(bob):
    """Enabled by bob himself; the port is not the one the machine's suite has."""
    from conftest import forget
    root("loginctl", "enable-linger", "bob")
    root("systemctl", "start", f"user@{bob.uid}.service")
    bob.run(["agent-proxy", "enable", "--port", "7012"])
    bob.run(["puffoctl", "provider", "default", "echo"])
    bob.run(["agent-proxy", "hire", "engineer", "bob"])
    yield
    bob.run(["agent-proxy", "disable"])
    root("loginctl", "disable-linger", "bob")
    root("systemctl", "stop", f"user@{bob.uid}.service")
    forget(bob)


def remote(user, *argv, check=True):
    return user.run(["puffoctl", *argv], check=check)


def agents(result):
    return {entry["agent"]: entry for entry in json.loads(result.stdout)}


def test_others_own_agents(sshd, bobs_suite, alice, bob):
    seen = agents(remote(alice, "-H", "bob@localhost", "--user", "--json", "agent", "list"))
    assert seen == agents(remote(bob, "--json", "agent", "list"))
    assert seen["engineer_bob"]["state"] == "ready"
    assert "engineer_bob" in remote(alice, "-H", "bob@localhost", "--user", "agent", "list").stdout


def test_others_own_agents_obey(sshd, bobs_suite, alice, bob):
    remote(alice, "-H", "bob@localhost", "--user", "agent", "stop", "engineer_bob")
    assert agents(remote(bob, "--json", "agent", "list"))["engineer_bob"]["state"] == "stopped"
    remote(alice, "-H", "bob@localhost", "--user", "agent", "start", "engineer_bob")
    assert "engineer_bob" in remote(alice, "-H", "bob@localhost", "--user", "agent", "show", "engineer_bob").stdout


def test_machines_agents(sshd, system_mode, alice):
    """Without --user: the other machine's suite, as bob sees it there."""
    remote(alice, "-H", "bob@localhost", "agent", "create", "far-away", "--runtime=chat-local")
    seen = agents(remote(alice, "-H", "bob@localhost", "--json", "agent", "list"))
    assert "far-away" in seen and "engineer_bob" not in seen
    assert system_mode.agent("far-away").Owner == User("bob").uid


def test_what_ssh_cannot_carry(sshd, bobs_suite, alice):
    result = remote(alice, "-H", "bob@localhost", "--user", "agent", "chat", "engineer_bob", "hello", check=False)
    assert result.returncode == 1
    assert re.search(r"puffoctl: cannot .* over -H: files are not passed through ssh", result.stderr)


@pytest.mark.parametrize("scope", [[], ["--user"]])
def test_no_key(sshd, alice, scope):
    """root's account is closed to alice: ssh says why, and puffoctl once what it means."""
    result = remote(alice, "-H", "root@localhost", *scope, "agent", "list", check=False)
    assert result.returncode == 1 and result.stdout == ""
    lines = result.stderr.splitlines()
    assert "Permission denied" in lines[0]
    assert len(lines) == 2 and re.match(r"puffoctl: .*'root@localhost'", lines[1])


@pytest.mark.parametrize("scope", [[], ["--user"]])
def test_no_such_host(sshd, alice, scope):
    result = remote(alice, "-H", "bob@no-such-host.invalid", *scope, "agent", "list", check=False)
    assert result.returncode == 1
    assert "'bob@no-such-host.invalid'" in result.stderr.splitlines()[-1]


def test_another_host_key(sshd, bobs_suite, alice, tmp_path):
    """ssh's own guard holds: nobody is asked, nothing is sent."""
    root("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other")
    before = sshd.read_text()
    alice.write(".ssh/known_hosts", "localhost " + (tmp_path / "other.pub").read_text())
    try:
        result = remote(alice, "-H", "bob@localhost", "--user", "agent", "list", check=False)
    finally:
        alice.write(".ssh/known_hosts", before)
    assert result.returncode == 1 and "HOST IDENTIFICATION HAS CHANGED" in result.stderr


@pytest.mark.parametrize("host", ["-oProxyCommand=touch ${HOME}/owned", "bob@localhost;touch owned"])
@pytest.mark.parametrize("scope", [[], ["--user"]])
def test_host_is_no_option(sshd, alice, host, scope):
    result = remote(alice, f"--host={host}", *scope, "agent", "list", check=False)
    assert result.returncode != 0
    assert not (alice.home / "owned").exists()
