# SPDX-License-Identifier: MIT
"""The operator's login: views of it in agents' homes, and its refresh as a session asks for it."""

import json
import pathlib
import re
import shutil
import time

import pytest

from machine import output_text

SESSION = "puffo-session@asker.service"
UNIT = "puffo-credentials@anthropic.service"

# In the place of a session: the main process of its unit. Asks as often as its command line says, and writes down what
# it was told.
ASKER = """
import json, os, signal, socket, sys
from gi.repository import Gio, GLib

with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
    address = os.environ["NOTIFY_SOCKET"]
    s.sendto(b"READY=1", "\\0" + address[1:] if address[0] == "@" else address)
bus = Gio.DBusConnection.new_for_address_sync(f"unix:path={os.environ['XDG_RUNTIME_DIR']}/puffo/private",
                                              Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT, None, None)

def call(method, *args):
    return bus.call_sync(None, "/ai/puffo/Private1", "ai.puffo.Private1.Manager", method,
                         GLib.Variant("(" + "s" * len(args) + ")", args), None, 0, 170000, None).unpack()[0]

call("Register")
answers = []
for provider in sys.argv[1].split(","):
    try:
        answers.append(call("RefreshCredentials", provider))
    except GLib.Error as e:
        answers.append(Gio.DBusError.get_remote_error(e))
out = os.path.expanduser("~/.puffo-agent/agents/asker/workspace/answers")
with open(out + ".tmp", "w") as f:
    json.dump(answers, f)
os.rename(out + ".tmp", out)
signal.pause()
"""

CLI = """#!/bin/sh
echo "$@" >> ~/claude-runs
touch /tmp/private || exit 9
touch /usr/nobody 2>/dev/null && exit 9
[ -z "$ANTHROPIC_API_KEY" ] || exit 9
%s
"""
RENEW = """
printf '{"claudeAiOauth":{"accessToken":"new","refreshToken":"r2","expiresAt":4102444800000}}' \\
        > ~/.claude/.credentials.json
"""


@pytest.fixture
def asker(user_mode, alice):
    """Makes an agent whose session is ASKER and asks for the refreshes of these providers; once a test."""
    drop_in = alice.home / ".config/systemd/user" / f"{SESSION}.d"
    answers = alice.home / ".puffo-agent/agents/asker/workspace/answers"

    def ask(*providers):
        alice.write("asker.py", ASKER)
        command = f"/usr/bin/python3 {alice.home}/asker.py {','.join(providers)}"
        alice.write(drop_in / "asker.conf",
                    f"[Service]\nExecStart=\nExecStart={command}\nMemoryDenyWriteExecute=no\n")
        user_mode.systemctl("daemon-reload")
        user_mode.manager("CreateAgent", "sa{sv}", "asker", {"RuntimeKind": ("s", "chat-local"),
                                                             "Provider": ("s", "echo")}, user=alice)
        user_mode.wait(answers.exists, 120, "answers",
                       lambda: user_mode.systemctl("status", "--no-pager", SESSION, UNIT, check=False).stdout)
        return json.loads(answers.read_text())

    yield ask
    shutil.rmtree(drop_in)
    user_mode.systemctl("daemon-reload")
    user_mode.agent("asker").call("Delete", user=alice)
    for name in ["asker.py", "claude-runs", ".local/bin/claude", ".claude/.credentials.json"]:
        (alice.home / name).unlink(missing_ok=True)


@pytest.fixture
def fresh_daemon(user_mode):
    """A puffod that remembers no answer."""
    user_mode.systemctl("restart", "puffod.service")


def put_login(alice, seconds):
    alice.write(".claude/.credentials.json", json.dumps({"claudeAiOauth": {
        "accessToken": "old", "refreshToken": "secret", "expiresAt": int((time.time() + seconds) * 1000)}}))


def runs(alice):
    file = alice.home / "claude-runs"
    return file.read_text().splitlines() if file.exists() else []


def test_refresh(user_mode, alice, fresh_daemon, asker):
    put_login(alice, 60)
    alice.write(".local/bin/claude", CLI % RENEW, 0o755)
    assert asker("anthropic", "anthropic", "openai") == ["ok", "ok", "ai.puffo.Agents1.Error.InvalidArgument"]
    assert runs(alice) == ["-p --max-turns 1 --output-format stream-json --verbose ok"]
    assert json.loads((alice.home / ".claude/.credentials.json").read_text())["claudeAiOauth"]["accessToken"] == "new"
    # Nothing stays behind, and there is a line in the journal for who wonders.
    assert user_mode.show(UNIT, "LoadState") == "not-found"
    lines = [e["MESSAGE"] for e in user_mode.journal(f"_SYSTEMD_USER_UNIT={UNIT}")]
    assert any("has been refreshed" in line for line in lines), lines


def test_login_that_does_not_hold(user_mode, alice, fresh_daemon, asker):
    put_login(alice, -60)
    alice.write(".local/bin/claude", CLI % "echo 'API Error: 401'; exit 1", 0o755)
    assert asker("anthropic") == ["auth-failed"]
    assert len(runs(alice)) == 1
    assert user_mode.show(UNIT, "LoadState") == "not-found"


def test_nothing_is_due(user_mode, alice, fresh_daemon, asker):
    put_login(alice, 3600)
    alice.write(".local/bin/claude", CLI % RENEW, 0o755)
    assert asker("anthropic") == ["not-needed"]
    assert runs(alice) == []


# In the place of Claude Code, for both: with --max-turns it is the operator's own and renews his login. Else it is an
# agent's and says what it finds in its home.
WORKER = r"""#!/usr/bin/python3 -B
import json, os, sys, time, uuid

path = os.path.expanduser("~/.claude/.credentials.json")
if "--max-turns" in sys.argv and "--input-format" not in sys.argv:
    with open(path) as f:
        old = json.load(f)["claudeAiOauth"]
    new = {"accessToken": old["accessToken"] + "+", "refreshToken": "secret-2",
           "expiresAt": (time.time() + 7200) * 1000}
    with open(path + ".new", "w") as f:
        json.dump({"claudeAiOauth": new}, f)
    os.rename(path + ".new", path)
    sys.exit()

session = str(uuid.uuid4())

def say(o):
    print(json.dumps({"session_id": session, "uuid": str(uuid.uuid4()), **o}), flush=True)

def refused(act):
    try:
        act()
    except OSError as e:
        return type(e).__name__
    return "no"

for line in sys.stdin:
    if json.loads(line)["type"] != "user":
        continue
    with open(path) as f:
        found = f.read()
    text = json.dumps({
        "login": json.loads(found)["claudeAiOauth"], "pid": os.getpid(), "secret": "secret" in found,
        "home": sorted(os.listdir(os.path.expanduser("~"))),
        "write": refused(lambda: open(path, "a")), "remove": refused(lambda: os.unlink(path)),
        "settings": refused(lambda: open(os.path.expanduser("~/.claude/settings.json"), "a")),
        "skill": os.path.exists(os.path.expanduser("~/.claude/skills/cook/SKILL.md")),
        "skills": refused(lambda: os.mkdir(os.path.expanduser("~/.claude/skills/own"))),
        "project": refused(lambda: open(".claude/settings.json", "a")), "mcp": refused(lambda: open(".mcp.json", "a")),
        "operator": refused(lambda: open("/home/alice/.claude/.credentials.json")),
        "own": refused(lambda: open("own", "w")),
        "state": refused(lambda: open(os.path.expanduser("~/.claude/x"), "w")),
        "authority": [refused(lambda: open(os.environ.get("NODE_EXTRA_CA_CERTS", "/none"))),
                      refused(lambda: open(os.environ.get("NODE_EXTRA_CA_CERTS", "/none"), "r+"))],
        "argv": sys.argv[1:]})
    say({"type": "system", "subtype": "init", "mcp_servers": [{"name": "puffo", "status": "connected"}]})
    say({"type": "assistant", "message": {"id": "msg_" + uuid.uuid4().hex, "role": "assistant", "model": "m",
                                          "content": [{"type": "text", "text": text}]}})
    say({"type": "result", "subtype": "success", "is_error": False, "num_turns": 1, "duration_ms": 1, "result": text,
         "usage": {"input_tokens": 1, "output_tokens": 1}, "total_cost_usd": 0})
"""


@pytest.fixture
def worker(user_mode, alice):
    """An agent that works with alice's own Claude Code, and with her login."""
    program = pathlib.Path("/usr/local/bin/claude")
    program.unlink(missing_ok=True)
    program.write_text(WORKER)
    program.chmod(0o755)
    alice.write(".claude/skills/cook/SKILL.md", "---\nname: cook\n---\n")
    user_mode.manager("CreateAgent", "sa{sv}", "worker", {"RuntimeKind": ("s", "cli-local"),
                                                          "Harness": ("s", "claude-code")}, user=alice)
    agent = user_mode.agent("worker")
    agent.wait_state("ready")
    yield agent
    agent.call("Delete", user=alice)
    program.unlink()
    shutil.rmtree(alice.home / ".claude")


def ask_worker(user_mode):
    return json.loads(output_text(user_mode.turn("worker", "What do you see?")))


def ping(alice, *args):
    return alice.run(["puffoctl", "agent", "refresh-ping", *args], check=False)


def test_refresh_ping(user_mode, alice, fresh_daemon, worker):
    """The same by hand, with what there is of the login before and after, and never a token."""
    put_login(alice, -60)
    done = ping(alice, "worker")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("agent 'worker': kind cli-local, model ") and "workspace /home/alice/" in lines[0]
    mine, view = f"operator's {alice.home}/.claude/.credentials.json: ", "agent's "
    assert lines[1].startswith(mine + "mtime=") and "accessToken=yes refreshToken=yes scopes=[]" in lines[1]
    assert re.search(r"expiresAt=\S+ \S+ \(-\d+s from now\)", lines[1])
    assert lines[2].startswith(view)
    assert lines[3].startswith("result: ok (after ")
    assert lines[4].startswith(mine) and re.search(r"\(\+7\d\d\ds from now\)", lines[4])
    assert "secret" not in done.stdout and "old" not in done.stdout
    # What a session sees of it next has no refresh token.
    ask_worker(user_mode)
    again = json.loads(alice.run(["puffoctl", "--json", "agent", "refresh-ping", "worker"]).stdout)
    assert again["after"]["agent"]["access_token"] and not again["after"]["agent"]["refresh_token"]
    assert again["after"]["agent"]["expires_at"] == again["after"]["operator"]["expires_at"]


def test_refresh_ping_of_one_with_a_key(user_mode, alice, fresh_daemon, worker):
    put_login(alice, 3600)
    worker.call("SetRuntime", "a{sv}", {"ApiKey": ("s", "sk-test-worker")}, user=alice)
    for _ in range(2):
        done = ping(alice, "worker")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert "accessToken=yes" in lines[1], lines
        assert lines[2].endswith(".credentials.json: no login: the agent's CLI works with a key"), lines
        # Its view goes with its first turn.
        user_mode.turn("worker", "What do you see?")


def test_refresh_ping_of_others(user_mode, alice):
    user_mode.manager("CreateAgent", "sa{sv}", "talker", {"RuntimeKind": ("s", "chat-local"),
                                                          "Provider": ("s", "echo")}, user=alice)
    done = ping(alice, "talker")
    assert done.returncode == 2 and "only kind cli-local" in done.stderr and done.stdout == ""
    assert ping(alice, "nobody").returncode == 2 and ping(alice).returncode == 2
    user_mode.agent("talker").call("Delete", user=alice)


HERMES = """#!/usr/bin/python3 -I
import json, os
path = os.path.expanduser("~/.claude/.credentials.json")

def refused(act):
    try:
        act()
    except OSError as e:
        return type(e).__name__
    return "no"

with open(path) as f:
    found = f.read()
print(json.dumps({"login": json.loads(found)["claudeAiOauth"], "secret": "secret" in found,
                  "write": refused(lambda: open(path, "r+")), "remove": refused(lambda: os.unlink(path)),
                  "operator": refused(lambda: open("/home/alice/.claude/.credentials.json")),
                  "own": refused(lambda: open(os.path.expanduser("~/.hermes/x"), "w")),
                  "key": os.environ.get("ANTHROPIC_API_KEY")}))
print("session_id: h1")
"""


def test_hermes_works_with_a_view(user_mode, alice, fresh_daemon):
    """It looks for Claude's login where Claude Code has it, and is not the one who renews it."""
    program = pathlib.Path("/usr/local/bin/hermes")
    program.write_text(HERMES)
    program.chmod(0o755)
    alice.write(".local/bin/claude", CLI % RENEW, 0o755)
    put_login(alice, -60)
    user_mode.manager("CreateAgent", "sa{sv}", "messenger", {"RuntimeKind": ("s", "cli-local"),
                                                             "Harness": ("s", "hermes")}, user=alice)
    user_mode.agent("messenger").wait_state("ready")
    try:
        seen = json.loads(output_text(user_mode.turn("messenger", "What do you see?")))
        assert seen["login"]["accessToken"] == "new" and not seen["login"].get("refreshToken"), seen
        assert seen["login"]["expiresAt"] > time.time() * 1000 and not seen["secret"] and seen["key"] is None
        assert "no" not in (seen["write"], seen["remove"], seen["operator"]) and seen["own"] == "no", seen
        assert "accessToken=yes refreshToken=no" in ping(alice, "messenger").stdout
        # One that has a key has no login.
        user_mode.agent("messenger").call("SetRuntime", "a{sv}", {"ApiKey": ("s", "sk-test-messenger")}, user=alice)
        user_mode.turn("messenger", "And now?")
        assert json.loads((alice.home / ".puffo-agent/agents/messenger/.claude/.credentials.json").read_text()) == {}
    finally:
        user_mode.agent("messenger").call("Delete", user=alice)
        program.unlink()
        shutil.rmtree(alice.home / ".claude")
        (alice.home / ".local/bin/claude").unlink()


def test_certificates_of_the_user(user_mode, alice, fresh_daemon, worker):
    """A file of certificates in the user's home, which the sandbox does not show, is there; one that is not for anybody
    is no reason to do nothing."""
    alice.write("own/authority.pem", "x")
    put_login(alice, 3600)
    for path, seen in [("own/authority.pem", True), (".puffo-agent/daemon.yml", False)]:
        alice.run(["systemctl", "--user", "set-environment", f"NODE_EXTRA_CA_CERTS={alice.home / path}"])
        try:
            worker.call("Restart", user=alice)
            worker.wait_state("ready")
            read, written = ask_worker(user_mode)["authority"]
        finally:
            alice.run(["systemctl", "--user", "unset-environment", "NODE_EXTRA_CA_CERTS"])
        assert (read == "no") == seen and written != "no", (path, read, written)
    worker.call("Restart", user=alice)
    worker.wait_state("ready")


def test_a_cli_works_with_a_view(user_mode, alice, fresh_daemon, worker):
    put_login(alice, -60)
    seen = ask_worker(user_mode)
    # It had expired, and the turn has waited for the refresh.
    assert seen["login"]["accessToken"] == "old+" and seen["login"]["expiresAt"] > (time.time() + 7000) * 1000
    assert not seen["secret"], "the refresh token is the operator's"
    assert set(seen["home"]) <= {".claude", ".claude.json", "mcp-config.json", "memory", "workspace"}, seen["home"]
    assert seen["skill"]
    # The model can change neither its login nor what it is told; its own state it can.
    protected = {name: seen[name] for name in ["write", "remove", "settings", "skills", "project", "mcp"]}
    assert "no" not in protected.values(), protected
    assert seen["operator"] != "no"
    assert (seen["own"], seen["state"]) == ("no", "no")
    view = alice.home / ".puffo-agent/agents/worker/.claude/.credentials.json"
    assert oct(view.stat().st_mode & 0o777) == "0o600" and not view.is_symlink()

    # She logs in anew: the very process that runs sees it, still read-only.
    put_login(alice, 3600)
    again = ask_worker(user_mode)
    assert (again["pid"], again["login"]["accessToken"]) == (seen["pid"], "old")
    assert not again["secret"] and "no" not in [again[name] for name in ["write", "remove", "settings"]]

    # What she takes away goes here, too.
    shutil.rmtree(alice.home / ".claude/skills/cook")
    assert not ask_worker(user_mode)["skill"]
