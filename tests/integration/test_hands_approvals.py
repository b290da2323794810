# SPDX-License-Identifier: MIT
"""What the real Claude Code may not do by itself: the operator is asked by message, and the call of the tool waits for the
answer, whoever is killed meanwhile."""

import itertools
import json
import os
import signal

import pytest

from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import PATIENCE, Resident, once
from test_hands import CLAUDE, pid_of, programs, requests, tool  # noqa: F401

ASKING = CLAUDE + "  permission_mode: default\n"
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def worker(programs, town):  # noqa: F811
    return Resident(town, "worker", ASKING)


class Call:
    """A message that has the agent make a file."""

    def __init__(self, town, worker, bo):  # noqa: F811
        self.town, self.worker, self.bo = town, worker, bo
        self.name = f"made-{next(numbers)}"
        self.file = worker.workspace / self.name
        self.root = bo.say(f"Make {self.name}. {tool('Bash', command=f'echo x >> {self.name}')} "
                           f"[[reply: Made {self.name}.]]", to=worker.slug)

    def questions(self):
        return [m for m in self.town.operator.look() if f"echo x >> {self.name}`" in m.get("text", "")]

    def question(self, count=1):
        found = self.town.operator.wait(lambda m: f"echo x >> {self.name}`" in m.get("text", ""), count, 90)
        assert not self.file.exists()
        return found[-1]

    def reply(self, question, text):
        self.town.operator.say(text, to=self.worker.slug, thread=question["envelope_id"])

    def outcome(self, question):
        root = question["envelope_id"]
        return self.town.operator.wait(lambda m: m.get("thread_root_id") == root and
                                       m["sender_slug"] == self.worker.slug)[0]["text"]

    def done(self):
        """The turn's answer."""
        return once(self.bo, self.worker, self.root, seconds=90)["text"]

    def times(self):
        return len(self.file.read_text().splitlines()) if self.file.exists() else 0


def test_allowed(town, worker, bo):  # noqa: F811
    call = Call(town, worker, bo)
    question = call.question()
    assert question["encrypted"] and "permission to use `Bash`:\n- **command**: " in question["text"]
    worker.suite.wait(lambda: worker.agent.Status == "waiting-approval", PATIENCE, "it waits")
    call.reply(question, "y")
    assert call.done() == f"Made {call.name}." and call.times() == 1
    assert call.outcome(question) == "Allowed." and len(call.questions()) == 1
    worker.suite.wait(lambda: worker.agent.Status == "idle", PATIENCE, "it is idle")


def test_denied(town, worker, bo, provider):  # noqa: F811
    call = Call(town, worker, bo)
    call.reply(call.question(), "n")
    assert call.done() == f"Made {call.name}.", "the emulator says so whatever came of it"
    assert call.times() == 0
    told = json.dumps(requests(provider, call.name)[-1]["body"])
    assert f"Permission denied by {town.operator.slug}." in told, "the model learns why"


def test_answered_on_the_machine(town, worker, bo, provider):  # noqa: F811
    user = worker.suite.user
    call = Call(town, worker, bo)
    question = call.question()
    listed, = json.loads(user.run(["puffoctl", "approvals", "--json", worker.slug]).stdout)
    assert json.loads(listed["input"])["command"] == f"echo x >> {call.name}"
    user.run(["puffoctl", "approve", listed["id"], "--deny", "--reason", "not today"])
    assert call.done() and call.times() == 0 and call.outcome(question) == "Denied by alice."
    assert "Permission denied by alice: not today" in json.dumps(requests(provider, call.name)[-1]["body"])


@pytest.mark.parametrize("victim", ["session", "puffod", "both"])
def test_killed_while_it_waits(town, worker, bo, victim):  # noqa: F811
    call = Call(town, worker, bo)
    question, cli = call.question(), pid_of(worker)
    for unit in {"session": [worker.agent.Unit], "puffod": ["puffod.service"],
                 "both": ["puffod.service", worker.agent.Unit]}[victim]:
        worker.suite.kill(unit)
    call.reply(question, "yes")
    assert call.done() == f"Made {call.name}." and call.times() == 1
    assert pid_of(worker) == cli, "the CLI has waited"
    assert len(call.questions()) == 1 and call.outcome(question) == "Allowed."


@pytest.mark.parametrize("point", ["approval-ask", "approval-stored", "approval-answered", "approval-told"])
def test_session_dies_at(town, worker, bo, point):  # noqa: F811
    worker.crash_at(point)
    call = Call(town, worker, bo)
    question = call.question()
    call.reply(question, "y")
    assert call.done() == f"Made {call.name}." and call.times() == 1
    assert not (worker.directory / "crash-at").exists()
    assert len(call.questions()) == 1 and call.outcome(question) == "Allowed."


def test_the_cli_dies_while_it_waits(town, worker, bo):  # noqa: F811
    """Nobody waits for the answer any more: a later one does nothing."""
    call = Call(town, worker, bo)
    question = call.question()
    root = question["envelope_id"]
    os.kill(pid_of(worker), signal.SIGKILL)
    assert call.outcome(question).startswith("Withdrawn")
    call.reply(question, "y")
    late = town.operator.wait(lambda m: m.get("thread_root_id") == root and "already" in m["text"])[0]["text"]
    assert late == "This was already answered: it was withdrawn, as the answer was not needed any more."
    assert "ended by signal KILL" in call.done() and call.times() == 0


def test_interrupted_while_it_waits(town, worker, bo):  # noqa: F811
    call = Call(town, worker, bo)
    question = call.question()
    worker.agent.call("Interrupt", "s", "")
    assert call.outcome(question).startswith("Withdrawn")
    worker.agent.wait_state("ready")
    assert call.times() == 0


def test_time_denies(town, worker, bo, provider):  # noqa: F811
    worker.edit(ASKING + "  permission_timeout_seconds: 3\n")
    worker.agent.call("Refresh")
    call = Call(town, worker, bo)
    assert call.done() and call.times() == 0
    assert "nobody answered within 3 seconds" in json.dumps(requests(provider, call.name)[-1]["body"])


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_server_of_its_own_is_a_program(town, worker, bo, answer):  # noqa: F811
    """Who is asked about commands is asked about what starts one."""
    call = "[[tool: mcp__puffo__install_mcp_server " + json.dumps({"name": f"mine-{answer}", "command": "/usr/bin/true"}) + "]]"
    root = bo.say(f"Install {answer}. {call} [[reply: So be it {answer}.]]", to=worker.slug)
    question, = town.operator.wait(lambda m: f"mine-{answer}" in m.get("text", ""), seconds=90)
    assert "install_mcp_server" in question["text"]
    town.operator.say(answer, to=worker.slug, thread=question["envelope_id"])
    assert once(bo, worker, root, seconds=90)["text"] == f"So be it {answer}."
    assert (f"mine-{answer}" in (worker.workspace / ".mcp.json").read_text()) == (answer == "y")
