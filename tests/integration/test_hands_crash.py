# SPDX-License-Identifier: MIT
"""kill -9 of the session at every named point (daemon/base/crash-point.h) of a turn that the real Claude Code answers: there
is one answer, and what its tools do is done once."""

import re

import pytest

from machine import SOURCE
from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import Resident, once
from test_hands import CLAUDE, programs, tool  # noqa: F401

POINTS = sorted({name for path in (SOURCE / "daemon/session/hands").rglob("*.c")
                 for name in re.findall(r'crash_point\("([a-z0-9-]+)"\)', path.read_text())})


@pytest.fixture(scope="module")
def worker(programs, town):  # noqa: F811
    return Resident(town, "worker", CLAUDE)


def settled(worker, restarts, point):
    armed = worker.directory / "crash-at"
    fired = not armed.exists()
    armed.unlink(missing_ok=True)
    assert fired, f"{point} was not reached"
    worker.suite.wait(lambda: worker.agent.Restarts == restarts + 1 and worker.agent.State == "ready", 30,
                      "the session is back", worker.agent.properties)


def prepare(worker, point):
    """Points of its start are passed by a CLI that does not run yet."""
    if point.startswith("cli-start"):
        worker.agent.call("Stop")
        worker.agent.call("Start")
        worker.agent.wait_state("ready")
    restarts = worker.agent.Restarts
    worker.crash_at(point)
    return restarts


@pytest.mark.parametrize("point", POINTS)
def test_dies_at_with_words(point, worker, bo):  # noqa: F811
    restarts = prepare(worker, point)
    root = bo.say(f"Words at {point}. [[reply: words of {point}]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == f"words of {point}"
    settled(worker, restarts, point)


@pytest.mark.parametrize("point", POINTS)
def test_dies_at_with_tools(point, worker, bo):  # noqa: F811
    restarts = prepare(worker, point)
    text, file = f"sent at {point}.", f"made-{point}"
    calls = [tool("mcp__puffo__send_message", channel=f"@{bo.slug}", text=text),
             tool("Bash", command=f"echo x >> {file}")]
    bo.say(f"Tools at {point}. {calls[0]} [[then]] {calls[1]} [[reply: Done.]]", to=worker.slug)
    bo.wait(lambda m: m.get("text") == text, seconds=90)
    worker.wait_settled()
    settled(worker, restarts, point)
    worker.wait_settled()
    said = len([m for m in bo.look() if m.get("text") == text])
    made = len((worker.workspace / file).read_text().splitlines())
    assert said == 1 and made == 1, (said, made)
