# SPDX-License-Identifier: MIT
"""What an agent may use: a limit is kept, the operator hears of it once, and no message is lost."""

import time

import pytest
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import once

KIND = "runtime:\n  kind: chat-local\n"


@pytest.fixture(autouse=True)
def within_an_hour():
    """The budget's hour does not end during the test."""
    left = 3600 - time.time() % 3600
    if left < 60:
        time.sleep(left + 1)


def test_messages_wait_for_budget(town, helper, bo, provider):
    helper.edit(KIND + "limits:\n  tokens_per_hour: 40\npricing:\n  test-model: {input: 1, output: 2}\n")
    root = bo.say("budget one [[words: 60]]", to=helper.slug)
    once(bo, helper, root)
    notice = town.operator.wait(lambda m: "My budget is used up" in m["text"])
    assert "limits.tokens_per_hour" in str(notice)
    helper.suite.wait(lambda: "tokens for this hour" in helper.agent.StatusText, 10, "the status says so")
    used = helper.rows("SELECT model, calls, output_tokens, cost_micro FROM model_usage")
    assert [(u["model"], u["calls"], u["output_tokens"]) for u in used] == [("test-model", 1, 60)]
    assert used[0]["cost_micro"] > 120
    cost = helper.rows("SELECT cost_micro FROM session_turns ORDER BY seq DESC LIMIT 1")[0]["cost_micro"]
    assert cost == used[0]["cost_micro"]

    second = bo.say("budget two [[reply: later]]", to=helper.slug)
    helper.suite.wait(lambda: helper.rows("SELECT 1 FROM session_turns WHERE error_kind = 'budget'"), 10, "it is put off")
    assert provider.count("budget two") == 0

    # A restart changes nothing, more budget does.
    helper.agent.call("Restart")
    helper.suite.wait(lambda: helper.agent.State == "ready", 20, "the agent is there again")
    helper.suite.wait(lambda: len(helper.rows("SELECT 1 FROM session_turns WHERE error_kind = 'budget'")) >= 2, 20,
                      "it is put off again")
    assert provider.count("budget two") == 0
    helper.edit(KIND + "limits:\n  tokens_per_hour: 1000000\n")
    assert once(bo, helper, second)["text"] == "later"
    town.operator.look()
    assert sum("My budget is used up" in m["text"] for m in town.operator.inbox) == 1
