# SPDX-License-Identifier: MIT
"""Workspaces of role agents: what is in them, what becomes of them (agent-proxy, sections 4 and 5)."""

import datetime
import os
import re
import shutil

import pytest

from machine import BusError

HOME = ".agent_proxy"


@pytest.fixture(scope="module")
def suite(user_mode):
    user_mode.agent("manager").wait_state("ready")
    return user_mode


def proxy(suite, *args, check=True):
    return suite.user.run(["agent-proxy", *args], check=check)


def listed(suite):
    return {line.split("\t")[0]: line.split("\t")[1:] for line in proxy(suite, "list").stdout.splitlines()}


def today():
    return datetime.date.today().isoformat()


def tree(workspace):
    return {str(p.relative_to(workspace)): oct(p.stat().st_mode & 0o777) for p in workspace.rglob("*")}


def test_what_init_makes(suite):
    """Sections 4 and 16.2: four files, two directories, nothing else, and nobody else's."""
    before = today()
    proxy(suite, "init", "researcher")
    workspace = suite.user.home / HOME / "researcher"
    note = min((workspace / "notes").iterdir())
    day = note.stem.removeprefix("daily-")
    assert before <= day <= today()             # nobody knows whether midnight was just then
    assert tree(workspace) == {
        "SOUL.md": "0o600", "AGENTS.md": "0o600", "memory": "0o700", "memory/memory.md": "0o600", "notes": "0o700",
        f"notes/daily-{day}.md": "0o600"}
    assert oct(workspace.stat().st_mode & 0o777) == "0o700"
    assert note.read_text() == f"# {day}\n"
    assert (workspace / "memory/memory.md").read_text().startswith("# Memory\n")
    # A turn puts nothing there, either.
    suite.turn("researcher", "[[reply: read]]")
    assert set(tree(workspace)) - {f"notes/daily-{today()}.md"} == {
        "SOUL.md", "AGENTS.md", "memory", "memory/memory.md", "notes"} | {f"notes/daily-{day}.md"} - {
        f"notes/daily-{today()}.md"}
    # What is the agent's alone is elsewhere.
    private = suite.user.home / HOME / ".state/agents/researcher"
    assert (private / "agent.yml").is_file() and oct(private.stat().st_mode & 0o777) == "0o700"


def test_what_agents_are_told(suite, provider):
    proxy(suite, "hire", "engineer", "ada")
    manager, hired = suite.user.home / HOME / "manager", suite.user.home / HOME / "engineer_ada"
    assert "You are Ada, engineer" in (hired / "SOUL.md").read_text()
    assert "You are the manager" in (manager / "SOUL.md").read_text()
    rules = ["SOUL.md", "memory/memory.md", "notes/daily-YYYY-MM-DD.md", "rewrite", "secrets",
             "Now let us work on working dir: <path>", "absolute paths", "plain text", "last message", str(hired)]
    text = (hired / "AGENTS.md").read_text()
    for rule in rules:
        assert rule in text, rule
    assert "hire_agent" not in text and len(text.encode()) <= 8192
    text = (manager / "AGENTS.md").read_text()
    for rule in [*rules[:-1], "hire_agent", "ask_agent", "/hire", "/v1/responses", "first contact"]:
        assert rule in text, rule
    assert len(text.encode()) <= 8192
    # A model that is called directly is told all three.
    suite.user.append(f"{HOME}/engineer_ada/memory/memory.md", "The cake is a lie.\n")
    provider.reset()
    suite.turn("engineer_ada", "[[reply: yes]]")
    system = str(provider.log()[-1]["body"]["system"])
    assert "You are Ada, engineer" in system and "The cake is a lie." in system and "# How you work" in system


def test_nothing_is_written_over(suite):
    workspace, day = suite.user.home / HOME / "researcher", today()
    for name in ["SOUL.md", "AGENTS.md", "memory/memory.md", f"notes/daily-{day}.md"]:
        suite.user.write(f"{HOME}/researcher/{name}", f"mine: {name}\n", 0o640)
    os.unlink(workspace / "SOUL.md")
    proxy(suite, "init", "researcher")
    assert (workspace / "AGENTS.md").read_text() == "mine: AGENTS.md\n"
    assert (workspace / "memory/memory.md").read_text() == "mine: memory/memory.md\n"
    assert (workspace / f"notes/daily-{day}.md").read_text().startswith("mine")
    # What was missing is there again.
    assert "You are the researcher" in (workspace / "SOUL.md").read_text()


def test_templates_of_the_user(suite):
    suite.user.write(f"{HOME}/.templates/poet/SOUL.md", "I am @NAME@ the @ROLE@ (@AGENT@) in @WORKSPACE@.\n")
    proxy(suite, "hire", "poet", "sappho")
    workspace = suite.user.home / HOME / "poet_sappho"
    assert (workspace / "SOUL.md").read_text() == f"I am sappho the poet (poet_sappho) in {workspace}.\n"
    assert "# How you work" in (workspace / "AGENTS.md").read_text()


def test_a_timer_of_systemd_waits_for_midnight(suite):
    shown = suite.systemctl("show", "puffo-notes.timer").stdout
    assert "ActiveState=active" in shown and "Persistent=yes" in shown and "Unit=puffo-notes.service" in shown
    assert re.search(r"OnCalendar=\*-\*-\* 00:00:00 ;", shown)
    # It comes and goes with puffod.
    suite.systemctl("stop", "puffod.service", "puffod.socket", "puffod-credentials.socket")
    assert suite.show("puffo-notes.timer", "ActiveState") == "inactive"
    # Nobody is started for it.
    suite.systemctl("start", "puffo-notes.service", check=False)
    assert suite.show("puffod.service", "ActiveState") == "inactive"
    suite.start()
    assert suite.show("puffo-notes.timer", "ActiveState") == "active"


def test_the_first_turn_of_a_day(suite, another_day):
    notes = suite.user.home / HOME / "poet_sappho/notes"
    suite.agent("poet_sappho").wait_state("ready")
    assert not (notes / f"daily-{another_day}.md").exists()
    suite.turn("poet_sappho", "[[reply: a verse]]")
    assert (notes / f"daily-{another_day}.md").read_text() == f"# {another_day}\n"


def test_the_day_ends_without_a_turn(suite, another_day):
    agent = suite.agent("engineer_ada")
    agent.wait_state("ready")
    notes, pid = suite.user.home / HOME / "engineer_ada/notes", agent.MainPID
    assert not (notes / f"daily-{another_day}.md").exists()
    suite.systemctl("start", "puffo-notes.service")
    suite.wait((notes / f"daily-{another_day}.md").exists, 60, "the note of the day")
    assert (notes / f"daily-{another_day}.md").read_text() == f"# {another_day}\n"
    assert agent.MainPID == pid
    # Again: what the agent has written there stays.
    suite.user.append(f"{HOME}/engineer_ada/notes/daily-{another_day}.md", "10:00 built it\n")
    suite.systemctl("start", "puffo-notes.service")
    suite.turn("engineer_ada", "[[reply: noted]]")
    assert (notes / f"daily-{another_day}.md").read_text() == f"# {another_day}\n10:00 built it\n"


# --- section 5 ---

def test_a_copied_workspace_is_a_stopped_agent(suite):
    """Copied while puffod looks on, slowly, and by hand."""
    home = suite.user.home / HOME
    suite.user.run(["mkdir", home / "engineer_copy"])
    suite.user.run(["cp", "-r", home / "engineer_ada/memory", home / "engineer_ada/notes", home / "engineer_copy"])
    assert "engineer_copy" not in listed(suite)
    suite.user.run(["cp", home / "engineer_ada/SOUL.md", home / "engineer_ada/AGENTS.md", home / "engineer_copy"])
    suite.wait(lambda: "engineer_copy" in suite.agents(), 60, "it is found")
    assert listed(suite)["engineer_copy"] == ["stopped", "-"]
    assert (home / "engineer_copy/AGENTS.md").read_text() == (home / "engineer_ada/AGENTS.md").read_text()
    assert re.search(r"engineer_copy  -  stopped", proxy(suite, "status").stdout)
    assert proxy(suite, "init", "engineer_copy").stdout.startswith("engineer_copy ")
    # And gone again, with its files.
    suite.agent("engineer_copy").call("Delete")
    assert "engineer_copy" not in listed(suite) and not (home / "engineer_copy").exists()


def test_a_workspace_that_goes_is_missing(suite):
    home, agent = suite.user.home / HOME, suite.hire("engineer", "lost")
    os.rename(home / "engineer_lost", home / ".elsewhere")
    agent.wait_state("missing")
    assert listed(suite)["engineer_lost"] == ["missing", "-"]
    said = proxy(suite, "list").stderr
    assert f"the workspace {home}/engineer_lost is gone; 'agent-proxy init engineer_lost' makes it again" in said
    assert re.search(r"engineer_lost  -  missing", proxy(suite, "status").stdout)
    refused = proxy(suite, "connect", "engineer_lost", "/", check=False)
    assert refused.returncode == 1 and refused.stderr == "not ready\n"
    assert suite.http("POST", "/v1/responses", {"model": "engineer_lost", "input": "hi"}).status >= 400
    assert not (home / "engineer_lost").exists()
    # A puffod that finds it so does the same.
    suite.systemctl("restart", "puffod.service")
    agent.wait_state("missing")
    assert proxy(suite, "init", "engineer_lost").stdout == f"engineer_lost {agent.MainPID}\n"
    assert agent.State == "ready" and (home / "engineer_lost/SOUL.md").is_file()
    # Or it comes back as it was.
    shutil.rmtree(home / "engineer_lost")
    agent.wait_state("missing")
    os.rename(home / ".elsewhere", home / "engineer_lost")
    agent.wait_state("ready")


def test_the_same_id_in_both_homes(suite):
    home = suite.user.home
    suite.manager("CreateAgent", "sa{sv}", "engineer_twin", {"Start": ("b", False)})
    refused = proxy(suite, "hire", "engineer", "twin", check=False)
    assert refused.returncode == 1 and refused.stdout == ""
    for directory in [home / ".puffo-agent/agents/engineer_twin", home / HOME / "engineer_twin"]:
        assert str(directory) in refused.stderr
    # Made by hand it is not loaded, and who asks is told of both.
    suite.user.write(f"{HOME}/.state/agents/engineer_twin/agent.yml", "profile: /x/SOUL.md\n")
    try:
        def problem():
            return [p for p in suite.manager("ListProblems")[0] if "engineer_twin" in str(p)]
        suite.wait(problem, 60, "the problem is told")
        assert str(home / ".puffo-agent/agents/engineer_twin") in str(problem())
        assert str(home / HOME / ".state/agents/engineer_twin") in str(problem())
        assert suite.agent("engineer_twin").Directory == str(home / ".puffo-agent/agents/engineer_twin")
    finally:
        shutil.rmtree(home / HOME / ".state/agents/engineer_twin")
        suite.agent("engineer_twin").call("Delete")


def test_somebody_elses_workspace_is_refused(suite):
    place = suite.user.home / HOME / "engineer_alien"
    place.mkdir()           # root's
    try:
        refused = proxy(suite, "hire", "engineer", "alien", check=False)
        assert refused.returncode == 1 and "belongs to somebody else" in refused.stderr
    finally:
        place.rmdir()


def test_the_manager_agent_stays_and_is_back(suite):
    with pytest.raises(BusError, match="can be stopped, not removed"):
        suite.agent("manager").call("Delete")
    proxy(suite, "stop", "--wait", "manager")
    assert suite.agent("manager").State == "stopped"
    suite.systemctl("restart", "puffod.service")
    suite.agent("manager").wait_state("ready")
