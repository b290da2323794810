# SPDX-License-Identifier: MIT
"""An agent that is stopped while it is at work takes leave of its people: what it can still say it says, and what it
cannot it tells."""

from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import once


def runs_of(town, message):
    return [r for r in town.server.control("statuses")["runs"] if r["message_id"] == message]


def closed(town, helper, after):
    return town.wait_log("stream_closed", lambda line: line["slug"] == helper.slug, after)


def test_answer_within_the_grace_time(town, helper, bo, provider):
    """It goes out before the session does, and so does the word that the turn has ended."""
    root = bo.say("leave slowly [[words: 20]] [[slow: 100ms]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    after = town.now()
    helper.agent.call("Stop")
    assert helper.agent.State == "stopped"
    bo.look()
    assert [m["text"].split()[-1] for m in bo.answers(root, helper.slug)] == ["word20"]
    assert [r["succeeded"] for r in runs_of(town, root)] == [1]
    assert helper.unsettled() == []
    assert closed(town, helper, after)["code"] == 1000
    helper.agent.call("Start")
    assert once(bo, helper, bo.say("back? [[reply: Back.]]", to=helper.slug))["text"] == "Back."
    assert provider.count("leave slowly") == 1


def test_messages_while_it_leaves(town, helper, bo, provider):
    """They are taken, and answered by the next session."""
    root = bo.say("one more [[words: 20]] [[slow: 100ms]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    job = helper.suite.user.popen(["puffoctl", "agent", "stop", helper.slug])
    helper.suite.wait(lambda: helper.agent.State == "stopping", 60, "it is being stopped", lambda: helper.agent.State)
    late = bo.say("too late? [[reply: No.]]", to=helper.slug)
    assert job.wait(60) == 0
    bo.look()
    assert len(bo.answers(root, helper.slug)) == 1 and bo.answers(late) == []
    helper.agent.call("Start")
    assert once(bo, helper, late)["text"] == "No."
    assert provider.count("too late?") == 1


def test_turn_that_is_cut_off(town, helper, bo, provider):
    """Its end is told as interrupted, and the next session goes on with it."""
    helper.agent.call("Stop")
    helper.suite.user.append(".puffo-agent/daemon.yml", "turn_grace_seconds: 1\n")
    helper.suite.manager("Reload")
    helper.agent.call("Start")
    root = bo.say("for ages [[words: 600]] [[slow: 100ms]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    after = town.now()
    helper.agent.call("Stop")
    assert [(r["succeeded"], r["error_text"]) for r in runs_of(town, root)] == [(0, "interrupted")]
    assert closed(town, helper, after)["code"] == 1000
    rows = helper.rows(f"SELECT state FROM dispatch_state WHERE envelope_id = '{root}'")
    assert [row["state"] for row in rows] == ["running"]
    bo.look()
    assert bo.answers(root) == []
    provider.request("/_script", "POST", [{"reply": "Done after all."}])
    helper.agent.call("Start")
    assert once(bo, helper, root)["text"] == "Done after all."
    assert [r["succeeded"] for r in runs_of(town, root)] == [0, 1]
