# SPDX-License-Identifier: MIT
"""Messages between the wire room's client and people: sealed, opened, verified, and refused when they are spoiled."""

import json
import os

import pytest

from puffo import certs
from puffo.process import Server
from wire_world import Client, cleanup, client, eventually, keys, requests_of, server, slug  # noqa: F401


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
