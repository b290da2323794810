# SPDX-License-Identifier: MIT
"""puffod in system mode: what a session or an owner must not get from it, and what must outlive it."""

import json
import os
import pathlib
import re
import select
import subprocess
import time

import pytest

from machine import ASK_FOR_CREDENTIAL, HERE, BusError, User

AGENTS = pathlib.Path("/var/lib/private/puffo")


@pytest.fixture
def agent(system_mode, alice):
    """An agent of alice with a name that needs escaping everywhere, gone afterwards."""
    system_mode.manager("CreateAgent", "sa{sv}", "a-b", {"RuntimeKind": ("s", "chat-local")}, user=alice)
    agent = system_mode.agent("a-b")
    agent.wait_state("ready")
    yield agent
    agent.call("Delete", user=alice)
    assert "a-b" not in system_mode.agents()
    assert not (AGENTS / "a-b").exists()
    # The service manager's link to it.
    assert not os.path.lexists("/var/lib/puffo/a-b")


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def restart_count(suite):
    return int(suite.show("puffod.service", "NRestarts"))


def test_links_of_a_session_lead_nowhere(system_mode, agent):
    directory = AGENTS / "a-b"
    for link, target in [("workspace/etc", "/etc"), ("workspace/up", ".."), ("memory/shadow.md", "/etc/shadow")]:
        (directory / link).symlink_to(target)
    (directory / "profile.md").unlink()
    (directory / "profile.md").symlink_to("/etc/shadow")
    for method, signature, args in [("OpenFile", "s", ["etc/shadow"]), ("ListFiles", "s", ["etc"]),
                                    ("ListFiles", "s", ["up"]), ("ReadMemory", "s", ["shadow"]),
                                    ("ReadProfile", "", [])]:
        with pytest.raises(BusError) as caught:
            agent.call(method, signature, *args)
        assert caught.value.name == "ai.puffo.Agents1.Error.NoSuchFile", (method, caught.value)


def test_paths_in_agent_yml_lead_nowhere(system_mode, agent, alice):
    """Its owner's and its session's to write, and root's puffod reads and writes what it names."""
    directory, target = AGENTS / "a-b", pathlib.Path("/etc/puffo-test")
    file = directory / "agent.yml"
    good, owner = file.read_text(), file.stat()
    target.mkdir()
    try:
        (target / "secret.md").write_text("root's own")
        (directory / "out").symlink_to(target)
        (directory / "up").symlink_to("../../../../..")
        for to in ["/etc/puffo-test", "../../../../../etc/puffo-test", "memory/../../../../../etc/puffo-test", "out",
                   "up/etc/puffo-test"]:
            rest = re.sub("(?m)^(profile|memory_dir|workspace_dir):.*\n", "", good)
            file.write_text(f"{rest}profile: {to}/secret.md\nmemory_dir: {to}\nworkspace_dir: {to}\n")
            os.chown(file, owner.st_uid, owner.st_gid)
            system_mode.manager("Reload", user=User("root"))
            assert system_mode.manager("ListProblems")[0] == []
            for method, signature, args in [("WriteProfile", "s", ["mine"]), ("ReadProfile", "", []),
                                            ("ReadMemory", "s", ["secret"]), ("ListFiles", "s", [""]),
                                            ("OpenFile", "s", ["secret.md"])]:
                with pytest.raises(BusError) as caught:
                    agent.call(method, signature, *args, user=alice)
                assert caught.value.name in ["ai.puffo.Agents1.Error.NoSuchFile",
                                             "ai.puffo.Agents1.Error.Failed"], (to, method, caught.value)
            agent.call("SetRuntime", "a{sv}", {"MaxTokens": ("u", 999)}, user=alice)
            assert file.stat().st_uid == owner.st_uid
            assert [p.name for p in target.iterdir()] == ["secret.md"], to
            assert (target / "secret.md").read_text() == "root's own", to
    finally:
        file.write_text(good)
        system_mode.manager("Reload", user=User("root"))
        for link in ["out", "up"]:
            (directory / link).unlink(missing_ok=True)
        (target / "secret.md").unlink()
        target.rmdir()


def test_agent_yml_that_is_no_file(system_mode, agent):
    """One agent's trouble is not the others': puffod goes on, and comes back."""
    file = AGENTS / "a-b/agent.yml"
    good, owner = file.read_text(), file.stat()
    for spoil in [lambda: os.mkfifo(file), file.mkdir, lambda: file.symlink_to("/etc/shadow")]:
        file.unlink()
        spoil()
        system_mode.manager("Reload", user=User("root"))
        assert any(p[0] == str(AGENTS / "a-b") for p in system_mode.manager("ListProblems")[0])
        system_mode.systemctl("restart", "puffod.service")
        assert "manager" in system_mode.agents()
        file.rmdir() if file.is_dir() and not file.is_symlink() else file.unlink()
        file.write_text(good)
        os.chown(file, owner.st_uid, owner.st_gid)
    system_mode.manager("Reload", user=User("root"))
    agent.wait_state("ready")


def test_mistake_stays_and_is_not_written_over(system_mode, agent):
    file = AGENTS / "a-b/agent.yml"
    good = file.read_text()
    file.write_text("state: [\n")
    for _ in range(2):
        system_mode.manager("Reload", user=User("root"))
        assert any("agent.yml:" in p[1] for p in system_mode.manager("ListProblems")[0])
        for method, signature, args in [("SetDisplayName", "s", ["x"]), ("Stop", "", [])]:
            with pytest.raises(BusError) as caught:
                agent.call(method, signature, *args)
            assert caught.value.name == "ai.puffo.Agents1.Error.InvalidConfig"
    assert file.read_text() == "state: [\n"
    file.write_text(good)
    system_mode.manager("Reload", user=User("root"))
    assert system_mode.manager("ListProblems")[0] == []


def test_no_call_spoils_a_file(system_mode, agent, alice):
    """What could not be read again is not written, and what was there stays in force."""
    file, daemon = AGENTS / "a-b/agent.yml", pathlib.Path("/etc/puffo/daemon.yml")
    before = file.read_text(), daemon.read_text()
    root = User("root")
    for call in [lambda: agent.call("SetDisplayName", "s", "a\x1b[2Jb"),
                 *[lambda o=o: agent.call("SetRuntime", "a{sv}", o) for o in
                   [{"BaseUrl": ("s", "example")}, {"PermissionMode": ("s", "always")}, {"ExtraDirs": ("as", ["srv"])},
                    {"Harness": ("s", "vim")}, {"Model": ("s", "m\n")}]],
                 lambda: system_mode.manager("SetProvider", "sa{sv}", "openai", {"BaseUrl": ("s", "x")}, user=root),
                 lambda: system_mode.manager("CreateAgent", "sa{sv}", "bad", {"DisplayName": ("s", "\x01")})]:
        with pytest.raises(BusError) as caught:
            call()
        assert caught.value.name in ["ai.puffo.Agents1.Error.InvalidConfig",
                                     "ai.puffo.Agents1.Error.InvalidArgument"], caught.value
    assert (file.read_text(), daemon.read_text()) == before
    system_mode.manager("Reload", user=root)
    assert system_mode.manager("ListProblems")[0] == [] and "bad" not in system_mode.agents()
    agent.call("SetDisplayName", "s", "A B")
    assert agent.DisplayName == "A B"


def test_agent_does_not_lift_its_own_limits(system_mode, agent):
    file, daemon = AGENTS / "a-b/agent.yml", pathlib.Path("/etc/puffo/daemon.yml")
    good, settings, owner = file.read_text(), daemon.read_text(), file.stat()

    def limits_become(**wanted):
        slice = agent.Slice
        system_mode.wait(lambda: wanted == {p: system_mode.show(slice, p) for p in wanted}, 20, f"{wanted}")

    try:
        file.write_text(good + "limits:\n  memory_max: 1000G\n  tasks_max: 100\n")
        os.chown(file, owner.st_uid, owner.st_gid)
        system_mode.manager("Reload", user=User("root"))
        limits_become(MemoryMax=str(4 << 30), TasksMax="100")
        daemon.write_text(settings + "limits:\n  memory_max: 3G\n")
        limits_become(MemoryMax=str(3 << 30), TasksMax="100")
    finally:
        daemon.write_text(settings)
        file.write_text(good)
        system_mode.manager("Reload", user=User("root"))
    limits_become(MemoryMax=str(4 << 30), TasksMax="512")


def test_new_key_reaches_a_session_that_an_earlier_puffod_started(system_mode, agent):
    pid = agent.MainPID
    system_mode.systemctl("restart", "puffod.service")
    assert agent.wait_state("ready") and agent.MainPID == pid
    system_mode.manager("SetProvider", "sa{sv}", "anthropic", {"ApiKey": ("s", "sk-test-alice-2")}, user=User("root"))
    system_mode.wait(lambda: agent.State == "ready" and agent.MainPID not in (0, pid), 30, "the session has the key")


def test_sockets_start_anew(system_mode, agent):
    """What sessions see of them must be the new ones."""
    pid = agent.MainPID
    system_mode.systemctl("restart", "puffod.socket", "puffod-credentials.socket")
    system_mode.systemctl("start", "puffod.service")
    agent.wait_state("ready")
    assert agent.MainPID == pid
    agent.call("ListMessages", "ssu", "", "", 1)


def test_credential_is_for_its_own_unit(system_mode, agent):
    """The uid and the address that one binds to prove nothing: here they are root's and right."""
    ask = ["/usr/bin/python3", "-c", ASK_FOR_CREDENTIAL, "/run/puffo/credentials", agent.Unit]
    root = User("root")
    assert root.run(ask).stdout.strip() == "0"
    # Another unit, as a harness or another agent's session is one.
    for unit in ["puffo-harness@a\\x2db.service", "puffo-session@other.service"]:
        out = root.run(["systemd-run", "--quiet", "--pipe", "--wait", "--collect", f"--unit={unit}", *ask]).stdout
        assert out.strip() == "0", unit


def test_directory_is_not_taken_over(system_mode, agent, bob):
    """The id of a directory that is no agent yet does not make it the caller's."""
    directory = AGENTS / "leftover"
    directory.mkdir(mode=0o700)
    (directory / "notes").write_text("alice's")
    try:
        with pytest.raises(BusError) as caught:
            system_mode.manager("CreateAgent", "sa{sv}", "leftover", {}, user=bob)
        assert caught.value.name == "ai.puffo.Agents1.Error.AgentExists"
        assert not pathlib.Path("/var/lib/puffod/owners/leftover").exists()
    finally:
        (directory / "notes").unlink()
        directory.rmdir()


def test_nothing_fell(system_mode, agent, alice):
    """After all of the above, and agents that came and went."""
    before = restart_count(system_mode)
    for i in range(3):
        system_mode.manager("CreateAgent", "sa{sv}", f"brief-{i}", {"Start": ("b", False)}, user=alice)
        system_mode.agent(f"brief-{i}").call("Delete", user=alice)
    assert restart_count(system_mode) == before


def test_leftovers_of_a_death_are_removed(system_mode, agent):
    """Trees that were half made or half deleted, with the keys in them; a session's own directory among them."""
    owner = (AGENTS / "a-b").stat()
    for name in [".new-aB3xYz", ".gone-0123abcd"]:
        (AGENTS / name / "keys").mkdir(parents=True)
        (AGENTS / name / "keys/k.json").write_text("secret")
        os.chown(AGENTS / name, owner.st_uid, owner.st_gid)
    system_mode.wait(lambda: time.time() > (AGENTS / ".new-aB3xYz").stat().st_ctime + 3, 10, "they are old enough")
    system_mode.kill("puffod.service")
    system_mode.wait(lambda: not [p for p in AGENTS.iterdir() if p.name.startswith(".")], 30, "they are gone",
                     lambda: list(AGENTS.iterdir()))
    assert agent.State == "ready"


def test_reader_of_the_journal(system_mode, agent, alice):
    """Started by root's puffod for an ordinary user: it is nobody, sees little, and does not outlive its reader."""
    def readers():
        out = system_mode.systemctl("list-units", "--plain", "--no-legend", "puffo-journal-*.service").stdout
        return [line.split()[0] for line in out.splitlines()]

    request = json.dumps({"scope": "system", "path": agent.path, "interface": agent.INTERFACE,
                          "method": "OpenJournal", "signature": "a{sv}", "args": [{"Follow": ["b", True]}]})
    client = alice.popen([HERE / "bus_call.py"], stdin=subprocess.PIPE)
    client.stdin.write(request)
    client.stdin.close()
    try:
        unit = system_mode.wait(readers, 20, "a reader runs")[0]
        for wanted in ['"fd"', '"MESSAGE"']:
            assert select.select([client.stdout], [], [], 20)[0], "nothing comes"
            assert wanted in client.stdout.buffer.raw.readline().decode()
        fields = status(system_mode.main_pid(unit))
        assert int(fields["Uid"].split()[0]) not in (0, alice.uid) and int(fields["CapEff"], 16) == 0
        assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"
        show = {p: system_mode.show(unit, p) for p in ["Slice", "TasksMax", "MemoryMax", "RuntimeMaxUSec",
                                                       "ProtectSystem", "ProtectHome"]}
        assert show == {"Slice": "puffod-readers.slice", "TasksMax": "8", "MemoryMax": str(128 << 20),
                        "RuntimeMaxUSec": "1d", "ProtectSystem": "strict", "ProtectHome": "yes"}
    finally:
        client.kill()
        client.wait()
        client.stdout.close()
    system_mode.wait(lambda: not readers(), 30, "the reader has gone with its reader")


def test_nobody_else_writes_in_the_journal_of_an_agent(system_mode, agent, alice, bob):
    """Fields are anybody's to log, but those of journald's own."""
    for fields in [f"UNIT={agent.Unit}", "PUFFO_AGENT=a-b"]:
        bob.run(["logger", "--journald"], input=f"MESSAGE=forged by bob\n{fields}\n")
    assert len(system_mode.journal("MESSAGE=forged by bob")) == 2
    out = agent.call("OpenJournal", "a{sv}", {}, user=alice)[-1]
    assert "forged" not in out
    # The service manager's word, and puffod's.
    assert "Started " in out and "7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a01" in out


def test_readers_are_counted(system_mode, agent, alice):
    """A unit each, for as long as their caller likes."""
    def count():
        out = system_mode.systemctl("list-units", "--plain", "--no-legend", "puffo-journal-*.service").stdout
        return len(out.splitlines())

    clients, answers = [], []
    request = json.dumps({"scope": "system", "path": agent.path, "interface": agent.INTERFACE,
                          "method": "OpenJournal", "signature": "a{sv}", "args": [{"Follow": ["b", True]}]})
    try:
        for _ in range(18):
            clients.append(alice.popen([HERE / "bus_call.py"], stdin=subprocess.PIPE))
            clients[-1].stdin.write(request)
            clients[-1].stdin.close()
        for client in clients:
            assert select.select([client.stdout], [], [], 20)[0], "nothing comes"
            answers.append(client.stdout.buffer.raw.readline().decode())
        assert count() == 16
        assert sum('"fd"' in a for a in answers) == 16 and sum("LimitsExceeded" in a for a in answers) == 2
    finally:
        for client in clients:
            client.kill()
            client.wait()
            client.stdout.close()
    system_mode.wait(lambda: count() == 0, 30, "the readers have gone with theirs")


def test_texts_that_are_cut(system_mode, alice):
    """puffod must not be disconnected by a name whose 80th byte is half a character."""
    count = restart_count(system_mode)
    for before in range(76, 81):
        with pytest.raises(BusError) as caught:
            system_mode.manager("CreateAgent", "sa{sv}", "x" * before + "\U0001F421", {})
        assert caught.value.name == "ai.puffo.Agents1.Error.InvalidName", caught.value
    assert restart_count(system_mode) == count


def test_quota(system_mode, bob):
    """One user cannot fill the machine; others are not concerned."""
    made = [f"many-{i}" for i in range(32)]
    busctl = ["busctl", "--system", "call", "ai.puffo.Agents1", "/ai/puffo/Agents1", "ai.puffo.Agents1.Manager",
              "CreateAgent", "sa{sv}"]
    try:
        for id in made:
            bob.run([*busctl, id, "1", "Start", "b", "false"])
        for method, signature, args in [("CreateAgent", "sa{sv}", ["one-more", {"Start": ["b", False]}]),
                                        ("Hire", "ss", ["one", "more"]), ("Init", "s", ["more"])]:
            with pytest.raises(BusError) as caught:
                system_mode.manager(method, signature, *args, user=bob)
            assert caught.value.name == "ai.puffo.Agents1.Error.AgentLimit", caught.value
        system_mode.manager("CreateAgent", "sa{sv}", "not-bobs", {"Start": ("b", False)})
        system_mode.agent("not-bobs").call("Delete")
    finally:
        for id in set(made) & set(system_mode.agents()):
            system_mode.agent(id).call("Delete", user=bob)
