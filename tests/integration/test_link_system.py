# SPDX-License-Identifier: MIT
"""puffo-link in system mode: sessions of several users, and one network."""

import json
import os
import pathlib
import re
import subprocess

import pytest

from link_process import OF_THE_NETWORK, SERVICE, inet_sockets, kill_link, loaded
from machine import User
from puffo_town import Resident, Town, once


class SystemResident(Resident):
    """An agent of the system's suite with an identity on the server."""

    def __init__(self, town, username):
        self.town, self.suite = town, town.suite
        identity = town.operator.client.create_agent(username, town.directory / "agent-keys")
        self.slug, self.device_id = identity.slug, identity.device_id
        self.directory = pathlib.Path("/var/lib/private/puffo") / self.slug
        self.suite.manager("CreateAgent", "sa{sv}", self.slug, {"RuntimeKind": ("s", "chat-local")})
        self.agent = self.suite.agent(self.slug)
        self.agent.wait_state("ready")
        self.agent.call("Stop")
        self.agent.wait_state("stopped")
        owner = (self.directory / "agent.yml").stat()
        key = (town.directory / "agent-keys" / f"{self.slug}.json").read_text()
        for path, text in [(f"keys/{self.slug}.json", key), ("profile.md", "You help.\n"), ("agent.yml", self.config())]:
            path = self.directory / path
            if not path.parent.is_dir():
                path.parent.mkdir(mode=0o700)
                os.chown(path.parent, owner.st_uid, owner.st_gid)
            path.write_text(text)
            path.chmod(0o600)
            os.chown(path, owner.st_uid, owner.st_gid)
        self.suite.manager("Reload", user=User("root"))
        self.agent.call("Start")
        town.wait_log("stream_connected", lambda line: line["slug"] == self.slug)

    def rows(self, sql, *more):
        out = subprocess.run(["sqlite3", "-readonly", "-json", "-cmd", ".timeout 5000", self.directory / "messages.db",
                              sql, *more], check=True, capture_output=True, text=True).stdout
        return json.loads(out or "[]")


@pytest.fixture(scope="module")
def town(system_mode, tmp_path_factory):
    made = Town(system_mode, tmp_path_factory.mktemp("town"))
    yield made
    made.close()


def test_conversation(system_mode, town, provider):
    residents = [SystemResident(town, name) for name in ("clerk", "porter")]
    operator = town.operator
    for helper in residents:
        assert once(operator, helper, operator.say("hi [[reply: hello]]", to=helper.slug))["text"] == "hello"

    link = system_mode.main_pid(SERVICE)
    uids = {int(re.search(r"^Uid:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])
            for pid in [link, *(r.agent.MainPID for r in residents)]}
    # Each its own, and nobody root.
    assert len(uids) == 3 and 0 not in uids and system_mode.user.uid not in uids
    assert inet_sockets(link) != []
    for helper in residents:
        assert inet_sockets(helper.agent.MainPID) == []
        assert not [name for name in loaded(helper.agent.MainPID) if OF_THE_NETWORK.match(name)]

    helper, session = residents[0], residents[0].agent.MainPID
    root = operator.say("the system's network dies [[words: 20]] [[hold: system-link]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    kill_link(system_mode)
    provider.release("system-link")
    assert once(operator, helper, root)["text"].endswith("word20")
    assert helper.agent.MainPID == session
    assert provider.outcomes("the system's network dies") == ["complete"]


def test_only_sessions_reach_the_socket(system_mode, alice):
    out = alice.run(["python3", "-c", "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])",
                     "/run/puffo/sessions/link"], check=False)
    assert out.returncode != 0 and "PermissionError" in out.stderr
