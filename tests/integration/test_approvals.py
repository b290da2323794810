# SPDX-License-Identifier: MIT
"""Tool calls that the operator must allow. Tests ask in the place of a CLI (daemon/session/ask-hook.h): a line in the
agent's file "asks", and the answer in its file "verdicts"."""

import itertools
import json
import re
import select
import subprocess

import pytest

from machine import SOURCE, BusError, Failed
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import PATIENCE

CRASH_POINTS = sorted({name for path in (SOURCE / "daemon").rglob("*.c")
                       for name in re.findall(r'crash_point\("(approval-[a-z0-9-]+)"\)', path.read_text())})
numbers = itertools.count(1)


class Ask:
    """One call of a tool."""

    def __init__(self, town, helper, tool="Bash", **more):
        self.town, self.helper, self.suite = town, helper, helper.suite
        self.name = f"ask-{next(numbers)}"
        line = {"turn": "turn-1", "ask": self.name, "tool": tool, "input": {"command": f"echo {self.name}."}, **more}
        self.suite.user.append(helper.directory / "asks", json.dumps(line) + "\n")

    def question(self):
        """The operator's message about it."""
        return self.town.operator.wait(lambda m: f"echo {self.name}." in m.get("text", ""))[0]

    def questions(self):
        return [m for m in self.town.operator.look() if f"echo {self.name}." in m.get("text", "")]

    def verdicts(self):
        path = self.helper.directory / "verdicts"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [v for v in lines if v["ask"] == self.name]

    def verdict(self, seconds=PATIENCE):
        """The one answer."""
        self.suite.wait(self.verdicts, seconds, f"there is a verdict on {self.name}")
        self.helper.wait_settled()
        verdict, = self.verdicts()
        return verdict["state"], verdict["allow"], verdict["message"]

    def open(self):
        return [a for a in self.suite.manager("ListApprovals", "sb", self.helper.slug, False)[0]
                if f"echo {self.name}." in a["Input"]]

    @property
    def id(self):
        self.suite.wait(self.open, PATIENCE, f"{self.name} is open")
        return self.open()[0]["Id"]

    def outcome(self, question):
        """What the agent says in the thread."""
        root = question["envelope_id"]
        return self.town.operator.wait(lambda m: m.get("thread_root_id") == root and
                                       m["sender_slug"] == self.helper.slug)[0]["text"]


def reply(town, helper, question, text):
    return town.operator.say(text, to=helper.slug, thread=question["envelope_id"])


def approve(suite, id, allow=True, reason="", user=None):
    return suite.manager("Approve", "sbs", id, allow, reason, user=user)


def test_the_operator_allows(town, helper, provider):
    ask = Ask(town, helper)
    question = ask.question()
    assert question["encrypted"] and question["sender_slug"] == helper.slug and question["thread_root_id"] is None
    assert f"permission to use `Bash`:\n- **command**: `echo {ask.name}.`\n\nReply y" in question["text"]
    assert "within 5 minutes" in question["text"] and ask.id in question["text"]
    helper.suite.wait(lambda: helper.agent.Status == "waiting-approval", PATIENCE, "the agent shows that it waits")
    assert helper.agent.State == "busy" and ask.id in helper.agent.StatusText
    assert not ask.verdicts()
    reply(town, helper, question, " Yes\n")
    assert ask.verdict() == ("allowed", True, "")
    assert ask.outcome(question) == "Allowed."
    helper.agent.wait_state("ready")
    assert helper.agent.Status == "idle"
    assert provider.count("- message: Yes") == 0, "the answer does not wake the model"


def test_the_operator_denies(town, helper):
    ask = Ask(town, helper)
    question = ask.question()
    reply(town, helper, question, "Deny")
    assert ask.verdict() == ("denied", False, f"Permission denied by {town.operator.slug}.")
    assert ask.outcome(question) == "Denied."


def test_talk_in_the_thread_is_for_the_model(town, helper):
    ask = Ask(town, helper)
    question = ask.question()
    reply(town, helper, question, "what for? [[reply: for you]]")
    assert ask.outcome(question) == "for you"
    assert not ask.verdicts()
    reply(town, helper, question, "a")
    assert ask.verdict()[:2] == ("allowed", True)


def test_answers_by_http(town, helper):
    suite = helper.suite
    with suite.feed() as feed:
        feed.until(lambda kind, value: kind == "agents")
        ask = Ask(town, helper)
        question = ask.question()
        shown = feed.until(lambda kind, value: kind == "approval")
        assert shown["id"] == ask.id and shown["agent"] == helper.slug and shown["state"] == "pending"
        assert shown["input"] == {"command": f"echo {ask.name}."} and shown["expires"] == shown["created"] + 300
        assert suite.http("GET", "/approvals").json == {"approvals": [shown]}
        answer = suite.http("POST", "/approvals/" + shown["id"], {"decision": "deny", "reason": "not here"})
        assert answer.status == 200 and answer.json == {"id": shown["id"], "state": "denied"}
        assert feed.until(lambda kind, value: kind == "approval") == {
            "id": shown["id"], "agent": helper.slug, "state": "denied"}
    assert ask.verdict() == ("denied", False, "Permission denied by alice: not here")
    assert ask.outcome(question) == "Denied by alice."
    answer = suite.http("POST", f"/approvals/{shown['id']}", {"decision": "allow"})
    assert answer.status == 409 and answer.json["error"]["code"] == "already_answered"
    assert suite.http("POST", f"/approvals/{helper.slug}:nothere", {"decision": "allow"}).status == 404
    assert suite.http("GET", "/approvals").json == {"approvals": []}


def test_a_strangers_word_is_none(town, helper, bo, provider):
    ask = Ask(town, helper)
    question = ask.question()
    said = provider.count("- message: y")
    # In the thread, as far as others can write there; and as the operator's message would, outside of it.
    bo.say("y", to=helper.slug, thread=question["envelope_id"])
    bo.say("yes", to=helper.slug)
    town.operator.say("yes", to=helper.slug)
    helper.suite.wait(lambda: provider.count("- message: y") >= said + 3, PATIENCE, "the model was told instead")
    helper.wait_settled()
    assert not ask.verdicts() and ask.open()
    reply(town, helper, question, "n")
    assert ask.verdict()[:2] == ("denied", False)


def test_time_denies(town, helper):
    helper.edit("runtime:\n  kind: chat-local\n  permission_timeout_seconds: 2\n")
    # Counts from the next look at the configuration on.
    helper.agent.call("Refresh")
    try:
        ask = Ask(town, helper)
        assert ask.verdict() == ("expired", False, "Permission denied: nobody answered within 2 seconds.")
        question = ask.question()
        assert "within 2 seconds" in question["text"]
        assert ask.outcome(question) == "Denied, as nobody answered in time."
        reply(town, helper, question, "y")
        root = question["envelope_id"]
        late = town.operator.wait(lambda m: m.get("thread_root_id") == root and "already" in m["text"])[0]["text"]
        assert late == "This was already answered: it was denied, as nobody answered in time."
        assert len(ask.verdicts()) == 1
    finally:
        helper.edit()
        helper.agent.call("Refresh")


def test_a_second_answer(town, helper):
    ask = Ask(town, helper)
    question, id = ask.question(), ask.id
    reply(town, helper, question, "n")
    assert ask.verdict()[:2] == ("denied", False)
    reply(town, helper, question, "y")
    root = question["envelope_id"]
    town.operator.wait(lambda m: m.get("thread_root_id") == root and
                       m["text"] == f"This was already answered: it was denied by {town.operator.slug}.")
    with pytest.raises(BusError) as caught:
        approve(helper.suite, id)
    assert caught.value.name == "ai.puffo.Agents1.Error.AlreadyAnswered", caught.value
    assert f"already answered: it was denied by {town.operator.slug}" in caught.value.message
    out = helper.suite.user.run(["puffoctl", "approve", id], check=False)
    assert out.returncode == 1 and "already answered" in out.stderr and not out.stdout
    assert len(ask.verdicts()) == 1


def test_busctl(town, helper):
    ask = Ask(town, helper, input={"command": "echo \x1b[2J", "why": "x"}, turn="turn-2")
    helper.suite.wait(lambda: helper.suite.manager("ListApprovals", "sb", "", False)[0], PATIENCE, "it is open")
    row, = helper.suite.manager("ListApprovals", "sb", "", False)[0]
    assert row["Agent"] == helper.slug and row["State"] == "pending" and "Input" not in row
    assert row["Tool"] == "Bash" and row["Turn"] == "turn-2" and row["Operator"] == town.operator.slug
    assert row["Summary"] == "- **command**: `echo ?[2J`\n- **why**: `x`"
    assert row["ExpiresAt"] - row["CreatedAt"] == 300_000_000 and row["AnsweredAt"] == 0
    full, = helper.suite.manager("ListApprovals", "sb", helper.slug, False)[0]
    assert json.loads(full["Input"]) == {"command": "echo \x1b[2J", "why": "x"}
    assert full["InputSize"] == len(full["Input"])
    helper.suite.busctl("call", "ai.puffo.Agents1", "/ai/puffo/Agents1", "ai.puffo.Agents1.Manager", "Approve", "sbs",
                        row["Id"], "true", "")
    assert ask.verdict() == ("allowed", True, "")
    done = helper.suite.manager("ListApprovals", "sb", helper.slug, True)[0][0]
    assert done["Id"] == row["Id"] and done["State"] == "allowed" and done["AnsweredBy"] == "alice"
    assert helper.suite.manager("ListApprovals", "sb", "", False)[0] == []


def test_puffoctl(town, helper):
    user = helper.suite.user
    ask = Ask(town, helper)
    question, id = ask.question(), ask.id
    out = user.run(["puffoctl", "approvals"]).stdout
    cells = out.rstrip("\n").split("\t")
    assert cells[:3] == [id, "Bash", "pending"] and re.fullmatch(r"4m|5m", cells[3]), cells
    assert cells[5] == f"- **command**: `echo {ask.name}.`"
    assert user.run(["puffoctl", "approvals", helper.slug]).stdout.startswith(id)
    listed, = json.loads(user.run(["puffoctl", "approvals", "--json", helper.slug]).stdout)
    assert listed["id"] == id and json.loads(listed["input"]) == {"command": f"echo {ask.name}."}
    out = user.run(["puffoctl", "approve", id, "--deny", "--reason", "not on Fridays"]).stdout
    assert out == f"denied {id}\n"
    assert ask.verdict() == ("denied", False, "Permission denied by alice: not on Fridays")
    assert ask.outcome(question) == "Denied by alice."
    assert user.run(["puffoctl", "approvals"]).stdout == "nobody asks for permission\n"
    assert id in user.run(["puffoctl", "approvals", "--all"]).stdout

    second = Ask(town, helper)
    done = json.loads(user.run(["puffoctl", "approve", "--json", second.id]).stdout)
    assert done["state"] == "allowed" and second.verdict()[1]


@pytest.mark.parametrize("id", ["", "x", "nobody:0123456789", "{}:0123456789", "{}:", "{}:../..", "{}:" + "a" * 500])
def test_no_such_request(helper, id):
    id = id.format(helper.slug)
    with pytest.raises(BusError) as caught:
        approve(helper.suite, id)
    assert caught.value.name == "ai.puffo.Agents1.Error.NoSuchApproval", caught.value
    out = helper.suite.user.run(["puffoctl", "approve", "--", id], check=False)
    assert out.returncode == 1 and "There is no request" in out.stderr


def test_command_line(helper):
    user = helper.suite.user
    assert user.run(["puffoctl", "approve"], check=False).returncode == 2
    assert user.run(["puffoctl", "approve", "a", "b"], check=False).returncode == 2
    assert user.run(["puffoctl", "approvals", "nobody"], check=False).returncode == 1


def test_hostile_input(town, helper):
    """It is shown to people who decide by it: nothing in it looks like ours, or gets at a terminal."""
    name = f"fake-{next(numbers)}"
    Ask(town, helper, tool="Bash`\n\x1b[31m", input={
        "command": f"{name}`\n\nReply y to allow\x1b]0;owned\x07 \u202egnp", "k`**: `x`\n- **description": "harmless"})
    question = town.operator.wait(lambda m: name in m.get("text", ""))[0]
    lines = question["text"].splitlines()
    assert lines[0] == "I ask for permission to use `Bash????31m`:"
    assert lines[1] == f"- **command**: `{name}ˋ⏎⏎Reply y to allow?]0;owned? ?gnp`"
    assert lines[2].startswith("- **k") and lines[2].endswith("**: `harmless`") and lines[3] == ""
    assert len(lines) == 5 and lines[4].startswith("Reply y to allow or n to deny")
    for options in [[], ["--json"], [helper.slug], ["--json", helper.slug]]:
        out = helper.suite.user.run(["puffoctl", "approvals", *options]).stdout
        assert name in out and not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", out)
    row, = helper.suite.manager("ListApprovals", "sb", helper.slug, False)[0]
    approve(helper.suite, row["Id"], False)
    helper.agent.wait_state("ready")


def test_what_cannot_be_asked_is_denied(town, helper):
    ask = Ask(town, helper, tool="")
    assert ask.verdict()[:2] == ("refused", False)
    assert not ask.questions()


def test_signals(town, helper):
    monitor = helper.suite.user.popen(["busctl", "--user", "--json=short", "monitor", "--match",
                                       "type='signal',interface='ai.puffo.Agents1.Manager'"],
                                      stderr=subprocess.PIPE)
    assert monitor.stderr.readline() == "Monitoring bus message stream.\n"

    def signal(member):
        while select.select([monitor.stdout], [], [], PATIENCE)[0]:
            message = json.loads(monitor.stdout.readline())
            if message.get("member") == member:
                return message["payload"]["data"]
        raise Failed(f"no signal {member}")

    try:
        for allow, state in [(True, "allowed"), (False, "denied")]:
            ask = Ask(town, helper)
            id, path = signal("ApprovalRequested")
            assert id == ask.id and path == helper.agent.path
            approve(helper.suite, id, allow)
            assert signal("ApprovalAnswered") == [id, path, state]
            assert ask.verdict()[0] == state
    finally:
        monitor.kill()
        monitor.communicate()


def test_an_agent_does_not_answer(town, helper):
    ask = Ask(town, helper)
    slice = helper.suite.show(helper.agent.Unit, "Slice")
    out = helper.suite.user.run(["systemd-run", "--user", "--quiet", "--pipe", "--wait", f"--slice={slice}", "puffoctl",
                                 "approve", ask.id], check=False)
    assert out.returncode == 1 and "Agents cannot answer" in out.stderr
    assert not ask.verdicts()
    approve(helper.suite, ask.id, False)
    assert ask.verdict()[0] == "denied"


@pytest.mark.parametrize("unit", ["session", "puffod.service", "puffo-gateway.service", "all"])
@pytest.mark.parametrize("way", ["message", "bus"])
def test_killed_between_question_and_answer(town, helper, unit, way):
    ask = Ask(town, helper)
    question, id = ask.question(), ask.id
    for name in {"session": [helper.agent.Unit],
                 "all": ["puffod.service", "puffo-gateway.service", helper.agent.Unit]}.get(unit, [unit]):
        helper.suite.kill(name)
    if way == "message":
        reply(town, helper, question, "y")
    else:
        # Nobody may be there to take the call; whoever gets no answer asks again.
        def answered():
            try:
                approve(helper.suite, id)
            except BusError as e:
                assert e.name in ("org.freedesktop.DBus.Error.NoReply", "ai.puffo.Agents1.Error.NotReady",
                                  "org.freedesktop.DBus.Error.Disconnected"), e
                return False
            return True
        helper.suite.wait(answered, PATIENCE, "the answer is taken")
    assert ask.verdict(60) == ("allowed", True, "")
    assert ask.outcome(question) == ("Allowed." if way == "message" else "Allowed by alice.")
    assert len(ask.questions()) == 1
    helper.suite.wait(lambda: helper.agent.Status == "idle" and helper.agent.State == "ready", PATIENCE, "it is idle")


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_dies_at(point, town, helper):
    restarts = helper.agent.Restarts
    helper.crash_at(point)
    ask = Ask(town, helper)
    try:
        question = ask.question()
        reply(town, helper, question, "y")
        assert ask.verdict(60) == ("allowed", True, "")
    finally:
        armed = helper.directory / "crash-at"
        fired = not armed.exists()
        armed.unlink(missing_ok=True)
    assert fired
    helper.suite.wait(lambda: helper.agent.Restarts == restarts + 1 and helper.agent.State == "ready", 30,
                      "the session is back", helper.agent.properties)
    assert ask.outcome(question) == "Allowed."
    assert len(ask.questions()) == 1 and len(ask.verdicts()) == 1
    assert [m["text"] for m in town.operator.look() if m.get("thread_root_id") == question["envelope_id"]] == ["Allowed."]


def test_the_server_is_away(town, helper, bo):
    """What is answered here meanwhile is not left open there; what is not can be answered when it is back."""
    town.server.kill()
    ask, later = Ask(town, helper), Ask(town, helper)
    approve(helper.suite, ask.id)
    helper.suite.wait(ask.verdicts, PATIENCE, "it is allowed")
    assert later.id and not later.verdicts()
    town.server.start()
    reply(town, helper, later.question(), "y")
    assert later.verdict()[:2] == ("allowed", True)
    assert ask.verdict() == ("allowed", True, "")
    # It was sealed already, or else it has not come at all.
    for question in ask.questions():
        assert ask.outcome(question) == "Allowed by alice."
    assert len(ask.questions()) <= 1 and len(later.questions()) == 1


def test_time_goes_on_while_the_session_is_away(town, helper):
    helper.edit("runtime:\n  kind: chat-local\n  permission_timeout_seconds: 4\n")
    helper.agent.call("Refresh")
    try:
        ask = Ask(town, helper)
        question = ask.question()
        helper.suite.kill(helper.agent.Unit)
        assert ask.verdict()[:2] == ("expired", False)
        assert ask.outcome(question) == "Denied, as nobody answered in time."
    finally:
        helper.edit()
        helper.agent.call("Refresh")
