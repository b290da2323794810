# SPDX-License-Identifier: MIT
"""Role agents that work with the real Codex: hired, talked to, killed, asking for leave, in their sandbox. The model
is the emulator."""

import json
import os
import pathlib
import re
import shutil
import signal

import pytest

from conftest import forget
from clis import MODULES, installed
from machine import BASE, Suite, output_text

CODEX = MODULES / "@openai/codex/bin/codex.js"
PATIENCE = 120
ID = "engineer_alice"
SETTINGS = ".agent_proxy/.state/config.yaml"
# 300 MB are read from a disk that may be slow.
PATIENT = "start_timeout: 80\nconnect_timeout: 80\n"


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FORMAT = {"type": "json_schema", "name": "answer", "strict": True,
          "schema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"],
                     "additionalProperties": False}}


def tool(name, /, **arguments):
    return f"[[tool: {name} {json.dumps(arguments)}]]"


def run(command):
    return tool("exec_command", cmd=command)


class Role:
    """A role agent and what lies around it."""

    def __init__(self, suite, provider, id=ID):
        self.suite, self.provider, self.id = suite, provider, id
        self.agent = suite.agent(id)
        self.workspace = suite.user.home / ".agent_proxy" / id
        self.directory = suite.user.home / ".agent_proxy/.state/agents" / id
        self.unit = f"puffo-harness@{id}.service"

    def say(self, said, /, **more):
        answer = self.suite.http("POST", "/v1/responses", {"model": self.id, "input": said, **more})
        assert answer.status == 200, answer
        return output_text(answer.json)

    def show(self, name):
        return self.suite.show(self.unit, name)

    def pid(self):
        pid = int(self.show("MainPID"))
        assert pid > 0
        return pid

    def codex(self):
        """The process itself, below the one that made its sandbox."""
        group = pathlib.Path("/sys/fs/cgroup" + self.show("ControlGroup")) / "cgroup.procs"
        for pid in group.read_text().split():
            argv = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if argv[0].endswith(b"/codex") and b"app-server" in argv:
                return int(pid)
        raise AssertionError("no Codex is running")

    def thread(self):
        return json.loads((self.directory / "cli_session.json").read_text())["session_id"]

    def requests(self, text):
        return [r for r in self.provider.log() if r["text"] and text in r["text"]]

    def runtime(self, **values):
        """Changes agent.yml as its owner would."""
        path = self.directory / "agent.yml"
        lines = path.read_text().splitlines()
        for name, value in values.items():
            lines = [line for line in lines if not line.startswith(f"  {name}:")]
            lines.insert(lines.index("runtime:") + 1, f"  {name}: {value}")
        self.suite.user.write(path, "\n".join(lines) + "\n")

    def ended(self, id):
        """The response, when it has come to an end."""
        return self.wait(lambda: next((r.json for r in [self.suite.http("GET", f"/v1/responses/{id}")]
                                       if r.json and r.json.get("status") not in ("queued", "in_progress")), None),
                         "the turn ends")

    def stop_codex(self):
        self.suite.systemctl("stop", self.unit)
        self.wait(lambda: self.agent.HarnessState == "none", "it is known to be gone")

    def wait(self, condition, what):
        return self.suite.wait(condition, PATIENCE, what, lambda: self.agent.properties())


@pytest.fixture(scope="module")
def suite(alice, provider):
    with installed("codex", CODEX):
        suite = Suite("user", alice)
        forget(alice)
        suite.user.write(suite.user.home / SETTINGS, PATIENT)
        suite.start()
        yield suite
        suite.stop()
    forget(alice)


@pytest.fixture(scope="module")
def key(suite, provider):
    values = {"ApiKey": "sk-test-alice", "BaseUrl": provider.url + "/v1", "Model": "test-model"}
    suite.manager("SetProvider", "sa{sv}", "openai", {name: ("s", value) for name, value in values.items()})


@pytest.fixture(scope="module")
def engineer(suite, provider, key):
    provider.reset()
    shown = suite.user.run(["agent-proxy", "hire", "engineer", "alice"]).stdout
    assert re.fullmatch(rf"{ID} \d+\n", shown)
    return Role(suite, provider)


def test_without_a_login(suite, provider):
    """Neither Codex nor anything in its place: the cause is told."""
    suite.user.run(["agent-proxy", "hire", "writer", "bo"], check=False)
    agent = suite.agent("writer_bo")
    agent.wait_state("failed", deadline=PATIENCE)
    assert "codex login" in agent.StatusText and "puffoctl provider set" in agent.StatusText
    agent.call("Stop")


def test_ready_before_the_first_turn(suite, engineer, provider):
    """Whoever hires has Codex running, and its conversation open; nobody has been asked anything."""
    assert engineer.agent.State == "ready" and not provider.log()
    before = engineer.codex()
    tree = suite.user.run(["agent-proxy", "status"]).stdout
    assert re.search(rf"{ID}  \d+  ready\n(│ .*\n)*│ .* {before} \S*/@openai/codex", tree), tree
    # What was decided on is what everybody sees.
    agent = engineer.agent
    assert (agent.RuntimeKind, agent.Harness) == ("cli-local", "codex")
    assert (agent.Provider, agent.Model) == ("openai", "test-model")
    shown = suite.user.run(["puffoctl", "agent", "show", ID]).stdout
    assert "cli-local" in shown and "codex" in shown and "chat-local" not in shown
    # It is there already.
    assert suite.user.run(["agent-proxy", "hire", "engineer", "alice"]).stdout.startswith(ID)
    assert engineer.codex() == before
    # … and comes back for somebody who wants to talk, or asks for the agent, not for puffod's own sake.
    engineer.stop_codex()
    suite.user.run(["agent-proxy", "restart"])
    assert engineer.show("ActiveState") == "inactive"
    suite.user.run(["agent-proxy", "init", ID])
    again = engineer.codex()
    engineer.stop_codex()
    engineer.agent.call("Connect", "s", str(suite.user.home))
    assert engineer.codex() not in (before, again) and not provider.log()


def test_cannot_be_started(suite, engineer):
    """Who asks for it is told at once, and why; it comes by itself when that is put right."""
    link = pathlib.Path("/usr/local/bin/codex")
    engineer.stop_codex()
    target = os.readlink(link)
    link.unlink()
    link.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
    link.chmod(0o755)
    try:
        result = suite.user.run(["agent-proxy", "init", ID], check=False)
        assert result.returncode == 1 and result.stdout == ""
        assert f"{ID} is not ready" in result.stderr and "out of order" in result.stderr
        assert engineer.agent.State == "failed" and "exit status 3" in engineer.agent.StatusText
        result = suite.user.run(["agent-proxy", "connect", ID], input="", check=False)
        assert result.returncode == 1 and result.stderr == "not ready\n"
    finally:
        link.unlink()
        link.symlink_to(target)
    engineer.agent.wait_state("ready", deadline=PATIENCE)
    assert engineer.codex()


def test_two_turns(suite, engineer, provider):
    provider.reset()
    typed = "[[reply: First answer.]]\nAnd now [[reply: second answer.]]\n"
    result = suite.user.run(["agent-proxy", "connect", ID], input=typed, timeout=240)
    assert "First answer.\n" in result.stdout and result.stdout.endswith("second answer.\n")
    asked = provider.log()
    assert {r["dialect"] for r in asked} == {"openai-responses"}
    assert all("puffo" in r["headers"]["user-agent"] for r in asked)
    # One conversation, with the role's own instructions in it.
    body = json.dumps(asked[-1]["body"])
    assert "Now let us work on working dir:" in body and "First answer." in body
    soul = (engineer.workspace / "SOUL.md").read_text()
    assert json.dumps(soul)[1:60] in body and "AGENTS.md instructions" in body
    # The key is the session's.
    assert {r["headers"]["authorization"] for r in asked} == {"Bearer sk-test-alice"}
    for pid in [engineer.pid(), engineer.codex()]:
        assert b"sk-test" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    environment = pathlib.Path(f"/proc/{engineer.codex()}/environ").read_bytes().split(b"\0")
    assert f"CODEX_HOME={engineer.directory}/.codex".encode() in environment
    assert f"AGENT_PROXY_AGENT={ID}".encode() in environment
    assert b"AGENT_PROXY_URL=http://127.0.0.1:7011" in environment
    assert (engineer.directory / ".codex").stat().st_mode & 0o777 == 0o700


def test_as_a_client(suite, engineer, provider):
    """Codex pointed at our own /v1: it talks to an agent as to a model, and sends the whole history each time."""
    home = suite.user.home / "client"
    home.mkdir(exist_ok=True)
    os.chown(home, suite.user.uid, suite.user.uid)
    options = ["--json", "--skip-git-repo-check", "-c", f'model="{ID}"', "-c", 'model_provider="here"', "-c",
               f'model_providers.here={{name="Here", base_url="{BASE}/v1", wire_api="responses"}}']

    def ask(text, *resume):
        out = suite.user.run([CODEX, "exec", *resume, *options, "-"], input=text, timeout=PATIENCE,
                             env={"CODEX_HOME": home})
        events = [json.loads(line) for line in out.stdout.splitlines()]
        assert events[-1]["type"] == "turn.completed", events
        said = [e["item"]["text"] for e in events if e["type"] == "item.completed" and
                e["item"]["type"] == "agent_message"]
        return events[0]["thread_id"], said

    thread, said = ask("Who is there? [[reply: An engineer.]]")
    assert said == ["An engineer."]
    assert ask("And what do you do? [[reply: I build.]]", "resume", thread) == (thread, ["I build."])
    # What it sends again is not said again: the agent knows its own conversation.
    last = json.dumps(engineer.requests("what do you do")[-1]["body"])
    assert last.count("Who is there?") == 1


def test_usage_is_told(engineer):
    response = engineer.suite.turn(ID, "How much [[reply: one two three]]")
    assert response["usage"]["output_tokens"] == 3 and response["usage"]["input_tokens"] > 0


def test_a_tool_in_the_sandbox(engineer):
    look = run(f"id -u; cat {engineer.directory}/agent.yml; ls /home/alice/.agent_proxy/.state; touch /usr/x; "
               "echo own > mine.txt; echo kept > memory/kept.md; env; "
               "cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n'")
    assert engineer.say(f"Look around. {look} [[reply: Looked.]]") == "Looked."
    seen = "\n".join(engineer.requests("Look around")[-1]["results"])
    assert "CODEX_THREAD_ID=" in seen, "the environment was shown"
    assert "sk-test" not in seen and "PUFFO_MODEL_TOKEN=" not in seen.split("CODEX_THREAD_ID=")[0]
    assert "desired" not in seen and "sandbox_profile" not in seen
    assert (engineer.workspace / "mine.txt").read_text() == "own\n"
    assert (engineer.workspace / "memory/kept.md").read_text() == "kept\n"
    assert not pathlib.Path("/usr/x").exists()


def test_a_directory_that_is_not_the_users(suite, engineer, provider):
    """Commands run in spite of it, and read there."""
    place = pathlib.Path("/opt/of-somebody-else")
    place.mkdir(mode=0o755)
    try:
        (place / "notes").write_text("as it was\n")
        for directory in [place, "/root"]:
            provider.reset()
            command = f"cat {place}/notes; echo new > {place}/notes; echo mine > own && cat own"
            suite.user.run(["agent-proxy", "connect", ID, directory], input=run(command) + "\n", timeout=240)
            results = engineer.requests("notes")[-1]["results"]
            assert len(results) == 1 and "as it was" in results[0] and "mine" in results[0], results
            assert "bwrap" not in results[0]
        assert (place / "notes").read_text() == "as it was\n"
    finally:
        shutil.rmtree(place)
        suite.user.run(["agent-proxy", "connect", ID, suite.user.home], timeout=240)


def test_a_directory_that_no_cli_may_see(suite, engineer):
    """Whoever has typed it is told that it is this one, and how to get on."""
    refused = suite.user.run(["agent-proxy", "connect", ID, "/tmp"], check=False, timeout=240)
    reason, last = refused.stderr.splitlines()
    assert refused.returncode == 1 and last == "not ready" and refused.stdout == ""
    assert reason.startswith("agent-proxy: ") and "'/tmp' is not for a harness" in reason
    assert reason.endswith(". Connect it to another directory.")
    suite.user.run(["agent-proxy", "connect", ID, suite.user.home], timeout=240)
    engineer.agent.wait_state("ready", deadline=PATIENCE)


def test_its_instructions_are_read_only(engineer):
    spoil = run(f"echo x >> AGENTS.md; echo x >> SOUL.md; echo x >> {engineer.directory}/.codex/config.toml; true")
    before = [(engineer.workspace / "AGENTS.md").read_text(), (engineer.directory / ".codex/config.toml").read_text()]
    assert engineer.say(f"Spoil it. {spoil} [[reply: Tried.]]") == "Tried."
    assert [(engineer.workspace / "AGENTS.md").read_text(),
            (engineer.directory / ".codex/config.toml").read_text()] == before


def test_its_tools(suite, provider, key):
    """Those of ours need nobody's leave."""
    manager = Role(suite, provider, "manager")
    asked = tool("mcp__puffo__hire_agent", role="writer", name="cy")
    assert manager.say(f"Hire. {asked} [[reply: Hired.]]") == "Hired."
    assert "writer_cy" in "\n".join(manager.requests("Hire.")[-1]["results"])
    assert "writer_cy" in suite.agents()
    suite.agent("writer_cy").call("Stop")


OSPREY = """#!/usr/bin/python3
import json, os, sys
for line in sys.stdin:
    request = json.loads(line)
    result = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                       "serverInfo": {"name": "osprey", "version": "1"}},
        "tools/list": {"tools": [{"name": "look", "inputSchema": {"type": "object", "properties": {}}}]},
        "tools/call": {"content": [{"type": "text", "text": "One osprey, " + os.environ.get("MOOD", "")}]},
    }.get(request.get("method"), {})
    if "id" in request:
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
"""


def test_the_operators_servers(suite, engineer):
    """What he has given his own Codex."""
    program, home = pathlib.Path("/usr/local/bin/osprey-mcp"), suite.user.home / ".codex"
    program.write_text(OSPREY)
    program.chmod(0o755)
    suite.user.write(home / "config.toml", f'[mcp_servers.osprey]\ncommand = "{program}"\nenv = {{ MOOD = "grey" }}\n')
    try:
        said = f"Ask the osprey. {tool('mcp__osprey__look')} [[reply: Asked.]]"
        assert engineer.say(said) == "Asked."
        assert "One osprey, grey" in "\n".join(engineer.requests("Ask the osprey.")[-1]["results"])
    finally:
        suite.user.run(["rm", "-r", home])
        program.unlink()
    assert engineer.say("No osprey. [[reply: None.]]") == "None."
    assert "mcp_servers.\"osprey\"" not in (engineer.directory / ".codex/config.toml").read_text()


def test_conversations(engineer):
    """Each is a thread of its own, in the same process."""
    suite, main, before = engineer.suite, engineer.thread(), engineer.codex()
    first = suite.turn(ID, "The word is heron [[reply: Noted.]]", conversation="side")
    second = suite.turn(ID, "The word is crane [[reply: Noted, too.]]", conversation="side")
    body = json.dumps(engineer.requests("crane")[-1]["body"])
    assert "The word is heron" in body and second["status"] == "completed"
    # Not the newest: it goes on from there.
    suite.turn(ID, "Which word? [[reply: That one.]]", previous_response_id=first["id"])
    body = json.dumps(engineer.requests("Which word?")[-1]["body"])
    assert "The word is heron" in body and "crane" not in body
    assert engineer.say("Any words? [[reply: None.]]") == "None."
    body = json.dumps(engineer.requests("Any words?")[-1]["body"])
    assert "heron" not in body and "crane" not in body
    assert engineer.thread() == main and engineer.codex() == before


def test_what_goes_with_a_turn(engineer):
    engineer.say("Structured [[reply: {}]]", reasoning={"effort": "high"}, text={"format": FORMAT})
    body = engineer.requests("Structured")[-1]["body"]
    assert body["text"]["format"]["schema"] == FORMAT["schema"] and body["reasoning"]["effort"] == "high"
    seen = engineer.say([{"role": "user", "content": [
        {"type": "input_text", "text": "Look at it [[reply: A pixel.]]"},
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}]}])
    assert seen == "A pixel."
    body = engineer.requests("Look at it")[-1]["body"]
    assert "format" not in body.get("text", {}), "the schema was the other turn's"
    assert "data:image/png;base64," in json.dumps(body)


def test_codex_is_killed(engineer, provider):
    """Amid the second turn: it is asked once more, by the same thread."""
    engineer.say("Remember the heron. [[reply: Remembered.]]")
    thread, before = engineer.thread(), engineer.pid()
    told = provider.count("you were restarted")
    with engineer.suite.stream(ID, "Quick [[words: 12]] [[hang: 3]]") as stream:
        engineer.wait(lambda: provider.count("Quick"), "the model is asked")
        provider.request("/_script", "POST", [{"reply": "I have gone on."}])
        os.kill(engineer.codex(), signal.SIGKILL)
        last = stream.until("response.completed")
    assert output_text(last["response"]).endswith("I have gone on.")
    assert provider.count("you were restarted") == told + 1
    assert engineer.thread() == thread and engineer.pid() != before
    body = json.dumps(engineer.requests("you were restarted")[-1]["body"])
    assert "Remember the heron." in body and "Quick" in body


def test_a_thread_that_is_gone(engineer):
    """It says so, and a new one is begun with the same text."""
    thread, suite = engineer.thread(), engineer.suite
    suite.systemctl("stop", engineer.unit)
    suite.user.run(["bash", "-c", f"rm -r {engineer.directory}/.codex/sessions {engineer.directory}/.codex/*.sqlite*"])
    assert engineer.say("Afresh [[reply: Begun anew.]]") == "Begun anew."
    assert engineer.thread() != thread
    assert "Remember the heron." not in json.dumps(engineer.requests("Afresh")[-1]["body"])
    engineer.say("Remember the heron. [[reply: Remembered.]]")


def test_the_session_is_killed(engineer, provider):
    """Amid a turn: Codex goes on, and the next session takes it over."""
    engineer.say("Still here? [[reply: Yes.]]")
    before, thread = engineer.codex(), engineer.thread()
    body = {"model": ID, "input": "Slowly [[reply: one two three four five six]] [[slow: 1500ms]]", "background": True}
    id = engineer.suite.http("POST", "/v1/responses", body).json["id"]
    engineer.wait(lambda: provider.count("Slowly"), "the model is asked")
    session = engineer.suite.kill(engineer.agent.Unit)
    engineer.wait(lambda: engineer.suite.main_pid(engineer.agent.Unit) not in (0, session), "the session is back")
    answer = engineer.ended(id)
    assert answer["status"] == "completed" and output_text(answer) == "one two three four five six"
    assert engineer.codex() == before and engineer.thread() == thread
    # What broke off with the session is asked for again, but it is the same turn: nobody has said it twice.
    last = engineer.requests("Slowly")[-1]["body"]["input"]
    assert len([item for item in last if item.get("role") == "user" and "Slowly" in json.dumps(item)]) == 1


def test_interrupt(engineer, provider):
    before = engineer.codex()
    with engineer.suite.stream(ID, "Endless [[words: 5]] [[hang: 3]]") as stream:
        stream.until("response.output_text.delta")
        id = stream.id
        assert engineer.suite.http("POST", f"/v1/responses/{id}/cancel", {}).status == 200
    engineer.agent.wait_state("ready", deadline=PATIENCE)
    assert engineer.suite.http("GET", f"/v1/responses/{id}").json["status"] == "cancelled"
    assert engineer.say("And now? [[reply: Idle again.]]") == "Idle again."
    assert engineer.codex() == before, "it is the same process"


def test_what_the_provider_says(engineer):
    answer = engineer.suite.turn(ID, "Wrong [[status: 400]]")
    assert answer["status"] == "failed" and answer["error"]["code"] == "server_error"
    assert engineer.say("Right [[reply: All is well.]]") == "All is well."


@pytest.mark.parametrize("answer, made", [("allow", True), ("deny", False)])
def test_approval(engineer, answer, made):
    engineer.runtime(permission_mode="default")
    user, name = engineer.suite.user, f"made-{answer}"
    with engineer.suite.stream(ID, f"Make it. {run(f'touch {name}')} [[reply: Over.]]") as stream:
        engineer.wait(lambda: engineer.agent.Status == "waiting-approval", "it asks")
        ask, = engineer.suite.http("GET", "/approvals").json["approvals"]
        assert ask["agent"] == ID and f"touch {name}" in json.dumps(ask["input"])
        user.run(["puffoctl", "approve", ask["id"]] + ([] if made else ["--deny"]))
        last = stream.until("response.completed")
    assert output_text(last["response"]) == "Over."
    assert (engineer.workspace / name).exists() == made
    engineer.runtime(permission_mode="bypassPermissions")


def test_the_session_is_killed_while_it_asks(engineer):
    engineer.runtime(permission_mode="default")
    suite = engineer.suite
    body = {"model": ID, "input": f"Ask. {run('echo once >> asked.txt')} [[reply: Asked.]]", "background": True}
    id = suite.http("POST", "/v1/responses", body).json["id"]
    engineer.wait(lambda: engineer.agent.Status == "waiting-approval", "it asks")
    codex, session = engineer.codex(), suite.kill(engineer.agent.Unit)
    engineer.wait(lambda: suite.main_pid(engineer.agent.Unit) not in (0, session), "the session is back")
    engineer.wait(lambda: engineer.agent.Status == "waiting-approval", "it asks still")
    ask, = suite.http("GET", "/approvals").json["approvals"]
    suite.user.run(["puffoctl", "approve", ask["id"]])
    answer = engineer.ended(id)
    assert answer["status"] == "completed" and output_text(answer) == "Asked."
    assert (engineer.workspace / "asked.txt").read_text() == "once\n" and engineer.codex() == codex
    engineer.runtime(permission_mode="bypassPermissions")


def test_host(engineer):
    """In the user's own view what holds it is its own sandbox."""
    engineer.runtime(sandbox_profile="host")
    outside = engineer.suite.user.home / "outside.txt"
    look = run(f"echo host > host.txt; echo x > {outside}; cat {engineer.directory}/agent.yml; echo end=$?")
    assert engineer.say(f"At home. {look} [[reply: Done.]]") == "Done."
    seen = "\n".join(engineer.requests("At home.")[-1]["results"])
    assert "end=1" in seen and "sandbox_profile" not in seen
    assert (engineer.workspace / "host.txt").read_text() == "host\n"
    assert not outside.exists()
    engineer.runtime(sandbox_profile="workspace")


def test_strict(engineer):
    """There the unit is the sandbox: no other, and no network but the way to the model."""
    engineer.runtime(sandbox_profile="strict")
    home = engineer.directory / ".codex"
    look = run(f"for i in {home}/AGENTS.md {home}/config.toml {home}/hooks.json {home}/rules/x .codex/x AGENTS.md; "
               "do echo x >> $i && echo spoilt=$i; done; "
               "echo strict > strict.txt; touch /usr/x; ls -A /sys/class/net; "
               "cat /proc/self/environ | tr '\\0' '\\n'; echo end=$?")
    assert engineer.say(f"Strictly. {look} [[reply: Done.]]") == "Done."
    seen = "\n".join(engineer.requests("Strictly")[-1]["results"])
    assert "spoilt=" not in seen, "what instructs it, and what it is allowed, is not its own to write"
    assert "end=0" in seen and "sk-test" not in seen and "PUFFO_MODEL_TOKEN=" not in seen
    assert (engineer.workspace / "strict.txt").read_text() == "strict\n"
    assert not pathlib.Path("/usr/x").exists()
    engineer.runtime(sandbox_profile="workspace")


def test_exec(suite, engineer):
    """The other driver: a process for each turn, in the same conversation."""
    settings = suite.user.home / SETTINGS

    def change(how):
        session = suite.main_pid(engineer.agent.Unit)
        how()
        engineer.wait(lambda: suite.main_pid(engineer.agent.Unit) not in (0, session), "the session has the setting")
        engineer.agent.wait_state("ready", deadline=PATIENCE)

    engineer.say("Remember the egret. [[reply: Remembered.]]")
    change(lambda: suite.user.write(settings, PATIENT + "driver: exec\n"))
    try:
        assert engineer.say(f"By exec. {run('echo exec > exec.txt')} [[reply: Executed.]]") == "Executed."
        assert (engineer.workspace / "exec.txt").read_text() == "exec\n"
        assert "Remember the egret." in json.dumps(engineer.requests("By exec")[-1]["body"])
        # What goes with a turn, in a conversation that goes on; and what that turn alone has used.
        given = engineer.requests("By exec")[-1]["body"]
        assert "format" not in given.get("text", {}) and "effort" not in given["reasoning"]
        body = {"model": ID, "input": "Structured by exec [[reply: {}]]", "reasoning": {"effort": "low"},
                "text": {"format": FORMAT}}
        first = suite.http("POST", "/v1/responses", body).json
        given = engineer.requests("Structured by exec")[-1]["body"]
        assert given["text"]["format"]["schema"] == FORMAT["schema"] and given["reasoning"]["effort"] == "low"
        pixel = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"}
        second = suite.turn(ID, [{"role": "user", "content": [
            {"type": "input_text", "text": "Look by exec [[reply: Seen.]]"}, pixel]}])
        given = engineer.requests("Look by exec")[-1]["body"]
        assert "data:image/png;base64," in json.dumps(given) and "format" not in given.get("text", {})
        for turn, text in (first, "Structured by exec"), (second, "Look by exec"):
            assert turn["usage"]["output_tokens"] == len(output_text(turn).split()), turn["usage"]
            assert turn["usage"]["input_tokens"] > 0, turn["usage"]
    finally:
        change(lambda: suite.user.write(settings, PATIENT))


def test_an_operators_login(suite, provider, engineer):
    """A key that he has logged in with is used, and not shown; the tokens of an account are, but for one."""
    home = suite.user.home / ".codex"
    suite.user.run(["mkdir", "-p", "-m", "700", home])
    tokens = {"id_token": "i", "access_token": "a-token", "refresh_token": "r-token", "account_id": "x"}
    login = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens}
    suite.user.write(home / "auth.json", json.dumps(login))
    try:
        role = Role(suite, provider)
        role.runtime(kind="cli-local", harness="codex")
        turn = suite.http("POST", "/v1/responses", {"model": ID, "input": "Whose?", "background": True}).json
        view = role.directory / ".codex/auth.json"
        role.wait(lambda: view.exists() and "a-token" in view.read_text(), "it has a view of the login")
        assert "r-token" not in view.read_text() and json.loads(view.read_text())["tokens"]["refresh_token"] == ""
        assert view.stat().st_mode & 0o777 == 0o600
        # There is nobody to ask with it here.
        suite.http("POST", f"/v1/responses/{turn['id']}/cancel", {})
    finally:
        suite.user.run(["rm", "-r", home])
