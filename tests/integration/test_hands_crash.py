# SPDX-License-Identifier: MIT
"""kill -9 of the session at every named point (daemon/base/crash-point.h) of a turn that the real Claude Code answers: there
is one answer, and what its tools do is done once."""

import re

import pytest

from machine import SOURCE
from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import Resident, once
from test_hands import CLAUDE, programs, tool  # noqa: F401

ALL = sorted({name for room in ("session/hands", "harness") for path in (SOURCE / "daemon" / room).rglob("*.c")
              for name in re.findall(r'crash_point\("([a-z0-9-]+)"\)', path.read_text())})
POINTS = [name for name in ALL if not name.startswith("sdk-")]
# What it asks the session on its way to the first call is three messages, of which two want an answer.
SDK_POINTS = [(name, 0) for name in ALL] + [("sdk-call", 3), ("sdk-call-stored", 3), ("sdk-call-answered", 2)]


@pytest.fixture(scope="module")
def worker(programs, town):  # noqa: F811
    return Resident(town, "worker", CLAUDE)


@pytest.fixture(scope="module")
def scribe(programs, town):  # noqa: F811
    return Resident(town, "scribe", "runtime:\n  kind: sdk-local\n  sandbox_profile: workspace\n"
                                    "  allowed_tools: ['Bash(echo *)']\n")


def settled(worker, restarts, point):
    armed = worker.directory / "crash-at"
    fired = not armed.exists()
    armed.unlink(missing_ok=True)
    assert fired, f"{point} was not reached"
    worker.suite.wait(lambda: worker.agent.Restarts == restarts + 1 and worker.agent.State == "ready", 30,
                      "the session is back", worker.agent.properties)


def prepare(worker, point, passes=0):
    """Points of its start are passed by a CLI that does not run yet."""
    if point.startswith("cli-start"):
        worker.agent.call("Stop")
        worker.agent.call("Start")
        worker.agent.wait_state("ready")
    restarts = worker.agent.Restarts
    worker.crash_at(point, passes)
    return restarts


@pytest.mark.parametrize("point", POINTS)
def test_dies_at_with_words(point, worker, bo):  # noqa: F811
    restarts = prepare(worker, point)
    root = bo.say(f"Words at {point}. [[reply: words of {point}]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == f"words of {point}"
    settled(worker, restarts, point)


@pytest.mark.parametrize("point", POINTS)
def test_dies_at_with_tools(point, worker, bo):  # noqa: F811
    with_tools(point, worker, bo)


@pytest.mark.parametrize("point,passes", SDK_POINTS)
def test_sdk_dies_at_with_tools(point, passes, scribe, bo):  # noqa: F811
    """Tools, leave for them and the prompt go over the pipes of the CLI, which the next process answers on."""
    with_tools(point, scribe, bo, passes)


def with_tools(point, worker, bo, passes=0):  # noqa: F811
    restarts = prepare(worker, point, passes)
    text, file = f"sent by {worker.slug} at {point} {passes}.", f"made-{point}-{passes}"
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
