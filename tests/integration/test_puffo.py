# SPDX-License-Identifier: MIT
"""An agent on Puffo, from outside: people's clients, the server and the model are others' programs."""

import pytest

from puffo_town import Resident, Town, quick_restarts


@pytest.fixture(scope="module")
def suite(user_mode, alice):
    quick_restarts(alice)
    alice.append(".puffo-agent/daemon.yml", "dispatch_jitter_ms: 0\n")
    user_mode.manager("Reload")
    return user_mode


@pytest.fixture(scope="module")
def town(suite, tmp_path_factory):
    made = Town(suite, tmp_path_factory.mktemp("town"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def helper(town):
    made = Resident(town, "helper")
    made.join(town.lobby)
    return made


@pytest.fixture(scope="module")
def bo(town):
    return town.human("bo", "Bo Lin")


def shown(provider, text):
    """What the model was shown of a message: its lines in front of the text."""
    asked = [e["text"] for e in provider.log() if text in (e["text"] or "")]
    assert asked, f"the model was not asked about {text!r}"
    return asked[-1]


def once(human, town, resident, root):
    """The one answer in a thread, encrypted; whatever else the agent had to do is done."""
    answer = human.answer(root)
    resident.wait_settled()
    human.look()
    assert len(human.answers(root, resident.slug)) == 1, human.answers(root)
    assert answer["encrypted"] and answer["sender_slug"] == resident.slug and "error" not in answer
    return answer


def test_direct_message(town, helper, bo, provider):
    root = bo.say("hi, are you there? [[reply: Yes, I am.]]", to=helper.slug)
    answer = once(bo, town, helper, root)
    assert answer["text"] == "Yes, I am."
    assert answer["envelope_kind"] == "dm" and answer["recipient_slug"] == bo.slug
    lines = shown(provider, "are you there?").splitlines()
    assert lines[0] == "- channel: Direct message"
    assert lines[1:3] == [f"- post_id: {root}", f"- thread_root_id: {root}"]
    assert lines[4:7] == ["- sender: Bo Lin", f"- sender_slug: {bo.slug}", "- sender_type: human"]
    assert lines[7].startswith("- message: hi, are you there?") and len(lines) == 8


def test_thread_reply(town, helper, bo, provider):
    root = bo.say("first [[reply: one]]", to=helper.slug)
    once(bo, town, helper, root)
    second = bo.say("and more [[reply: two]]", to=helper.slug, thread=root)
    bo.wait(lambda m: m.get("thread_root_id") == root and m["text"] == "two")
    helper.wait_settled()
    assert [m["text"] for m in bo.answers(root, helper.slug)] == ["one", "two"]
    lines = shown(provider, "and more").splitlines()
    assert f"- post_id: {second}" in lines and f"- thread_root_id: {root}" in lines


def test_mention_in_a_channel(town, helper, bo, provider):
    root = bo.say(f"@{helper.slug} look here [[reply: I look.]]", channel=town.lobby)
    answer = once(bo, town, helper, root)
    assert answer["text"] == "I look." and (answer["space_id"], answer["channel_id"]) == town.lobby
    lines = shown(provider, "look here").splitlines()
    assert lines[0] == "- space: Lab" and f"- channel_id: {town.lobby[1]}" in lines
    at = lines.index("- mentions:")
    assert lines[at + 1] == f"  - {helper.slug} (you)"
    assert lines[at + 2].startswith(f"- message: @you({helper.slug}) look here")
    # Somebody else of the channel reads it as well.
    assert town.operator.answer(root)["text"] == "I look."


def test_two_attachments(town, helper, bo, provider, tmp_path):
    plan, picture = tmp_path / "plan.md", tmp_path / "picture one.bin"
    plan.write_text("# The plan\n")
    picture.write_bytes(bytes(range(256)) * 4000)
    root = bo.say("two files [[reply: Got them.]]", [plan, picture], to=helper.slug)
    assert once(bo, town, helper, root)["text"] == "Got them."
    lines = shown(provider, "two files").splitlines()
    assert "- attachments:" in lines, lines
    at = lines.index("- attachments:")
    inbox = helper.workspace / ".puffo/inbox" / root
    assert lines[at + 1:at + 3] == [f"  - {inbox}/plan.md", f"  - {inbox}/picture one.bin"]
    assert (inbox / "plan.md").read_bytes() == plan.read_bytes()
    assert (inbox / "picture one.bin").read_bytes() == picture.read_bytes()
    assert inbox.stat().st_mode & 0o777 == 0o700 and (inbox / "plan.md").stat().st_mode & 0o777 == 0o600


def test_silence(town, helper, bo, provider):
    after = town.now()
    root = bo.say("not for you [[reply: [SILENT] nothing to add]]", to=helper.slug)
    town.wait_request("POST", "/messages/processing/end:batch", helper.slug, after)
    helper.wait_settled()
    bo.look()
    assert not bo.answers(root) and provider.outcomes("not for you") == ["complete"]


def test_acknowledged(town, helper):
    """Nothing stays in the server's queue for the agent."""
    town.wait_log("ack", lambda line: line["slug"] == helper.slug)
    helper.suite.wait(lambda: town.server.queued(helper.slug) == [], 10, "the queue is empty")
