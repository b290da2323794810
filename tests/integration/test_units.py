# SPDX-License-Identifier: MIT
"""The installed units, as the two service managers see them, and what the running programs show of themselves."""

import pathlib
import re
import subprocess
import xml.etree.ElementTree as tree

import pytest

from machine import LINK, SOURCE, UNITS, Suite

SERVICES = ["puffod.service", "puffo-gateway.service"]
MAX_EXPOSURE = 4.0


@pytest.fixture(params=["user", "system"])
def manager(request, alice):
    return Suite(request.param, alice)


def test_units_are_found_and_off(manager):
    for unit in UNITS:
        assert manager.show(unit, "LoadState") == "loaded"
        # Installing the package starts nothing.
        assert manager.systemctl("is-enabled", unit, check=False).stdout.strip() == "disabled"
    for unit in LINK:
        assert manager.show(unit, "LoadState") == "loaded"
        assert manager.systemctl("is-enabled", unit, check=False).stdout.strip() == "static"


@pytest.mark.parametrize("service", [*SERVICES, "puffo-link.service"])
def test_exposure(manager, service):
    out = manager.user.run(["systemd-analyze", f"--{manager.scope}", "security", "--no-pager", service]).stdout
    exposure = float(re.search(r"exposure level for \S+: ([\d.]+)", out).group(1))
    assert exposure < MAX_EXPOSURE


def test_verify(manager):
    said = manager.user.run(["systemd-analyze", f"--{manager.scope}", "verify", "--man=no", *UNITS, *LINK],
                            check=False)
    assert [line for line in (said.stdout + said.stderr).splitlines() if "puffo" in line] == []


def test_preset_keeps_it_off():
    for scope in [["--system"], ["--global"]]:
        subprocess.run(["systemctl", *scope, "preset", *UNITS], check=True, capture_output=True)
        shown = subprocess.run(["systemctl", *scope, "is-enabled", *UNITS], capture_output=True, text=True).stdout
        assert set(shown.split()) == {"disabled"}


def interface_shape(node):
    """What a caller relies on: names, types, directions, access and change signals; not the order."""
    shape = set()
    for member in node:
        if member.tag in ("method", "signal"):
            args = tuple((a.get("name"), a.get("type"), a.get("direction", "out" if member.tag == "signal" else "in"))
                         for a in member.iter("arg"))
            shape.add((member.tag, member.get("name"), args))
        elif member.tag == "property":
            change = [a.get("value") for a in member.iter("annotation")
                      if a.get("name") == "org.freedesktop.DBus.Property.EmitsChangedSignal"]
            shape.add(("property", member.get("name"), member.get("type"), member.get("access"), tuple(change)))
    return shape


def declared(name):
    return interface_shape(tree.parse(SOURCE / "dbus" / f"{name}.xml").find("interface"))


def shown(suite, path, name):
    text = suite.call(path, "org.freedesktop.DBus.Introspectable", "Introspect")[0]
    return interface_shape(next(i for i in tree.fromstring(text).iter("interface") if i.get("name") == name))


@pytest.mark.parametrize("name, path", [
    ("ai.puffo.Agents1.Manager", "/ai/puffo/Agents1"),
    ("ai.puffo.Agents1.Pairing", "/ai/puffo/Agents1/pairing"),
    ("ai.puffo.Agents1.Agent", "/ai/puffo/Agents1/agent/manager"),
])
def test_bus_shows_what_is_declared(user_mode, name, path):
    assert shown(user_mode, path, name) == declared(name)


def test_program_tells_its_interfaces(alice):
    for name in ["ai.puffo.Agents1.Manager", "ai.puffo.Agents1.Pairing", "ai.puffo.Agents1.Agent"]:
        text = alice.run(["/usr/lib/puffo/puffod", "--bus-introspect", name]).stdout
        found = next(i for i in tree.fromstring(text).iter("interface") if i.get("name") == name)
        assert interface_shape(found) == declared(name)


@pytest.mark.parametrize("program", ["puffod", "puffo-gateway", "puffo-session", "puffo-link"])
def test_programs_know_their_version(alice, program):
    version = re.search(r"version : '([\d.]+)'", (SOURCE / "meson.build").read_text()).group(1)
    assert version in alice.run([f"/usr/lib/puffo/{program}", "--version"]).stdout
    assert "--version" in alice.run([f"/usr/lib/puffo/{program}", "--help"]).stdout
    assert alice.run([f"/usr/lib/puffo/{program}", "--no-such-option"], check=False).returncode != 0


def test_listens_on_loopback_only(user_mode):
    out = subprocess.run(["ss", "--no-header", "--listening", "--numeric", "--tcp", "--udp"], check=True,
                         capture_output=True, text=True).stdout
    ours = [line.split()[4] for line in out.splitlines() if "7011" in line]
    assert ours == ["127.0.0.1:7011"]


def test_sockets_are_the_users_alone(user_mode, alice):
    directory = alice.runtime / "puffo"
    assert oct(directory.stat().st_mode & 0o777) == "0o700"
    for name in ["private", "credentials"]:
        assert oct((directory / name).stat().st_mode & 0o777) == "0o600"


def assert_read_only(pid, *paths):
    lines = [line.split() for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    mounts = {fields[4]: fields[5].split(",") for fields in lines}
    assert all("ro" in mounts[path] for path in paths), mounts


@pytest.mark.parametrize("service", SERVICES)
def test_sandbox_is_there(user_mode, service):
    """The user manager ignores mount options without a word when something is missing: look from inside."""
    pid = user_mode.main_pid(service)
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)
    assert re.search(r"^Seccomp:\s+2$", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^CapBnd:\s+0+$", status, re.M)
    assert_read_only(pid, "/", "/sys/fs/cgroup")
    own = pathlib.Path("/proc/self/ns/user").readlink()
    assert pathlib.Path(f"/proc/{pid}/ns/user").readlink() != own
    same_network = pathlib.Path(f"/proc/{pid}/ns/net").readlink() == pathlib.Path("/proc/self/ns/net").readlink()
    assert same_network == (service == "puffo-gateway.service")


NOTIFIED = """
import os, socket, subprocess, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    s.bind("\\0notified-%d" % os.getpid())
    session = subprocess.Popen(["/usr/lib/puffo/puffo-session", "--user", "starved", sys.argv[1]],
                               env=dict(os.environ, NOTIFY_SOCKET="@notified-%d" % os.getpid()))
    s.settimeout(60)
    while b"READY=1" not in (message := s.recv(4096)):
        print(message.decode())
    session.terminate()
"""


def test_a_start_may_take_its_time(user_mode, alice):
    """Where processor and disk are scarce: the first that a session says is that it is at it."""
    directory = alice.home / "starved"
    alice.write(directory / "agent.yml", "id: starved\nruntime:\n  kind: chat-local\n  provider: echo\n")
    said = alice.run(["/usr/bin/python3", "-c", NOTIFIED, directory]).stdout.splitlines()
    assert said[0] == f"EXTEND_TIMEOUT_USEC={120 * 1000 * 1000}", said
    alice.run(["rm", "-r", directory])
