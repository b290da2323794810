# SPDX-License-Identifier: MIT
"""Agents that work with the real Gemini CLI, a process for each turn. See test_hands.py."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest

from clis import MODULES, answers_by_tool, installed
from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import Resident, once

GEMINI = "runtime:\n  kind: cli-local\n  harness: gemini-cli\n  sandbox_profile: workspace\n"


@pytest.fixture(scope="module", autouse=True)
def programs():
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    assert int(version.removeprefix("v").partition(".")[0]) >= 20, f"Gemini CLI needs Node.js 20, this is {version}"
    with installed("gemini", MODULES / "@google/gemini-cli/bundle/gemini.js"):
        yield


@pytest.fixture(scope="module")
def worker(programs, town, provider):
    town.suite.manager("SetProvider", "sa{sv}", "google",
                       {"ApiKey": ("s", "sk-test-google"), "BaseUrl": ("s", provider.url),
                        "Model": ("s", "gemini-2.5-flash")})
    made = Resident(town, "miner", GEMINI)
    made.join(town.lobby)
    return made


def unit(agent, name):
    of = agent.agent.Unit.replace("puffo-session@", "puffo-harness@")
    return agent.suite.user.run(["systemctl", "--user", "show", "--value", f"--property={name}", of]).stdout.strip()


def conversation(agent):
    return json.loads((agent.directory / "cli_session.json").read_text())["session_id"]


def tool(name, **arguments):
    """Without "@": in front of anything but a plain name it is escaped, which JSON does not know."""
    return f"[[tool: mcp_puffo_{name} {json.dumps(arguments)}]]".replace("@", "\\u0040")


def requests(provider, text):
    return [r for r in provider.log() if r["dialect"] == "google" and text in json.dumps(r["body"])]


def test_the_cli_answers_by_its_tool(town, worker, bo, provider):
    call = tool("send_message", channel=f"@{bo.slug}", text="Said by Gemini.")
    answers_by_tool(worker, bo, f"Gemini, use a tool. {call} [[reply: Done.]]", "Said by Gemini.")
    asked = requests(provider, "Gemini, use a tool")
    assert len(asked) == 2 and all(r["headers"]["user-agent"].startswith("GeminiCLI") for r in asked)
    assert {r["path"].rpartition("/")[2] for r in asked} == {"gemini-2.5-flash:streamGenerateContent"}
    # The key is the session's: what the CLI has is a token of its own.
    assert {r["headers"]["x-goog-api-key"] for r in asked} == {"sk-test-google"}
    # The managed prompt is its memory.
    assert "You help." in json.dumps(asked[0]["body"]["systemInstruction"])
    worker.suite.wait(lambda: unit(worker, "ActiveState") == "inactive", 30, "the CLI has ended with the turn")


def test_the_second_message_goes_on(town, worker, bo, provider):
    session = conversation(worker)
    root = bo.say("Gemini, what was that? [[reply: Nothing new.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "Nothing new."
    assert conversation(worker) == session
    contents = requests(provider, "Gemini, what was that?")[-1]["body"]["contents"]
    assert "Gemini, use a tool" in json.dumps(contents[:-1]), "the first turn is part of the conversation"
    assert "Said by Gemini." in json.dumps([p["functionCall"] for c in contents for p in c["parts"]
                                            if "functionCall" in p])


def test_names_are_no_files(town, worker, bo, provider):
    worker.suite.user.write(worker.workspace / "notes.txt", "The word is heron.\n")
    root = bo.say("See @notes.txt and @notes, @/etc/hostname. [[reply: I see.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "I see."
    asked = requests(provider, "See \\\\@notes.txt")
    assert asked and "heron" not in json.dumps(asked[-1]["body"])


def test_the_sandbox_is_there(town, worker, bo, provider):
    look = "[[tool: run_shell_command %s]]" % json.dumps({
        "command": f"ls {worker.directory}; cat {worker.directory}/keys/*; env; echo own > mine.txt; touch /usr/x"})
    worker.edit(GEMINI + "  permission_mode: bypassPermissions\n")
    root = bo.say(f"Gemini, look around. {look} [[reply: Looked.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "Looked."
    parts = [p for c in requests(provider, "Gemini, look around")[-1]["body"]["contents"] for p in c["parts"]]
    seen = json.dumps([p["functionResponse"] for p in parts if "functionResponse" in p][-1])
    assert "workspace" in seen and "agent.yml" not in seen and "messages.db" not in seen
    assert "root_secret_key" not in seen and "sk-test" not in seen
    assert (worker.workspace / "mine.txt").read_text() == "own\n"
    assert not pathlib.Path("/usr/x").exists()


def session_pid(agent):
    return int(agent.suite.user.run(["systemctl", "--user", "show", "--value", "--property=MainPID",
                                     agent.agent.Unit]).stdout)


def test_killed_amid_the_turn(town, worker, bo, provider):
    """Nobody says again what the session that died has read: the turn is carried out once more, as a whole."""
    for n in range(3):
        root = bo.say(f"Gemini, at length {n} [[words: 12]] [[slow: 150ms]]", to=worker.slug)
        worker.suite.wait(lambda: provider.count(f"Gemini, at length {n}"), 60, "the model is asked")
        time.sleep(0.3 + 0.4 * n)       # somewhere between the first word and the last
        os.kill(session_pid(worker), signal.SIGKILL)
        assert once(bo, worker, root, seconds=120)["text"] == " ".join(f"word{i}" for i in range(1, 13))
        worker.agent.wait_state("ready")


def test_a_lost_conversation_is_begun_anew(town, worker, bo):
    session = conversation(worker)
    shutil.rmtree(worker.directory / ".gemini/tmp")
    root = bo.say("Still there? [[reply: Still here.]]", to=worker.slug)
    assert once(bo, worker, root, seconds=90)["text"] == "Still here."
    assert conversation(worker) != session


def test_a_key_that_is_refused(town, worker, bo):
    session = conversation(worker)
    root = bo.say("Are you in? [[status: 401]] [[times: 1]] [[reply: I am.]]", to=worker.slug)
    worker.suite.wait(lambda: worker.agent.Health == "auth_failed", 90, "the login is reported")
    assert conversation(worker) == session, "that is no reason to forget a conversation"
    town.suite.manager("SetProvider", "sa{sv}", "google", {"ApiKey": ("s", "sk-test-other")})
    assert once(bo, worker, root, seconds=90)["text"] == "I am."
    assert worker.agent.Health == "ok" and conversation(worker) == session
