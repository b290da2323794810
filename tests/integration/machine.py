# SPDX-License-Identifier: MIT
"""What the tests say to the machine they run in: users, service managers, buses, the suite itself."""

import collections
import contextlib
import grp
import json
import os
import pathlib
import pwd
import re
import select
import subprocess
import time

HERE = pathlib.Path(__file__).resolve().parent
SOURCE = HERE.parent.parent
ROOT = "/ai/puffo/Agents1"
BASE = "http://127.0.0.1:7011"
# How many times longer than usual anything may take, where the processor is emulated.
SLOWNESS = int(os.environ.get("PUFFO_TEST_SLOWNESS", "1"))
UNITS = ["puffo-gateway.socket", "puffo-gateway.service", "puffod.socket", "puffod-credentials.socket",
         "puffod.service"]
# Not to be enabled: it comes with the first session, and goes.
LINK = ["puffo-link.socket", "puffo-link.service"]

# What the service manager does for LoadCredential=, done by somebody else.
ASK_FOR_CREDENTIAL = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.bind("\\0" + os.urandom(8).hex() + "/unit/" + sys.argv[2] + "/session")
s.connect(sys.argv[1])
print(sum(len(part) for part in iter(lambda: s.recv(4096), b"")))
"""


class Failed(AssertionError):
    """A command that should have worked."""


class BusError(Exception):
    def __init__(self, name, message):
        super().__init__(f"{name}: {message}")
        self.name, self.message = name, message


class User:
    """Somebody who runs commands, with the environment a login would have given."""

    def __init__(self, name):
        entry = pwd.getpwnam(name)
        self.name, self.uid, self.gid, self.home = name, entry.pw_uid, entry.pw_gid, pathlib.Path(entry.pw_dir)
        self.runtime = pathlib.Path(f"/run/user/{self.uid}")
        self.groups = [g.gr_gid for g in grp.getgrall() if name in g.gr_mem]

    def environment(self, extra=None):
        env = {"HOME": str(self.home), "USER": self.name, "LOGNAME": self.name, "SHELL": "/bin/bash",
               "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin", "TERM": "dumb"}
        if self.runtime.is_dir():
            env["XDG_RUNTIME_DIR"] = str(self.runtime)
            env["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={self.runtime}/bus"
        env.update(extra or {})
        return env

    def popen(self, argv, env=None, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.STDOUT)
        options.setdefault("cwd", self.home)
        return subprocess.Popen([str(a) for a in argv], env=self.environment(env), text=True, user=self.uid,
                                group=self.gid, extra_groups=self.groups, **options)

    def run(self, argv, check=True, input=None, timeout=90, env=None, **options):
        process = self.popen(argv, env=env, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                             stderr=subprocess.PIPE, **options)
        try:
            out, err = process.communicate(input, timeout=timeout * SLOWNESS)
        except subprocess.TimeoutExpired as e:
            process.kill()
            out, err = process.communicate()
            raise Failed(f"{argv} took longer than {timeout} s: {out}{err}") from e
        result = subprocess.CompletedProcess(argv, process.returncode, out, err)
        if check and result.returncode != 0:
            raise Failed(f"{self.name}: {argv} ended with {result.returncode}:\n{out}{err}")
        return result

    def write(self, path, text, mode=0o600):
        path = self.home / path
        path.parent.mkdir(parents=True, exist_ok=True)
        for made in [path.parent, *path.parent.parents]:
            if made == self.home:
                break
            os.chown(made, self.uid, self.gid)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, self.uid, self.gid)
        return path

    def append(self, path, text):
        path = self.home / path
        return self.write(path, (path.read_text() if path.exists() else "") + text)


Response = collections.namedtuple("Response", "status headers text json")


class Stream:
    """A streamed HTTP answer, event by event, as curl hands it on."""

    def __init__(self, process):
        self.process, self.seen = process, []

    def __iter__(self):
        kind = None
        for line in self.process.stdout:
            if line.startswith("event: "):
                kind = line[7:].strip()
            elif line.startswith("data: "):
                event = json.loads(line[6:])
                assert event["type"] == kind, "event: and type differ"
                self.seen.append(event)
                yield event

    def until(self, kind):
        for event in self:
            if event["type"] == kind:
                return event
        raise Failed(f"the stream ended without {kind}: {[e['type'] for e in self.seen]}")

    def rest(self):
        for _ in self:
            pass
        self.process.wait(timeout=90)
        return self.seen

    @property
    def id(self):
        return self.seen[0]["response"]["id"]

    @property
    def text(self):
        return "".join(e["delta"] for e in self.seen if e["type"] == "response.output_text.delta")


class Feed:
    """GET /agents/events as curl hands it on: (name, object), and (None, text) for comments."""

    def __init__(self, process):
        self.process = process

    def __iter__(self):
        kind = None
        for line in self.process.stdout:
            if line.startswith("event: "):
                kind = line[7:].strip()
            elif line.startswith("data: "):
                yield kind, json.loads(line[6:])
            elif line.startswith(":"):
                yield None, line.strip()

    def until(self, condition):
        for kind, value in self:
            if condition(kind, value):
                return value
        raise Failed("the events ended")


class Agent:
    """An agent as the public bus shows it."""

    INTERFACE = "ai.puffo.Agents1.Agent"

    def __init__(self, suite, id, path=None):
        self.suite, self.id = suite, id
        self.path = path or suite.manager("GetAgent", "s", id)[0]

    def __getattr__(self, name):
        if name[0].isupper():
            return self.suite.get(self.path, self.INTERFACE, name)
        raise AttributeError(name)

    def call(self, method, signature="", *args, user=None):
        return self.suite.call(self.path, self.INTERFACE, method, signature, *args, user=user)

    def properties(self):
        return self.suite.call(self.path, "org.freedesktop.DBus.Properties", "GetAll", "s", self.INTERFACE)[0]

    def wait_state(self, *states, deadline=60):
        return self.suite.wait(lambda: self.State in states, deadline, f"{self.id} becomes {' or '.join(states)}",
                               lambda: self.properties())


class Suite:
    """The programs in one mode, seen by one user."""

    def __init__(self, scope, user):
        self.scope, self.user = scope, user

    # service manager
    def systemctl(self, *args, check=True):
        # In system mode the administrator's word: the tests themselves are root.
        runner = self.user.run if self.scope == "user" else User("root").run
        return runner(["systemctl", f"--{self.scope}", "--no-pager", *args], check=check)

    def show(self, unit, prop):
        return self.systemctl("show", "--value", "-p", prop, unit).stdout.strip()

    def main_pid(self, unit):
        return int(self.show(unit, "MainPID"))

    def start(self):
        self.systemctl("reset-failed", check=False)
        self.systemctl("start", *[u for u in UNITS if u.endswith(".socket")])
        self.systemctl("start", "puffod.service", "puffo-gateway.service")

    def stop(self):
        self.systemctl("stop", *UNITS, "puffo.slice", check=False)
        self.systemctl("stop", *LINK, check=False)

    def kill(self, unit, signal="KILL"):
        pid = self.main_pid(unit)
        assert pid > 0, f"{unit} is not running"
        os.kill(pid, 9 if signal == "KILL" else 15)
        return pid

    # bus
    def call(self, path, interface, method, signature="", *args, user=None, name="ai.puffo.Agents1"):
        """The reply's arguments; of a reply with descriptors, the last one is what could be read from them."""
        request = {"scope": self.scope, "name": name, "path": path, "interface": interface, "method": method,
                   "signature": signature, "args": args}
        out = (user or self.user).run([HERE / "bus_call.py"], input=json.dumps(request), timeout=150).stdout
        first, _, rest = out.partition("\n")
        answer = json.loads(first)
        if "error" in answer:
            raise BusError(answer["error"], answer["message"])
        return answer["result"] + ([rest] if '{"fd"' in first else [])

    def get(self, path, interface, prop):
        return self.call(path, "org.freedesktop.DBus.Properties", "Get", "ss", interface, prop)[0]

    def manager(self, method, signature="", *args, user=None):
        return self.call(ROOT, "ai.puffo.Agents1.Manager", method, signature, *args, user=user)

    def busctl(self, *args, check=True):
        return self.user.run(["busctl", f"--{self.scope}", "--no-pager", *args], check=check)

    def agent(self, id):
        return Agent(self, id)

    def agents(self):
        return {entry[0]: entry for entry in self.manager("ListAgents")[0]}

    def hire(self, role, name, user=None):
        path, pid, created = self.manager("Hire", "ss", role, name, user=user)
        agent = Agent(self, f"{role}_{name}", path)
        if pid == 0:
            agent.wait_state("ready")
        return agent

    def wait(self, condition, deadline=30, what="condition", explain=None):
        """Looks again at each signal of the suite or its units, and never longer than the deadline. How fast this
        machine is does not decide: a minute and a half it waits in any case."""
        deadline = max(deadline, 90) * SLOWNESS
        end = time.monotonic() + deadline
        monitor = self.user.popen(["busctl", f"--{self.scope}", "--json=short", "monitor", "ai.puffo.Agents1",
                                   "org.freedesktop.systemd1"],
                                  stderr=subprocess.DEVNULL) if self.scope == "user" else None
        try:
            while True:
                if value := condition():
                    return value
                left = end - time.monotonic()
                if left <= 0:
                    raise Failed(f"{what}: not within {deadline} s" + (f"; {explain()}" if explain else ""))
                # Others' signals cannot be seen on the system bus by everybody: there the clock wakes us.
                ready = select.select([monitor.stdout] if monitor else [], [], [], min(left, 1 if monitor else 0.2))[0]
                if ready:
                    os.read(monitor.stdout.fileno(), 1 << 20)
        finally:
            if monitor:
                monitor.kill()
                monitor.communicate()

    # HTTP
    def curl(self, path, *options, user=None, base=BASE):
        return ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", str(120 * SLOWNESS), *options,
                base + path]

    def http(self, method, path, body=None, headers=None, user=None, data=None, base=BASE):
        options = ["--request", method, "--dump-header", "-"]
        if body is not None:
            data = json.dumps(body)
            options += ["--header", "Content-Type: application/json"]
        for name, value in (headers or {}).items():
            options += ["--header", f"{name}: {value}" if value != "" else f"{name};"]
        if data is not None:
            options += ["--data-binary", "@-", "--header", "Expect:"]
        out = (user or self.user).run(self.curl(path, *options, base=base), input=data).stdout
        while True:
            head, _, text = out.partition("\r\n\r\n") if "\r\n\r\n" in out else out.partition("\n\n")
            status, *lines = head.splitlines()
            code = int(status.split()[1])
            if code != 100:
                break
            out = text
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        parsed = json.loads(text) if fields.get("content-type", "").startswith("application/json") else None
        return Response(code, fields, text, parsed)

    @contextlib.contextmanager
    def stream(self, agent, text, user=None, **more):
        body = json.dumps({"model": agent, "input": text, "stream": True, **more})
        process = (user or self.user).popen(
            self.curl("/v1/responses", "--header", "Content-Type: application/json", "--data-binary", body))
        try:
            yield Stream(process)
        finally:
            process.kill()
            process.communicate()

    @contextlib.contextmanager
    def feed(self, *options, user=None):
        process = (user or self.user).popen(self.curl("/agents/events", *options))
        try:
            yield Feed(process)
        finally:
            process.kill()
            process.communicate()

    def turn(self, agent, text, user=None, **more):
        """A whole turn over HTTP; gives the response object."""
        answer = self.http("POST", "/v1/responses", {"model": agent, "input": text, **more}, user=user)
        assert answer.status == 200, answer
        return answer.json

    # journal
    def journal(self, *matches, user=None):
        options = ["--user"] if self.scope == "user" else []
        who = user or (self.user if self.scope == "user" else User("root"))
        subprocess.run(["journalctl", "--sync"], check=True)
        out = who.run(["journalctl", *options, "--quiet", "--output=json", "--all", "--boot", *matches]).stdout
        return [json.loads(line) for line in out.splitlines()]


def output_text(response):
    """What openai's clients call output_text."""
    return "".join(part["text"] for item in response["output"] if item["type"] == "message"
                   for part in item["content"] if part["type"] == "output_text")


class Provider:
    """The emulator of tests/peers/provider.py, running as nobody in particular."""

    def __init__(self, *options):
        self.process = subprocess.Popen(["/usr/bin/python3", "-B", SOURCE / "tests/peers/provider.py", "--listen",
                                         "127.0.0.1:0", *options], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.url = re.search(r"https?://\S+", line).group()

    def close(self):
        self.process.kill()
        self.process.communicate()

    def request(self, path, method="GET", body=None):
        argv = ["curl", "--silent", "--show-error", "--fail", "--insecure", "--request", method, self.url + path]
        if body is not None:
            argv += ["--data-binary", json.dumps(body)]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def count(self, contains):
        return sum(contains in (entry["text"] or "") for entry in self.log())

    def outcomes(self, contains):
        return [entry["outcome"] for entry in self.log() if contains in (entry["text"] or "")]

    def log(self):
        return [json.loads(line) for line in self.request("/_log").splitlines()]

    def release(self, name):
        """Lets go on what says [[hold: NAME]]."""
        self.request(f"/_release/{name}", "POST")

    def reset(self):
        self.request("/_reset", "POST")
