# SPDX-License-Identifier: MIT
"""The machine's own suite: a small root control plane, sessions under users of their own."""

import json
import pathlib
import re

import pytest

from machine import BASE, User, output_text


@pytest.fixture(scope="module")
def helper(system_mode, alice):
    system_mode.manager("CreateAgent", "sa{sv}", "helper-one", {"RuntimeKind": ("s", "chat-local")})
    agent = system_mode.agent("helper-one")
    agent.wait_state("ready")
    return agent


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_session_has_a_user_of_its_own(system_mode, helper, alice):
    uid = int(status(helper.MainPID)["Uid"].split()[0])
    assert uid not in (0, alice.uid)
    assert system_mode.show(helper.Unit, "DynamicUser") == "yes"
    directory = pathlib.Path("/var/lib/private/puffo/helper-one")
    assert directory.stat().st_uid == uid and (directory / "agent.yml").stat().st_uid == uid
    assert helper.Owner == alice.uid


def test_daemons_are_small(system_mode, helper):
    puffod, gateway = (status(system_mode.main_pid(u)) for u in ["puffod.service", "puffo-gateway.service"])
    assert puffod["Uid"].split()[0] == "0"
    # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER
    assert int(puffod["CapEff"], 16) == 0b1011
    assert int(gateway["CapEff"], 16) == 0
    assert int(gateway["Uid"].split()[0]) == User("puffo-gateway").uid
    for fields in [puffod, gateway]:
        assert fields["NoNewPrivs"] == "1" and fields["Seccomp"] == "2"


def test_turn(system_mode, helper, provider):
    assert output_text(system_mode.turn("helper-one", "system turn [[reply: from the system]]")) == "from the system"
    assert provider.count("system turn") == 1


def test_stream(system_mode, helper):
    with system_mode.stream("helper-one", "[[reply: in small pieces]]") as stream:
        assert stream.rest()[-1]["type"] == "response.completed"
        assert stream.text == "in small pieces"


def test_configuration_goes_both_ways(system_mode, helper):
    """Written by root's puffod, read by the session's user."""
    helper.call("WriteProfile", "s", "You are one.\n")
    assert helper.call("ReadProfile")[0] == "You are one.\n"
    helper.call("SetRuntime", "a{sv}", {"MaxTokens": ("u", 999)})
    file = pathlib.Path("/var/lib/private/puffo/helper-one/agent.yml")
    assert "max_tokens: 999" in file.read_text()
    assert file.stat().st_uid == int(status(helper.MainPID)["Uid"].split()[0])
    assert system_mode.turn("helper-one", "[[reply: still]]")["status"] == "completed"


def test_files_of_a_request(system_mode, helper, provider):
    """From the gateway's user to the session's: what is written is the agent's own."""
    response = system_mode.turn("helper-one", [{"role": "user", "content": [
        {"type": "input_text", "text": "take this [[reply: taken]]"},
        {"type": "input_file", "filename": "note.txt", "file_data": "aGVsbG8="}]}])
    assert response["status"] == "completed"
    file = pathlib.Path(f"/var/lib/private/puffo/helper-one/workspace/.puffo/inbox/{response['id']}/note.txt")
    assert file.read_text() == "hello" and oct(file.stat().st_mode & 0o777) == "0o600"
    assert file.stat().st_uid == int(status(helper.MainPID)["Uid"].split()[0])
    asked = next(e["body"] for e in reversed(provider.log()) if "take this" in json.dumps(e["body"]))
    assert f"inbox/{response['id']}/note.txt" in json.dumps(asked)
    page = system_mode.http("GET", "/agents/helper-one/messages?limit=2").json
    assert page["messages"][0]["files"] == ["note.txt"]


def test_pages_of_another_user(system_mode, helper, bob):
    """bob may use the gateway, and sees and answers nothing of alice's."""
    assert system_mode.http("GET", "/agents", user=bob).json == {"agents": []}
    assert system_mode.http("GET", "/approvals", user=bob).json == {"approvals": []}
    assert system_mode.http("GET", "/agents/helper-one/messages", user=bob).status == 404
    answer = system_mode.http("POST", "/approvals/helper-one:abc", {"decision": "allow"}, user=bob)
    assert answer.status == 404 and answer.json["error"]["code"] == "approval_not_found"
    # The owner gets as far as the agent, which has asked for nothing.
    answer = system_mode.http("POST", "/approvals/helper-one:abc", {"decision": "allow"})
    assert answer.status == 404 and answer.json["error"]["code"] == "approval_not_found"
    with system_mode.feed(user=bob) as feed:
        assert feed.until(lambda kind, value: kind == "agents") == {"agents": []}


def test_restart_keeps_the_files(system_mode, helper):
    helper.call("Stop")
    helper.call("Start")
    messages = helper.call("ListMessages", "ssu", "", "", 50)[0]
    assert "from the system" in [m[2] for m in messages]


def test_no_secret_shows(system_mode, helper, bob):
    assert "sk-test" not in system_mode.systemctl("show", helper.Unit).stdout
    assert "sk-test" not in bob.run(["systemctl", "show", helper.Unit]).stdout
    for name in ["/etc/puffo", "/var/lib/puffod", "/run/puffo", "/var/lib/private/puffo/helper-one/agent.yml"]:
        assert bob.run(["cat" if name.endswith("yml") else "ls", name], check=False).returncode != 0


def test_own_journal(system_mode, helper, bob):
    """An ordinary user sees nothing of a dynamic user's journal by itself; the bus shows an owner theirs."""
    out = helper.call("OpenJournal", "a{sv}", {})[-1]
    assert "7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a06" in out


def test_agents_outlive_the_daemons(system_mode, helper):
    pid = helper.MainPID
    with system_mode.stream("helper-one", "[[words: 30]] [[slow: 30ms]]") as stream:
        stream.until("response.output_text.delta")
        system_mode.kill("puffod.service")
        assert stream.rest()[-1]["type"] == "response.completed"
    helper.wait_state("ready")
    assert helper.MainPID == pid


def test_archive_and_delete(system_mode, helper):
    where = pathlib.Path(helper.call("Archive")[0])
    assert (where / "agent.yml").is_file()
    # Its dynamic user's number may be given to another agent some day, which must not find a way in.
    assert where.parents[1].stat().st_uid == 0 and oct(where.parents[1].stat().st_mode & 0o777) == "0o700"
    assert not pathlib.Path("/var/lib/private/puffo/helper-one").exists()
    assert "helper-one" not in system_mode.agents()


def test_addresses(system_mode):
    assert system_mode.get("/ai/puffo/Agents1", "ai.puffo.Agents1.Manager", "Addresses") == [BASE]
    assert system_mode.get("/ai/puffo/Agents1", "ai.puffo.Agents1.Manager", "Mode") == "system"
    assert re.match(r"\d+\.\d+", system_mode.get("/ai/puffo/Agents1", "ai.puffo.Agents1.Manager", "Version"))


def test_notes_of_the_day(system_mode, request):
    """puffo-notes.timer starts this; the note is written by the session, as its own user."""
    agent = system_mode.hire("engineer", "mona", user=User("root"))
    try:
        assert system_mode.show("puffo-notes.timer", "ActiveState") == "active"
        agent.wait_state("ready")
        day = request.getfixturevalue("another_day")
        note = pathlib.Path(f"/var/lib/private/puffo/engineer_mona/workspace/notes/daily-{day}.md")
        assert not note.exists()
        system_mode.systemctl("start", "puffo-notes.service")
        system_mode.wait(note.exists, 60, "the note of the day")
        assert note.stat().st_uid not in (0, system_mode.user.uid)
    finally:
        agent.call("Delete", user=User("root"))
