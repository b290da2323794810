# SPDX-License-Identifier: MIT
"""An agent on Puffo, from outside: people's clients, the server and the model are others' programs."""

import re
import subprocess

from machine import output_text
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import Client, Connection, envelope, once, shown

KIND = "runtime:\n  kind: chat-local\n"


def test_direct_message(town, helper, bo, provider):
    root = bo.say("hi, are you there? [[reply: Yes, I am.]]", to=helper.slug)
    answer = once(bo, helper, root)
    assert answer["text"] == "Yes, I am."
    assert answer["envelope_kind"] == "dm" and answer["recipient_slug"] == bo.slug
    lines = shown(provider, "are you there?").splitlines()
    assert lines[0] == "- channel: Direct message"
    assert lines[1:3] == [f"- post_id: {root}", f"- thread_root_id: {root}"]
    assert lines[4:7] == ["- sender: Bo Lin", f"- sender_slug: {bo.slug}", "- sender_type: human"]
    assert lines[7].startswith("- message: hi, are you there?") and len(lines) == 8


def test_thread_reply(town, helper, bo, provider):
    root = bo.say("first [[reply: one]]", to=helper.slug)
    once(bo, helper, root)
    second = bo.say("and more [[reply: two]]", to=helper.slug, thread=root)
    bo.wait(lambda m: m.get("thread_root_id") == root and m["text"] == "two")
    helper.wait_settled()
    assert [m["text"] for m in bo.answers(root, helper.slug)] == ["one", "two"]
    lines = shown(provider, "and more").splitlines()
    assert f"- post_id: {second}" in lines and f"- thread_root_id: {root}" in lines


def test_mention_in_a_channel(town, helper, bo, provider):
    root = bo.say(f"@{helper.slug} look here [[reply: I look.]]", channel=town.lobby)
    answer = once(bo, helper, root)
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
    assert once(bo, helper, root)["text"] == "Got them."
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


def test_thread_keeps_its_order(town, helper, bo, provider):
    """What comes while the agent is at work is its next batch."""
    root = bo.say("slow one [[words: 20]] [[hold: thread]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    more = [bo.say(f"meanwhile {n} [[reply: both]]", to=helper.slug, thread=root) for n in (1, 2)]
    helper.wait_received(*more)
    provider.release("thread")
    bo.wait(lambda m: m.get("thread_root_id") == root, 2)
    helper.wait_settled()
    bo.look()
    assert [m["text"] for m in bo.answers(root, helper.slug)] == [" ".join(f"word{n}" for n in range(1, 21)), "both"]
    asked = shown(provider, "meanwhile 2")
    assert asked.index("meanwhile 1") < asked.index("meanwhile 2")
    assert [f"- post_id: {i}" in asked for i in more] == [True, True]
    assert "\n\n- channel: Direct message" in asked


def test_urgent_goes_first(town, helper, bo, provider):
    """Somebody who addresses the agent does not wait for what was said in passing."""
    first = bo.say("busy [[words: 25]] [[hold: urgent]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{first}/processing/start", helper.slug)
    passing = bo.say("in passing [[reply: third]]", channel=town.lobby)
    direct = bo.say("directly [[reply: second]]", to=helper.slug)
    helper.wait_received(passing, direct)
    provider.release("urgent")
    for root in (passing, direct):
        once(bo, helper, root)
    order = [m["thread_root_id"] for m in bo.inbox if m.get("thread_root_id") in (first, passing, direct)]
    assert order == [first, direct, passing]


def test_triggers(town, helper, bo, provider):
    """Read anew for every message; what is filtered is kept."""
    helper.edit(KIND + "triggers:\n  on_mention: true\n  on_dm: false\n  on_all: false\n")
    helper.suite.wait(lambda: helper.agent.State == "ready", 10, "the agent is there")
    quiet = [bo.say("filtered dm", to=helper.slug), bo.say("filtered talk", channel=town.lobby)]
    loud = bo.say(f"@{helper.slug} not filtered [[reply: heard]]", channel=town.lobby)
    assert once(bo, helper, loud)["text"] == "heard"
    bo.look()
    assert [bo.answers(root) for root in quiet] == [[], []]
    assert provider.count("filtered dm") == 0 and provider.count("filtered talk") == 0
    kept = helper.rows("SELECT envelope_id FROM messages WHERE content LIKE 'filtered %' ORDER BY sent_at")
    assert [row["envelope_id"] for row in kept] == quiet
    helper.edit()
    again = bo.say("heard again [[reply: yes]]", to=helper.slug)
    assert once(bo, helper, again)["text"] == "yes"
    assert provider.count("filtered dm") == 0


def test_three_doors_at_once(town, helper, bo, provider):
    """Puffo, HTTP and the terminal: one turn at a time, and everybody gets an answer."""
    root = bo.say("by puffo [[reply: to Puffo]] [[delay: 300ms]]", to=helper.slug)
    chat = helper.suite.user.popen(["puffoctl", "agent", "chat", helper.slug], stdin=subprocess.PIPE)
    chat.stdin.write("by terminal [[reply: to the terminal]]\n")
    chat.stdin.flush()
    done = helper.suite.turn(helper.slug, "by http [[reply: to HTTP]]")
    assert output_text(done) == "to HTTP"
    assert once(bo, helper, root)["text"] == "to Puffo"
    out, _ = chat.communicate(timeout=90)
    assert "to the terminal" in out and "to Puffo" not in out
    for text in ("by puffo", "by http", "by terminal"):
        assert provider.count(text) >= 1


def test_status(town, helper, bo, provider):
    """Idle, busy with the message, idle again; an error with its reason, and idle at the next success."""
    def status():
        return next(s for s in town.server.control("statuses")["statuses"] if s["slug"] == helper.slug)

    helper.wait_settled()
    root = bo.say("busy now [[words: 10]] [[hold: status]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    helper.suite.wait(lambda: status()["status"] == "busy", 5, "busy", status)
    assert status()["current_message_id"] == root
    provider.release("status")
    once(bo, helper, root)
    helper.suite.wait(lambda: status()["status"] == "idle", 10, "idle", status)
    runs = [r for r in town.server.control("statuses")["runs"] if r["message_id"] == root]
    assert len(runs) == 1 and runs[0]["succeeded"] == 1

    root = bo.say("no luck [[status: 400]]", to=helper.slug)
    notice = once(bo, helper, root)["text"]
    assert "problem on my side" in notice and "127.0.0.1" not in notice and "400" not in notice
    helper.suite.wait(lambda: status()["status"] == "error" and status()["error_text"], 10, "error", status)
    once(bo, helper, bo.say("luck again [[reply: fine]]", to=helper.slug))
    helper.suite.wait(lambda: status()["status"] == "idle", 10, "idle", status)


def test_server_goes_and_comes_back(town, helper, bo, provider):
    """kill -9 while the agent is at work: the answer goes out once when the server is there again."""
    root = bo.say("server dies [[words: 20]] [[hold: server]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    town.server.kill()
    provider.release("server")
    helper.suite.wait(lambda: provider.outcomes("server dies") == ["complete"], 20, "the model has answered")
    assert helper.agent.State == "ready", "the agent does without its server"
    assert output_text(helper.suite.turn(helper.slug, "[[reply: still here]]")) == "still here"
    town.server.start()
    assert once(bo, helper, root)["text"].endswith("word20")
    assert provider.outcomes("server dies") == ["complete"]


def test_answer_that_is_lost_on_its_way(town, helper, bo, provider):
    """The server has it, and the agent does not know: it is not said twice."""
    town.server.fault("lose_answer", route="POST /messages", slug=helper.slug, times=2)
    root = bo.say("lost answer [[reply: said once]]", to=helper.slug)
    assert once(bo, helper, root)["text"] == "said once"
    town.server.clear()


def test_puffod_goes(town, helper, bo, provider):
    session = helper.agent.MainPID
    root = bo.say("goes on without puffod [[words: 20]] [[hold: puffod]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    helper.suite.kill("puffod.service")
    provider.release("puffod")
    assert once(bo, helper, root)["text"].endswith("word20")
    assert helper.agent.MainPID == session and provider.outcomes("goes on without puffod") == ["complete"]


def test_session_is_stopped_and_started(town, helper, bo, provider):
    """What was written meanwhile is answered, in order, each once."""
    helper.agent.call("Stop")
    helper.agent.wait_state("stopped")
    roots = [bo.say(f"while away {n} [[reply: answer {n}]]", to=helper.slug) for n in range(5)]
    helper.agent.call("Start")
    assert [once(bo, helper, root)["text"] for root in roots] == [f"answer {n}" for n in range(5)]
    order = [m["text"] for m in bo.inbox if m.get("thread_root_id") in roots]
    assert order == [f"answer {n}" for n in range(5)]
    assert [provider.count(f"while away {n}") for n in range(5)] == [1] * 5


def test_acknowledged(town, helper):
    """Nothing stays in the server's queue for the agent."""
    town.wait_log("ack", lambda line: line["slug"] == helper.slug)
    helper.suite.wait(lambda: town.server.queued(helper.slug) == [], 10, "the queue is empty")


def test_every_message_of_a_long_thread_is_shown(town, helper, bo, provider):
    """200 messages that have waited in one thread: the model is shown each, oldest first, in as few turns as that takes."""
    helper.agent.call("Stop")
    helper.agent.wait_state("stopped")
    root = bo.say("long thread 000 [[reply: noted]]", to=helper.slug)
    for n in range(1, 200):
        bo.say(f"long thread {n:03} [[reply: noted]]", to=helper.slug, thread=root)
    helper.agent.call("Start")
    helper.suite.wait(lambda: not helper.rows(
        f"SELECT 1 FROM messages LEFT JOIN dispatch_state d USING (envelope_id) WHERE d.state <> 'done'"
        f" AND (envelope_id = '{root}' OR thread_root_id = '{root}')") and
        len(helper.rows(f"SELECT 1 FROM dispatch_state WHERE root_id = '{root}'")) == 200, 60, "all are done")
    helper.wait_settled()
    asked = [e["text"] for e in provider.log() if "- message: long thread" in (e["text"] or "")]
    shown_ids = re.findall(r"- message: long thread (\d{3})", "\n".join(asked))
    assert shown_ids == [f"{n:03}" for n in range(200)]
    bo.look()
    assert len(asked) == len(bo.answers(root, helper.slug)) <= 10, "in batches, each with one answer"


def test_files_of_several_messages_of_a_batch(town, helper, bo, provider, tmp_path):
    """Each message shows its own, and the agent lives to answer."""
    helper.agent.call("Stop")
    helper.agent.wait_state("stopped")
    files = [tmp_path / f"part {n}.txt" for n in range(3)]
    for n, path in enumerate(files):
        path.write_text(f"content {n}\n")
    root = bo.say("parts 0 [[reply: all there]]", [files[0]], to=helper.slug)
    others = [bo.say(f"parts {n} [[reply: all there]]", [files[n]], to=helper.slug, thread=root) for n in (1, 2)]
    helper.agent.call("Start")
    helper.agent.wait_state("ready")
    restarts = helper.agent.Restarts
    bo.answer(root)
    helper.wait_settled()
    asked = "\n".join(e["text"] for e in provider.log() if "- message: parts " in (e["text"] or ""))
    for n, message in enumerate([root, *others]):
        path = helper.workspace / ".puffo/inbox" / message / f"part {n}.txt"
        assert path.read_text() == f"content {n}\n"
        assert f"- attachments:\n  - {path}\n- message: parts {n}" in asked
    assert helper.agent.Restarts == restarts


def test_device_that_is_new(town, helper, bo, tmp_path):
    """Between the look at somebody's keys and the post he gets a second device: the server says so, and the answer
    reaches that one as well."""
    helper.wait_settled()
    once(bo, helper, bo.say("my keys are known [[reply: Yes.]]", to=helper.slug))
    town.server.control("settings", {"missing_devices": True})
    # The word of the new certificate comes too late.
    town.server.fault("frame_lost", route="FRAME cert_update", slug=helper.slug)
    bo.client.add_device(tmp_path / "tablet")
    tablet = Client(Connection(town.server.url), tmp_path / "tablet", bo.slug)
    tablet.rotate()
    after = town.now()
    root = bo.say("and on the tablet? [[reply: There, too.]]", to=helper.slug)
    assert once(bo, helper, root)["text"] == "There, too."
    posts = [line for line in town.server.control(f"log?after={after}&kind=request")["lines"]
             if line["path"] == "/messages" and line["method"] == "POST" and line["slug"] == helper.slug]
    assert len(posts) == 2, "the same message, once more for the device that is new"
    received = [e for e in tablet.pending() if e["sender_slug"] == helper.slug]
    assert [envelope.content_text(tablet.open(e)) for e in received] == ["There, too."]
    town.server.clear()
    town.server.control("settings", {"missing_devices": False})
