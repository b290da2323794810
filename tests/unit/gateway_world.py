# SPDX-License-Identifier: MIT
"""The real puffo-gateway on a bus of its own, with a double of puffod (tests/peers/puffod.py) at the other end. $GATEWAY
names the program."""

import http.client
import json
import os
import pathlib
import socket
import subprocess
import time

import dbus.bus
import dbus.lowlevel
import pytest

GATEWAY = os.environ["GATEWAY"]
PUFFOD = pathlib.Path(__file__).parent.parent / "peers/puffod.py"
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen>
<policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""


def wait(condition, what, seconds=60):
    """The seconds are for what never comes: a busy machine may take most of them for what does."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.01)
    return result


class Events:
    """A stream of server-sent events, as they come."""

    def __init__(self, answer):
        self.answer, self.seen = answer, []

    def __iter__(self):
        kind = None
        for line in self.answer:
            if line.startswith(b"event: "):
                kind = line[7:-1].decode()
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                assert event["type"] == kind
                self.seen.append(event)
                yield event

    def until(self, type):
        for event in self:
            if event["type"] == type:
                return event
        raise AssertionError(f"the stream ended without {type}")


class World:
    def __init__(self, directory):
        self.directory = directory
        self.calls_path = directory / "calls"
        self.processes, self.puffod, self.gateway = [], None, None
        (directory / "bus.conf").write_text(BUS.format(path=directory / "bus"))
        self.environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "PUFFO_LOG_LEVEL": "debug",
                            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={directory}/bus",
                            "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={directory}/bus",
                            **{k: v for k, v in os.environ.items() if k.endswith("SAN_OPTIONS")}}
        # The address is printed when somebody listens there; the socket's file is there before.
        bus = self.spawn(["dbus-daemon", f"--config-file={directory}/bus.conf", "--nofork", "--print-address=1"],
                         stdout=subprocess.PIPE)
        assert bus.stdout.readline().startswith(b"unix:")

    def spawn(self, command, **more):
        process = subprocess.Popen(command, **{"env": self.environment, **more})
        self.processes.append(process)
        return process

    def start_puffod(self, **environment):
        self.calls_path.unlink(missing_ok=True)
        self.puffod = self.spawn(["/usr/bin/python3", PUFFOD, self.calls_path], env=self.environment | environment)
        wait(lambda: self.calls("ready"), "puffod is up")

    def listen(self, address="127.0.0.1"):
        listener = socket.create_server((address, 0))
        self.port = listener.getsockname()[1]
        return listener

    def start_gateway(self, listener=None, mode="--user", **environment):
        """As systemd would: the socket is descriptor 3, and the environment says so."""
        listener = listener or self.listen()
        self.listener = listener

        def pass_socket():
            os.dup2(listener.fileno(), 3)
            os.set_inheritable(3, True)         # it may have been 3 before

        self.environment |= environment
        self.errors = open(self.directory / "gateway.log", "w")
        command = f"LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=responses exec {GATEWAY} {mode}"
        self.gateway = self.spawn(["sh", "-c", command], close_fds=False, preexec_fn=pass_socket, stderr=self.errors)

    def ready(self):
        wait(lambda: self.request("GET", "/healthz")[0] == 200, "the gateway has the agents")

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        codes = {p: p.wait(timeout=60) for p in self.processes}
        if self.gateway:
            self.listener.close()
            self.errors.close()
            log = (self.directory / "gateway.log").read_text()
            assert "Sanitizer" not in log and "runtime error" not in log, log
        return codes

    def connect(self, receive_buffer=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        if receive_buffer:
            connection.sock = socket.socket()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            connection.sock.connect(("127.0.0.1", self.port))
        return connection

    def request(self, method, path, body=None, headers={}):
        connection = self.connect()
        connection.request(method, path, json.dumps(body) if isinstance(body, (dict, list)) else body, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.headers["x-request-id"] and answer.headers["cache-control"] == "no-store"
        return answer.status, json.loads(text) if text else None, answer.headers

    def create(self, text, **fields):
        return self.request("POST", "/v1/responses", {"model": "engineer_alice", "input": text, **fields})

    def stream(self, text, receive_buffer=None, **fields):
        self.connection = self.connect(receive_buffer)
        body = {"model": "engineer_alice", "input": text, "stream": True, **fields}
        self.connection.request("POST", "/v1/responses", json.dumps(body))
        answer = self.connection.getresponse()
        assert answer.status == 200 and answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        return Events(answer)

    def hang_up(self, events):
        # The response object holds the socket, too.
        events.answer.close()
        self.connection.close()

    def poke(self, path, method, signature, *args):
        """Has the double do something."""
        bus = dbus.bus.BusConnection(self.environment["DBUS_SESSION_BUS_ADDRESS"])
        bus.call_blocking("ai.puffo.Agents1", "/ai/puffo/Agents1" + path, "x.Test", method, signature, args)
        bus.close()

    def calls(self, word=""):
        lines = self.calls_path.read_text().splitlines() if self.calls_path.exists() else []
        return [l for l in lines if word in l]


class Feed:
    """GET /agents/events, event by event; comments count as one of the name None."""

    def __init__(self, world, headers={}, receive_buffer=None):
        self.connection = world.connect(receive_buffer)
        self.connection.request("GET", "/agents/events", headers=headers)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200
        assert self.answer.headers["content-type"] == "text/event-stream; charset=utf-8"

    def __iter__(self):
        kind = None
        for line in self.answer:
            if line.startswith(b"event: "):
                kind = line[7:-1].decode()
            elif line.startswith(b"data: "):
                yield kind, json.loads(line[6:])
            elif line.startswith(b":"):
                yield None, line.decode()

    def next(self):
        return next(iter(self))

    def close(self):
        self.answer.close()
        self.connection.close()


@pytest.fixture
def bare(tmp_path):
    w = World(tmp_path)
    yield w
    w.stop()


@pytest.fixture
def world(bare):
    bare.start_puffod()
    bare.start_gateway()
    bare.ready()
    return bare
