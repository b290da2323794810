# SPDX-License-Identifier: MIT
"""Who may do what in system mode, decided by a real polkitd."""

import json
import pathlib

import pytest

from machine import BusError, User, output_text

DENIED = ("org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired")
INTERFACE = "ai.puffo.Agents1.Agent"


@pytest.fixture(scope="module")
def agents(system_mode, alice, bob):
    """One agent of alice, one of bob."""
    made = {}
    for user in [alice, bob]:
        id = f"helper-{user.name}"
        path = system_mode.manager("CreateAgent", "sa{sv}", id, {"RuntimeKind": ("s", "chat-local")}, user=user)[0]
        made[user.name] = path
        agent = system_mode.agent(id)
        agent.wait_state("ready")
        assert agent.Owner == user.uid
    return made


def denied(suite, path, method, signature="", *args, user):
    with pytest.raises(BusError) as caught:
        suite.call(path, INTERFACE, method, signature, *args, user=user)
    assert caught.value.name in DENIED, caught.value
    return caught.value


@pytest.mark.parametrize("method, signature, args", [
    ("Stop", "", []), ("Start", "", []), ("Restart", "", []), ("Delete", "", []), ("Archive", "", []),
    ("Pause", "", []),
    ("SetDisplayName", "s", ["mine now"]), ("WriteProfile", "s", ["obey bob"]), ("ReadProfile", "", []),
    ("SetRuntime", "a{sv}", [{"Model": ["s", "x"]}]),
    ("Submit", "sa{sv}", ["bobs-turn", {"Text": ["s", "tell me everything"]}]), ("ListMessages", "ssu", ["", "", 10]),
    ("Interrupt", "s", [""]), ("ListMemory", "", []), ("ListFiles", "s", [""]), ("OpenJournal", "a{sv}", [{}]),
])
def test_others_agent(system_mode, agents, bob, method, signature, args):
    denied(system_mode, agents["alice"], method, signature, *args, user=bob)
    assert system_mode.agent("helper-alice").State == "ready"


def test_own_agent(system_mode, agents, alice, bob):
    for user in [alice, bob]:
        path = agents[user.name]
        system_mode.call(path, INTERFACE, "SetDisplayName", "s", f"of {user.name}", user=user)
        _, stream = system_mode.call(path, INTERFACE, "Submit", "sa{sv}", f"turn-{user.name}",
                                     {"Text": ("s", "[[reply: at your service]]")}, user=user)
        assert json.loads(stream.splitlines()[-1])["type"] == "completed"
        system_mode.call(path, INTERFACE, "Stop", user=user)
        system_mode.call(path, INTERFACE, "Start", user=user)
        assert system_mode.agent(f"helper-{user.name}").DisplayName == f"of {user.name}"


def test_looking_is_free(system_mode, agents, bob):
    assert {"helper-alice", "helper-bob"} <= {a[0] for a in system_mode.manager("ListAgents", user=bob)[0]}
    state = system_mode.call(agents["alice"], "org.freedesktop.DBus.Properties", "Get", "ss", INTERFACE, "State",
                             user=bob)[0]
    assert state == "ready"


def test_root_may(system_mode, agents):
    root = User("root")
    system_mode.call(agents["alice"], INTERFACE, "Restart", user=root)
    system_mode.agent("helper-alice").wait_state("ready")


def test_settings_are_the_administrators(system_mode, bob):
    for method, signature, args in [("SetDefaultProvider", "s", ["echo"]),
                                    ("SetProvider", "sa{sv}", ["anthropic", {}])]:
        with pytest.raises(BusError) as caught:
            system_mode.manager(method, signature, *args, user=bob)
        assert caught.value.name in DENIED


def test_rule_of_an_administrator(system_mode, agents, bob):
    """polkit is really asked, with the agent in the details: a rule about one agent opens that one."""
    rule = pathlib.Path("/etc/polkit-1/rules.d/10-test.rules")
    rule.write_text('polkit.addRule(function (action, subject) {\n'
                    '    if (action.id === "ai.puffo.agents.manage" && action.lookup("agent") === "helper-alice" &&\n'
                    f'        subject.user === "{bob.name}") return polkit.Result.YES;\n}});\n')
    try:
        def may():
            try:
                system_mode.call(agents["alice"], INTERFACE, "SetDisplayName", "s", "by the rule", user=bob)
                return True
            except BusError as e:
                assert e.name in DENIED
                return False
        # polkitd watches the directory; when it has read the rule is its own affair.
        system_mode.wait(may, 20, "the rule holds")
        assert system_mode.agent("helper-alice").DisplayName == "by the rule"
    finally:
        rule.unlink()

    def may_not():
        try:
            system_mode.call(agents["alice"], INTERFACE, "SetDisplayName", "s", "still", user=bob)
            return False
        except BusError:
            return True
    system_mode.wait(may_not, 20, "the rule is gone")


def test_http_knows_the_owner(system_mode, agents, alice, bob):
    """The gateway is a user of its own that may pass on turns; it looks at whose they are."""
    assert output_text(system_mode.turn("helper-alice", "[[reply: yes]]", user=alice)) == "yes"
    for user, id in [(bob, "helper-alice"), (alice, "helper-bob")]:
        answer = system_mode.http("POST", "/v1/responses", {"model": id, "input": "x"}, user=user)
        assert answer.status in (401, 403, 404), answer
