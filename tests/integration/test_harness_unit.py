# SPDX-License-Identifier: MIT
"""The unit that an agent's tools run in, as puffod keeps it for a session. The session is session_double.py."""

import json
import os
import pathlib
import shutil
import socket
import subprocess
import time

import pytest

from machine import SOURCE, BusError, Failed, Suite, User
from conftest import forget, use_provider
from puffo_town import quick_restarts

DROP_IN = """[Service]
ExecStart=
ExecStart=/usr/bin/python3 -B {program} {scope} {directory}
WatchdogSec=0
TimeoutStopSec=5s
MemoryDenyWriteExecute=no
"""

FORKING = """
for i in 1 2 3; do (trap '' HUP; setsid sleep 1000 & echo forked; sleep 1000) & done
(while :; do sleep 0.01; done) &
wait
"""


class Hands:
    """An agent whose session does what a test says."""

    def __init__(self, suite, id, **options):
        self.suite, self.id = suite, id
        self.session, self.unit = f"puffo-session@{id}.service", f"puffo-harness@{id}.service"
        if suite.scope == "user":
            self.directory = self.seen = suite.user.home / ".puffo-agent/agents" / id
            self.drop_in = pathlib.Path(f"/etc/systemd/user/{self.session}.d/double.conf")
        else:
            self.directory = pathlib.Path("/var/lib/private/puffo") / id
            self.seen = pathlib.Path("/var/lib/puffo") / id
            self.drop_in = pathlib.Path(f"/etc/systemd/system/{self.session}.d/double.conf")
        self.workspace = self.seen / "workspace"
        self.drop_in.parent.mkdir(parents=True, exist_ok=True)
        self.drop_in.write_text(DROP_IN.format(program=SOURCE / "tests/integration/session_double.py",
                                               scope=suite.scope, directory=self.seen))
        suite.systemctl("daemon-reload")
        kind = {"RuntimeKind": ("s", "cli-local"), "Provider": ("s", "anthropic"), "Harness": ("s", "claude-code")}
        path = suite.manager("CreateAgent", "sa{sv}", id, {**kind, **{k: ("s", v) for k, v in options.items()}})[0]
        self.agent = suite.agent(id)
        assert self.agent.path == path
        self.agent.call("Start")

    def ask(self, do, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(90)
            s.connect(str(self.directory / "run/double.sock"))
            with s.makefile("rw", encoding="utf-8") as lines:
                lines.write(json.dumps({"do": do, **arguments}) + "\n")
                lines.flush()
                line = lines.readline()
        if do == "crash":
            return None
        answer = json.loads(line)
        if "error" in answer:
            raise BusError(answer["error"], answer["message"])
        return answer["result"]

    def start(self, script, **harness):
        launch = {"argv": ["/bin/bash", "-c", script], "env": {"PATH": "/usr/bin:/bin", "HOME": str(self.seen)},
                  "cwd": str(self.workspace), "model_socket": None, "proxy_socket": None}
        return self.ask("start", launch=launch,
                        harness={"Description": f"Script of {self.id}", "ReadWritePaths": [str(self.workspace)],
                                 "WorkingDirectory": str(self.workspace), **harness})

    def show(self, prop):
        return self.suite.show(self.unit, prop)

    def processes(self):
        """Everything below the unit's control group."""
        group = pathlib.Path("/sys/fs/cgroup") / self.show("ControlGroup").lstrip("/")
        return [int(pid) for path in group.rglob("cgroup.procs") for pid in path.read_text().split()]

    def wait_state(self, *states):
        return self.suite.wait(lambda: self.agent.HarnessState in states, 30, f"the harness is {states}",
                               lambda: self.agent.HarnessState)

    def wait_ready(self):
        """The session has come up, and has registered."""
        def is_ready():
            try:
                return self.agent.State == "ready" and self.ask("freeze", freeze=False) is False
            except (OSError, BusError, json.JSONDecodeError):
                return False
        return self.suite.wait(is_ready, 30, "the session is back")

    def remove(self):
        try:
            self.agent.call("Delete")
        except BusError as e:
            assert e.name.endswith("NoSuchAgent") or "UnknownObject" in e.name, e
        shutil.rmtree(self.drop_in.parent)
        self.suite.systemctl("daemon-reload")


@pytest.fixture(scope="module", params=["user", "system"])
def mode(request, alice, provider):
    suite = Suite(request.param, alice if request.param == "user" else User("root"))
    forget(alice)
    if request.param == "user":
        quick_restarts(alice)
    suite.start()
    use_provider(suite, provider, user=suite.user)
    yield suite
    suite.stop()
    forget(alice)
    for name in ["/var/lib/private/puffo", "/var/lib/puffo", "/var/lib/puffod"]:
        shutil.rmtree(name, ignore_errors=True)
    pathlib.Path("/etc/puffo/daemon.yml").unlink(missing_ok=True)
    for name in ["/var/lib/private/puffo", "/var/lib/puffo"]:
        pathlib.Path(name).mkdir(mode=0o755)


@pytest.fixture(scope="module")
def neighbour(mode):
    made = Hands(mode, "neighbour", SandboxProfile="workspace")
    yield made
    made.remove()


@pytest.fixture(scope="module")
def hands(mode, neighbour):
    made = Hands(mode, "hands", SandboxProfile="workspace")
    yield made
    made.remove()


@pytest.fixture(autouse=True)
def nothing_left(request):
    yield
    if "hands" in request.fixturenames:
        hands = request.getfixturevalue("hands")
        hands.ask("stop")


def test_a_harness_runs(hands):
    assert hands.agent.HarnessState == "none" and hands.agent.HarnessUnit == hands.unit
    started = hands.start("echo from the harness; read line; echo \"got $line\"; exit 0")
    assert started["Profile"] == "workspace" and started["Notice"] == ""
    assert hands.agent.HarnessState == "running"
    assert started["InvocationID"] == hands.show("InvocationID")
    assert hands.ask("line") == "from the harness\n"
    hands.ask("write", text="hello\n")
    # To the end: nobody else holds the pipe's other end.
    assert hands.ask("rest") == "got hello\n" and hands.ask("rest", pipe="err") == ""
    assert hands.ask("wait", invocation=started["InvocationID"]).items() >= {
        "Result": "success", "ExecMainCode": 1, "ExecMainStatus": 0}.items()
    hands.wait_state("none")
    # Read once, it is forgotten, but for whoever asks again.
    assert hands.show("LoadState") == "not-found"
    assert hands.ask("wait", invocation=started["InvocationID"])["Result"] == "success"
    assert hands.ask("wait", invocation="00" * 16)["Result"] == "unknown"


def test_unit_is_what_was_promised(hands):
    hands.start("echo ready; sleep 1000")
    assert hands.ask("line") == "ready\n"
    want = {"Slice": f"puffo-{hands.id}.slice", "Type": "exec", "KillMode": "control-group", "OOMPolicy": "stop",
            "OOMScoreAdjust": "500", "TimeoutStopUSec": "10s", "IgnoreSIGPIPE": "no", "PrivateUsers": "yes",
            "NoNewPrivileges": "yes", "ProtectControlGroups": "yes", "ProtectSystem": "strict", "ProtectHome": "tmpfs",
            "Restart": "no", "CollectMode": "inactive-or-failed", "Description": f"Script of {hands.id}"}
    assert {name: hands.show(name) for name in want} == want
    if hands.suite.scope == "system":
        assert hands.show("User") == hands.suite.show(hands.session, "User") == f"pf-{hands.id}"
        status = [pathlib.Path(f"/proc/{hands.suite.main_pid(unit)}/status").read_text()
                  for unit in [hands.unit, hands.session]]
        uids = {line for text in status for line in text.splitlines() if line.startswith("Uid:")}
        assert len(uids) == 1 and "\t0\t" not in uids.pop()
    # Where a part of /proc is covered, the kernel may give no new one.
    assert [hands.show(f"ProtectKernel{what}") for what in ["Tunables", "Logs"]] == ["no", "no"]
    # Nothing of what it runs is told to everybody.
    assert "sleep" not in hands.suite.systemctl("show", hands.unit).stdout


def test_it_is_shown(hands):
    ctl = lambda *words: hands.suite.user.run(["puffoctl", f"--{hands.suite.scope}", *words]).stdout  # noqa: E731
    assert "CLI: none\n" in ctl("agent", "show", hands.id)
    changes = hands.suite.user.popen(["busctl", f"--{hands.suite.scope}", "--json=short", "monitor", "--match",
                                      f"type='signal',member='PropertiesChanged',path='{hands.agent.path}'"],
                                     stderr=subprocess.PIPE) if hands.suite.scope == "user" else None
    if changes:
        assert changes.stderr.readline() == "Monitoring bus message stream.\n"
    hands.start("sleep 1000")
    shown = ctl("agent", "show", hands.id)
    assert "CLI: running\n" in shown and f"CLI unit: {hands.unit}\n" in shown
    agent = json.loads(ctl("agent", "show", "--json", hands.id))
    assert agent["harness_state"] == "running" and agent["harness_unit"] == hands.unit
    assert "No sandbox" not in ctl("status")
    hands.ask("stop")
    if changes:
        seen = []
        for line in changes.stdout:
            changed = json.loads(line)["payload"]["data"][1]
            seen += [changed["HarnessState"]["data"]] if "HarnessState" in changed else []
            if seen and seen[-1] == "none":
                break
        changes.kill()
        changes.communicate()
        assert "starting" in seen and "running" in seen, seen

    # What the service manager says of it is part of the agent's journal.
    subprocess.run(["journalctl", "--sync"], check=True)
    told = hands.agent.call("OpenJournal", "a{sv}", {"Lines": ("u", 50)})[-1]
    assert any(entry.get("USER_UNIT", entry.get("UNIT")) == hands.unit for entry in map(json.loads, told.splitlines()))


def test_what_it_sees(hands, neighbour, tmp_path):
    secret = hands.directory / "keys"
    secret.mkdir(exist_ok=True)
    (hands.directory / "notes").mkdir(exist_ok=True)
    (hands.directory / "notes/read.me").write_text("read me\n")
    for path in [secret, hands.directory / "notes", hands.directory / "notes/read.me"]:
        stat = hands.directory.stat()
        os.chown(path, stat.st_uid, stat.st_gid)
    hands.start(f"""
        echo mine >{hands.workspace}/written && echo wrote
        cat {hands.seen}/notes/read.me
        echo x 2>&1 >{hands.seen}/notes/read.me | grep -o 'Read-only'
        for hidden in keys agent.yml messages.db run runtime.json; do
                [ ! -e {hands.seen}/$hidden ] || echo sees $hidden
        done
        [ ! -e {neighbour.seen}/agent.yml ] || echo sees a neighbour
        find /run /home /tmp /var/lib -type s 2>/dev/null
        ls -d /home/*/.ssh 2>/dev/null
        echo end""", ReadOnlyPaths=[str(hands.seen / "notes")])
    assert hands.ask("rest") == "wrote\nread me\nRead-only\nend\n", hands.ask("rest", pipe="err")
    assert (hands.directory / "workspace/written").read_text() == "mine\n"


@pytest.mark.parametrize("script, result, code, status", [
    ("exit 7", "exit-code", 1, 7),
    ("kill -SEGV $$", "exit-code", 1, 139),
])
def test_how_it_ended(hands, script, result, code, status):
    invocation = hands.start(script)["InvocationID"]
    end = hands.ask("wait", invocation=invocation)
    assert (end["Result"], end["ExecMainCode"], end["ExecMainStatus"]) == (result, code, status)
    assert end["MemoryMax"] > 0


def test_killed(hands):
    invocation = hands.start("echo ready; sleep 1000")["InvocationID"]
    hands.ask("line")
    hands.suite.kill(hands.unit)
    end = hands.ask("wait", invocation=invocation)
    assert (end["Result"], end["ExecMainCode"], end["ExecMainStatus"]) == ("signal", 2, 9)
    # And at once again.
    hands.start("echo again")
    assert hands.ask("rest") == "again\n"


def test_one_at_a_time(hands):
    hands.start("sleep 1000")
    with pytest.raises(BusError) as e:
        hands.start("sleep 1000")
    assert e.value.name == "ai.puffo.Agents1.Error.HarnessRunning"


def start_forking(hands):
    hands.start(FORKING)
    assert [hands.ask("line") for _ in range(3)] == ["forked\n"] * 3


def test_stop_leaves_nothing(hands):
    for _ in range(100):
        start_forking(hands)
        group = pathlib.Path("/sys/fs/cgroup") / hands.show("ControlGroup").lstrip("/")
        assert len(hands.processes()) > 6
        hands.ask("stop")
        assert not group.exists() or not any(p.read_text() for p in group.rglob("cgroup.procs"))
        assert hands.show("ActiveState") == "inactive" and hands.agent.HarnessState == "none"


def test_freeze(hands):
    assert hands.ask("freeze", freeze=True) is False
    hands.start("while :; do echo tick; sleep 0.05; done")
    assert hands.ask("line") == "tick\n"
    group = pathlib.Path("/sys/fs/cgroup") / hands.show("ControlGroup").lstrip("/")
    able = (group / "cgroup.freeze").exists()
    assert hands.ask("freeze", freeze=True) is able
    hands.wait_state("frozen" if able else "running")
    assert hands.ask("freeze", freeze=False) is False
    hands.wait_state("running")
    assert hands.ask("line") == "tick\n"

    # One that is frozen can be stopped, and the next one is not said to be frozen.
    hands.ask("freeze", freeze=True)
    hands.ask("stop")
    hands.start("sleep 1000")
    assert hands.agent.HarnessState == "running"
    # So can one whose main process is killed.
    if hands.ask("freeze", freeze=True):
        hands.suite.kill(hands.unit)
        hands.wait_state("none")
        hands.start("echo on")
        assert hands.ask("rest") == "on\n"


def test_puffod_is_killed(hands):
    started = hands.start("echo first; read line; echo $line; exit 3")
    pid = hands.suite.main_pid(hands.unit)
    for _ in range(3):
        old = hands.suite.kill("puffod.service")
        hands.suite.wait(lambda: hands.suite.main_pid("puffod.service") not in (0, old), 30, "puffod is back")
        hands.wait_ready()
        assert hands.suite.main_pid(hands.unit) == pid and hands.agent.HarnessState == "running"
    with pytest.raises(BusError):
        hands.start("echo another")
    hands.ask("write", text="second\n")
    assert hands.ask("wait", invocation=started["InvocationID"])["ExecMainStatus"] == 3


def test_session_crashes(hands):
    started = hands.start("echo first; read line; echo $line; exit 4")
    pid = hands.suite.main_pid(hands.unit)
    restarts = hands.agent.Restarts
    hands.ask("crash")
    hands.suite.wait(lambda: hands.agent.Restarts > restarts and hands.agent.State == "ready", 60, "it is back")
    hands.wait_ready()
    assert hands.suite.main_pid(hands.unit) == pid and hands.agent.HarnessState == "running"
    hands.ask("write", text="second\n")
    assert hands.ask("rest") == "first\nsecond\n"
    assert hands.ask("wait", invocation=started["InvocationID"])["ExecMainStatus"] == 4


def assert_gone(hands):
    assert hands.show("ActiveState") == "inactive"
    assert hands.suite.show(f"puffo-{hands.id}.slice", "ActiveState") in ("inactive", "active")
    assert not hands.processes() if hands.show("ControlGroup") else True


def test_stop_of_the_agent(hands):
    for method in ["Stop", "Pause"]:
        start_forking(hands)
        hands.agent.call(method)
        if method == "Pause":
            hands.agent.wait_state("stopped")
        assert hands.agent.State == "stopped" and hands.agent.HarnessState == "none"
        assert_gone(hands)
        hands.agent.call("Start")
        hands.wait_ready()


def test_session_goes_for_good(hands):
    start_forking(hands)
    hands.suite.systemctl("stop", hands.session)
    hands.wait_state("none")
    assert_gone(hands)
    hands.agent.call("Start")
    hands.wait_ready()


def test_removal(mode):
    for how in ["Delete", "Archive", "directory"]:
        one = Hands(mode, f"leaves_{how.lower()}", SandboxProfile="workspace")
        start_forking(one)
        if how == "directory":
            moved = one.directory.with_name("." + one.directory.name)
            one.directory.rename(moved)
            mode.wait(lambda: one.show("ActiveState") == "inactive", 40, "the harness is gone")
            shutil.rmtree(moved)
        else:
            one.agent.call(how)
        assert_gone(one)
        one.remove()


def test_orphan(mode):
    """Its directory went while no puffod was there."""
    one = Hands(mode, "orphan", SandboxProfile="workspace")
    one.start("echo ready; sleep 1000")
    one.ask("line")
    mode.systemctl("stop", "puffod.socket", "puffod-credentials.socket", "puffod.service")
    shutil.rmtree(one.directory)
    mode.start()
    mode.wait(lambda: one.show("ActiveState") == "inactive", 40, "the harness is gone")
    one.remove()


def test_refused_paths(hands, neighbour, mode):
    own, other = str(hands.seen), str(neighbour.seen)
    refused = ["/", "/home", "/run", "/run/systemd", "/proc", "/sys", "/dev", "/etc/puffo", "/tmp", "relative",
               "/usr/../etc", "/usr//bin", "/usr/./bin", "/usr\nExecStart=/bin/sh", "/no/such/place", own,
               f"{own}/keys",
               f"{own}/agent.yml", f"{own}/messages.db", f"{own}/run", f"{own}/run/double.sock", other,
               f"{other}/workspace", f"{other}/agent.yml", "/run/dbus/system_bus_socket", str(hands.directory.parent)]
    if mode.scope == "user":
        refused += [str(mode.user.home), str(mode.user.home / ".puffo-agent"), str(mode.user.runtime)]
    else:
        refused += ["/var/lib", "/etc", "/var/lib/puffod"]
    for path in refused:
        for kind in ["ReadWritePaths", "ReadOnlyPaths"]:
            with pytest.raises(BusError) as e:
                hands.ask("start", harness={kind: [path]})
            assert e.value.name == "ai.puffo.Agents1.Error.InvalidArgument", (path, e.value)
    link = hands.directory / "workspace/link"
    link.symlink_to("../keys")
    (hands.directory / "workspace/plain").mkdir(exist_ok=True)
    inner = hands.directory / "workspace/inner"
    inner.symlink_to("plain")
    for path in [link, inner]:
        with pytest.raises(BusError) as e:
            hands.start("true", ReadOnlyPaths=[str(hands.seen / "workspace" / path.name)])
        assert e.value.name == "ai.puffo.Agents1.Error.InvalidArgument"
        path.unlink()
    for source, target in [(f"{own}/run/double.sock", "/run/dbus/system_bus_socket"),
                           (f"{own}/run/double.sock", "/run/puffo/../x"), (f"{own}/run/double.sock", "/run/puffo/"),
                           ("/run/dbus/system_bus_socket", "/run/puffo/bus"), (f"{own}/agent.yml", "/run/puffo/x")]:
        with pytest.raises(BusError) as e:
            hands.ask("start", harness={"Sockets": [[source, target]]})
        assert e.value.name == "ai.puffo.Agents1.Error.InvalidArgument", (source, target)
    assert hands.agent.HarnessState == "none"


def test_one_socket(hands):
    """Of the agent's sockets those that were asked for, under the names that were asked for."""
    hands.start("""
        ls /run/puffo
        exec 3<>/dev/null; python3 -c '
import socket
s = socket.socket(socket.AF_UNIX); s.connect("/run/puffo/tools.sock")
print("connected")'""",
                Sockets=[[str(hands.seen / "run/double.sock"), "/run/puffo/tools.sock"]])
    assert hands.ask("rest") == "tools.sock\nconnected\n", hands.ask("rest", pipe="err")


@pytest.mark.parametrize("profile", ["host", "strict"])
def test_other_profiles(mode, profile):
    one = Hands(mode, f"as_{profile}", SandboxProfile=profile)
    started = one.start("echo ready; cat /proc/net/dev | tail -n +3 | wc -l; echo x >written && cat written; ls /run")
    assert started["Profile"] == profile
    assert [one.show(f"ProtectKernel{what}") for what in ["Tunables", "Logs"]] == ["no", "no"]
    lines = one.ask("rest").splitlines()
    assert lines[0] == "ready" and lines[2] == "x", (lines, one.ask("rest", pipe="err"))
    if profile == "strict":
        assert lines[1] == "1"
    one.remove()


# What would run outside of every sandbox, or let somebody in, once it is there.
TRAPS = [".ssh/authorized_keys", ".gnupg/gpg.conf", ".local/share/keyrings/login.keyring",
         ".config/systemd/user/x.service", ".local/share/systemd/user/x.service", ".config/environment.d/x.conf",
         ".config/autostart/x.desktop", ".config/user-tmpfiles.d/x.conf", ".local/share/user-tmpfiles.d/x.conf",
         ".local/share/dbus-1/services/x.service"]


def test_traps_in_the_home(mode):
    """The profile host shows the home. What decides what runs outside is not for a harness, there or not."""
    if mode.scope == "system":
        return      # agents have no home of a person's there
    home = mode.user.home
    aside = home / "aside-of-traps"
    aside.mkdir()
    for name in [".ssh", ".gnupg", ".config", ".local"]:
        if (home / name).exists():
            (home / name).rename(aside / name)
    one = Hands(mode, "trapper", SandboxProfile="host")
    try:
        one.start(f"""
            cd {home}
            try() {{ ( "$@" ) 2>/dev/null && echo "did: $*"; }}
            lay() {{ mkdir -p "$(dirname "$1")" && echo trap >"$1"; }}
            for trap in {' '.join(TRAPS)}; do
                    try lay $trap
                    top=$trap
                    while [ "$top" != . ]; do
                            [ ! -e "$top" ] || {{ try mv "$top" "gone-$(basename $top)"; try rm -rf "$top"; }}
                            try ln -sfT /tmp/mine "$top"
                            try lay $trap
                            top=$(dirname "$top")
                    done
            done
            try ls .ssh
            try ls .gnupg
            try ls .local/share/keyrings
            try chmod 0777 .ssh .config/systemd
            try umount .config/systemd
            echo fine >.config/other-program && cat .config/other-program
            echo end""")
        said = one.ask("rest")
        done = [line for line in said.splitlines() if line.startswith("did:")]
        assert said.endswith("fine\nend\n") and not done, said + one.ask("rest", pipe="err")
        assert [trap for trap in TRAPS if (home / trap).exists()] == []
        assert (home / ".ssh").is_dir() and (home / ".ssh").stat().st_mode & 0o7777 == 0o700

        one.ask("stop")
        # Nor is it started where it could not be kept from that.
        (home / ".ssh").rmdir()
        (home / ".ssh").symlink_to(aside)
        with pytest.raises(BusError) as e:
            one.start("true")
        assert e.value.name == "ai.puffo.Agents1.Error.SandboxUnavailable" and "is a link" in e.value.message
        (home / ".ssh").unlink()
        one.start("echo again")
        assert one.ask("rest") == "again\n"
    finally:
        one.remove()
        for path in home.glob("gone-*"):
            shutil.rmtree(path)
        for name in [".ssh", ".gnupg", ".config", ".local"]:
            shutil.rmtree(home / name, ignore_errors=True)
            if (aside / name).exists():
                (aside / name).rename(home / name)
        aside.rmdir()


EXCHANGER = """
import ctypes, sys
libc = ctypes.CDLL(None)
while True:
    libc.renameat2(-100, sys.argv[1].encode(), -100, sys.argv[2].encode(), 2)   # RENAME_EXCHANGE
"""


def test_a_path_that_changes(mode):
    """Somebody puts a link to a secret in a directory's place and takes it away again, all the time."""
    one = Hands(mode, "racer", SandboxProfile="workspace")
    top, work = one.directory / "racing", one.seen / "racing/work"
    owner = one.directory.stat()
    for directory, text in [(top / "work", "mine\n"), (one.directory / "keys", "secret\n")]:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "file").write_text(text)
        for path in directory, directory / "file", directory.parent:
            os.chown(path, owner.st_uid, owner.st_gid)
    (top / "link").symlink_to(one.directory / "keys")
    exchanger = mode.user.popen(["/usr/bin/python3", "-c", EXCHANGER, top / "work", top / "link"])
    outcomes = []
    try:
        for _ in range(30):
            try:
                one.start(f"cat {work}/file", ReadWritePaths=[str(one.workspace), str(work)])
            except BusError as e:
                # Or it was away when the service manager looked.
                assert e.name.endswith("InvalidArgument") or "(mount namespace)" in e.message, e
                outcomes.append("not started")
                continue
            out, err = one.ask("rest"), one.ask("rest", pipe="err")
            one.ask("stop")
            outcomes.append(out.strip() or err.strip())
    finally:
        exchanger.kill()
        exchanger.communicate()
        one.remove()
    assert "secret" not in outcomes
    wrong = [text for text in outcomes if text not in ("mine", "not started")
             and text != f"puffo-sandbox: '{work}' is not the directory that was checked"]
    assert not wrong and "not started" in outcomes, outcomes


def sandbox(suite):
    return suite.get("/ai/puffo/Agents1", "ai.puffo.Agents1.Manager", "Sandbox")


def restart(hands):
    old = hands.suite.kill("puffod.service")
    hands.suite.wait(lambda: hands.suite.main_pid("puffod.service") not in (0, old), 30, "puffod is back")
    hands.wait_ready()


def probes(suite):
    return [e["_SYSTEMD_UNIT"] if suite.scope == "system" else e["_SYSTEMD_USER_UNIT"] for e in suite.journal()
            if "The sandbox '" in e["MESSAGE"]]


def test_sandbox_is_tried_once(hands):
    hands.start("true")
    assert sandbox(hands.suite)["workspace"] == "ok"
    before = len(probes(hands.suite))
    restart(hands)
    hands.start("true")
    assert sandbox(hands.suite)["workspace"] == "ok" and len(probes(hands.suite)) == before
    units = hands.suite.systemctl("list-units", "--all", "--plain", "--no-legend", "puffo-probe-*").stdout
    assert units == ""


@pytest.fixture
def forgetful(hands):
    """What puffod has found out of sandboxes is forgotten, before and after."""
    runtime = hands.suite.user.runtime if hands.suite.scope == "user" else pathlib.Path("/run")
    cache = runtime / "puffod/sandbox.json"
    hands.start("true")
    assert "workspace" in json.loads(cache.read_text())
    place = pathlib.Path(f"/etc/systemd/{hands.suite.scope}/puffo-probe-.service.d")
    place.mkdir()
    yield cache, place
    shutil.rmtree(place)
    hands.suite.systemctl("daemon-reload")
    cache.unlink(missing_ok=True)
    restart(hands)
    hands.start("true")
    assert sandbox(hands.suite)["workspace"] == "ok"


@pytest.mark.parametrize("setting, reason", [
    # Ignored without a word by a user manager of this version is what hangs on the first one.
    ("\n".join(["PrivateUsers=no", "ProtectSystem=no", "ProtectHome=no", "TemporaryFileSystem=", "BindPaths=",
                "BindReadOnlyPaths=", "InaccessiblePaths=", "PrivateDevices=no", "CapabilityBoundingSet=~"]),
     "can be written"),
    ("TemporaryFileSystem=\nProtectHome=no", "is there"),
    ("BindPaths=/no/such/place", "mount namespace"),
    ("ExecStart=\nExecStart=/bin/echo hello", "no answer"),
    ("ExecStart=\nExecStart=/bin/false", "has failed"),
])
def test_what_is_not_there_is_not_promised(hands, forgetful, setting, reason):
    cache, place = forgetful
    (place / "weaker.conf").write_text(f"[Service]\n{setting}\n")
    hands.suite.systemctl("daemon-reload")
    cache.unlink()
    restart(hands)
    if hands.suite.scope == "system" and reason == "can be written":
        reason = "can be reached"       # DynamicUser= keeps the system read-only whatever is said
    with pytest.raises(BusError) as e:
        hands.start("echo must not run")
    assert e.value.name == "ai.puffo.Agents1.Error.SandboxUnavailable"
    assert reason in e.value.message and reason in sandbox(hands.suite)["workspace"]
    assert hands.agent.HarnessState == "none"
    said = hands.suite.user.run(["puffoctl", f"--{hands.suite.scope}", "status"]).stdout
    assert "No sandbox: workspace: " in said and reason in said
    # What was missing may be there when somebody says so.
    (place / "weaker.conf").unlink()
    hands.suite.systemctl("daemon-reload")
    hands.suite.manager("Reload", user=User("root") if hands.suite.scope == "system" else None)
    hands.start("echo runs")
    assert hands.ask("rest") == "runs\n"


def test_host_by_default(mode):
    """An agent.yml of before there were profiles."""
    one = Hands(mode, "old", SandboxProfile="host")
    assert one.start("true")["Notice"] == ""
    one.ask("stop")
    path = one.directory / "agent.yml"
    path.write_text("".join(line for line in path.read_text().splitlines(True) if "sandbox_profile" not in line))
    mode.manager("Reload", user=User("root") if mode.scope == "system" else None)
    started = one.start("true")
    assert started["Profile"] == "host" and "sandbox_profile" in started["Notice"]
    one.remove()


def test_chat_has_no_hands(mode):
    one = Hands(mode, "talker", SandboxProfile="workspace")
    one.agent.call("SetRuntime", "a{sv}", {"RuntimeKind": ("s", "chat-local"), "Harness": ("s", "")})
    one.wait_ready()
    with pytest.raises(BusError) as e:
        one.start("true")
    assert e.value.name == "ai.puffo.Agents1.Error.InvalidConfig"
    one.remove()
