# SPDX-License-Identifier: MIT
"""The sandbox of coding CLIs: what is promised is tried from inside, and nothing runs where it is not kept."""

import contextlib
import ctypes
import json
import os
import pathlib
import signal
import socket
import stat
import subprocess
import time

import pytest

from machine import LINK
from sandbox_unit import SANDBOX, EchoServer, Sandbox, SystemSandbox

PROFILES = ["host", "workspace", "strict"]
LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="module")
def sandbox(alice):
    return Sandbox(alice)


@pytest.fixture(scope="module")
def outside():
    """Somebody on the machine, as alice: a port, an abstract socket, a terminal, shared memory and a message queue."""
    port = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0puffo-test-abstract")
    abstract.listen(8)
    terminal = os.openpty()
    os.chmod(os.ttyname(terminal[1]), 0o666)
    memory = pathlib.Path("/dev/shm/puffo-test-outside")
    memory.touch()
    memory.chmod(0o666)
    queue = LIBC.mq_open(b"/puffo-test-outside", os.O_CREAT | os.O_RDWR, 0o666, None)
    assert queue >= 0, os.strerror(ctypes.get_errno())
    os.fchmod(queue, 0o666)
    yield {"port": port.getsockname()[1], "abstract": "puffo-test-abstract", "terminal": os.ttyname(terminal[1]),
           "name": "puffo-test-outside"}
    port.close()
    abstract.close()
    memory.unlink()
    LIBC.mq_unlink(b"/puffo-test-outside")
    for fd in *terminal, queue:
        os.close(fd)


@pytest.fixture
def network(alice):
    """Where puffo-link's socket is, one that lets everybody in who gets so far."""
    path = alice.runtime / "puffo/link"
    alice.run(["systemctl", "--user", "stop", *LINK])
    if not path.parent.is_dir():
        path.parent.mkdir()
        os.chown(path.parent, alice.uid, alice.gid)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(8)
        alice.run(["python3", "-c", "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])", path])
        yield path
    path.unlink()


def processes(*names):
    """Numbers of the processes with one of these names."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/comm"):
        try:
            name = entry.read_text().strip()
        except OSError:
            continue
        if name in names:
            found.append(int(entry.parent.name))
    return found


def wait_until(condition, what, deadline=90):
    end = time.monotonic() + deadline
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


# What a hostile CLI would try. Every entry is something that it must not get in some profile.
HOSTILE = """
import ctypes, json, os, resource, signal, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
uid, home, target, port, abstract = os.getuid(), *sys.argv[1:3], int(sys.argv[3]), sys.argv[4]
target = int(target)
terminal, name = sys.argv[5:7]
def can(what):
    try:
        return bool(what())
    except OSError:
        return False
def opens(path, flags):
    os.close(os.open(path, flags))
    return True
def connects(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as s:
        s.settimeout(2)
        s.connect(address)
        return True
def does(call, *arguments):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if call(*arguments) >= 0 else 1)
    return os.waitpid(pid, 0)[1] == 0
def groups():
    for line in open("/proc/self/mountinfo"):
        point, kind = line.split()[4], line.split(" - ")[1].split()[0]
        if kind.startswith("cgroup"):
            own = f"{point}/user.slice/user-{uid}.slice/user@{uid}.service/cgroup.procs"
            yield own if os.path.exists(own) else f"{point}/cgroup.procs"
def queue(name, flags):
    return libc.mq_open(f"/{name}".encode(), flags, 0o666, None) >= 0
def own_terminal():
    return os.stat(os.ttyname(os.openpty()[1])).st_rdev == os.makedev(136, 0)
run = f"/run/user/{uid}"
status = dict(line.split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
print(json.dumps({
    "processes": sorted(int(p) for p in os.listdir("/proc") if p.isdigit()) != [1, os.getpid()],
    "kill": can(lambda: os.kill(target, 0) is None),
    "prlimit": can(lambda: resource.prlimit(target, resource.RLIMIT_CORE)),
    "renice": can(lambda: os.setpriority(os.PRIO_PROCESS, target, 19) is None),
    "control group": any(can(lambda: opens(g, os.O_WRONLY)) for g in groups()),
    "bus": can(lambda: connects(socket.AF_UNIX, f"{run}/bus")),
    "manager": can(lambda: connects(socket.AF_UNIX, f"{run}/systemd/private")),
    "network": can(lambda: connects(socket.AF_UNIX, f"{run}/puffo/link")),
    "notify": can(lambda: connects(socket.AF_UNIX, f"{run}/systemd/notify", socket.SOCK_DGRAM)),
    "system bus": can(lambda: connects(socket.AF_UNIX, "/run/dbus/system_bus_socket")),
    "ssh keys": can(lambda: opens(f"{home}/.ssh/id_test", os.O_RDONLY)),
    "process 1": can(lambda: opens("/proc/1/mem", os.O_RDWR) or opens("/proc/1/root", os.O_RDONLY)),
    "capabilities": any(int(status[c], 16) for c in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd")),
    "privileges": status["NoNewPrivs"].strip() != "1",
    "setuid bit": can(lambda: os.chmod("notes", 0o4755) is None),
    "more descriptors": len(os.listdir("/proc/self/fd")) != 4,
    "umask": os.umask(0) != 0o077,
    "session": os.getsid(0) != os.getpid(),
    "secret": can(lambda: opens(f"{home}/secret", os.O_RDONLY)),
    "home": set(os.listdir(home)) != {"sandbox-work"},
    "write system": any(can(lambda: opens(d, os.O_TMPFILE | os.O_WRONLY)) for d in ("/", "/usr", "/etc", "/srv", "/var")),
    "tmp": bool(os.listdir("/tmp")),
    "devices": bool(set(os.listdir("/dev")) & {"console", "kmsg", "sda", "fuse", "net"}),
    "port": can(lambda: connects(socket.AF_INET, ("127.0.0.1", port))),
    "abstract": can(lambda: connects(socket.AF_UNIX, "\\0" + abstract)),
    "interfaces": {i for _, i in socket.if_nameindex()} != {"lo"} if status["Seccomp"].strip() == "0" else
                  len(open("/proc/net/dev").readlines()) > 3,
    "user namespace": does(libc.unshare, 0x10000000),
    "clone": does(lambda: libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0)),
    "keys": does(lambda: libc.syscall(250, 0, -2, 1)),
    "io_uring": does(lambda: libc.syscall(425, 1, ctypes.create_string_buffer(120))),
    "userfaultfd": does(lambda: libc.syscall(323, 1)),
    "workspace": not can(lambda: opens("new", os.O_CREAT | os.O_WRONLY)),
    "terminal": can(lambda: opens(terminal, os.O_RDWR | os.O_NOCTTY)),
    "terminals": os.listdir("/dev/pts") != ["ptmx"],
    "shared memory": can(lambda: opens(f"/dev/shm/{name}", os.O_RDWR)) or os.listdir("/dev/shm") != [],
    "queue": queue(name, os.O_RDWR) or can(lambda: opens(f"/dev/mqueue/{name}", os.O_RDONLY)),
    "own memory": not can(lambda: opens("/dev/shm/puffo-test-inside", os.O_CREAT | os.O_EXCL | os.O_RDWR)),
    "own queue": not queue("puffo-test-inside", os.O_CREAT | os.O_EXCL | os.O_RDWR),
    "own terminal": not can(own_terminal),
}))
"""

# What a profile lets through on purpose.
OPEN = {
    "host": {"secret", "home", "tmp", "devices", "port", "abstract", "user namespace", "clone", "keys", "write system",
             "interfaces", "io_uring", "userfaultfd"},
    "workspace": {"port", "abstract", "user namespace", "clone", "keys", "interfaces", "io_uring", "userfaultfd"},
    "strict": set(),
}


@pytest.mark.parametrize("profile", PROFILES)
def test_hostile(sandbox, alice, outside, network, profile):
    victim = subprocess.Popen(["sleep", "600"], user=alice.uid, group=alice.gid, extra_groups=[])
    try:
        out = sandbox.run(profile, ["/usr/bin/python3", "-B", "-c", HOSTILE, alice.home, victim.pid, outside["port"],
                                    outside["abstract"], outside["terminal"], outside["name"]])
    finally:
        victim.kill()
        victim.wait()
    assert out.returncode == 0, out.stdout + out.stderr
    got = {name for name, succeeded in json.loads(out.stdout).items() if succeeded}
    assert got <= OPEN[profile]
    # What it has made in there is not here.
    assert not os.path.exists("/dev/shm/puffo-test-inside") and LIBC.mq_open(b"/puffo-test-inside", os.O_RDWR) < 0
    # The script would say so if it could: these are there to be had.
    if profile == "host":
        assert got >= {"secret", "home", "port", "abstract", "user namespace"}
    if profile == "workspace":
        assert got >= {"port", "abstract", "user namespace", "clone"}


def target_options(outside, pid):
    return [f"--port={outside['port']}", f"--abstract={outside['abstract']}", f"--pid={pid}"]


@pytest.mark.parametrize("profile", PROFILES)
def test_probe(sandbox, outside, profile):
    out = sandbox.run(profile, None, raw="", options=["--probe", *target_options(outside, sandbox.manager_pid())])
    assert json.loads(out.stdout) == {"profile": profile, "violations": [], "missing": []}, out.stderr
    assert out.returncode == 0 and out.stdout.count("\n") == 1


# One property that is not there, or not effective, and what is said about it.
LACKS = [
    ("host", ["PrivateUsers"], "the unit has no user namespace of its own"),
    ("host", ["ProtectControlGroups"], "the control groups at "),
    ("host", ["InaccessiblePaths=/run/user"], "the socket /run/user/"),
    ("workspace", ["PrivateUsers", "BindPaths", "TemporaryFileSystem", "PrivateDevices"],
     "the unit has no user namespace of its own"),
    ("workspace", ["ProtectSystem"], "/ can be written"),
    ("workspace", ["ProtectHome"], "/home/"),
    ("workspace", ["PrivateTmp"], "/tmp/"),
    ("workspace", ["PrivateDevices"], "the device /dev/puffo-test-disk is there"),
    ("workspace", ["ProtectControlGroups"], "the control groups at "),
    ("workspace", ["TemporaryFileSystem"], "the socket /run/"),
    ("strict", ["PrivateNetwork"], "the network is the machine's"),
]


@pytest.fixture(scope="module")
def visible():
    """What a real machine has, and this one may not."""
    temporary, device = pathlib.Path("/tmp/puffo-test-visible"), pathlib.Path("/dev/puffo-test-disk")
    temporary.touch()
    os.mknod(device, stat.S_IFBLK, os.makedev(7, 250))
    yield
    temporary.unlink()
    device.unlink()


@pytest.mark.parametrize("profile,without,reason", LACKS)
def test_a_promise_that_is_not_kept(sandbox, outside, visible, profile, without, reason):
    network = [f"--network-namespace={os.stat('/proc/self/ns/net').st_ino}"]
    out = sandbox.run(profile, ["/bin/echo", "started"], without=without, options=network)
    assert out.returncode == 78 and "started" not in out.stdout
    assert out.stderr.startswith(f"puffo-sandbox: the profile {profile} is not what it promises: {reason}"), out.stderr
    assert out.stderr.count("\n") == 1

    probe = sandbox.run(profile, None, raw="", without=without,
                        options=["--probe", *network, *target_options(outside, sandbox.manager_pid())])
    told = json.loads(probe.stdout)
    assert probe.returncode == 1 and any(text.startswith(reason) for text in told["missing"]), told
    # What is more than an omission shows: the probe gets out.
    if without not in (["PrivateUsers"], ["PrivateDevices"]):
        assert told["violations"], told


def test_a_machine_without_a_network(sandbox):
    """It has no other interface than the sandbox is to have, and is not the sandbox."""
    assert socket.if_nameindex() == [(1, "lo")]
    out = sandbox.run("strict", ["/bin/true"], without=["PrivateNetwork"])
    assert (out.returncode, out.stderr) == (
        78, "puffo-sandbox: the profile strict is not what it promises: the network is shared with others\n")


@pytest.mark.parametrize("script,status", [
    ("exit 0", 0), ("exit 42", 42), ("exit 255", 255), ("kill -TERM $$", 143), ("kill -KILL $$", 137),
    ("kill -SEGV $$", 139), ("exec /nowhere/at/all", 127), ("kill -TERM 1; kill -KILL 1; exit 3", 3)])
def test_exit_status(sandbox, script, status):
    assert sandbox.run("workspace", ["/bin/sh", "-c", script]).returncode == status


@pytest.mark.parametrize("argv,status,reason", [
    (["/nowhere/claude"], 127, "/nowhere/claude cannot be executed: No such file or directory"),
    (["/etc/passwd"], 126, "/etc/passwd cannot be executed: Permission denied")])
def test_a_program_that_is_none(sandbox, argv, status, reason):
    out = sandbox.run("workspace", argv)
    assert (out.returncode, out.stderr) == (status, f"puffo-sandbox: {reason}\n")


@pytest.mark.parametrize("raw,reason", [
    ("", "the launch is cut off"),
    ("hello, world\n", "the launch does not begin with its size"),
    ("7fffffff\n", "the launch is too large"),
    ("00000002\n{}", "argv is missing"),
    ("00000002\n[]", "the launch is no JSON object"),
])
def test_a_launch_that_is_none(sandbox, raw, reason):
    out = sandbox.run("workspace", None, raw=raw)
    assert (out.returncode, out.stdout, out.stderr) == (78, "", f"puffo-sandbox: {reason}\n")


def test_a_working_directory_that_is_not_there(sandbox):
    out = sandbox.run("workspace", ["/bin/true"], more={"cwd": "/nowhere"})
    assert out.returncode == 78
    assert out.stderr == "puffo-sandbox: the working directory /nowhere cannot be entered: No such file or directory\n"


def place(path, kind="rw"):
    found = os.stat(path)
    return f"--place={kind}:{found.st_dev}:{found.st_ino}:{path}"


def test_places(sandbox):
    """What is mounted is what was looked at before, or nothing is started."""
    notes, keys = sandbox.workspace / "notes", sandbox.user.home / ".ssh"
    good = [place(sandbox.workspace), place(notes, "ro")]
    read_only = {"mounts": [f"BindReadOnlyPaths={notes}"]}
    assert sandbox.run("workspace", ["/bin/true"], options=good, **read_only).returncode == 0
    out = sandbox.run("workspace", ["/bin/true"], options=good)
    assert (out.returncode, out.stderr) == (78, f"puffo-sandbox: '{notes}' can be written\n")
    # As if the workspace had become a link to the keys when the service manager looked for it.
    out = sandbox.run("workspace", ["/bin/true"], options=good, without=["BindPaths"],
                      mounts=[f"BindPaths={keys}:{sandbox.workspace}"])
    assert (out.returncode, out.stderr) == (
        78, f"puffo-sandbox: '{sandbox.workspace}' is not the directory that was checked\n")
    out = sandbox.run("workspace", ["/bin/true"], options=[place(keys)])
    assert (out.returncode, out.stderr) == (78, f"puffo-sandbox: '{keys}' is not there\n")


def test_a_file_that_is_replaced(sandbox, running):
    """The kernel takes the mount away from what is replaced outside: with that, it could be written."""
    fixed = sandbox.workspace / "fixed"
    fixed.write_text("told\n")
    os.chown(fixed, sandbox.user.uid, sandbox.user.gid)
    hostile = f"echo ready; while :; do echo hacked 2>/dev/null >{fixed}; done"
    options = {"options": [place(sandbox.workspace), place(fixed, "ro")], "mounts": [f"BindReadOnlyPaths={fixed}"]}
    cli = running(hostile, **options)
    # Overwritten where it is: no harm, and it sees that.
    fixed.write_text("told more\n")
    time.sleep(0.3)
    assert fixed.read_text() == "told more\n" and cli.show("ActiveState") == "active"
    new = fixed.with_name("new")
    new.write_text("told otherwise\n")
    os.chown(new, sandbox.user.uid, sandbox.user.gid)
    new.rename(fixed)
    assert cli.process.wait(timeout=60) == 79
    fixed.unlink()


def test_options(sandbox):
    for options in [["--profile=none"], ["--hidden=relative"], ["--kept=relative"], ["--place=ro:1:2"], ["--pid=x"], ["--port=70000"], ["more"], ["--what"]]:
        out = sandbox.user.run([SANDBOX, "--profile=host", *options], input="", check=False)
        assert out.returncode == 78 and out.stderr.count("\n") == 1, options
    assert sandbox.user.run([SANDBOX], input="", check=False).stderr == "puffo-sandbox: --profile= is missing\n"


def test_environment_and_input(sandbox):
    """The environment is the launch's and nothing else; what follows it on standard input is the CLI's."""
    script = "import json, os, sys; print(json.dumps([dict(os.environ), os.getcwd(), sys.stdin.read()]))"
    environment, cwd, rest = sandbox.python("workspace", script, env={"HOME": "/x", "Q": "a\n{b}=c"}, input="first\nsecond")
    environment.pop("LC_CTYPE", None)   # python's own
    assert environment == {"PATH": "/usr/bin:/bin", "HOME": "/x", "Q": "a\n{b}=c"}
    assert cwd == str(sandbox.workspace) and rest == "first\nsecond"


def test_hidden_paths(sandbox, alice):
    out = sandbox.run("host", ["/bin/true"], options=[f"--hidden={alice.home}/secret"])
    assert (out.returncode, out.stderr) == (78, "puffo-sandbox: the profile host is not what it promises: "
                                                f"{alice.home}/secret can be reached\n")
    assert sandbox.run("host", ["/bin/true"], options=[f"--hidden={alice.home}/.ssh"]).returncode == 0
    assert sandbox.run("workspace", ["/bin/true"], options=[f"--hidden={alice.home}"]).returncode == 0


def test_orphans(sandbox):
    """What loses its parent is reaped while the CLI runs, and what stays behind does not outlive it."""
    script = """
import json, os, subprocess, time
for _ in range(50):
    subprocess.run(["/bin/sh", "-c", "sleep 0.05 &"], check=True)
end = time.monotonic() + 10
while time.monotonic() < end and len([p for p in os.listdir("/proc") if p.isdigit()]) > 2:
    time.sleep(0.05)
left = sorted(int(p) for p in os.listdir("/proc") if p.isdigit())
subprocess.run(["/bin/sh", "-c", "setsid nohup sleep 87654 >/dev/null 2>&1 &"], check=True)
print(json.dumps(left == [1, os.getpid()]))
"""
    assert sandbox.python("workspace", script) is True
    wait_until(lambda: not [p for p in processes("sleep") if b"87654" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes()],
               "what the CLI had started is still there")


class Running:
    """A unit with a CLI that says "ready" and then goes on."""

    def __init__(self, sandbox, script, profile="workspace", **more):
        self.sandbox, self.unit = sandbox, f"puffo-test-running-{os.getpid()}-{time.monotonic_ns()}"
        self.process = sandbox.user.popen(sandbox.command(profile, unit=self.unit, **more), stdin=subprocess.PIPE,
                                          stderr=subprocess.PIPE)
        self.process.stdin.write(sandbox.launch(["/bin/bash", "-c", script]))
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ready\n"

    def show(self, name):
        return self.sandbox.user.run(["systemctl", "--user", "show", "--value", "-p", name, self.unit]).stdout.strip()

    def pids(self):
        """Of the unit, the main one first."""
        group = pathlib.Path("/sys/fs/cgroup" + self.show("ControlGroup")) / "cgroup.procs"
        return sorted(int(line) for line in group.read_text().split())

    def close(self):
        self.process.kill()
        self.process.wait()
        for stream in self.process.stdin, self.process.stdout, self.process.stderr:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.sandbox.user.run(["systemctl", "--user", "stop", self.unit], check=False)


@pytest.fixture
def running(sandbox, request):
    made = []

    def start(*arguments, **more):
        made.append(Running(sandbox, *arguments, **more))
        return made[-1]
    yield start
    for one in made:
        one.close()


def test_stop(sandbox, running):
    cli = running('trap "echo got TERM; exit 7" TERM; echo ready; while :; do sleep 0.1; done')
    pids = cli.pids()
    assert pids[0] == int(cli.show("MainPID")) and len(pids) >= 3
    sandbox.user.run(["systemctl", "--user", "stop", cli.unit])
    out, _ = cli.process.communicate(timeout=90)
    assert "got TERM" in out
    wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids), "processes are left")


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_signals_are_passed_on(running, name):
    cli = running(f'trap "echo got it; exit 9" {name}; echo ready; while :; do sleep 0.1; done')
    os.kill(int(cli.show("MainPID")), getattr(signal, f"SIG{name}"))
    out, _ = cli.process.communicate(timeout=90)
    assert (out, cli.process.returncode) == ("got it\n", 9)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_any_of_the_three_killed(running, which):
    """The outer process, process 1 and the CLI: none is there without the others."""
    cli = running("sleep 600 & echo ready; wait")
    pids = cli.pids()
    os.kill(pids[which], signal.SIGKILL)
    cli.process.wait(timeout=90)
    assert cli.process.returncode != 0
    wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids), "processes are left")


def test_only_the_cli_holds_its_pipes(running):
    """Otherwise the session would not see it close them."""
    cli = running("exec 3<>/dev/null; echo ready; read line; exit 5")
    outer, init, *rest = cli.pids()
    for pid in outer, init:
        held = [os.readlink(f) for f in pathlib.Path(f"/proc/{pid}/fd").iterdir()]
        assert not {os.readlink(f"/proc/{rest[0]}/fd/{n}") for n in range(3)} & set(held), held
    cli.process.stdin.close()
    assert cli.process.wait(timeout=90) == 5


@pytest.fixture
def model(alice, sandbox):
    directory = alice.home / "sandbox-run"
    directory.mkdir(exist_ok=True)
    os.chown(directory, alice.uid, alice.gid)
    server = EchoServer(alice, directory / "model.sock")
    yield server
    server.close()


@pytest.mark.parametrize("profile", ["workspace", "strict"])
def test_relay(sandbox, model, profile):
    """Fifty connections at once, each with more than fits into any buffer, each closed by half."""
    script = """
import json, os, socket, threading
port, good = int(os.environ["ENDPOINT"].rpartition(":")[2]), []
def one(number):
    with socket.create_connection(("127.0.0.1", port)) as s:
        text, got = bytes([number]) * 300000 + b"end", b""
        thread = threading.Thread(target=lambda: (s.sendall(text), s.shutdown(socket.SHUT_WR)))
        thread.start()
        while piece := s.recv(65536):
            got += piece
        thread.join()
        good.append(got == text[::-1])
threads = [threading.Thread(target=one, args=[n]) for n in range(50)]
for t in threads: t.start()
for t in threads: t.join()
print(json.dumps([len(good), all(good), os.environ["ENDPOINT"]]))
"""
    number, good, endpoint = sandbox.python(profile, script, env={"ENDPOINT": "http://127.0.0.1:{model_port}"},
                                            more={"model_socket": "/run/puffo/model.sock", "proxy_socket": None},
                                            sockets=[(model.path, "/run/puffo/model.sock")])
    assert (number, good, model.count) == (50, True, 50)
    assert "{" not in endpoint


def test_a_port_without_a_socket(sandbox):
    out = sandbox.run("workspace", ["/bin/true"], env={"P": "{proxy_port}"}, more={"proxy_socket": None})
    assert (out.returncode, out.stderr) == (78, "puffo-sandbox: variable 'P' names a port that is not relayed\n")


def test_namespaces_in_the_workspace(sandbox):
    """A CLI may put its own tools into a sandbox; it does not get more by that."""
    script = ("unshare --user --map-root-user --mount --pid --fork sh -c "
              "'mount -t tmpfs x /mnt && ! mount -o remount,rw,bind / && ! touch /usr/x && ! umount /home && echo inside'")
    out = sandbox.run("workspace", ["/bin/sh", "-c", script])
    assert (out.returncode, out.stdout) == (0, "inside\n"), out.stderr
    assert sandbox.run("strict", ["/bin/sh", "-c", script]).returncode != 0


def test_a_hundred_starts(sandbox):
    before = processes("puffo-sandbox")
    for number in range(100):
        out = sandbox.run(PROFILES[number % 3], ["/bin/sh", "-c", "sleep 45678 & echo $0", str(number)])
        assert (out.returncode, out.stdout) == (0, f"{number}\n"), out.stderr
    assert processes("puffo-sandbox") == before
    assert not [p for p in processes("sleep") if b"45678" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes()]
    units = sandbox.user.run(["systemctl", "--user", "list-units", "--all", "--no-legend", "puffo-test-*"]).stdout
    assert units == ""


@pytest.mark.parametrize("profile", PROFILES)
def test_system_mode(profile, outside):
    """The same program without a user namespace of the service manager's around it."""
    system = SystemSandbox()
    pid = os.getpid()
    probe = system.run(profile, options=["--probe", *target_options(outside, pid), "--hidden=/var/lib/private/puffo"])
    assert json.loads(probe.stdout) == {"profile": profile, "violations": [], "missing": []}, probe.stderr
    assert probe.returncode == 0
    script = f"import os; print(os.getuid() > 0, sorted(int(p) for p in os.listdir('/proc') if p.isdigit()) == [1, 2])"
    out = system.run(profile, ["/usr/bin/python3", "-c", script])
    assert (out.returncode, out.stdout) == (0, "True True\n"), out.stderr


@pytest.mark.parametrize("without,reason", [
    (["ProtectControlGroups"], "the control groups at "), (["ProtectHome"], "/home/"),
    (["PrivateDevices"], "the device /dev/puffo-test-disk is there"), (["TemporaryFileSystem"], "the socket /run/")])
def test_system_mode_without(visible, without, reason):
    out = SystemSandbox().run("workspace", ["/bin/true"], without=without)
    assert out.returncode == 78
    assert out.stderr.startswith(f"puffo-sandbox: the profile workspace is not what it promises: {reason}"), out.stderr
