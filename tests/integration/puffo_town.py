# SPDX-License-Identifier: MIT
"""A Puffo server, people who use it, and agents of alice's that live there.

Nothing here sleeps: one waits for the server's log, for a person's stream, or for the suite's signals."""

import argparse
import json
import os
import pathlib
import sys
import time

from machine import SOURCE, Failed

sys.path.insert(0, str(SOURCE / "tests/peers"))

from puffo import envelope, keystore  # noqa: E402, F401
from puffo.client import Client, ClientError, Connection, sign_up  # noqa: E402
from puffo.human import Person  # noqa: E402
from puffo.process import Server  # noqa: E402

PATIENCE = 90


def deadline_of(seconds):
    return time.monotonic() + seconds


class Human:
    """Somebody with the client for people."""

    def __init__(self, server, directory, username, display_name=None):
        directory.mkdir(mode=0o700, parents=True)
        connection = Connection(server.url)
        self.slug = sign_up(connection, directory / "keys", username, display_name, "x").slug
        self.person = Person(argparse.Namespace(state=directory, server=server.url, ca=None, slug=self.slug))
        self.inbox = []

    @property
    def client(self):
        return self.person.client

    def say(self, text, files=(), **route):
        """to: a slug; or channel: (space id, channel id). thread: the id of its first message."""
        if "channel" in route:
            route["space_id"], route["channel_id"] = route.pop("channel")
        if "to" in route:
            route["recipient_slug"] = route.pop("to")
        route["thread_root_id"] = route.pop("thread", None)
        return self.client.send_message(text, list(files), **route)["envelope_id"]

    def send_sealed(self, payload, slugs, sent_by=None, **options):
        """A payload as it is, sealed for the devices of these people."""
        sealed = envelope.seal(payload, self.client.session().subkey_secret_key, self.client.recipients(slugs),
                               **options)
        return sealed

    def payload(self, content, **route):
        return envelope.new_payload(self.slug, self.client.session().subkey_id, content, **route)

    def look(self):
        self.inbox += self.person.catch_up()
        return self.inbox

    def wait(self, chosen, count=1, seconds=PATIENCE):
        """The first messages that are chosen, when there are that many."""
        end, found = deadline_of(seconds), []

        def woken():
            nonlocal found
            found = [m for m in self.look() if chosen(m)]
            return len(found) >= count

        while not woken():
            left = end - time.monotonic()
            if left <= 0:
                raise Failed(f"{self.slug} waits for {count} messages, has {found}; the last ones: {self.inbox[-4:]}")
            try:
                import asyncio
                asyncio.run(self.client.follow(left, woken))
            except ClientError:
                pass                    # the server has ended, and is begun again by the test
        return found[:count]

    def answers(self, root, slug=None):
        return [m for m in self.inbox if m.get("thread_root_id") == root and slug in (None, m["sender_slug"])]

    def answer(self, root, seconds=PATIENCE):
        """The first answer in the thread."""
        return self.wait(lambda m: m.get("thread_root_id") == root, 1, seconds)[0]


class Resident:
    """An agent of alice's with an identity on the server."""

    def __init__(self, town, username, settings="", profile="You help.\n"):
        self.town, self.suite, alice = town, town.suite, town.suite.user
        identity = town.operator.client.create_agent(username, town.directory / "agent-keys")
        self.slug, self.device_id = identity.slug, identity.device_id
        self.directory = alice.home / ".puffo-agent/agents" / self.slug
        key = (town.directory / "agent-keys" / f"{self.slug}.json").read_text()
        alice.write(self.directory / "keys" / f"{self.slug}.json", key)
        (self.directory / "keys").chmod(0o700)
        alice.write(self.directory / "profile.md", profile)
        self.file = alice.write(self.directory / "agent.yml", self.config(settings))
        self.suite.manager("Reload")
        self.suite.wait(lambda: self.slug in self.suite.agents(), PATIENCE, f"{self.slug} is listed",
                        lambda: self.suite.manager("ListProblems"))
        self.agent = self.suite.agent(self.slug)
        self.agent.wait_state("ready")
        town.wait_log("stream_connected", lambda line: line["slug"] == self.slug)

    def config(self, settings=""):
        return (f"id: {self.slug}\nstate: running\ndisplay_name: {self.slug.partition('-')[0].capitalize()}\n"
                f"puffo_core:\n  server_url: {self.town.server.url}\n  slug: {self.slug}\n"
                f"  device_id: {self.device_id}\n  space_id: '{self.town.space}'\n"
                f"  operator_slug: {self.town.operator.slug}\n"
                f"{settings or 'runtime:' + chr(10) + '  kind: chat-local' + chr(10)}")

    @property
    def workspace(self):
        return self.directory / "workspace"

    def client(self):
        """The agent's account in the hands of the test: another session of the same device."""
        return Client(Connection(self.town.server.url), self.town.directory / "agent-keys", self.slug)

    def join(self, channel):
        """A member of the space and channel, without the agent having a part in it."""
        space_id, channel_id = channel
        operator, client = self.town.operator.client, self.client()
        if self.slug not in [m["slug"] for m in operator.members(space_id, channel_id)]:
            invited = operator.invite(self.slug, space_id, None)
            client.answer_invite(next(i for i in client.invites() if i["invitation_event_id"] == invited), "accept")
        if self.slug not in [m["slug"] for m in operator.members(space_id, channel_id)]:
            invited = operator.invite(self.slug, space_id, channel_id)
            client.answer_invite(next(i for i in client.invites() if i["invitation_event_id"] == invited), "accept")

    def rows(self, sql, *more):
        """From the agent's database, as its owner reads it."""
        out = self.suite.user.run(["sqlite3", "-readonly", "-json", "-cmd", ".timeout 5000",
                                   self.directory / "messages.db", sql, *more]).stdout
        return json.loads(out or "[]")

    def unsettled(self):
        """What is still to be done."""
        return self.rows("SELECT 'message' AS what, envelope_id AS id, state FROM dispatch_state"
                         " WHERE state IN ('queued', 'running')"
                         " UNION ALL SELECT 'turn', id, status FROM session_turns WHERE status IN"
                         " ('queued', 'in_progress')"
                         " UNION ALL SELECT 'outgoing', id, state FROM outbox WHERE state IN ('queued', 'sealed')")

    def wait_received(self, *ids):
        """Until these messages wait for their turn or have had it."""
        wanted = ", ".join(f"'{id}'" for id in ids)
        self.suite.wait(lambda: len(self.rows(f"SELECT 1 FROM dispatch_state WHERE envelope_id IN ({wanted})")) ==
                        len(ids), PATIENCE, f"{self.slug} has received {ids}", self.unsettled)

    def wait_settled(self, seconds=PATIENCE):
        self.suite.wait(lambda: not self.unsettled(), seconds, f"{self.slug} has done everything", self.unsettled)

    def edit(self, settings=""):
        self.suite.user.run(["tee", self.file], input=self.config(settings))
        self.suite.manager("Reload")

    def crash_at(self, point, passes=0):
        self.suite.user.write(self.directory / "crash-at", f"{point} {passes}\n")

    def remove(self):
        self.agent.call("Delete")


class Town:
    def __init__(self, suite, directory, *options):
        self.suite, self.directory = suite, pathlib.Path(directory)
        os.chmod(self.directory, 0o700)
        (self.directory / "server").mkdir(mode=0o700)
        self.server = Server(self.directory / "server", *options)
        self.operator = Human(self.server, self.directory / "operator", "operator", "Olga Operator")
        made = self.operator.client.create_space("Lab")
        self.space, self.lobby = made["space_id"], (made["space_id"], made["default_channel_id"])
        self.last = 0

    def close(self):
        self.server.kill()

    def human(self, username, display_name=None, joins=True):
        human = Human(self.server, self.directory / username, username, display_name)
        if joins:
            invited = self.operator.client.invite(human.slug, self.space, None)
            human.client.answer_invite(next(i for i in human.client.invites()
                                            if i["invitation_event_id"] == invited), "accept")
        return human

    def wait_log(self, kind, chosen, after=0, seconds=PATIENCE):
        """The first line of the server's log of that kind that is chosen."""
        end = deadline_of(seconds)
        while True:
            wait = max(0, min(5, end - time.monotonic()))
            for line in self.server.control(f"log?after={after}&kind={kind}&wait={wait}")["lines"]:
                after = line["n"]
                if chosen(line):
                    return line
            if time.monotonic() >= end:
                tail = self.server.control("log")["lines"][-6:]
                raise Failed(f"no {kind} as wanted within {seconds} s; last lines: {tail}")

    def now(self):
        """Where the server's log is."""
        return self.server.control("log?kind=none")["last"]

    def wait_request(self, method, path, slug=None, after=0, seconds=PATIENCE):
        return self.wait_log("request", lambda line: line["method"] == method and line["path"] == path and
                             slug in (None, line["slug"]), after, seconds)


def quick_restarts(user, seconds=0.1):
    """Sessions that crash come back at once: the tests would wait 10 s for each."""
    user.write(".agent_proxy/.state/config.yaml", f"restart_sec: {seconds}\n")


def shown(provider, text):
    """What the model was shown of a message: its lines in front of the text."""
    asked = [e["text"] for e in provider.log() if text in (e["text"] or "")]
    assert asked, f"the model was not asked about {text!r}"
    return asked[-1]


def once(human, resident, root, seconds=PATIENCE):
    """The one answer in a thread, encrypted; whatever else the agent had to do is done."""
    answer = human.answer(root, seconds)
    resident.wait_settled()
    human.look()
    assert len(human.answers(root, resident.slug)) == 1, human.answers(root)
    assert answer["encrypted"] and answer["sender_slug"] == resident.slug and "error" not in answer
    return answer
