# SPDX-License-Identifier: MIT
"""The tools of an agent, called by the official client of the Model Context Protocol."""

import json
import os
import pathlib
import re
import socket as sockets
import subprocess

import pytest

from machine import SOURCE
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import PATIENCE

MODULES = pathlib.Path("/srv/puffo/openai/node_modules")


class ToolServer:
    def __init__(self, directory):
        self.directory, self.workspace = directory, directory / "workspace"
        self.socket = directory / "run" / "tools.sock"
        self.workspace.mkdir()
        self.start()

    def start(self):
        self.process = subprocess.Popen([SOURCE / "build/tests/peers/tool-server", self.directory, self.workspace,
                                         self.socket], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "listening\n"

    def stop(self):
        self.process.terminate()
        assert self.process.wait(10) == 0
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path):
    """The tools of an agent without an identity, that run."""
    made = ToolServer(tmp_path)
    yield made
    made.stop()
    # The socket is not the process's: the next one serves it.
    assert made.socket.is_socket()


@pytest.fixture
def scripts(tmp_path):
    if not (MODULES / "@modelcontextprotocol/sdk").is_dir():
        pytest.fail("the MCP client is not installed: ./check integration does that")
    # Modules are looked for beside the script.
    place = tmp_path / "mcp"
    place.mkdir()
    os.symlink(MODULES, place / "node_modules")
    for script in (SOURCE / "tests/integration/mcp").glob("*.mjs"):
        (place / script.name).write_bytes(script.read_bytes())
    return place


def test_official_client(server, scripts):
    out = subprocess.run(["node", scripts / "conformance.mjs", server.socket, server.workspace], capture_output=True,
                         text=True, timeout=120)
    assert out.returncode == 0 and "not ok" not in out.stdout, out.stdout + out.stderr
    assert out.stdout.count("ok ") == 10


def test_session_that_comes_and_goes(server, scripts):
    with subprocess.Popen(["node", scripts / "restarts.mjs", server.socket], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as client:
        def say(word):
            client.stdin.write(f"{word}\n")
            client.stdin.flush()
            return client.stdout.readline()

        assert client.stdout.readline() == "ready\n"
        assert say("first") == "calling\n" and client.stdout.readline() == "first 12\n"
        for end in server.kill, server.stop:
            end()
            assert say("again") == "calling\n"
            server.start()
            assert client.stdout.readline() == "again 12\n"
        client.stdin.close()
        assert client.wait(10) == 0


class Tools:
    """A client of a session's tools, without a library."""

    def __init__(self, path):
        self.socket = sockets.socket(sockets.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self.lines = self.socket.makefile("r", encoding="utf-8", newline="\n")
        self.last = 0
        self.ask("initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo={})

    def ask(self, method, **params):
        self.last += 1
        self.socket.sendall(json.dumps({"jsonrpc": "2.0", "id": self.last, "method": method,
                                        "params": params}).encode() + b"\n")
        answer = json.loads(self.lines.readline())
        assert answer["id"] == self.last
        return answer["result"]

    def call(self, tool, **arguments):
        result = self.ask("tools/call", name=tool, arguments=arguments)
        text = result["content"][0]["text"]
        assert not result["isError"], text
        return text


@pytest.fixture
def session(helper):
    return Tools(helper.directory / "run/tools.sock")


def test_directory(town, helper, bo, session):
    space, channel = town.lobby
    assert f"- {channel}  " in session.call("list_channels")
    members = session.call("list_channel_members", channel=channel).splitlines()
    assert f"- {bo.slug}  (member)" in members and f"- {helper.slug}  (member)" in members
    assert session.call("get_user_info", username=f"@{bo.slug}").splitlines()[:2] == [f"slug: {bo.slug}",
                                                                                    "display: Bo Lin"]
    lines = session.call("whoami").splitlines()
    assert lines[:3] == [f"slug:      {helper.slug}", f"device_id: {helper.device_id}",
                         f"server:    {town.server.url}"]
    assert lines[3].startswith("subkey_id: sk_") and lines[4].startswith("expires:   20")


def test_messages(town, helper, bo, session):
    channel = town.lobby[1]
    text = session.call("send_message", channel=channel, text="a\nb")
    posted = re.fullmatch(rf"posted (msg_\S+) to {channel}", text)
    message, = bo.wait(lambda m: m["envelope_id"] == posted[1])
    assert (message["text"], message["sender_slug"], message["encrypted"]) == ("a\nb", helper.slug, True)

    # What was sent is part of the history, and so are the answers.
    reply = bo.say("seen [[reply: [SILENT]]]", channel=town.lobby, thread=posted[1])
    helper.suite.wait(lambda: "(1 reply)" in session.call("get_channel_history", channel=channel), PATIENCE, "a reply")
    line, = [x for x in session.call("get_channel_history", channel=channel).splitlines() if posted[1] in x]
    assert re.fullmatch(rf"20\S+\+00:00  post:{posted[1]}  @{helper.slug}: a b  \(1 reply\)", line)
    thread = session.call("get_thread_history", root_id=posted[1]).splitlines()
    assert len(thread) == 2 and thread[1].endswith(f"post:{reply}  @{bo.slug}: seen [[reply: [SILENT]]]")
    post = session.call("get_post", post_ref=posted[1]).splitlines()
    assert post[0] == f"envelope_id: {posted[1]}" and post[-3:] == ["message:", "a", "b"]

    direct = session.call("send_message", channel=f"@{bo.slug}", text="only you")
    message, = bo.wait(lambda m: m["text"] == "only you")
    assert message["envelope_kind"] == "dm" and direct == f"posted {message['envelope_id']} to @{bo.slug}"


def test_files(town, helper, bo, session, tmp_path):
    helper.suite.user.write(helper.workspace / "notes/plan.md", "# The plan\n")
    helper.suite.user.write(helper.workspace / "b.bin", "x" * 100000)
    text = session.call("upload_file", paths=["notes/plan.md", "b.bin"], channel=town.lobby[1], caption="two")
    uploaded = re.fullmatch(rf"uploaded 2 file\(s\) \[plan.md, b.bin\] \(100011 bytes total\) to {town.lobby[1]} "
                            r"\(envelope_id (msg_\S+)\)", text)
    message, = bo.wait(lambda m: m["envelope_id"] == uploaded[1])
    assert message["text"] == "two"
    plain = [bo.client.download(meta) for meta in message["attachments"]]
    assert plain == [b"# The plan\n", b"x" * 100000]
    assert ": two [files: plan.md, b.bin]" in session.call("get_channel_history", channel=town.lobby[1])


def test_a_channel_of_others(town, session):
    result = session.ask("tools/call", name="send_message", arguments={"channel": "ch_none", "text": "x"})
    assert result["isError"]
    assert result["content"][0]["text"].startswith("Error executing tool send_message: ")
