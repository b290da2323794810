# SPDX-License-Identifier: MIT
"""The refresh of the operator's login, as a session asks for it."""

import json
import shutil
import time

import pytest

SESSION = "puffo-session@asker.service"
UNIT = "puffo-credentials@anthropic.service"

# In the place of a session: the main process of its unit. Asks as often as its command line says, and writes down what
# it was told.
ASKER = """
import json, os, socket, sys, time
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
time.sleep(55)
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
        user_mode.wait(answers.exists, 50, "answers",
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
        "accessToken": "old", "refreshToken": "r1", "expiresAt": int((time.time() + seconds) * 1000)}}))


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
