# SPDX-License-Identifier: MIT
"""A role agent with a Puffo identity, and Puffo agents in agent-proxy's commands: both are one thing."""

import json
import re
import socket

import pytest

from machine import output_text
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import PATIENCE, shown
from terminal import Terminal

ID = "engineer_rosa"


def give_identity(town, id, name):
    """puffo_core in its agent.yml, keys/ beside it."""
    alice = town.suite.user
    identity = town.operator.client.create_agent(name, town.directory / "agent-keys")
    directory = alice.home / ".agent_proxy/.state/agents" / id
    key = (town.directory / "agent-keys" / f"{identity.slug}.json").read_text()
    alice.write(directory / "keys" / f"{identity.slug}.json", key)
    (directory / "keys").chmod(0o700)
    core = (f"puffo_core:\n  server_url: {town.server.url}\n  slug: {identity.slug}\n"
            f"  device_id: {identity.device_id}\n  space_id: '{town.space}'\n"
            f"  operator_slug: {town.operator.slug}\n")
    config = (directory / "agent.yml").read_text()
    changed = re.sub(r"^puffo_core:\n(?: .*\n)*", core, config, flags=re.MULTILINE)
    assert changed != config
    alice.run(["tee", directory / "agent.yml"], input=changed)
    town.wait_log("stream_connected", lambda line: line["slug"] == identity.slug)
    return identity.slug


@pytest.fixture(scope="module")
def hired(town):
    """Hired as any other, then given an identity."""
    agent = town.suite.hire("engineer", "rosa")
    agent.slug = give_identity(town, ID, "rosa")
    return agent


def test_it_answers_an_encrypted_message(town, hired, provider):
    provider.reset()
    asked = town.operator.say("[[reply: I am Rosa]] who are you?", to=hired.slug)
    answer = town.operator.wait(lambda m: m["sender_slug"] == hired.slug and "I am Rosa" in str(m))[0]
    assert answer["thread_root_id"] in (asked, None)
    # It is the engineer that was hired: its files are what its model is told.
    assert "who are you?" in shown(provider, "who are you?")
    assert "You are Rosa, engineer" in str(provider.log()[-1]["body"]["system"])
    assert hired.Slug == hired.slug and hired.Role == "engineer"


def test_connect_and_http_reach_the_same_agent(town, hired, provider):
    suite = town.suite
    result = suite.user.run(["agent-proxy", "connect", ID, "/tmp"], input="[[reply: at the terminal]]\n")
    assert result.stdout.endswith("at the terminal\n") and result.stderr.startswith(f"{ID} ")
    assert output_text(suite.turn(ID, "[[reply: over HTTP]]")) == "over HTTP"
    # What is said there is no message to anybody on the chat service.
    hired.wait_state("ready")
    assert not [m for m in town.operator.look() if "at the terminal" in str(m)]
    said = town.operator.say("[[reply: still here]] and now?", to=hired.slug)
    assert town.operator.wait(lambda m: m["sender_slug"] == hired.slug and "still here" in str(m)) and said


def test_puffo_agents_appear_among_the_others(town, helper, hired):
    suite = town.suite
    out = suite.user.run(["agent-proxy", "list"]).stdout
    lines = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert list(lines)[0] == "manager" and {helper.slug, ID} <= set(lines)
    assert lines[helper.slug] == ["ready", str(helper.agent.MainPID)]
    status = suite.user.run(["agent-proxy", "status"]).stdout
    assert re.search(rf"[├└]─ {re.escape(helper.slug)}  {helper.agent.MainPID}  ready", status)
    models = [model["id"] for model in suite.http("GET", "/v1/models").json["data"]]
    assert {helper.slug, ID, "manager"} <= set(models)
    with Terminal(suite.user, ["agent-proxy", "connect", helper.slug, "/tmp"]) as terminal:
        terminal.expect(helper.slug + "> $")
        terminal.type("[[reply: hello from Puffo]]\r")
        terminal.expect("hello from Puffo\r\n")
        terminal.expect(helper.slug + "> $")
        terminal.type("/quit\r")
        assert terminal.wait() == 0
    stopped = suite.user.run(["agent-proxy", "stop", "--wait", helper.slug]).stdout
    assert stopped == f"stopped: {helper.slug}\n" and helper.agent.State == "stopped"
    helper.agent.call("Start")
    helper.agent.wait_state("ready", deadline=PATIENCE)


def test_what_the_manager_asked_is_called_off_with_its_tools(town, provider):
    """An identity changes what tools it has. Whoever was asked by them does not go on for nobody, and is not asked
    twice when the question comes again."""
    suite = town.suite
    asked = suite.hire("engineer", "asked")
    path = suite.user.home / ".agent_proxy/.state/agents/manager/run/tools.sock"
    for identity in ["first", "second"]:
        provider.reset()
        suite.wait(path.exists, PATIENCE, "the tools' socket")
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(str(path))
            with s.makefile("rw", encoding="utf-8") as lines:
                for id, method, params in [
                        (1, "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}),
                        (2, "tools/call", {"name": "ask_agent", "arguments": {
                            "agent": "engineer_asked", "text": f"For the {identity} [[hold: {identity}]]"}})]:
                    lines.write(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}) + "\n")
                    lines.flush()
                assert json.loads(lines.readline())["id"] == 1
                suite.wait(lambda: provider.count(f"For the {identity}"), PATIENCE, "the question is put")
                give_identity(town, "manager", identity)
                # Told to try again; or cut off, where all that the old identity had is gone.
                told = lines.readline()
                assert "set up anew" in told if identity == "first" else not told or "set up anew" in told
        # Held by its model, it would go on for ever.
        asked.wait_state("ready", deadline=PATIENCE)
        assert provider.count(f"For the {identity}") == 1


def test_stop_and_init_keep_the_identity(town, hired, provider):
    suite = town.suite
    suite.user.run(["agent-proxy", "stop", "--wait", ID])
    after = town.now()
    suite.user.run(["agent-proxy", "init", ID])
    town.wait_log("stream_connected", lambda line: line["slug"] == hired.slug, after=after)
    town.operator.say("[[reply: I am back]] are you?", to=hired.slug)
    assert town.operator.wait(lambda m: m["sender_slug"] == hired.slug and "I am back" in str(m))
