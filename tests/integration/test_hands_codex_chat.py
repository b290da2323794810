# SPDX-License-Identifier: MIT
"""Agents on the chat service that work with the real Codex: they answer by their tool, and ask their operator by message."""

import json

import pytest

from clis import answers_by_tool, installed
from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import PATIENCE, Resident, once
from test_hands_codex import CODEX, run, tool

SETTINGS = "runtime:\n  kind: cli-local\n  harness: codex\n  sandbox_profile: workspace\n"


@pytest.fixture(scope="module")
def codex(suite, provider):  # noqa: F811
    values = {"ApiKey": "sk-test-alice", "BaseUrl": provider.url + "/v1", "Model": "test-model"}
    suite.manager("SetProvider", "sa{sv}", "openai", {name: ("s", value) for name, value in values.items()})
    with installed("codex", CODEX):
        yield


@pytest.fixture(scope="module")
def worker(codex, town):  # noqa: F811
    return Resident(town, "worker", SETTINGS)


@pytest.fixture(scope="module")
def asker(codex, town):  # noqa: F811
    return Resident(town, "asker", SETTINGS + "  permission_mode: default\n")


def requests(provider, text):
    return [r for r in provider.log() if r["text"] and text in r["text"]]


def test_the_cli_answers_by_its_tool(town, worker, bo, provider):  # noqa: F811
    call = tool("mcp__puffo__send_message", channel=f"@{bo.slug}", text="Said by Codex.")
    answers_by_tool(worker, bo, f"Use your hands. {call} [[reply: Done.]]", "Said by Codex.")
    asked = requests(provider, "Use your hands")
    assert asked and {r["dialect"] for r in asked} == {"openai-responses"}
    # Who it is it was told when it began.
    assert "You help." in json.dumps(asked[-1]["body"])


@pytest.mark.parametrize("word, made", [("y", True), ("n", False)])
def test_the_operator_is_asked(town, asker, bo, word, made):  # noqa: F811
    name = f"made-{word}"
    root = bo.say(f"Make {name}. {run(f'touch {name}')} [[reply: Over with {name}.]]", to=asker.slug)
    question, = town.operator.wait(lambda m: f"touch {name}" in m.get("text", ""), 1, 90)
    assert "permission to use `exec_command`" in question["text"]
    asker.suite.wait(lambda: asker.agent.Status == "waiting-approval", PATIENCE, "it waits")
    town.operator.say(word, to=asker.slug, thread=question["envelope_id"])
    assert once(bo, asker, root, seconds=90)["text"] == f"Over with {name}."
    assert (asker.workspace / name).exists() == made
