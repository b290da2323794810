# SPDX-License-Identifier: MIT
"""Agents that work with the real Claude Code: a person's message leads to a turn of the CLI, in its sandbox, and the
answer comes back encrypted. The model is the emulator."""

import json
import os
import pathlib
import re
import shutil
import signal

import pytest

from clis import MODULES, answers_by_tool, installed
from machine import output_text
from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import PATIENCE, Resident, once

CLAUDE = "runtime:\n  kind: cli-local\n  harness: claude-code\n  sandbox_profile: workspace\n"


@pytest.fixture(scope="module")
def programs():
    with installed("claude", MODULES / "@anthropic-ai/claude-code-linux-x64/claude"):
        yield


@pytest.fixture(scope="module")
def worker(programs, town):
    made = Resident(town, "worker", CLAUDE)
    made.join(town.lobby)
    return made


def show(agent, unit, name):
    return agent.suite.user.run(["systemctl", "--user", "show", "--value", f"--property={name}", unit]).stdout.strip()


def unit_of(agent):
    return agent.agent.Unit.replace("puffo-session@", "puffo-harness@")


def unit(agent, name):
    return show(agent, unit_of(agent), name)


def pid_of(agent):
    pid = int(unit(agent, "MainPID"))
    assert pid > 0
    return pid


def conversation(agent):
    return json.loads((agent.directory / "cli_session.json").read_text())["session_id"]


def tool(name, **arguments):
    return f"[[tool: {name} {json.dumps(arguments)}]]"


def requests(provider, text):
    return [r for r in provider.log() if text in json.dumps(r["body"])]


def test_the_cli_answers_by_its_tool(town, worker, bo, provider):
    call = tool("mcp__puffo__send_message", channel=f"@{bo.slug}", text="Said by Claude.")
    answers_by_tool(worker, bo, f"Use your hands. {call} [[reply: Done.]]", "Said by Claude.")
    assert unit(worker, "ActiveState") == "active"
    asked = requests(provider, "Use your hands")
    assert asked and all(r["headers"]["user-agent"].startswith("claude-cli/") for r in asked)
    # The key is the session's: what the CLI has is a token of its own.
    assert {r["headers"].get("x-api-key") or r["headers"]["authorization"] for r in asked} & {"sk-test-alice",
                                                                                          "Bearer sk-test-alice"}
    environment = pathlib.Path(f"/proc/{pid_of(worker)}/environ").read_bytes()
    assert b"sk-test" not in environment


def test_the_same_conversation_after_a_restart(town, worker, bo, provider):
    session = conversation(worker)
    before = pid_of(worker)
    worker.suite.user.run(["systemctl", "--user", "kill", "--signal=KILL", "--kill-who=main",
                           unit_of(worker)])
    worker.suite.user.run(["systemctl", "--user", "restart", worker.agent.Unit])
    worker.agent.wait_state("ready")
    root = bo.say("What was that? [[reply: Nothing new.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "Nothing new."
    assert conversation(worker) == session and pid_of(worker) != before
    body = requests(provider, "What was that?")[-1]["body"]
    assert "Use your hands" in json.dumps(body), "the first turn is part of the conversation"


def test_conversations_by_http(town, worker, provider):
    """Each that a client names is one of the CLI's own; one that goes on from an earlier turn knows what was said up to
    there."""
    def ask(text, **more):
        response = worker.suite.turn(worker.slug, f"{text} [[reply: {text} is noted.]]", **more)
        assert response["status"] == "completed" and output_text(response) == f"{text} is noted."
        return response, json.dumps(requests(provider, text)[-1]["body"])

    main = conversation(worker)
    first, _ = ask("walrus", conversation="sea")
    second, _ = ask("badger", conversation="land")
    _, asked = ask("urchin", conversation="sea")
    assert "walrus" in asked and "badger" not in asked and "Use your hands" not in asked
    _, asked = ask("limpet", previous_response_id=first["id"])
    assert "walrus" in asked and "urchin" not in asked
    _, asked = ask("ferret", previous_response_id=second["id"])
    assert "badger" in asked and "walrus" not in asked
    _, asked = ask("person")
    assert "walrus" not in asked and "badger" not in asked
    assert conversation(worker) == main
    # With a file, which it reads by its path.
    read = tool("Bash", command="cat .puffo/inbox/*/word.txt")
    response = worker.suite.turn(worker.slug, [{"role": "user", "content": [
        {"type": "input_text", "text": f"Read. {read} [[reply: read]]"},
        {"type": "input_file", "filename": "word.txt", "file_data": "cGVsaWNhbg=="}]}])
    assert output_text(response) == "read" and requests(provider, "pelican")


def test_an_attachment_is_read_by_its_path(town, worker, bo, provider, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("The word is heron.\n")
    read = tool("Bash", command="cat .puffo/inbox/*/note.txt")
    root = bo.say(f"Read it. {read} [[reply: I have read it.]]", [note], to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "I have read it."
    assert any("The word is heron." in json.dumps(r["body"]) for r in provider.log())


def test_the_sandbox_is_there(town, worker, bo, provider):
    look = tool("Bash", command=f"ls {worker.directory}; cat {worker.directory}/keys/*; ls /home/alice; "
                                "echo own > mine.txt; touch /usr/x; echo n=$(ls -d /proc/[0-9]* | wc -l)")
    root = bo.say(f"Look around. {look} [[reply: Looked.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "Looked."
    seen = json.dumps([r["body"] for r in requests(provider, "Look around")][-1])
    result = re.search(r'"tool_result".*?"content": ?"(.*?)", ?"is_error|Exit code.*', seen)
    assert "agent.yml" not in seen.split("Look around")[-1] and "messages.db" not in seen.split("Look around")[-1], result
    assert "root_secret_key" not in seen
    assert (worker.workspace / "mine.txt").read_text() == "own\n"
    assert not pathlib.Path("/usr/x").exists()


def test_the_cli_is_killed(town, worker, bo, provider):
    """Before it has done anything it is asked once more; behind a tool the person is told."""
    told = provider.count("you were restarted")
    root = bo.say("Quick [[words: 12]] [[hang: 3]]", to=worker.slug)
    worker.suite.wait(lambda: provider.count("Quick"), 60, "the model is asked")
    provider.request("/_script", "POST", [{"reply": "I have gone on."}])
    os.kill(pid_of(worker), signal.SIGKILL)
    assert once(bo, worker, root, seconds=90)["text"] == "I have gone on."
    assert provider.count("you were restarted") == told + 1
    text = f"After a tool {tool('Bash', command='echo amid it')} [[words: 40]] [[hang: 5]] [[at-step: 2]]"
    root = bo.say(text, to=worker.slug)
    # The model has the result, and the session knows of the call.
    audit = worker.workspace / ".puffo-agent/audit.log"
    worker.suite.wait(lambda: any(r.get("step") == 2 and "After a tool" in r["text"] for r in provider.log()) and
                      any(line["event"] == "tool" and "echo amid it" in json.dumps(line)
                          for line in map(json.loads, audit.read_text().splitlines())), 60, "the tool was called",
                      lambda: audit.read_text()[-1000:])
    os.kill(pid_of(worker), signal.SIGKILL)
    answer = once(bo, worker, root, seconds=90)
    assert answer["text"] == "I could not answer this. The agent's CLI was ended by signal KILL."


def test_a_login_of_its_own_is_no_way_out(town, worker, bo, provider):
    """The agent works with a key, by way of the outlet, which counts. What it writes for its CLI to find does not
    change that: another login, another endpoint."""
    login, settings = worker.directory / ".claude/.credentials.json", worker.directory / ".claude.json"
    worker.agent.call("Stop")
    own = {"claudeAiOauth": {"accessToken": "own", "refreshToken": "own", "expiresAt": 4102444800000, "scopes": []}}
    if login.exists():
        login.chmod(0o600)
    login.write_text(json.dumps(own))
    settings.write_text(json.dumps(json.loads(settings.read_text()) |
                                   {"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "own"}}))
    for path in (login, settings):
        os.chown(path, worker.directory.stat().st_uid, worker.directory.stat().st_gid)
    worker.agent.call("Start")
    worker.agent.wait_state("ready")
    again = json.dumps({"claudeAiOauth": own["claudeAiOauth"]})
    write = tool("Bash", command=f"echo '{again}' > ~/.claude/.credentials.json; mv ~/.claude/.credentials.json ~/x; "
                                 "cat ~/.claude/.credentials.json")
    root = bo.say(f"Leave it. {write} [[reply: I have tried.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "I have tried."
    assert json.loads(login.read_text()) == {}
    assert "env" not in json.loads(settings.read_text())
    # While it runs, too: what stands there is read again, and does not count.
    settings.write_text(json.dumps(json.loads(settings.read_text()) |
                                   {"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9", "ANTHROPIC_API_KEY": "own"}}))
    root = bo.say("And now? [[reply: Still here.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "Still here."
    asked = requests(provider, "Leave it.") + requests(provider, "And now?")
    assert {r["headers"].get("x-api-key") or r["headers"]["authorization"] for r in asked} <= {"sk-test-alice",
                                                                                           "Bearer sk-test-alice"}


def test_it_sleeps_and_wakes(town, worker, bo, provider):
    worker.edit(CLAUDE + "  freeze_after_seconds: 1\n  stop_after_seconds: 4\n")
    worker.agent.wait_state("ready")
    root = bo.say("Before the nap [[reply: awake]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "awake"
    worker.suite.wait(lambda: worker.agent.HarnessState == "none", 30, "the CLI is ended",
                      lambda: worker.agent.HarnessState)
    session = conversation(worker)
    root = bo.say("After the nap [[reply: awake again]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "awake again"
    assert conversation(worker) == session and worker.agent.HarnessState in ("running", "frozen")
    worker.edit(CLAUDE)
    worker.agent.wait_state("ready")


@pytest.mark.parametrize("answer", ["y", "n"])
def test_the_operator_is_asked(town, worker, bo, provider, answer):
    worker.edit(CLAUDE + "  permission_mode: default\n")
    worker.agent.wait_state("ready")
    made = worker.workspace / f"made-{answer}.txt"
    root = bo.say(f"May you {answer}? {tool('Bash', command=f'touch {made.name}', description='make')}"
                  " [[reply: So be it.]]", to=worker.slug)
    question, = town.operator.wait(lambda m: made.name in m.get("text", ""), seconds=90)
    assert worker.agent.Status == "waiting-approval"
    town.operator.say(answer, to=worker.slug, thread=question["envelope_id"])
    assert once(bo, worker, root, seconds=90)["text"] == "So be it."
    assert made.exists() == (answer == "y")
    worker.edit(CLAUDE)
    worker.agent.wait_state("ready")


def test_strict(town, worker, bo, provider):
    """No network but the way to the model."""
    worker.edit(CLAUDE.replace("workspace", "strict"))
    worker.agent.wait_state("ready")
    look = tool("Bash", command=f"curl -sS --max-time 5 {provider.url}/_log; cat /proc/net/dev | wc -l; echo end")
    root = bo.say(f"Out there? {look} [[reply: Nothing there.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "Nothing there."
    results = [text for r in provider.log() if "Out there?" in (r["text"] or "") for text in r["results"]]
    assert results and "end" in str(results[0]) and "/v1/messages" not in str(results[0])
    worker.edit(CLAUDE)
    worker.agent.wait_state("ready")


def test_sdk_local(programs, town, bo, provider):
    helper = Resident(town, "scribe", "runtime:\n  kind: sdk-local\n  sandbox_profile: workspace\n"
                                      "  allowed_tools: ['Bash(echo *)']\n")
    mole = {"type": "stdio", "command": "/usr/bin/touch", "args": [str(helper.workspace / "mole")]}
    (helper.directory / ".claude.json").write_text(json.dumps({"mcpServers": {"mole": mole}, "projects": {
        str(helper.workspace): {"mcpServers": {"mole2": dict(mole, args=[str(helper.workspace / "mole2")])}}}}))
    shutil.chown(helper.directory / ".claude.json", helper.directory.owner())
    (helper.workspace / ".mcp.json").write_text(json.dumps({"mcpServers": {
        "mole3": dict(mole, args=[str(helper.workspace / "mole3")])}}))
    shutil.chown(helper.workspace / ".mcp.json", helper.directory.owner())
    call = tool("mcp__puffo__send_message", channel=f"@{bo.slug}", text="Said by the SDK.")
    bo.say(f"First {call} [[reply: Done.]]", to=helper.slug)
    message, = bo.wait(lambda m: m["sender_slug"] == helper.slug, seconds=90)
    assert message["text"] == "Said by the SDK." and message["encrypted"]
    helper.wait_settled()
    refused = tool("Bash", command="touch refused", description="make")
    root = bo.say(f"Second {refused} [[reply: It was refused.]]", to=helper.slug)
    assert once(bo, helper, root, seconds=90)["text"] == "It was refused."
    assert not (helper.workspace / "refused").exists()
    assert not list(helper.workspace.glob("mole*")), "a server that the model has written down is started"
    asked = [r for r in provider.log() if "Second" in (r["text"] or "")]
    assert "prior_turns" in json.dumps(asked[0]["body"]) and "First" in json.dumps(asked[0]["body"])
    helper.remove()


def test_sdk_local_is_killed_amid_the_turn(programs, town, bo, provider):
    helper = Resident(town, "clerk", "runtime:\n  kind: sdk-local\n  sandbox_profile: workspace\n"
                                     "  allowed_tools: ['Bash(echo *)']\n")
    for n in range(3):
        call, made, go = tool("mcp__puffo__send_message", channel=f"@{bo.slug}", text=f"Sent {n}."), f"made-{n}", f"go-{n}"
        wait = tool("Bash", command=f"echo x >> {made}; until [ -e {go} ]; do sleep 0.1; done", timeout=600000)
        bo.say(f"Amid {n} {call} [[then]] {wait} [[reply: Done.]]", to=helper.slug)
        helper.suite.wait((helper.workspace / made).exists, 90, "it is amid its tools", helper.agent.properties)
        cli, restarts = pid_of(helper), helper.agent.Restarts
        os.kill(int(show(helper, helper.agent.Unit, "MainPID")), signal.SIGKILL)
        helper.suite.wait(lambda: helper.agent.Restarts == restarts + 1 and helper.agent.State == "busy", 60,
                          "the session is back at it", helper.agent.properties)
        assert pid_of(helper) == cli, "the CLI has gone on"
        helper.suite.user.write(helper.workspace / go, "")
        helper.wait_settled()
        assert [m["text"] for m in bo.look() if m.get("text") == f"Sent {n}."] == [f"Sent {n}."]
        assert (helper.workspace / made).read_text() == "x\n"
    helper.remove()


@pytest.mark.parametrize("victim", ["session", "puffod"])
def test_killed_amid_the_turn(town, worker, bo, provider, victim):
    for n in range(5):
        root = bo.say(f"Long {victim} {n} [[words: 12]] [[slow: 100ms]]", to=worker.slug)
        worker.suite.wait(lambda: provider.count(f"Long {victim} {n}"), 60, "the model is asked")
        cli, dying = pid_of(worker), int(show(worker, worker.agent.Unit if victim == "session" else "puffod.service",
                                              "MainPID"))
        assert dying > 0
        os.kill(dying, signal.SIGKILL)
        answer = once(bo, worker, root, seconds=90)
        assert answer["text"] == " ".join(f"word{i}" for i in range(1, 13))
        assert pid_of(worker) == cli, "the CLI has gone on"
        # The model's endpoint dies with the session, and the CLI asks it again by itself.
        asked = [r for r in requests(provider, f"Long {victim} {n}") if f"Long {victim} {n}" in r["text"]]
        assert len(asked) == 1 if victim == "puffod" else len(asked) <= 2
        worker.agent.wait_state("ready")


def test_stop_leaves_nothing(town, worker, bo):
    root = bo.say(f"Leave something. {tool('Bash', command='setsid sleep 1000 & echo left')} [[reply: Left.]]",
                  to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "Left."
    group = unit(worker, "ControlGroup")
    worker.agent.call("Stop")
    worker.suite.wait(lambda: worker.agent.State == "stopped", PATIENCE, "the agent is stopped")
    assert group and not any(pathlib.Path("/sys/fs/cgroup").glob(f"**{group}/cgroup.procs"))
