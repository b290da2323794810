# SPDX-License-Identifier: MIT
"""The wire room's client (wire-client, driven over its standard input) and the Puffo server of this folder, for those who
see how they get on. $WIRE_CLIENT names the program; $SANITIZED says that it was built with sanitizers."""

import json
import os
import pathlib
import queue
import subprocess
import threading
import time

import pytest

from puffo.process import Server


PATIENCE = 60
# Sanitizers keep what was freed for a while.
MEMORY_FACTOR = 20 if os.environ.get("SANITIZED") else 1


class Client:
    def __init__(self, keys, slug, url, *more, env=None):
        self.keys, self.slug = keys, slug
        self.process = subprocess.Popen([os.environ["WIRE_CLIENT"], keys, slug, url, *more], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=open(keys / "stderr", "a"), text=True,
                                        env={**os.environ, **(env or {})})
        self.lines, self.seen = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def expect(self, timeout=PATIENCE, **members):
        """The next line that has these members with these values (... for any)."""
        end = time.monotonic() + timeout
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"nothing like {members}; last lines: {self.seen[-8:]}")
            assert line is not None, f"the client has ended; last lines: {self.seen[-8:]}"
            self.seen.append(line)
            if all(k in line and (v is ... or line[k] == v) for k, v in members.items()):
                return line

    def ask(self, command, timeout=PATIENCE):
        self.say(command)
        return self.expect(timeout, reply=...)

    def stop(self):
        self.say("stop")
        self.expect(state="stopped")
        assert self.process.wait(PATIENCE) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ledger(self):
        path = self.keys / "ledger"
        return path.read_text().split() if path.exists() else []

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])

    def errors(self):
        return (self.keys / "stderr").read_text()


def requests_of(server, slug, path):
    return [line for line in server.log("request") if line["slug"] == slug and line["path"] == path]


def eventually(predicate, timeout=PATIENCE):
    end = time.monotonic() + timeout
    while not (result := predicate()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
    return result


@pytest.fixture
def cleanup():
    things = []
    yield things
    for thing in things:
        if thing.process.poll() is None and isinstance(thing, Client):
            # At the end of its input it ends by itself, having freed everything.
            thing.process.stdin.close()
            assert thing.process.wait(PATIENCE) == 0, thing.errors()
        elif thing.process.poll() is None:
            thing.kill()


@pytest.fixture
def server(tmp_path, cleanup):
    server = Server(tmp_path / "server")
    cleanup.append(server)
    return server


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def slug(server, keys):
    return server.register(keys, "bot")


@pytest.fixture
def client(server, keys, slug, cleanup):
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    return client
