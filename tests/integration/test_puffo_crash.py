# SPDX-License-Identifier: MIT
"""kill -9 of an agent's session at every named point (daemon/base/crash-point.h) of its way from a message to an answer:
there is one answer, and nothing is left over."""

import re

import pytest

from machine import SOURCE
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import PATIENCE

POINTS = sorted({name for path in (SOURCE / "daemon").rglob("*.c")
                 for name in re.findall(r'crash_point\("([a-z0-9-]+)"\)', path.read_text())})
results = []


class Plain:
    """A message, answered by the model's words."""

    name = "plain"

    def __init__(self, helper, bo, number):
        self.helper, self.bo, self.mark = helper, bo, f"case {number}."
        self.root = None

    def say(self, directives):
        self.root = self.bo.say(f"{self.mark} {directives}", to=self.helper.slug)

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


def outcome(helper, point):
    """Whether the point was reached; it is disarmed in any case."""
    armed = helper.directory / "crash-at"
    fired = not armed.exists()
    armed.unlink(missing_ok=True)
    return fired


@pytest.mark.parametrize("case", [Plain], ids=lambda case: case.name)
@pytest.mark.parametrize("point", POINTS)
def test_dies_at(point, case, town, helper, bo, provider):
    restarts = helper.agent.Restarts
    helper.crash_at(point)
    done = case(helper, bo, f"{len(results)}-{point}-{case.name}")
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
