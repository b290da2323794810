# SPDX-License-Identifier: MIT
"""What an agent does with its tools amid a turn, in the words of each vendor."""

import json
import re

import pytest

from machine import output_text
from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import Resident, once

VENDORS = {"anthropic": "", "openai": "/v1", "google": ""}
PATHS = {"anthropic": "/v1/messages", "openai": "/chat/completions", "google": ":streamGenerateContent"}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*"


@pytest.fixture(scope="module", params=list(VENDORS))
def helper(request, town, provider):
    vendor = request.param
    town.suite.manager("SetProvider", "sa{sv}", vendor,
                       {"ApiKey": ("s", "sk-test-alice"), "BaseUrl": ("s", provider.url + VENDORS[vendor]),
                        "Model": ("s", "test-model")})
    made = Resident(town, f"{vendor}er", f"runtime:\n  kind: chat-local\n  provider: {vendor}\n")
    made.join(town.lobby)
    made.vendor = vendor
    yield made
    made.remove()


def calls(provider, mark):
    """The calls of the model in the turn of this text, in their order."""
    found = [e for e in provider.log() if mark in (e["text"] or "")]
    assert found, f"the model was not asked about {mark!r}"
    return found


def in_body(provider, mark):
    """All calls so far that have this text in them."""
    return [e for e in provider.log() if mark in json.dumps(e["body"])]


def results(provider, mark):
    """What the tools have answered, of all steps."""
    return [r for entry in calls(provider, mark) for r in entry["results"] or []]


def test_the_vendors_way(helper, bo, provider):
    """The dialect is the one that was asked for, and all tools are offered in it."""
    mark = f"which way, {helper.vendor}?"
    once(bo, helper, bo.say(f"{mark} [[reply: this one]]", to=helper.slug))
    entry, = calls(provider, mark)
    assert entry["dialect"] == helper.vendor and PATHS[helper.vendor] in entry["path"]
    assert {"send_message", "upload_file", "get_channel_history", "get_thread_history", "get_post", "list_channels",
            "list_channel_members", "get_user_info", "whoami"} <= {n.rpartition("__")[2] for n in entry["offered"]}


def test_text_of_several_pieces(helper, bo, provider):
    """What the model says between its tools is one answer, as a list."""
    root = bo.say(f"pieces {helper.vendor} [[say: Let me see.]] [[tool: whoami {{}}]] [[then]] [[say: Once more.]] "
                  "[[tool: whoami {}]] [[reply: That is me.]]", to=helper.slug)
    assert once(bo, helper, root)["text"] == "- Let me see.\n- Once more.\n- That is me."
    first, second = results(provider, f"pieces {helper.vendor}")[-2:]
    assert first == second and re.search(rf"^slug: +{helper.slug}$", first, re.M)
    assert f"device_id: {helper.device_id}" in first and re.search(rf"^expires: +{TIME}", first, re.M)


def test_answer_by_tool(helper, bo, provider):
    """A message that was sent is the answer: what is said besides stays with the model."""
    call = json.dumps({"channel": f"@{bo.slug}", "text": f"by tool of {helper.vendor}"})
    root = bo.say(f"tool, {helper.vendor} [[say: Sending.]] [[tool: send_message {call}]] [[reply: Sent.]]",
                  to=helper.slug)
    got = bo.wait(lambda m: m["text"] == f"by tool of {helper.vendor}")[0]
    helper.wait_settled()
    bo.look()
    assert got["encrypted"] and got["thread_root_id"] is None and bo.answers(root) == []
    said, = results(provider, f"tool, {helper.vendor}")
    assert said == f"posted {got['envelope_id']} to @{bo.slug}"


def test_files(town, helper, bo, provider):
    """Up in one message, into a thread; a path out of the workspace is refused, and the model learns why."""
    for name in ("one.md", "two.txt"):
        helper.suite.user.write(helper.workspace / name, name * 100)
    root = bo.say(f"start, {helper.vendor} [[reply: ok]]", to=helper.slug)
    once(bo, helper, root)
    good = json.dumps({"paths": ["one.md", "two.txt"], "channel": f"@{bo.slug}", "caption": "both", "root_id": root})
    bad = json.dumps({"paths": ["../../agent.yml"], "channel": f"@{bo.slug}"})
    bo.say(f"files, {helper.vendor} [[tool: upload_file {bad}]] [[then]] [[tool: upload_file {good}]] [[reply: x]]",
           to=helper.slug)
    got = bo.wait(lambda m: m.get("thread_root_id") == root and m["attachments"])[0]
    helper.wait_settled()
    assert [a["filename"] for a in got["attachments"]] == ["one.md", "two.txt"] and got["text"] == "both"
    refused, sent = results(provider, f"files, {helper.vendor}")[-2:]
    assert "leads out of the workspace" in refused
    assert sent == (f"uploaded 2 file(s) [one.md, two.txt] (1300 bytes total) to @{bo.slug} in thread {root} "
                    f"(envelope_id {got['envelope_id']})")


def test_history(town, helper, bo, provider):
    """Channel, thread and post, with the agent's own words among them."""
    vendor = helper.vendor
    root = bo.say(f"@{helper.slug} root of {vendor}\nwith two lines [[reply: first of {vendor}]]", channel=town.lobby)
    once(bo, helper, root)
    second = bo.say(f"second of {vendor} [[reply: [SILENT]]]", channel=town.lobby, thread=root)
    helper.suite.wait(lambda: helper.rows(f"SELECT 1 FROM dispatch_state WHERE envelope_id = '{second}'"
                                          " AND state = 'done'"), 20, "it was read")
    own = bo.answers(root, helper.slug)[0]["envelope_id"]

    bo.say(f"look back, {vendor} "
           f'[[tool: get_channel_history {{"channel": "{town.lobby[1]}", "limit": 200}}]] '
           f'[[tool: get_thread_history {{"root_id": "{root}"}}]] '
           f'[[tool: get_thread_history {{"root_id": "{root}", "since": "{own}"}}]] '
           f'[[tool: get_thread_history {{"root_id": "msg_none"}}]] '
           f'[[tool: get_channel_history {{"channel": "ch_none"}}]] '
           f'[[tool: get_channel_history {{"channel": "#general"}}]] '
           f'[[tool: get_post {{"post_ref": "{root}"}}]] [[tool: get_post {{"post_ref": "msg_none"}}]] '
           "[[reply: seen]]", to=helper.slug)
    bo.wait(lambda m: m["text"] == "seen" and m["sender_slug"] == helper.slug)
    channel, thread, since, no_thread, no_channel, name, post, no_post = results(provider, f"look back, {vendor}")[-8:]
    line, = [x for x in channel.splitlines() if f"post:{root}" in x]
    assert re.fullmatch(rf"{TIME}  post:{root}  @{bo.slug}: @{helper.slug} root of {vendor} with two lines .*"
                        r"  \(2 replies\)", line)
    assert [re.search(r"post:(\S+)", x).group(1) for x in thread.splitlines()] == [root, own, second]
    assert re.fullmatch(rf"{TIME}  post:{own}  @{helper.slug}: first of {vendor}", thread.splitlines()[1])
    assert [re.search(r"post:(\S+)", x).group(1) for x in since.splitlines()] == [second]
    assert no_thread == "(no such thread: msg_none)" and no_channel == "(no such channel: ch_none)"
    assert "list_channels" in name and "#" in name
    assert post.startswith(f"envelope_id: {root}\nsender: @{bo.slug}\ntimestamp: ")
    assert post.split("message:\n")[1].startswith(f"@{helper.slug} root of {vendor}\nwith two lines")
    assert no_post == "message msg_none not found in local storage"


def test_directory(town, helper, bo, provider):
    vendor = helper.vendor
    bo.say(f"look around, {vendor} [[tool: list_channels {{}}]] "
           f'[[tool: list_channel_members {{"channel": "{town.lobby[1]}"}}]] '
           f'[[tool: get_user_info {{"username": "@{bo.slug}"}}]] [[tool: get_user_info {{"username": "no-one"}}]] '
           f"[[reply: looked {vendor}]]", to=helper.slug)
    bo.wait(lambda m: m["text"] == f"looked {vendor}")
    channels, members, user, nobody = results(provider, f"look around, {vendor}")[-4:]
    assert re.search(rf"^- {town.lobby[1]}  \S", channels, re.M)
    assert re.search(rf"^- {helper.slug}  \(", members, re.M) and re.search(rf"^- {bo.slug}  \(", members, re.M)
    assert user.startswith(f"slug: {bo.slug}\ndisplay: Bo Lin") or "display: Bo Lin" in user
    assert nobody == "(no profile for no-one)"


def test_calls_that_make_no_sense(helper, bo, provider):
    """The model is told, and goes on."""
    broken = "" if helper.vendor == "google" else "[[tool: whoami {nonsense]] "     # its arguments are no text
    root = bo.say(f"nonsense, {helper.vendor} [[tool: no_such_tool {{}}]] {broken}"
                  '[[tool: get_post {"post_ref": 7, "more": []}]] [[reply: sorry]]', to=helper.slug)
    assert once(bo, helper, root)["text"] == "sorry"
    told = results(provider, f"nonsense, {helper.vendor}")
    assert "There is no tool 'no_such_tool'." in told[0]
    if broken:
        assert "not valid JSON" in told[1]
    assert "get_post" in told[-1] or "post_ref" in told[-1] or "more" in told[-1]


def test_call_that_does_not_fit(helper, bo, provider):
    """Cut by the output limit: not made, asked for again, made once."""
    text = f"fits at last, {helper.vendor}"
    call = {"name": "send_message", "arguments": {"channel": f"@{bo.slug}", "text": text}}
    provider.request("/_script", "POST", [{"tools": [call], "reply": "Half of", "length": True},
                                             {"tools": [call], "reply": "Again."}, {"reply": "x"}])
    root = bo.say(f"too long, {helper.vendor}", to=helper.slug)
    bo.wait(lambda m: m["text"] == text)
    helper.wait_settled()
    bo.look()
    assert bo.answers(root) == [] and [m["text"] for m in bo.inbox].count(text) == 1
    first, again, last = in_body(provider, f"too long, {helper.vendor}")
    assert "was cut off at the limit of its length" not in json.dumps(first["body"])
    assert "was cut off at the limit of its length" in json.dumps(again["body"])
    assert "was cut off at the limit of its length" not in json.dumps(last["body"])


def test_call_that_never_fits(helper, bo, provider):
    """… and who asked is told in the end."""
    call = {"name": "send_message", "arguments": {"channel": f"@{bo.slug}", "text": "never"}}
    provider.request("/_script", "POST", [{"tools": [call], "length": True}] * 3)
    root = bo.say(f"never fits, {helper.vendor}", to=helper.slug)
    assert "problem on my side (length)" in once(bo, helper, root)["text"]
    assert len(in_body(provider, f"never fits, {helper.vendor}")) == 3


def test_steps_are_bounded(helper, bo, provider):
    """A model that calls tools for ever is told to end, and does."""
    helper.edit(f"runtime:\n  kind: chat-local\n  provider: {helper.vendor}\n  max_turns: 2\n")
    helper.suite.wait(lambda: helper.agent.State == "ready", 10, "the agent is there")
    root = bo.say(f"for ever, {helper.vendor} " + "[[tool: whoami {}]] [[then]] " * 5 + "[[reply: enough]]",
                  to=helper.slug)
    assert once(bo, helper, root)["text"]
    asked = in_body(provider, f"for ever, {helper.vendor}")
    assert [bool(e["offered"]) for e in asked] == [True, True, False]
    assert "has used up its tool calls" in json.dumps(asked[-1]["body"])
    helper.edit(f"runtime:\n  kind: chat-local\n  provider: {helper.vendor}\n")
    helper.suite.wait(lambda: helper.agent.State == "ready", 10, "the agent is there")


def test_tools_for_a_local_client(helper, bo, provider):
    """The same turn by HTTP: tools work, and the answer is plain."""
    done = helper.suite.turn(helper.slug, f"local {helper.vendor} [[tool: whoami {{}}]] [[reply: that is all]]")
    assert output_text(done) == "that is all"
    assert f"slug:      {helper.slug}" in results(provider, f"local {helper.vendor}")[-1]
