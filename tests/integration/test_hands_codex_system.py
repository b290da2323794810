# SPDX-License-Identifier: MIT
"""The real Codex in the machine's own suite: sessions under users of their own, whose Codex is as well."""

import json
import pathlib

import pytest

from machine import BusError, User, output_text
from test_hands_codex import CODEX, PATIENCE, run

ID = "helper-codex"


@pytest.fixture(scope="module")
def suite(system_mode, provider):
    if not CODEX.exists():
        pytest.fail("the CLIs are not installed: ./check integration does that")
    link = pathlib.Path("/usr/local/bin/codex")
    link.unlink(missing_ok=True)
    link.symlink_to(CODEX)
    values = {"ApiKey": "sk-test-machine", "BaseUrl": provider.url + "/v1", "Model": "test-model"}
    system_mode.manager("SetProvider", "sa{sv}", "openai", {name: ("s", value) for name, value in values.items()},
                        user=User("root"))
    yield system_mode
    link.unlink()


@pytest.fixture(scope="module")
def helper(suite):
    options = {"RuntimeKind": "cli-local", "Harness": "codex", "Provider": "openai", "SandboxProfile": "workspace"}
    suite.manager("CreateAgent", "sa{sv}", ID, {name: ("s", value) for name, value in options.items()})
    agent = suite.agent(ID)
    agent.wait_state("ready", deadline=PATIENCE)
    return agent


def requests(provider, text):
    return [r for r in provider.log() if r["text"] and text in r["text"]]


def say(suite, said, id=ID):
    return output_text(suite.turn(id, said))


def uid_of(pid):
    return pathlib.Path(f"/proc/{pid}").stat().st_uid


def test_turns(suite, helper, provider, alice):
    """Two of one conversation, the second with a command that is run where the agent lives, by nobody else."""
    assert say(suite, "The word is heron. [[reply: Noted.]]") == "Noted."
    look = run("echo found > found.txt; id -u; cat /etc/puffo/daemon.yml ../agent.yml; echo end=$?")
    assert say(suite, f"Which word? {look} [[reply: That one.]]") == "That one."
    asked = requests(provider, "Which word?")[-1]
    assert "The word is heron." in json.dumps(asked["body"])
    assert asked["headers"]["authorization"] == "Bearer sk-test-machine"
    seen = "\n".join(asked["results"])
    uid = uid_of(helper.MainPID)
    assert uid not in (0, alice.uid) and f"{uid}\n" in seen
    assert "end=1" in seen and "sk-test" not in seen and "runtime:" not in seen
    workspace = pathlib.Path("/var/lib/private/puffo") / ID / "workspace"
    assert (workspace / "found.txt").read_text() == "found\n"
    assert (workspace / "found.txt").stat().st_uid == uid
    assert uid_of(suite.main_pid(helper.HarnessUnit)) == uid


def test_the_session_is_killed(suite, helper, provider):
    before = suite.main_pid(helper.HarnessUnit)
    assert before > 0
    body = {"model": ID, "input": "Slowly [[reply: one two three four five six]] [[slow: 1500ms]]", "background": True}
    id = suite.http("POST", "/v1/responses", body).json["id"]
    suite.wait(lambda: provider.count("Slowly"), PATIENCE, "the model is asked")
    session = suite.kill(helper.Unit)
    suite.wait(lambda: suite.main_pid(helper.Unit) not in (0, session), PATIENCE, "the session is back")
    suite.wait(lambda: suite.http("GET", f"/v1/responses/{id}").json["status"] == "completed", PATIENCE, "it answers")
    assert output_text(suite.http("GET", f"/v1/responses/{id}").json) == "one two three four five six"
    assert suite.main_pid(helper.HarnessUnit) == before


def test_approval(suite, helper, alice):
    """Its owner is asked, and answers."""
    helper.call("SetRuntime", "a{sv}", {"PermissionMode": ("s", "default")})
    body = {"model": ID, "input": f"Make it. {run('touch made.txt')} [[reply: Over.]]", "background": True}
    id = suite.http("POST", "/v1/responses", body).json["id"]
    suite.wait(lambda: helper.Status == "waiting-approval", PATIENCE, "it asks")
    ask, = suite.http("GET", "/approvals").json["approvals"]
    assert ask["agent"] == ID and "touch made.txt" in json.dumps(ask["input"])
    alice.run(["puffoctl", "--system", "approve", ask["id"]])
    suite.wait(lambda: suite.http("GET", f"/v1/responses/{id}").json["status"] == "completed", PATIENCE, "it goes on")
    assert (pathlib.Path("/var/lib/private/puffo") / ID / "workspace/made.txt").exists()


def test_strict(suite, helper, provider):
    helper.call("SetRuntime", "a{sv}", {"PermissionMode": ("s", "bypassPermissions"),
                                        "SandboxProfile": ("s", "strict")})
    look = run("ls -A /sys/class/net; echo strict > strict.txt; echo end=$?")
    assert say(suite, f"Strictly. {look} [[reply: Done.]]") == "Done."
    assert "end=0" in "\n".join(requests(provider, "Strictly.")[-1]["results"])


def test_connect_starts_it(suite, helper):
    """As for a role: whoever wants to talk has it running."""
    suite.systemctl("stop", helper.HarnessUnit)
    suite.wait(lambda: helper.HarnessState == "none", PATIENCE, "it is known to be gone")
    helper.call("Connect", "s", helper.Workspace)
    assert helper.State == "ready" and suite.main_pid(helper.HarnessUnit) > 0
    # What no agent of this machine may see is not bound, and that is said at once.
    with pytest.raises(BusError) as refused:
        helper.call("Connect", "s", "/home")
    assert refused.value.name == "ai.puffo.Agents1.Error.NotReady"
    assert "'/home' is not for a harness" in str(refused.value)
