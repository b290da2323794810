# SPDX-License-Identifier: MIT
"""puffo-mcp between a client on its standard streams and a session that does as it is told."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import pytest

PROGRAM = os.environ["PUFFO_MCP"]


def line(**members):
    return json.dumps({"jsonrpc": "2.0", **members}).encode() + b"\n"


INITIALIZE = {"method": "initialize", "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}}


class Connection:
    def __init__(self, accepted):
        self.socket = accepted
        self.socket.settimeout(60)
        self.lines = self.socket.makefile("rb")

    def take(self):
        return json.loads(self.lines.readline())

    def send(self, **members):
        self.socket.sendall(line(**members))

    def close(self):
        self.lines.close()
        self.socket.close()

    def introduced(self):
        """Answers what the client, or the program in its place, asks first."""
        asked = self.take()
        assert {k: asked[k] for k in INITIALIZE} == INITIALIZE
        self.send(id=asked["id"], result={"protocolVersion": "2025-11-25"})
        assert self.take() == {"jsonrpc": "2.0", "method": "notifications/initialized"}
        return asked["id"]


class Session:
    """The listening socket is not the session's own: it stays."""

    def __init__(self, path):
        self.path = path
        self.listen()

    def listen(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.bind(str(self.path))
        self.socket.listen(8)

    def accept(self):
        return Connection(self.socket.accept()[0])

    def refuse(self):
        self.socket.close()

    def close(self):
        self.socket.close()
        self.path.unlink(missing_ok=True)


class Client:
    def __init__(self, path):
        self.process = subprocess.Popen([PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env={"PUFFO_TOOL_SOCKET": str(path)})

    def send(self, **members):
        self.process.stdin.write(line(**members))
        self.process.stdin.flush()

    def take(self):
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        for stream in self.process.stdin, self.process.stdout, self.process.stderr:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self.process.wait()

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def session(tmp_path):
    made = Session(tmp_path / "tools.sock")
    yield made
    made.close()


@pytest.fixture
def client(session):
    made = Client(session.path)
    yield made
    made.close()


def introduce(client, session):
    client.send(id=0, **INITIALIZE)
    made = session.accept()
    client.send(method="notifications/initialized")
    assert made.introduced() == 0
    assert client.take()["id"] == 0
    return made


@pytest.fixture
def connection(client, session):
    """… of a client that has introduced itself."""
    made = introduce(client, session)
    yield made
    made.close()


def test_both_ways(client, connection):
    client.send(id="a", method="tools/list")
    assert connection.take() == {"jsonrpc": "2.0", "id": "a", "method": "tools/list"}
    connection.send(id="a", result={"tools": []})
    assert client.take() == {"jsonrpc": "2.0", "id": "a", "result": {"tools": []}}


def test_new_session(client, session, connection):
    """What has no answer is asked again, under the same name; the client sees nothing of it."""
    client.send(id=1, method="tools/call", params={"name": "send_message", "_meta": {"claudecode/toolUseId": "toolu_1"}})
    client.send(id=2, method="tools/call", params={"name": "send_message"})
    first = [connection.take(), connection.take()]
    assert first[0]["params"]["_meta"]["claudecode/toolUseId"] == "toolu_1"
    connection.socket.sendall(b'{"jsonrpc":"2.0","id":1,"resu')
    connection.close()

    again = session.accept()
    assert str(again.introduced()).startswith("puffo-mcp-")
    assert [again.take(), again.take()] == first
    again.send(id=2, result={"second": True})
    again.send(id=1, result={"first": True})
    assert [client.take()["result"], client.take()["result"]] == [{"second": True}, {"first": True}]
    again.close()


def test_nobody_there_for_a_while(client, session, connection):
    session.refuse()
    connection.close()
    client.send(id=1, method="tools/list")
    time.sleep(1)
    session.path.unlink()
    time.sleep(0.5)
    session.listen()
    again = session.accept()
    again.introduced()
    assert again.take()["id"] == 1
    again.send(id=1, result={})
    assert client.take() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert client.cpu() < 0.2
    again.close()


def test_nobody_at_all(tmp_path):
    """The first thing that the client says is answered too, and in time."""
    client = Client(tmp_path / "nowhere.sock")
    begin = time.monotonic()
    client.send(id=0, **INITIALIZE)
    answer = client.take()
    assert answer["error"] == {"code": -32000, "message": "The agent's session cannot be reached: No such file or directory"}
    assert 28 < time.monotonic() - begin < 60
    assert client.cpu() < 0.2
    client.close()


def test_a_request_that_ends_sessions(client, session, connection):
    client.send(id=1, method="tools/call", params={"name": "poison"})
    assert connection.take()["id"] == 1
    connection.close()
    for _ in range(2):
        again = session.accept()
        again.introduced()
        assert again.take()["id"] == 1
        again.close()
    assert client.take()["error"]["message"] == "The agent's session ended each time it was asked this"
    client.send(id=2, method="ping")
    again = session.accept()
    again.introduced()
    assert again.take()["id"] == 2
    again.close()


def test_large_lines(client, connection):
    """Larger than every buffer on the way, in both directions at once."""
    text = "x" * 15_000_000
    client.send(id=1, method="tools/call", params={"name": "t", "arguments": {"text": text}, "_meta": {"claudecode/toolUseId": "a"}})
    assert connection.take()["params"]["arguments"]["text"] == text
    connection.send(id=1, result={"text": text})
    assert client.take()["result"]["text"] == text


def test_a_client_that_does_not_read(client, connection):
    """… is not read from, is not written for without an end, and costs nothing."""
    sent = 0
    connection.socket.settimeout(1)
    with pytest.raises(TimeoutError):
        while sent < 100_000_000:
            connection.socket.sendall(line(method="notifications/message", params={"text": "x" * 100_000}))
            sent += 100_000
    connection.socket.settimeout(60)
    resident = int(pathlib.Path(f"/proc/{client.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert resident < 64 << 20
    before = client.cpu()
    time.sleep(0.5)
    assert client.cpu() - before < 0.05
    connection.close()
    before = client.cpu()
    time.sleep(0.5)
    assert client.cpu() - before < 0.05


@pytest.mark.parametrize("end", ["EOF", "SIGINT", "SIGTERM"])
@pytest.mark.parametrize("busy", [False, True])
def test_its_end(tmp_path, end, busy):
    """Within a tenth of a second, also when a call is under way or no session is there."""
    times = []
    # A machine with much to do may take its time once, and again; a pause of ours would be there each time.
    while len(times) < 10 and not (times and times[-1] < 0.1):
        session = Session(tmp_path / f"{len(times)}.sock")
        client = Client(session.path)
        connection = introduce(client, session)
        if busy:
            client.send(id=1, method="tools/list")
            connection.take()
            session.refuse()
            connection.close()
            time.sleep(0.3)
        begin = time.monotonic()
        if end == "EOF":
            client.process.stdin.close()
        else:
            client.process.send_signal(getattr(signal, end))
        client.process.wait(60)
        times.append(time.monotonic() - begin)
        assert client.process.returncode == (0 if end == "EOF" else -getattr(signal, end))
        connection.close()
        client.close()
        session.close()
    assert times[-1] < 0.1, times


@pytest.mark.parametrize("value", [None, "", "relative", "/" + "x" * 108])
def test_its_environment(value):
    out = subprocess.run([PROGRAM], env={} if value is None else {"PUFFO_TOOL_SOCKET": value}, capture_output=True,
                         text=True, input="", timeout=60)
    assert (out.returncode, out.stdout) == (1, "")
    assert out.stderr == "puffo-mcp: PUFFO_TOOL_SOCKET must be the absolute path of a socket\n"
