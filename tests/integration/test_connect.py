# SPDX-License-Identifier: MIT
"""Somebody at a terminal talks to an agent: agent-proxy connect and puffoctl agent chat (agent-proxy, section 8)."""

import os
import subprocess

import pytest

from terminal import Terminal

AGENT = "engineer_tess"
PROMPT = AGENT + "> $"
LEFT, UP, BACKSPACE, CTRL_C, CTRL_D = "\x1b[D", "\x1b[A", "\x7f", "\x03", "\x04"
HISTORY = ".agent_proxy/.state/history/" + AGENT


@pytest.fixture(scope="module")
def suite(user_mode):
    user_mode.hire("engineer", "tess")
    return user_mode


@pytest.fixture
def said(provider):
    """What the model has been told since, oldest first."""
    provider.reset()
    return lambda: [entry["text"] for entry in provider.log()]


def connect(suite, *args, **options):
    return Terminal(suite.user, ["agent-proxy", "connect", AGENT, *args], **options)


def test_lines_are_edited(suite, said):
    with connect(suite) as terminal:
        terminal.expect(rf"{AGENT} \d+\r\n")
        terminal.expect(PROMPT)
        terminal.type("[[reply: grue" + BACKSPACE * 2 + "üße, 世界]]" + LEFT * 3 + "!" + "\r")
        terminal.expect("grüße, 世!界\r\n")
        terminal.expect(PROMPT)
        terminal.type("   \r")                  # nothing is said
        terminal.expect(PROMPT)
        terminal.type("/exit\r")
        assert terminal.wait() == 0
        assert terminal.modes() == (True, True)
    assert said() == [f"Now let us work on working dir: {suite.user.home}", "[[reply: grüße, 世!界]]"]


def test_end_of_input_and_quit_leave(suite):
    for keys in [CTRL_D, "/quit\r"]:
        with connect(suite, "/tmp") as terminal:
            terminal.expect(PROMPT)
            terminal.type(keys)
            assert terminal.wait() == 0


def test_what_was_said_is_remembered(suite, said):
    with connect(suite) as terminal:
        terminal.expect(PROMPT)
        terminal.type("[[reply: once]] and ünique\r")
        terminal.expect("once\r\n")
        terminal.expect(PROMPT)
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
    file = suite.user.home / HISTORY
    assert oct(file.stat().st_mode & 0o777) == "0o600" and file.stat().st_uid == suite.user.uid
    assert oct(file.parent.stat().st_mode & 0o777) == "0o700"
    assert not list((suite.user.home / ".agent_proxy" / AGENT).glob("*istory*"))
    with connect(suite) as terminal:
        terminal.expect(PROMPT)
        terminal.type(UP + "\r")
        terminal.expect("once\r\n")
        terminal.expect(PROMPT)
    assert said()[-1] == "[[reply: once]] and ünique" and len(said()) == 4


def test_a_pasted_text_is_one_turn(suite, said):
    with connect(suite) as terminal:
        terminal.expect(PROMPT)
        assert "\x1b[?2004h" in terminal.raw.decode()
        terminal.type("\x1b[200~[[reply: as one]] first\rsecond\x1b[31m\x07\r\tthird\x1b[201~")
        terminal.expect("third")
        terminal.type(" and last\r")
        terminal.expect("as one\r\n")
        terminal.expect(PROMPT)
        # It comes back as one, too.
        terminal.type(UP + "\r")
        terminal.expect("as one\r\n")
        terminal.expect(PROMPT)
    text = "[[reply: as one]] first\nsecond[31m\n\tthird and last"
    assert said()[1:] == [text, text]


def test_a_backslash_goes_on(suite, said):
    with connect(suite) as terminal:
        terminal.expect(PROMPT)
        terminal.type("[[reply: both]] one\\\r")
        terminal.expect("… $")
        terminal.type("two\r")
        terminal.expect("both\r\n")
        terminal.expect(PROMPT)
    assert said()[1:] == ["[[reply: both]] one\ntwo"]


def test_ctrl_c_interrupts_the_turn_and_leaves_at_the_prompt(suite, said):
    with connect(suite) as terminal:
        terminal.expect(PROMPT)
        terminal.type("[[words: 5000]] [[slow: 50ms]]\r")
        terminal.expect("word3 ")
        # What is typed meanwhile does not get between what is said, and waits.
        assert terminal.modes() == (False, False)
        terminal.type("[[reply: typed before]]")
        terminal.expect("word9 ")
        assert "typed" not in terminal.shown()
        terminal.type(CTRL_C)
        terminal.expect("incomplete: interrupted")
        terminal.expect(PROMPT)
        suite.agent(AGENT).wait_state("ready")
        terminal.type("[[reply: going on]]\r")
        terminal.expect("going on\r\n")
        terminal.expect(PROMPT)
        terminal.type("half a line" + CTRL_C)
        assert terminal.wait() == 130
        assert terminal.modes() == (True, True)
    assert "half a line" not in str(said())


def test_what_was_typed_early_is_the_next_line(suite, said):
    with connect(suite) as terminal:
        terminal.expect(PROMPT)
        terminal.type("[[words: 60]] [[slow: 50ms]]\r")
        terminal.expect("word3 ")
        terminal.type("[[reply: early]]\r")
        terminal.expect("early\r\n")
        terminal.expect(PROMPT)
    assert said()[1:] == ["[[words: 60]] [[slow: 50ms]]", "[[reply: early]]"]


def test_keys_count_as_soon_as_the_prompt_is_there(suite):
    with connect(suite) as terminal:
        for _ in range(30):
            terminal.expect(PROMPT)
            assert terminal.modes() == (False, False)
            terminal.type("\r")
        terminal.expect(PROMPT)
        terminal.type(CTRL_D)
        assert terminal.wait() == 0


def test_a_failed_turn_is_told_and_the_chat_goes_on(suite):
    with connect(suite) as terminal:
        terminal.expect(PROMPT)
        terminal.type("[[status: 400]]\r")
        terminal.expect("error: ")
        terminal.expect(PROMPT)
        terminal.type("[[reply: on we go]]\r")
        terminal.expect("on we go\r\n")
        terminal.expect(PROMPT)
        terminal.type(CTRL_D)
        assert terminal.wait() == 0             # somebody has seen it


def test_the_daemon_may_come_back_between_two_lines(suite):
    with connect(suite) as terminal:
        terminal.expect(PROMPT)
        suite.systemctl("restart", "puffod.service")
        terminal.type("[[reply: still there]]\r")
        terminal.expect("still there\r\n")
        terminal.expect(PROMPT)


def test_it_ends_with_the_bus(suite, bob):
    """A user's bus goes with his manager: nobody is left behind at a prompt that leads nowhere."""
    bus = bob.runtime / "private-test-bus"
    daemon = bob.popen(["dbus-daemon", "--session", "--nofork", "--print-address", f"--address=unix:path={bus}"])
    try:
        address = daemon.stdout.readline().strip()
        env = {"DBUS_SESSION_BUS_ADDRESS": address}
        with Terminal(bob, ["agent-proxy", "connect", "manager"], env=env) as terminal:
            terminal.expect("daemon is not running")
            assert terminal.wait() == 1
    finally:
        daemon.kill()
        daemon.communicate()


def test_puffoctl_talks_the_same_way(suite, said):
    with Terminal(suite.user, ["puffoctl", "agent", "chat", AGENT]) as terminal:
        terminal.expect(PROMPT)
        terminal.type("[[reply: here as well]]\r")
        terminal.expect("here as well\r\n")
        terminal.expect(PROMPT)
        terminal.type(CTRL_C)
        assert terminal.wait() == 130
    assert said() == ["[[reply: here as well]]"]


def test_piped_it_prints_answers_only(suite, said):
    """From a file as well, which cannot be waited for."""
    script = suite.user.write("lines.txt", "[[reply: one]]\n\n[[reply: t\\\nwo]]\n[[reply: three]]")
    with open(script) as lines:
        process = suite.user.popen(["agent-proxy", "connect", AGENT, "/tmp"], stdin=lines, stderr=None)
        out = process.communicate(timeout=120)[0]
    assert process.returncode == 0
    assert out.endswith("one\nt\nwo\nthree\n") and ">" not in out
    assert said()[1:] == ["[[reply: one]]", "[[reply: t\nwo]]", "[[reply: three]]"]


def test_answers_that_cannot_be_written_are_a_failure(suite, said):
    """The rest is not said: nobody would see what comes of it. To whoever reads no more nothing need be said."""
    reader, closed = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    for out, text in [(full, ["agent-proxy: cannot write the output: No space left on device"]), (closed, [])]:
        process = suite.user.popen(["agent-proxy", "connect", AGENT, "/tmp"], stdin=subprocess.PIPE, stdout=out,
                                   stderr=subprocess.PIPE)
        os.close(out)
        told = process.communicate("one\ntwo\n", timeout=120)[1]
        assert process.returncode == 1 and told.splitlines()[1:] == text, told
    assert all(text.startswith("Now let us work") for text in said()), said()
    result = suite.user.run(["bash", "-c", f"puffoctl agent chat {AGENT} one > /dev/full"], check=False)
    assert result.returncode == 1 and "No space left on device" in result.stderr
