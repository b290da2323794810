# SPDX-License-Identifier: MIT
"""The wire room's client (wire-client, driven over its standard input) against the Puffo server of this folder, with
everything going wrong that can. $WIRE_CLIENT names the program; $SANITIZED says that it was built with sanitizers."""

import json
import os
import pathlib
import queue
import select
import socket
import subprocess
import threading
import time

import pytest

from puffo import certs
from puffo.crypto import ed25519_public, parse_json
from puffo.process import Server


PATIENCE = 20
# Sanitizers keep what was freed for a while.
MEMORY_FACTOR = 20 if os.environ.get("SANITIZED") else 1


class Client:
    def __init__(self, keys, slug, url, *more, env=None):
        self.keys, self.slug = keys, slug
        self.process = subprocess.Popen([os.environ["WIRE_CLIENT"], keys, slug, url, *more], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=open(keys / "stderr", "a"), text=True,
                                        env={**os.environ, **(env or {})})
        self.lines, self.seen = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def expect(self, timeout=PATIENCE, **members):
        """The next line that has these members with these values (... for any)."""
        end = time.monotonic() + timeout
        while True:
            try:
                line = self.lines.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                pytest.fail(f"nothing like {members}; last lines: {self.seen[-8:]}")
            assert line is not None, f"the client has ended; last lines: {self.seen[-8:]}"
            self.seen.append(line)
            if all(k in line and (v is ... or line[k] == v) for k, v in members.items()):
                return line

    def ask(self, command, timeout=PATIENCE):
        self.say(command)
        return self.expect(timeout, reply=...)

    def stop(self):
        self.say("stop")
        self.expect(state="stopped")
        assert self.process.wait(PATIENCE) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def ledger(self):
        path = self.keys / "ledger"
        return path.read_text().split() if path.exists() else []

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def peak_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1])

    def errors(self):
        return (self.keys / "stderr").read_text()


def requests_of(server, slug, path):
    return [line for line in server.log("request") if line["slug"] == slug and line["path"] == path]


def eventually(predicate, timeout=PATIENCE):
    end = time.monotonic() + timeout
    while not (result := predicate()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
    return result


@pytest.fixture
def cleanup():
    things = []
    yield things
    for thing in things:
        if thing.process.poll() is None and isinstance(thing, Client):
            # At the end of its input it ends by itself, having freed everything.
            thing.process.stdin.close()
            assert thing.process.wait(PATIENCE) == 0, thing.errors()
        elif thing.process.poll() is None:
            thing.kill()


@pytest.fixture
def server(tmp_path, cleanup):
    server = Server(tmp_path / "server")
    cleanup.append(server)
    return server


@pytest.fixture
def keys(tmp_path):
    return tmp_path / "keys"


@pytest.fixture
def slug(server, keys):
    return server.register(keys, "bot")


@pytest.fixture
def client(server, keys, slug, cleanup):
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    return client


def assert_committed_before_acked(server, client):
    ledger = set(client.ledger())
    assert set(server.counters()["acks"]) <= ledger


# --- the stream ---

def test_what_was_missed_is_fetched_and_acknowledged_over_http(server, keys, slug, cleanup):
    ids = server.bulk(slug, 60, push=False)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=60)
    assert client.ledger() == ids
    assert [line["opened"] for line in client.seen if "envelope" in line] == ["ok"] * 60
    acks = server.log("ack")
    assert [len(a["ids"]) for a in acks] == [25, 25, 10]
    assert {a["via"] for a in acks} == {"http"}
    assert server.counters()["acks"] == ids
    assert server.queued(slug) == []


def test_live_messages_are_acknowledged_by_the_stream(server, client, slug):
    ids = server.bulk(slug, 30)
    for i in ids:
        client.expect(envelope=i, verdict="taken")
    eventually(lambda: not server.queued(slug))
    assert {a["via"] for a in server.log("ack")} == {"frame"}
    assert client.ledger() == ids


def test_nothing_is_acknowledged_before_it_is_stored(server, client, slug):
    client.say("hold")
    ids = server.bulk(slug, 2)
    client.expect(envelope=ids[0], verdict="held")
    time.sleep(0.5)
    assert server.queued(slug) == ids
    assert server.counters()["acks"] == []
    client.say("release")
    client.expect(envelope=ids[1], verdict="taken")
    eventually(lambda: not server.queued(slug))


def test_what_is_put_off_comes_again(server, client, slug):
    client.say("later 2")
    ids = server.bulk(slug, 3)
    for i, verdict in zip(ids, ("later", "later", "taken")):
        client.expect(envelope=i, verdict=verdict)
    eventually(lambda: server.queued(slug) == ids[:2])
    # Others come by meanwhile, and it is not asked for in a loop.
    more = server.bulk(slug, 1)
    client.expect(envelope=more[0], verdict="taken")
    for i in ids[:2]:
        client.expect(envelope=i, verdict="taken")
    eventually(lambda: not server.queued(slug))
    assert sorted(client.ledger()) == sorted(ids + more)


def test_put_off_in_catch_up_is_fetched_again_later(server, keys, slug, cleanup):
    ids = server.bulk(slug, 30, push=False)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.say("later 2")
    eventually(lambda: not server.queued(slug))
    assert sorted(client.ledger()) == sorted(ids)


def test_ten_thousand_pending(server, keys, slug, cleanup):
    ids = server.bulk(slug, 10000, push=False)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(timeout=120, caught_up=10000)
    assert client.ledger() == ids
    assert server.queued(slug) == []
    assert_committed_before_acked(server, client)
    # The list alone is some 12 MB of text.
    assert client.peak_kib() < 24 * 1024 * MEMORY_FACTOR


def test_killed_in_the_middle_of_catching_up(server, keys, slug, cleanup):
    ids = server.bulk(slug, 2000, push=False)
    for _ in range(4):
        client = Client(keys, slug, server.url)
        cleanup.append(client)
        before = len(client.ledger())
        eventually(lambda: len(client.ledger()) > before + 100)
        client.kill()
        assert_committed_before_acked(server, client)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(timeout=60, caught_up=...)
    assert set(client.ledger()) == set(ids)
    assert server.queued(slug) == []


def test_server_restart(server, client, slug):
    for _ in range(2):
        server.kill()
        client.expect(state="waiting")
        server.start()
        client.expect(state="connected")
        ids = server.bulk(slug, 2)
        for i in ids:
            client.expect(envelope=i, verdict="taken")


def test_nothing_to_do_while_the_server_is_away(server, client):
    server.kill()
    client.expect(state="waiting")
    before = client.cpu_seconds()
    time.sleep(4)
    assert client.cpu_seconds() - before <= 0.05


@pytest.mark.parametrize("do", ["cut", "abort", "close"])
def test_connection_that_ends(server, client, slug, do):
    server.control("streams", {"do": do})
    client.expect(state="waiting")
    ids = server.bulk(slug, 2)
    client.expect(state="connected")
    for i in ids:
        client.expect(envelope=i, verdict="taken")
    eventually(lambda: not server.queued(slug))


def test_cut_in_the_middle_of_a_message(server, client, slug):
    server.fault("frame_cut", route="FRAME message", times=1)
    ids = server.bulk(slug, 1)
    client.expect(state="waiting")
    client.expect(envelope=ids[0], verdict="taken")
    assert client.ledger() == ids


def test_half_open_connection(server, client, slug):
    server.control("streams", {"do": "half_open"})
    line = client.expect(state="waiting")
    assert "ping" in line["reason"]
    client.expect(state="connected")


@pytest.mark.parametrize("fault", ["close_after", "close_before"])
def test_clean_close_in_a_loop_is_no_hot_loop(server, client, fault):
    server.fault(fault, code=1000, seconds=0)
    server.control("streams", {"do": "close", "code": 1000})
    client.expect(state="waiting")
    before = server.counters()["counts"]["stream_opened"]
    time.sleep(4)
    assert 1 <= server.counters()["counts"]["stream_opened"] - before <= 4
    server.clear()
    client.expect(state="connected")
    client.expect(caught_up=...)


@pytest.mark.parametrize("fault", ["wrong_answer", "no_answer"])
def test_handshake_that_fails(server, client, fault):
    server.fault(fault, times=1)
    server.control("streams", {"do": "abort"})
    client.expect(state="waiting")
    assert "handshake" in client.expect(state="waiting")["reason"]
    client.expect(state="connected")


def test_upgrade_that_is_refused(server, client):
    server.fault("status", route="WS /subscribe", status=503, times=1)
    server.control("streams", {"do": "abort"})
    client.expect(state="waiting")
    assert "503" in client.expect(state="waiting")["reason"]
    client.expect(state="connected")


def test_garbage_does_not_cost_the_connection(server, client, slug):
    server.fault("frame_garbage", route="FRAME message", text="{nonsense", times=1)
    ids = server.bulk(slug, 1)
    client.expect(envelope=ids[0], verdict="taken")
    assert server.counters()["counts"]["stream_opened"] == 1


def test_message_that_is_too_large_for_a_frame_is_fetched(server, client, slug):
    server.fault("frame_big", route="FRAME message", bytes=32 << 20, times=1)
    ids = server.bulk(slug, 1)
    client.expect(state="waiting")
    client.expect(envelope=ids[0], verdict="taken")
    assert client.peak_kib() < 32 * 1024 * MEMORY_FACTOR


def test_seen_twice_and_out_of_order(server, client, slug):
    server.fault("frame_twice", route="FRAME message", times=1)
    server.fault("frame_swap", route="FRAME message", times=1)
    ids = server.bulk(slug, 4)
    eventually(lambda: not server.queued(slug))
    assert set(client.ledger()) == set(ids)


def test_unreadable_items_do_not_stop_the_others(server, keys, slug, cleanup):
    first = server.bulk(slug, 1, push=False)
    for envelope in ({"envelope_id": "msg_bad", "recipients": [{}] * 5000}, {"nothing": 1}, {"envelope_id": 7}):
        server.control("queue", {"slug": slug, "envelope": envelope, "push": False})
    last = server.bulk(slug, 1, push=False)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(envelope=last[0], verdict="taken")
    eventually(lambda: "msg_bad" in server.counters()["acks"])
    assert first[0] in client.ledger()
    assert "too many recipients" in client.errors()


def test_items_that_are_no_json_do_not_stop_the_others(server, keys, slug, cleanup):
    ids = server.bulk(slug, 1, push=False)
    body = '{"messages":[nul,"\\ud800",{"envelope":{"envelope_id":"msg_\\udc00"}},01]}'
    server.fault("body", route="GET /messages/pending", body=body, times=1)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(envelope=ids[0], verdict="taken")
    client.expect(caught_up=1)


@pytest.mark.parametrize("envelope", [{"envelope_id": "msg_big", "pad": "x" * (17 << 20)},
                                      {"pad": "x" * (17 << 20), "envelope_id": "msg_big"}], ids=["front", "back"])
def test_pending_message_that_is_too_large_is_dropped_by_its_id(server, keys, slug, cleanup, envelope):
    server.control("queue", {"slug": slug, "envelope": envelope, "push": False})
    last = server.bulk(slug, 1, push=False)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(envelope=last[0], verdict="taken")
    client.expect(caught_up=1)
    assert "Dropped envelope 'msg_big'" in client.errors()
    assert "larger than 16 MiB" in client.errors()
    assert server.queued(slug) == []
    assert server.counters()["requests"]["GET /messages/pending"] == 2


def test_pending_message_that_is_too_large_and_nobody_stays_with_the_server(server, keys, slug, cleanup):
    body = json.dumps({"messages": [{"seq": 1, "envelope": {"pad": "x" * (17 << 20)}}]})
    server.fault("body", route="GET /messages/pending", body=body)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    assert "has no id and is left out" in client.errors()
    time.sleep(3)
    assert server.counters()["requests"]["GET /messages/pending"] == 1


def test_fetching_what_was_missed_has_an_end(server, keys, slug, cleanup):
    ids = server.bulk(slug, 40, push=False)
    server.fault("trickle", route="GET /messages/pending", bytes=4000, seconds=0.25, times=1)
    client = Client(keys, slug, server.url, env={"FETCH_SECONDS": "2"})
    cleanup.append(client)
    client.expect(caught_up=...)
    assert "Cannot fetch missed messages" in client.errors()
    assert client.ledger() == ids
    assert server.queued(slug) == []
    # What had come until then was kept.
    fetched = [len(line["ids"]) for line in server.log("ack")]
    assert sum(fetched) == 40
    assert server.counters()["requests"]["GET /messages/pending"] == 3


def test_pings_are_answered_while_a_message_takes_long(tmp_path, cleanup, keys):
    server = Server(tmp_path / "server", "--set", "ping_seconds=0.3", "--set", "pong_seconds=1.0")
    cleanup.append(server)
    slug = server.register(keys, "bot")
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    client.say("hold")
    ids = server.bulk(slug, 1)
    client.expect(envelope=ids[0], verdict="held")
    time.sleep(2.5)
    assert server.counters()["counts"].get("pong_missing", 0) == 0
    assert server.counters()["counts"]["stream_opened"] == 1


@pytest.mark.parametrize("fault", ["html", "truncate", "cut"])
def test_broken_list_of_missed_messages(server, keys, slug, cleanup, fault):
    ids = server.bulk(slug, 3, push=False)
    server.fault(fault, route="GET /messages/pending", times=1)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=...)
    assert "Cannot fetch missed messages" in client.errors()
    assert set(client.ledger()) == set(ids)
    assert server.queued(slug) == []


def test_server_without_the_route_for_acknowledgements(tmp_path, cleanup, keys):
    server = Server(tmp_path / "server", "--set", "http_ack=false")
    cleanup.append(server)
    slug = server.register(keys, "bot")
    ids = server.bulk(slug, 60, push=False)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=...)
    eventually(lambda: not server.queued(slug))
    acks = server.log("ack")
    assert {a["via"] for a in acks} == {"frame"}
    assert max(len(a["ids"]) for a in acks) <= 25
    assert client.ledger()[:60] == ids


def test_acknowledgements_that_are_refused(server, keys, slug, cleanup):
    server.bulk(slug, 30, push=False)
    server.fault("status", route="POST /messages/ack", status=500)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=...)
    # They come again, but not in a loop.
    time.sleep(1)
    assert server.counters()["requests"]["GET /messages/pending"] <= 6
    server.clear()
    eventually(lambda: not server.queued(slug))


def test_stop_says_farewell(server, client, slug):
    ids = server.bulk(slug, 1)
    client.expect(envelope=ids[0], verdict="taken")
    client.stop()
    eventually(lambda: server.log("stream_closed"))
    assert server.log("stream_closed")[-1]["code"] == 1000
    assert server.queued(slug) == []


def test_events_and_certificate_news(server, client, slug):
    server.operator.session()
    server.operator.rotate()
    client.expect(cert_update=server.operator.slug)
    space = server.operator.create_space("Lab")
    server.operator.invite(slug, space["space_id"], None)
    assert client.ask("accept")["n"] == 1
    assert client.expect(reply=...)["reply"] == "ok"
    assert client.ask("spaces")["first"] == space["space_id"]
    server.operator.create_channel(space["space_id"], "more", True)
    client.expect(event="create_channel", space=space["space_id"])


# --- keys ---

def subkey_posts(server, slug):
    return len(requests_of(server, slug, "/devices/subkeys"))


def test_subkey_that_expired_is_renewed_by_a_call(server, client, slug, keys):
    session = json.loads((keys / f"{slug}.session.json").read_text())
    server.control("expire", {"slug": slug})
    assert client.ask("spaces")["reply"] == "ok"
    assert subkey_posts(server, slug) == 2
    renewed = json.loads((keys / f"{slug}.session.json").read_text())
    assert renewed["subkey_id"] != session["subkey_id"]
    assert (keys / f"{slug}.session.json").stat().st_mode & 0o777 == 0o600


def test_subkey_that_the_stream_refuses_is_renewed(server, client, slug):
    server.control("expire", {"slug": slug})
    server.control("streams", {"do": "abort"})
    client.expect(state="waiting")
    client.expect(state="connected")
    assert subkey_posts(server, slug) == 2


def test_session_file_is_used_by_the_next_start(server, client, slug, keys, cleanup):
    client.kill()
    again = Client(keys, slug, server.url)
    cleanup.append(again)
    again.expect(caught_up=0)
    assert subkey_posts(server, slug) == 1


def test_two_processes_make_one_subkey(server, slug, keys, cleanup):
    clients = [Client(keys, slug, server.url) for _ in range(3)]
    cleanup.extend(clients)
    for c in clients:
        c.expect(state="connected")
    assert subkey_posts(server, slug) == 1


def test_expired_session_file(server, slug, keys, cleanup):
    (keys / f"{slug}.session.json").write_text(json.dumps(
        {"slug": slug, "subkey_id": "sk_old", "subkey_secret_key": "A" * 43, "expires_at": 1}))
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    assert subkey_posts(server, slug) == 1


def test_broken_session_file_is_replaced(server, slug, keys, cleanup):
    (keys / f"{slug}.session.json").write_text("{")
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    assert json.loads((keys / f"{slug}.session.json").read_text())["slug"] == slug


def test_device_that_is_not_seen_at_once(server, slug, keys, cleanup):
    server.fault("status", route="POST /devices/subkeys", status=400, code="DEVICE_NOT_FOUND", times=2)
    server.fault("status", route="GET /spaces", status=401, times=1)
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    assert subkey_posts(server, slug) == 3


@pytest.mark.parametrize("minutes", [10, -10])
def test_clock_that_is_off(server, client, slug, minutes):
    posts = subkey_posts(server, slug)
    server.control("settings", {"clock_offset_ms": minutes * 60000})
    for _ in range(5):
        reply = client.ask("spaces")
        assert (reply["reply"], reply["status"]) == ("status", 401)
        assert "clock is" in reply["error"]
    # A clock is not put right by new keys.
    assert subkey_posts(server, slug) - posts <= 4
    server.control("settings", {"clock_offset_ms": 0})
    assert client.ask("spaces")["reply"] == "ok"


# --- messages ---

def meet(server, client, slug, name="Lab"):
    """A space of the operator with the agent in it, and its default channel."""
    space = server.operator.create_space(name)
    server.operator.invite(slug, space["space_id"], None)
    client.say("accept")
    client.expect(reply="ok", n=1)
    assert client.expect(reply=...)["reply"] == "ok"
    return space["space_id"], space["default_channel_id"]


def read(person):
    sealed = person.pending()
    payloads = [person.open(s) for s in sealed]
    person.acknowledge([s["envelope_id"] for s in sealed])
    return payloads


def test_a_conversation(server, client, slug):
    human = server.operator
    sent = human.send_message("hello \u00fcber \U0001f600 \\ \" \x7f", [], recipient_slug=slug)
    line = client.expect(envelope=sent["envelope_id"])
    assert (line["opened"], line["sender"], line["encrypted"]) == ("ok", human.slug, True)
    assert line["content"] == "hello \u00fcber \U0001f600 \\ \" \x7f"

    client.say(f"dm {human.slug} answer\u00e9")
    assert client.expect(sealed=0)["devices"] == 2
    assert client.expect(first="posted")["reply"] == "ok"
    payload, = [p for p in read(human) if p["sender_slug"] == slug]
    assert (payload["content"], payload["recipient_slug"]) == ("answer\u00e9", human.slug)

    space, channel = meet(server, client, slug)
    sent = human.send_message("in public", [], space_id=space, channel_id=channel)
    assert client.expect(envelope=sent["envelope_id"])["channel"] == channel
    client.say(f"post {space} {channel} reply {sent['envelope_id']}")
    client.expect(first="posted", reply="ok")
    payload, = [p for p in read(human) if p["sender_slug"] == slug]
    assert (payload["content"], payload["thread_root_id"]) == ("reply", sent["envelope_id"])
    # Its own copy comes back to it.
    assert client.expect(sender=slug)["opened"] == "ok"


def test_nobody_to_write_to(server, client):
    # Its own device could read it, but that is not what was meant.
    client.say("dm nobody-0000 hello")
    line = client.expect(sealed=...)
    assert line["sealed"] < 0 and "no device" in line["why"]
    client.say("post sp_x ch_y hello")
    assert client.expect(sealed=...)["sealed"] < 0


def test_channel_of_more_than_can_be_written_to(server, client):
    body = json.dumps({"members": [{"slug": f"m{i}-0001"} for i in range(300_000)]})
    server.fault("body", route="GET /spaces/*/channels/*/members", body=body)
    client.say("post sp_x ch_y hello")
    line = client.expect(10, sealed=...)
    assert line["sealed"] < 0 and "members" in line["why"] and not line["transient"]


@pytest.mark.parametrize("spoil,reason", [
    ("ciphertext", "content_open_failed"), ("signature", "signature_invalid"), ("wrapped_key", "wrap_open_failed"),
    ("inner_route", "inner_outer_mismatch"), ("no_entry", "no_recipient_entry")])
def test_spoiled_messages_are_refused_for_good(server, client, slug, keys, spoil, reason):
    secrets = [v for v in json.loads((keys / f"{slug}.json").read_text()).values() if isinstance(v, str)]
    bad, = server.bulk(slug, 1, spoil=spoil, text="a secret text")
    line = client.expect(envelope=bad)
    assert (line["opened"], line["problem"], line["verdict"]) == ("refused", reason, "taken")
    good, = server.bulk(slug, 1)
    assert client.expect(envelope=good)["opened"] == "ok"
    eventually(lambda: not server.queued(slug))
    assert f"Refused envelope '{bad}' of 'bulk-" in client.errors() and client.errors().rstrip().endswith(reason)
    for secret in [*secrets[2:5], "a secret text"]:
        assert secret not in client.errors()


def test_message_that_is_not_encrypted_is_marked(server, client, slug):
    plain, = server.bulk(slug, 1, spoil="plaintext", text="for all to see")
    line = client.expect(envelope=plain)
    assert (line["opened"], line["encrypted"], line["content"]) == ("ok", False, "for all to see")


def test_sender_whose_keys_cannot_be_had_now(server, client, slug):
    server.fault("status", route="GET /certs/sync", status=503)
    ids = server.bulk(slug, 1)
    line = client.expect(envelope=ids[0])
    assert (line["opened"], line["verdict"]) == ("later", "later")
    assert server.queued(slug) == ids
    server.clear()
    assert client.expect(envelope=ids[0])["opened"] == "ok"
    eventually(lambda: not server.queued(slug))


@pytest.mark.parametrize("fault", ["has_more_empty", "has_more_stuck", "html", "truncate"])
def test_registry_that_goes_round_in_circles(server, client, slug, fault):
    server.fault(fault, route="GET /certs/sync")
    ids = server.bulk(slug, 1)
    client.expect(envelope=ids[0], verdict="later")
    assert server.counters()["requests"]["GET /certs/sync"] < 20
    server.clear()
    client.expect(envelope=ids[0], verdict="taken")


def test_sender_with_a_new_subkey(server, client, slug):
    human = server.operator
    first = human.send_message("one", [], recipient_slug=slug)
    assert client.expect(envelope=first["envelope_id"])["opened"] == "ok"
    fetched = len(requests_of(server, slug, "/certs/sync"))
    # No news of it reaches us.
    server.fault("frame_lost", route="FRAME cert_update")
    human.rotate()
    second = human.send_message("two", [], recipient_slug=slug)
    assert client.expect(envelope=second["envelope_id"])["opened"] == "ok"
    third = human.send_message("three", [], recipient_slug=slug)
    assert client.expect(envelope=third["envelope_id"])["opened"] == "ok"
    assert len(requests_of(server, slug, "/certs/sync")) - fetched == 1


def test_keys_are_fetched_once_for_many_messages(server, client, slug):
    for i in server.bulk(slug, 50):
        assert client.expect(envelope=i)["opened"] == "ok"
    assert server.counters()["requests"]["GET /certs/sync"] == 1


def test_root_key_that_changes_is_refused(server, client, slug):
    human = server.operator
    first = human.send_message("one", [], recipient_slug=slug)
    assert client.expect(envelope=first["envelope_id"])["opened"] == "ok"
    thief = os.urandom(32)
    server.control("registry", {"kind": "identity_cert", "slug": human.slug,
                                "cert": certs.identity_cert(thief, "human")})
    server.control("registry", {"kind": "slug_binding", "slug": human.slug,
                                "cert": certs.slug_binding(thief, human.slug)})
    device = os.urandom(32)
    server.control("registry", {"kind": "device_cert", "slug": human.slug,
                                "cert": certs.device_cert(thief, device, os.urandom(32))})
    client.expect(cert_update=human.slug)
    client.say(f"dm {human.slug} secret")
    line = client.expect(sealed=...)
    assert line["sealed"] < 0 and line["transient"] is False
    assert human.slug in client.errors()
    # Neither is anything believed that comes in this name.
    client.kill()


@pytest.mark.parametrize("policy", ["warn", "enforce"])
def test_sender_of_an_older_server(server, keys, slug, cleanup, policy):
    """Its registry has rows without signatures only."""
    seed, kem = os.urandom(32), os.urandom(32)
    old = "old-0001"
    device = certs.device_cert(os.urandom(32), seed, kem)
    flat = {"device_id": device["device_id"], "kem_public_key": device["keys"]["encryption"]["public_key"]}
    server.control("registry", {"kind": "device_cert", "slug": old, "cert": flat})
    client = Client(keys, slug, server.url, env={"VERIFY_CERTS": policy})
    cleanup.append(client)
    client.expect(caught_up=0)
    for _ in range(2):
        client.say(f"dm {old} hello")
        line = client.expect(sealed=...)
        assert (line["sealed"] == 0 and line["devices"] == 2) if policy == "warn" else line["sealed"] < 0
    assert client.errors().count(f"'{old}'") + client.errors().count(f" {old}") == 1


def test_registry_in_the_form_of_maps(tmp_path, cleanup, keys):
    server = Server(tmp_path / "server", "--set", "cache_certs=true")
    cleanup.append(server)
    slug = server.register(keys, "bot")
    client = Client(keys, slug, server.url)
    cleanup.append(client)
    client.expect(caught_up=0)
    for i in server.bulk(slug, 3):
        assert client.expect(envelope=i)["opened"] == "ok"


def test_revoked_device_gets_no_messages(server, client, slug, tmp_path):
    human = server.person(tmp_path / "human", "carol")
    client.say(f"dm {human.slug} one")
    assert client.expect(sealed=0)["devices"] == 2
    space, channel = meet(server, client, slug)
    server.operator.invite(human.slug, space, None)
    human.answer_invite(human.invites()[0], "accept")
    # From now on there is news of these certificates.
    human.revoke_device(human.identity.device_id)
    client.expect(cert_update=human.slug)
    client.say(f"dm {human.slug} two")
    assert "no device" in client.expect(sealed=...)["why"]


# --- calls ---

def test_every_call(server, client, slug):
    assert client.ask("spaces")["n"] == 0
    profile = client.ask(f"profiles {slug} nobody-0000")
    assert (profile["n"], profile["first"]) == (1, slug)
    assert client.ask("rename Robby")["reply"] == "ok"
    assert client.ask(f"profiles {slug}")["json"]["profiles"][0]["display_name"] == "Robby"
    certificates = client.ask(f"certs {slug}")
    assert {e["kind"] for e in certificates["json"]["entries"]} >= {"identity_cert", "device_cert", "subkey_cert"}

    blob = client.ask("upload hello")
    assert blob["read"] == 0
    assert client.ask(f"download {blob['first']}")["size"] == 5
    assert client.ask("heartbeat")["reply"] == "ok"
    assert client.ask("heartbeat")["status"] == 429

    message = server.bulk(slug, 1)[0]
    client.expect(envelope=message)
    ids = ["run_" + digit * 32 for digit in "123"]
    assert client.ask(f"run {message} {ids[0]}")["reply"] == "ok"
    assert client.ask(f"ran {message} {ids[0]}")["reply"] == "ok"
    assert client.ask(f"ran-all {message} {ids[1]} {ids[2]}")["reply"] == "ok"
    runs = {r["run_id"]: r for r in server.control("statuses")["runs"]}
    assert set(runs) == set(ids)
    assert client.ask(f"run msg_unknown {ids[0]}")["status"] == 404


def test_calls_that_are_answered_with_something_else(server, client):
    server.fault("html", route="GET /spaces")
    reply = client.ask("spaces")
    assert (reply["reply"], reply["status"]) == ("protocol", 200)
    server.clear()

    for body, problem in (("[]", "no JSON object"), ("{}", "no spaces"), ('{"spaces":{}}', "no list"),
                          ('{"spaces":[1]}', "none of"), ('{"spaces":[{"name":"x"}]}', "none of"), ("", "empty")):
        server.fault("body", route="GET /spaces", body=body)
        reply = client.ask("spaces")
        assert reply["reply"] == "ok" and reply["read"] < 0 and problem in reply["read_error"], reply
        server.clear()


def test_redirects_are_not_followed(server, client):
    server.fault("status", route="GET /spaces", status=307, headers={"Location": server.url + "/certs/sync"})
    reply = client.ask("spaces")
    assert (reply["reply"], reply["status"]) == ("protocol", 307)
    assert "GET /certs/sync" not in server.counters()["requests"]


def test_patience(server, client):
    server.fault("status", route="GET /spaces", status=429, headers={"Retry-After": "1"}, times=2)
    assert client.ask("spaces")["reply"] == "ok"
    server.fault("status", route="POST /agents/me/heartbeat", status=429, times=1)
    reply = client.ask("heartbeat")
    assert (reply["reply"], reply["status"], reply["transient"]) == ("status", 429, True)


def test_refusals_have_their_words(server, client):
    server.fault("status", route="GET /spaces", status=403, code="FORBIDDEN", message="not\x1b[31m yours")
    reply = client.ask("spaces")
    assert (reply["status"], reply["code"], reply["transient"]) == (403, "FORBIDDEN", False)
    assert reply["error"] == "HTTP 403 FORBIDDEN: not?[31m yours"
    server.clear()
    server.fault("status", route="GET /spaces", status=502, html=True)
    assert client.ask("spaces")["transient"] is True


def test_answers_that_break_off(server, client):
    server.fault("cut", route="GET /spaces", times=1)
    reply = client.ask("spaces")
    assert (reply["reply"], reply["transient"]) == ("network", True)
    server.fault("oversize", route="GET /spaces", times=1, chunked=True)
    assert client.ask("spaces")["reply"] == "protocol"
    server.fault("trickle", route="GET /spaces", times=1, bytes=3, seconds=0.01)
    assert client.ask("spaces")["reply"] == "ok"


def test_blob_that_is_late(server, client):
    blob = client.ask("upload hello")["first"]
    server.fault("status", route="GET /blobs/*", status=404, times=1)
    assert client.ask(f"download {blob}")["size"] == 5
    client.say("download ../../etc/passwd")
    client.expect(refused=...)


def test_ids_are_escaped_and_signed_as_sent(server, client):
    for path in ("/spaces?a=%2F..%2f&b=%3A:", "/spaces/../spaces/./x%20y", "/spaces//x"):
        assert client.ask(f"get {path}")["status"] != 401
    reply = client.ask("members a/b ../c?d#é")
    assert reply["status"] != 401
    assert "GET /spaces/a%2Fb/channels/..%2Fc%3Fd%23%C3%A9/members" in {
        line["method"] + " " + line["path"] for line in server.log("request")}


# --- ways to the server ---

def test_tls_with_an_own_authority(tmp_path, cleanup, keys):
    ca = tmp_path / "ca.pem"
    server = Server(tmp_path / "server", "--tls", "--ca-out", ca, "--prefix", "/api/v2")
    cleanup.append(server)
    slug = server.register(keys, "bot")
    distrusting = Client(keys, slug, server.url)
    cleanup.append(distrusting)
    assert "certificate" in distrusting.expect(state="waiting")["reason"]
    reply = distrusting.ask("spaces")
    assert (reply["reply"], reply["transient"]) == ("tls", False)
    distrusting.kill()

    client = Client(keys, slug, server.url + "//", str(ca))
    cleanup.append(client)
    client.expect(caught_up=0)
    ids = server.bulk(slug, 5)
    for i in ids:
        client.expect(envelope=i, verdict="taken")
    server.control("streams", {"do": "cut"})
    client.expect(state="connected")


class Proxy:
    """An HTTP proxy that knows CONNECT and counts."""

    def __init__(self):
        self.targets = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(4096)
            if not data:
                return
            head += data
        method, target = head.split()[:2]
        self.targets.append((method.decode(), target.decode()))
        host, _, port = target.decode().rpartition(":")
        upstream = socket.create_connection((host, int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        pair = [client, upstream]
        while True:
            for ready in select.select(pair, [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    client.close()
                    upstream.close()
                    return
                pair[1 - pair.index(ready)].sendall(data)


def test_proxy(tmp_path, cleanup, keys):
    ca = tmp_path / "ca.pem"
    server = Server(tmp_path / "server", "--tls", "--ca-out", ca)
    cleanup.append(server)
    slug = server.register(keys, "bot")
    proxy = Proxy()
    client = Client(keys, slug, server.url, str(ca), env={"HTTPS_PROXY": proxy.url, "NO_PROXY": ""})
    cleanup.append(client)
    client.expect(caught_up=0)
    assert {m for m, _ in proxy.targets} == {"CONNECT"} and len(proxy.targets) >= 2
    client.kill()

    direct = Client(keys, slug, server.url, str(ca), env={"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"})
    cleanup.append(direct)
    direct.expect(caught_up=0)


# --- files ---

def test_bad_key_files(server, keys, slug):
    for text, problem in (("{", "not JSON"), ("{}", "'slug' is missing")):
        (keys / "x-1.json").write_text(text)
        result = subprocess.run([os.environ["WIRE_CLIENT"], keys, "x-1", server.url], capture_output=True, text=True)
        assert result.returncode == 1 and problem in result.stdout
