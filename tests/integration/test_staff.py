# SPDX-License-Identifier: MIT
"""The manager agent has others work for it (agent-proxy, section 15 #14): hire_agent and ask_agent."""

import json
import socket

import pytest

from machine import BusError, output_text
from test_hands import programs  # noqa: F401
from test_harness_unit import Hands


def tool(name, /, **arguments):
    return f"[[tool: {name} {json.dumps(arguments)}]]"


@pytest.fixture(scope="module")
def suite(user_mode):
    user_mode.agent("manager").wait_state("ready")
    return user_mode


@pytest.fixture
def log(provider):
    """What the models were asked since: (text, step, offered, results)."""
    provider.reset()
    return lambda: [(e["text"], e["step"], e["offered"], e["results"]) for e in provider.log()]


def test_the_manager_hires_and_asks(suite, log):
    text = (f"Build it. {tool('hire_agent', role='Engineer', name='bo')} [[then]] "
            f"{tool('ask_agent', agent='engineer_bo', text='How far is it?')} [[reply: Done.]]")
    assert output_text(suite.turn("manager", text)) == "Done."
    suite.agent("engineer_bo").wait_state("ready")
    calls = log()
    asked = [c for c in calls if c[0] == "How far is it?"]
    boss = [c for c in calls if c[0].startswith("Build it.")]
    assert len(asked) == 1 and len(boss) == 3
    # What each of them was offered: the manager these two, whom it asks nothing.
    assert sorted(boss[0][2]) == ["mcp__puffo__ask_agent", "mcp__puffo__hire_agent"] and asked[0][2] == []
    assert "engineer_bo is new and ready" in boss[1][3][0]
    assert boss[2][3] == ["You said: How far is it?"]
    # It is a turn of the other's main conversation.
    history = suite.http("GET", "/agents/engineer_bo/messages").json["messages"]
    assert [m["text"] for m in history] == ["How far is it?", "You said: How far is it?"]


def test_what_it_is_refused(suite, log):
    suite.hire("engineer", "idle").call("Stop")
    cases = [("ask_agent", {"agent": "manager", "text": "me"}, "That is you."),
             ("ask_agent", {"agent": "Manager", "text": "me"}, "That is you."),
             ("ask_agent", {"agent": "nobody", "text": "hi"}, "There is no agent 'nobody'"),
             ("ask_agent", {"agent": "engineer_idle", "text": "hi"}, "It is stopped; hire_agent starts it again."),
             ("ask_agent", {"agent": "engineer_idle", "text": "  "}, "there is nothing in text"),
             ("hire_agent", {"role": "../x", "name": "a"}, "invalid role name: '../x'"),
             ("hire_agent", {"role": "engineer", "name": "A B"}, "invalid agent name: 'A B'")]
    for name, arguments, reason in cases:
        suite.turn("manager", f"Try {reason[:9]} {tool(name, **arguments)} [[reply: ok]]")
        assert reason in log()[-1][3][0], (name, arguments)


def test_the_limit_of_agents_holds(suite, log):
    n = sum(1 for agent in suite.http("GET", "/agents").json["agents"] if agent["role"])
    suite.user.write(".agent_proxy/.state/config.yaml", f"agent_limit: {n}\n")
    try:
        suite.manager("Reload")
        suite.turn("manager", f"One more {tool('hire_agent', role='engineer', name='surplus')} [[reply: ok]]")
        assert "agent_limit in config.yaml" in log()[-1][3][0]
        assert suite.http("POST", "/hire", {"role": "engineer", "name": "surplus"}).status == 429
        refused = suite.user.run(["agent-proxy", "hire", "engineer", "surplus"], check=False)
        assert refused.returncode == 1 and "agent_limit" in refused.stderr
        # Whoever is there already can be had.
        assert suite.user.run(["agent-proxy", "hire", "engineer", "idle"]).stdout.startswith("engineer_idle ")
    finally:
        (suite.user.home / ".agent_proxy/.state/config.yaml").unlink()
        suite.manager("Reload")


def ask_with(provider, agent, *answers):
    """The manager's next answer is to ask that agent; what the agent says, and then the manager."""
    call = {"name": "ask_agent", "arguments": {"agent": agent, "text": "Go."}}
    provider.request("/_script", "POST", [{"tools": [call]}, *answers])


def test_programs_have_the_tools_by_mcp(suite, log):
    path = suite.user.home / ".agent_proxy/.state/agents/manager/run/tools.sock"
    suite.wait(path.exists, 60, "the tools' socket")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(90)
        s.connect(str(path))
        with s.makefile("rw", encoding="utf-8") as lines:
            def ask(id, method, **params):
                lines.write(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}) + "\n")
                lines.flush()
                return json.loads(lines.readline())["result"]

            ask(1, "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo={})
            assert [t["name"] for t in ask(2, "tools/list")["tools"]] == ["hire_agent", "ask_agent"]
            hired = ask(3, "tools/call", name="hire_agent", arguments={"role": "engineer", "name": "cy"})
            assert not hired["isError"] and hired["content"][0]["text"].startswith("engineer_cy is new and ready")
            asked = ask(4, "tools/call", name="ask_agent",
                        arguments={"agent": "engineer_cy", "text": "[[reply: by MCP]]"})
            assert asked == {"content": [{"type": "text", "text": "by MCP"}], "isError": False}


def test_others_have_no_such_tools(suite, log):
    suite.turn("engineer_bo", f"May I? {tool('hire_agent', role='engineer', name='mine')} [[reply: no]]")
    assert all(not offered for _, _, offered, _ in log())
    assert not (suite.user.home / ".agent_proxy/.state/agents/engineer_bo/run/tools.sock").exists()
    hands = Hands(suite, "rogue")
    try:
        hands.wait_ready()
        for call in [["HireAgent", "engineer", "mine"], ["AskAgent", "manager", "ask-1", "Do it."],
                     ["InterruptAsked", "manager", "ask-1"]]:
            with pytest.raises(BusError, match="Only the agent 'manager'") as refused:
                hands.ask("boss", args=call)
            assert refused.value.name == "org.freedesktop.DBus.Error.AccessDenied"
    finally:
        hands.remove()
    assert "engineer_mine" not in suite.agents()


def test_interrupting_the_manager_interrupts_whom_it_asked(suite, log, provider):
    agent = suite.hire("engineer", "busy")
    ask_with(provider, "engineer_busy", "[[hang: 1]]")
    with suite.stream("manager", "Ask on and on"):
        suite.wait(lambda: agent.State == "busy", 60, "the asked agent is at it")
        suite.agent("manager").call("Interrupt", "s", "")
    agent.wait_state("ready")


def test_a_question_survives_both_sessions(suite, log, provider):
    """The asked agent's session, then the manager's own, are killed amid the question."""
    agent, boss = suite.hire("engineer", "tough"), suite.agent("manager")
    slow = "[[words: 100]] [[slow: 100ms]]"
    ask_with(provider, "engineer_tough", slow, slow, "[[reply: Got it.]]")
    with suite.stream("manager", "Ask again"):
        suite.wait(lambda: agent.State == "busy", 60, "the asked agent is at it")
        suite.kill("puffo-session@engineer_tough.service")
        agent.wait_state("busy", deadline=90)
        pid = suite.kill("puffo-session@manager.service")
        suite.wait(lambda: boss.MainPID not in (0, pid) and boss.State == "ready", 120, "its turn is over",
                   boss.properties)
    results = [c[3] for c in log() if c[0].startswith("Ask") and c[3]]
    assert results and results[-1][0].endswith("word100"), results
    turns = [m for m in suite.http("GET", "/agents/engineer_tough/messages").json["messages"] if m["role"] == "user"]
    assert len(turns) == 1


def test_a_manager_that_works_with_a_cli(suite, log, programs, provider):
    """Claude Code finds the two among its tools, and nobody is asked whether it may use them."""
    boss = suite.agent("manager")
    suite.hire("engineer", "bo")
    boss.call("SetRuntime", "a{sv}", {"RuntimeKind": ("s", "cli-local"), "Provider": ("s", "anthropic"),
                                      "Harness": ("s", "claude-code")})
    try:
        text = f"Delegate. {tool('mcp__puffo__ask_agent', agent='engineer_bo', text='What now?')} [[reply: Relayed.]]"
        assert output_text(suite.turn("manager", text)) == "Relayed."
        assert len([c for c in log() if c[0] == "What now?"]) == 1
        told = [body for e in provider.log() if "Delegate." in (body := json.dumps(e["body"])) and "tool_result" in body]
        assert told and "You said: What now?" in told[-1]
    finally:
        boss.call("SetRuntime", "a{sv}", {"RuntimeKind": ("s", "chat-local")})
