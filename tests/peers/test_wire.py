# SPDX-License-Identifier: MIT
"""The wire room's client and the stream of messages, with everything going wrong that can."""

import json
import time

import pytest

from puffo.process import Server
from wire_world import MEMORY_FACTOR, Client, cleanup, client, eventually, keys, server, slug  # noqa: F401


def assert_committed_before_acked(server, client):
    ledger = set(client.ledger())
    assert set(server.counters()["acks"]) <= ledger


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
