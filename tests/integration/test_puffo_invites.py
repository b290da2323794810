# SPDX-License-Identifier: MIT
"""Invitations: the operator's are accepted, others' are put to the operator; where the agent has come it is told to
introduce itself, once."""

import re

import pytest

from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import Resident, once


@pytest.fixture(scope="module")
def helper(town):
    return Resident(town, "helper")


def member(town, helper, channel):
    return helper.slug in [m["slug"] for m in town.operator.client.members(*channel)]


def asked(human, about):
    """The agent's question to its operator."""
    # Nobody tells it: it asks every 30 s.
    return human.wait(lambda m: about in m.get("text", "") and "Reply y" in m["text"], seconds=90)[0]


def nudges(provider, channel):
    return [e["text"] for e in provider.log() if channel[1] in (e["text"] or "") and "introduc" in e["text"]]


def test_operator_invites_to_the_space(town, helper, provider):
    town.operator.client.invite(helper.slug, town.space, None)
    helper.suite.wait(lambda: member(town, helper, town.lobby), 40, "the agent is a member")
    helper.suite.wait(lambda: nudges(provider, town.lobby), 40, "it is told to introduce itself")
    helper.wait_settled()
    text, = nudges(provider, town.lobby)
    assert "[puffo-agent system message]" in text and "send_message" in text


def test_operator_invites_to_a_channel(town, helper, provider):
    made = town.operator.client.create_channel(town.space, "ops", False)
    channel = (town.space, made["channel_id"])
    town.operator.client.invite(helper.slug, *channel)
    helper.suite.wait(lambda: member(town, helper, channel), 40, "the agent is a member")
    helper.suite.wait(lambda: nudges(provider, channel), 40, "it is told to introduce itself")
    helper.wait_settled()
    assert len(nudges(provider, channel)) == 1 and "ops" in nudges(provider, channel)[0]
    asked = helper.rows("SELECT priority, root_id = envelope_id AS own FROM dispatch_state"
                        " WHERE envelope_id LIKE 'intro-prompt-%'")
    assert asked == [{"priority": 5, "own": 1}] * 2, "one for each channel, behind all else"
    root = town.operator.say(f"@{helper.slug} welcome [[reply: thanks]]", channel=channel)
    assert once(town.operator, helper, root)["text"] == "thanks"


@pytest.mark.parametrize("answer, accepted", [("Y ", True), ("No", False)])
def test_somebody_else_invites(town, helper, bo, provider, answer, accepted):
    space = bo.client.create_space(f"Bo's {accepted}")
    channel = (space["space_id"], space["default_channel_id"])
    bo.client.invite(helper.slug, channel[0], None)
    question = asked(town.operator, channel[0])
    assert bo.slug in question["text"] and question["thread_root_id"] is None
    # Something else is not an answer, and the model's.
    root = question["envelope_id"]
    town.operator.say("who is that? [[reply: a friend]]", to=helper.slug, thread=root)
    town.operator.wait(lambda m: m.get("thread_root_id") == root and m["text"] == "a friend")
    assert not any(helper.slug == m["slug"] for m in bo.client.members(*channel))
    town.operator.say(answer, to=helper.slug, thread=root)
    said = town.operator.wait(lambda m: m.get("thread_root_id") == root and m["text"] != "a friend")[0]["text"]
    assert re.search("(?i)accept" if accepted else "(?i)reject", said), said
    helper.wait_settled()
    assert (helper.slug in [m["slug"] for m in bo.client.members(*channel)]) == accepted
    assert provider.count(f"- message: {answer.strip()}") == 0, "the answer does not wake the model"
    # A second one in the same thread is talk.
    town.operator.say(f"{answer}[[reply: as you said]]", to=helper.slug, thread=root)
    town.operator.wait(lambda m: m.get("thread_root_id") == root and m["text"] == "as you said")


def test_asked_once(town, helper, bo):
    """A new process knows what was asked."""
    space = bo.client.create_space("Asked once")
    bo.client.invite(helper.slug, space["space_id"], None)
    question = asked(town.operator, space["space_id"])
    after = town.now()
    helper.agent.call("Restart")
    helper.agent.wait_state("ready")
    town.wait_request("GET", "/invites", helper.slug, after)
    town.operator.say("n", to=helper.slug, thread=question["envelope_id"])
    town.operator.answer(question["envelope_id"])
    helper.wait_settled()
    town.operator.look()
    assert sum(space["space_id"] in m.get("text", "") and "Reply y" in m["text"] for m in town.operator.inbox) == 1


def test_introduced_once(town, helper, provider):
    before = len(nudges(provider, town.lobby))
    after = town.now()
    helper.agent.call("Restart")
    helper.agent.wait_state("ready")
    town.wait_request("GET", "/invites", helper.slug, after)
    helper.wait_settled()
    assert len(nudges(provider, town.lobby)) == before == 1
