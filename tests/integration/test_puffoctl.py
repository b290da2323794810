# SPDX-License-Identifier: MIT
"""puffoctl as people, pipes and programs use it."""

import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
import time

import pytest

from machine import Failed


@pytest.fixture(scope="module")
def engineer(user_mode):
    return user_mode.hire("engineer", "alice")


@pytest.fixture
def ctl(user_mode):
    def run(*args, check=True, input=None):
        return user_mode.user.run(["puffoctl", *args], check=check, input=input)
    return run


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, user, *argv):
        ours, theirs = pty.openpty()
        self.fd, self.buffer = ours, b""
        self.process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, user=user.uid, group=user.gid,
                                        extra_groups=user.groups, cwd=user.home, start_new_session=True,
                                        env=user.environment({"TERM": "xterm", "LANG": "C.UTF-8"}),
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(theirs)

    def read(self, timeout):
        if not select.select([self.fd], [], [], timeout)[0]:
            return None
        try:
            return os.read(self.fd, 65536)
        except OSError:
            return b""

    def expect(self, text, timeout=30):
        end = time.monotonic() + timeout
        while text.encode() not in self.buffer:
            data = self.read(max(0, end - time.monotonic()))
            if not data:
                raise Failed(f"no {text!r} in {self.buffer!r}")
            self.buffer += data
        before, _, self.buffer = self.buffer.partition(text.encode())
        return before.decode()

    def send(self, text):
        os.write(self.fd, text.encode())

    def wait(self):
        """Its exit status; what it still says is in buffer."""
        while data := self.read(30):
            self.buffer += data
        return self.process.wait(30)


def test_status_and_lists(user_mode, engineer, ctl):
    assert "0.1.0, user mode" in ctl("status").stdout
    status = json.loads(ctl("status", "--json").stdout)
    assert status["daemon"]["mode"] == "user" and status["problems"] == []
    rows = [line.split("\t") for line in ctl("agent", "list").stdout.splitlines()]
    assert [row[0] for row in rows] == [a["agent"] for a in json.loads(ctl("agent", "list", "--json").stdout)]
    assert json.loads(ctl("agent", "show", "engineer_alice", "--json").stdout)["main_pid"] == engineer.MainPID
    providers = {p["provider"]: p for p in json.loads(ctl("provider", "list", "--json").stdout)}
    assert providers["anthropic"]["key"] is True and providers["anthropic"]["default"] is True


def test_colours_only_on_a_terminal(user_mode, engineer, alice, ctl):
    assert "\033" not in ctl("agent", "list").stdout
    terminal = Terminal(alice, "puffoctl", "agent", "list")
    assert terminal.wait() == 0
    assert b"AGENT" in terminal.buffer and b"\033[" in terminal.buffer


@pytest.mark.parametrize("pager,shown", [("sed -e s/^/paged:/", b"paged:"), ("no-such-pager -R", b"puffo")])
def test_pager_with_arguments(user_mode, engineer, alice, pager, shown):
    terminal = Terminal(alice, "env", f"PAGER={pager}", "puffoctl", "agent", "logs", "engineer_alice")
    assert terminal.wait() == 0
    assert shown in terminal.buffer


def test_life_of_an_agent(user_mode, ctl):
    ctl("agent", "create", "zed", "--display-name=Zed", "--profile=-", input="# Zed\n")
    assert ctl("agent", "profile", "zed").stdout == "# Zed\n"
    ctl("agent", "profile", "zed", "edit", input="# Another\n")
    assert ctl("agent", "profile", "zed").stdout == "# Another\n"
    started = ctl("agent", "start", "zed").stdout
    assert started == f"started zed (pid {user_mode.agent('zed').MainPID})\n"
    assert ctl("agent", "chat", "zed", "[[reply: here I am]]").stdout == "here I am\n"
    assert [m["role"] for m in json.loads(ctl("agent", "history", "zed", "--json").stdout)] == ["user", "assistant"]
    ctl("agent", "runtime", "zed", "--max-tokens=100")
    ctl("agent", "stop", "zed")
    stopped = ctl("agent", "chat", "zed", "hello", check=False)
    assert stopped.returncode == 1 and "puffoctl agent start zed" in stopped.stderr
    ctl("agent", "export", "zed", "zed.zip", "--messages")
    again = ctl("agent", "export", "zed", "zed.zip", check=False)
    assert again.returncode == 1 and "--force" in again.stderr
    ctl("agent", "import", "zed.zip", "ted")
    for id in ["zed", "ted"]:
        assert ctl("agent", "delete", id, check=False).returncode == 2
        ctl("agent", "delete", id, "--yes")
    assert ctl("agent", "show", "zed", check=False).returncode == 1


def test_text_is_shown_safely(user_mode, engineer, alice, ctl):
    """An agent cannot drive the terminal of who reads it."""
    says = "[[reply: a\033[2J\033]0;x\007b]]"
    terminal = Terminal(alice, "puffoctl", "agent", "chat", "engineer_alice", says)
    assert terminal.wait() == 0
    assert b"a?[2J?]0;x?b" in terminal.buffer
    assert "\033" not in ctl("agent", "history", "engineer_alice", "-n", "2").stdout
    assert "\033" not in ctl("agent", "logs", "engineer_alice").stdout


def test_keys_are_not_taken_from_the_command_line(user_mode, ctl):
    result = ctl("provider", "set", "openai", "--api-key=sk-secret", check=False)
    assert result.returncode == 2 and "sk-secret" not in result.stderr


def test_conversation_on_a_terminal(user_mode, engineer, alice):
    terminal = Terminal(alice, "puffoctl", "agent", "chat", "engineer_alice")
    terminal.expect("engineer_alice> ")
    terminal.send("[[reply: fïrst]]\r")
    terminal.expect("fïrst\r\n")
    terminal.expect("engineer_alice> ")
    terminal.send("[[words: 500]] [[slow: 20ms]]\r")
    terminal.expect("word5 ")
    terminal.send("\x03")
    terminal.expect("incomplete: interrupted")
    terminal.expect("engineer_alice> ")
    terminal.send("half a line\x03")
    assert terminal.wait() == 130


def test_interrupted_answer(user_mode, engineer, alice):
    terminal = Terminal(alice, "puffoctl", "agent", "chat", "engineer_alice", "[[words: 500]] [[slow: 20ms]]")
    terminal.expect("word5 ")
    terminal.send("\x03")
    assert terminal.wait() == 130
    engineer.wait_state("ready")


def test_answer_survives_everybody(user_mode, engineer, alice):
    process = alice.popen(["puffoctl", "agent", "chat", "engineer_alice", "[[words: 100]] [[slow: 30ms]]"],
                          stderr=subprocess.PIPE)
    out = b""
    try:
        while data := os.read(process.stdout.fileno(), 4096):
            if not out:
                os.kill(user_mode.main_pid("puffod.service"), signal.SIGKILL)
                os.kill(user_mode.main_pid("puffo-session@engineer_alice.service"), signal.SIGKILL)
            out += data
        _, err = process.communicate(timeout=90)
    finally:
        process.kill()
    assert process.returncode == 0 and err == ""
    assert out.decode().split() == [f"word{i}" for i in range(1, 101)]


def test_following(user_mode, engineer, alice, ctl):
    process = alice.popen(["puffoctl", "agent", "list", "--follow", "--json"])
    logs = alice.popen(["puffoctl", "agent", "logs", "engineer_alice", "--follow", "--lines=0", "--output=cat"])
    try:
        seen = [json.loads(process.stdout.readline())["id"]]
        ctl("agent", "create", "yan", "--no-start")
        while seen[-1] != "yan":
            seen.append(json.loads(process.stdout.readline())["id"])
        ctl("agent", "delete", "yan", "--yes")
        while True:
            change = json.loads(process.stdout.readline())
            if change["id"] == "yan" and change["state"] == "removed":
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        while True:
            ctl("agent", "chat", "engineer_alice", "hello")
            if select.select([logs.stdout], [], [], 1)[0]:
                break
        assert "started for puffoctl" in logs.stdout.readline()
    finally:
        for p in process, logs:
            p.kill()
            p.communicate()


@pytest.mark.parametrize("args, code", [
    ([], 2), (["agent"], 2), (["agent", "frobnicate"], 2), (["agent", "show"], 2), (["agent", "show", "a", "b"], 2),
    (["agent", "list", "--nonsense"], 2), (["agent", "show", "nobody"], 1), (["agent", "show", "../x"], 1),
    (["agent", "chat", "nobody", "hello"], 1), (["agent", "logs", "engineer_alice", "-n", "many"], 2),
    (["agent", "files", "engineer_alice", "--get", "../x"], 1), (["provider", "default", "nonsense"], 1),
])
def test_errors(user_mode, engineer, ctl, args, code):
    result = ctl(*args, check=False)
    assert result.returncode == code and result.stderr
    if args and code == 1:
        assert result.stderr.startswith("puffoctl: ") and result.stderr.count("\n") == 1
