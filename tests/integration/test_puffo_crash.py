# SPDX-License-Identifier: MIT
"""kill -9 of an agent's session at every named point (daemon/base/crash-point.h) of its way from a message to an answer:
there is one answer, and nothing is left over."""

import re

import pytest

from machine import SOURCE
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import PATIENCE

# Those of a request for permission are in test_approvals.py, those of a CLI in test_hands_crash.py, those of the files of
# a turn in test_crash.py.
POINTS = sorted({name for path in (SOURCE / "daemon").rglob("*.c")
                 for name in re.findall(r'crash_point\("(?!approval-|cli-|files-|sdk-)([a-z0-9-]+)"\)', path.read_text())})
results = []


class Plain:
    """A message, answered by the model's words."""

    name = "plain"

    def __init__(self, town, helper, bo, provider, number):
        self.town, self.helper, self.bo, self.provider, self.mark = town, helper, bo, provider, f"case {number}."
        self.root = None

    def say(self, directives, files=()):
        self.root = self.bo.say(f"{self.mark} {directives}", files, to=self.helper.slug)

    def act(self):
        self.say(f"[[reply: words of {self.mark}]]")

    def expected(self):
        return [(f"words of {self.mark}", [], True)]

    def received(self):
        """Text, names of files, whether in the thread; in the order of the server."""
        return [(m["text"], [a["filename"] for a in m["attachments"]], m["thread_root_id"] == self.root)
                for m in self.bo.inbox if self.mark in m.get("text", "")]

    def check(self):
        self.bo.wait(lambda m: self.mark in m.get("text", ""), len(self.expected()), PATIENCE)
        self.helper.wait_settled()
        self.bo.look()
        assert self.received() == self.expected()


class Tools(Plain):
    """A message with a file, answered by two tools, the second of which sends a file."""

    name = "tools"

    def act(self):
        self.helper.suite.user.write(self.helper.workspace / "report.txt", "a report\n")
        notes = self.town.directory / "notes.txt"
        notes.write_text("notes\n")
        to = f'"channel": "@{self.bo.slug}"'
        self.say("[[say: One moment.]] "
                 f'[[tool: send_message {{{to}, "text": "sent {self.mark}"}}]] [[then]] '
                 f'[[tool: upload_file {{{to}, "paths": ["report.txt"], "caption": "files {self.mark}"}}]] '
                 "[[reply: Done.]]", [notes])

    def expected(self):
        return [(f"sent {self.mark}", [], False), (f"files {self.mark}", ["report.txt"], False)]


class Missed(Plain):
    """A message that is fetched, because the stream was cut."""

    name = "missed"

    def act(self):
        self.town.server.control("streams", {"do": "abort", "slug": self.helper.slug})
        super().act()


class Invited(Plain):
    """The operator takes the agent into a channel, where it is to introduce itself."""

    name = "invited"

    def act(self):
        made = self.town.operator.client.create_channel(self.town.space, self.mark.replace(" ", "-").strip("."), False)
        self.channel = (self.town.space, made["channel_id"])
        self.town.operator.client.invite(self.helper.slug, *self.channel)

    def expected(self):
        return ["member", "told once"]

    def received(self):
        members = [m["slug"] for m in self.town.operator.client.members(*self.channel)]
        told = [e for e in self.provider.log() if self.channel[1] in (e["text"] or "") and "introduc" in e["text"]]
        return ["member"] * (self.helper.slug in members) + ["told once"] * (len({e["text"] for e in told}) == 1)

    def check(self):
        self.helper.suite.wait(lambda: self.received() == self.expected(), 60, "the agent is in", self.received)
        self.helper.wait_settled()
        assert self.received() == self.expected()


class InvitedToSpace(Invited):
    """The operator takes the agent into a space, whose public channel it has to find."""

    name = "space"

    def act(self):
        made = self.town.operator.client.create_space(self.mark.replace(" ", "-").strip("."))
        self.channel = (made["space_id"], made["default_channel_id"])
        self.town.operator.client.invite(self.helper.slug, made["space_id"], None)


def cases_of(point):
    if point.startswith("ack-"):
        return [Missed]
    if point in ("invite-joined", "invite-found"):
        return [InvitedToSpace]
    if point.startswith(("invite-", "introduction-")):
        return [Invited]
    if point.startswith(("batch-", "turn-", "outbox-")):
        return [Plain, Tools]
    return [Tools]


def outcome(helper, point):
    """Whether the point was reached; it is disarmed in any case."""
    armed = helper.directory / "crash-at"
    fired = not armed.exists()
    armed.unlink(missing_ok=True)
    return fired


@pytest.mark.parametrize("point, case", [(point, case) for point in POINTS for case in cases_of(point)],
                         ids=lambda value: getattr(value, "name", value))
def test_dies_at(point, case, town, helper, bo, provider):
    restarts = helper.agent.Restarts
    helper.crash_at(point)
    done = case(town, helper, bo, provider, f"{len(results)}-{point}-{case.name}")
    try:
        done.act()
        done.check()
    finally:
        fired = outcome(helper, point)
        results.append((point, case.name, fired, provider.count(done.mark), len(done.received())))
    # The last points are passed when the answer is out already.
    helper.suite.wait(lambda: helper.agent.Restarts == restarts + fired and helper.agent.State == "ready", 10,
                      "the session is back", helper.agent.properties)
    helper.suite.wait(lambda: town.server.queued(helper.slug) == [], 10, "all is acknowledged")


def test_all_points_were_reached():
    """With a table for reading."""
    print(f"\n{'point':28} {'case':8} {'died':5} {'model calls':>11} {'messages':>8}")
    for point, case, fired, calls, messages in results:
        print(f"{point:28} {case:8} {'yes' if fired else 'no':5} {calls:11} {messages:8}")
    assert {point for point, _, fired, _, _ in results if fired} == set(POINTS)
