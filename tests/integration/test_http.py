# SPDX-License-Identifier: MIT
"""The Responses API as curl and the official client see it."""

import json
import os
import pathlib
import re
import subprocess
import threading

import pytest

from machine import BASE, SOURCE, output_text


@pytest.fixture(scope="module")
def engineer(user_mode):
    return user_mode.hire("engineer", "alice")


def test_health(user_mode, engineer, bob):
    for path in ["/healthz", "/health"]:
        answer = user_mode.http("GET", path, user=bob)
        assert answer.status == 200 and answer.json["status"] == "ok"
        assert answer.json["agents"] >= 2 and "version" in answer.json


def test_models(user_mode, engineer):
    answer = user_mode.http("GET", "/v1/models")
    assert answer.json["object"] == "list"
    assert {"manager", "engineer_alice"} <= {m["id"] for m in answer.json["data"]}
    assert user_mode.http("GET", "/v1/models/engineer_alice").json["id"] == "engineer_alice"
    assert re.fullmatch("req_[0-9a-f]{32}", answer.headers["x-request-id"])


def test_plain_turn(user_mode, engineer, provider):
    response = user_mode.turn("engineer_alice", "plain turn [[reply: hello there]]")
    assert (response["object"], response["status"], response["model"]) == ("response", "completed", "engineer_alice")
    assert output_text(response) == "hello there"
    assert re.fullmatch("resp_[0-9a-f]{48}", response["id"])
    assert response["usage"]["total_tokens"] == response["usage"]["input_tokens"] + response["usage"]["output_tokens"]
    assert provider.count("plain turn") == 1
    stored = user_mode.http("GET", "/v1/responses/" + response["id"])
    assert stored.status == 200 and stored.json["output"] == response["output"]
    items = user_mode.http("GET", f"/v1/responses/{response['id']}/input_items").json
    assert "plain turn" in json.dumps(items["data"])
    assert user_mode.http("DELETE", "/v1/responses/" + response["id"]).status == 200
    assert user_mode.http("GET", "/v1/responses/" + response["id"]).status == 404


def test_default_model_is_the_manager(user_mode):
    answer = user_mode.http("POST", "/v1/responses", {"input": "[[reply: yes]]"})
    assert answer.status == 200 and answer.json["model"] == "manager"


def test_stream(user_mode, engineer):
    with user_mode.stream("engineer_alice", "[[reply: alpha beta gamma]]") as stream:
        events = stream.rest()
    kinds = [e["type"] for e in events]
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    deltas = kinds.index("response.output_text.delta")
    assert kinds.index("response.output_item.added") < kinds.index("response.content_part.added") < deltas
    assert kinds[-4:] == ["response.output_text.done", "response.content_part.done", "response.output_item.done",
                          "response.completed"]
    assert stream.text == "alpha beta gamma" == output_text(events[-1]["response"])


def test_stream_is_live(user_mode, engineer, provider):
    """The first words are here while the provider is still at it."""
    with user_mode.stream("engineer_alice", "live [[words: 40]] [[hold: live]]") as stream:
        stream.until("response.output_text.delta")
        assert provider.outcomes("live")[-1] is None
        assert engineer.State == "busy"
        provider.release("live")
        assert stream.rest()[-1]["type"] == "response.completed"


def test_stream_again_from_the_middle(user_mode, engineer):
    with user_mode.stream("engineer_alice", "[[reply: one two three four]]") as stream:
        events = stream.rest()
    process = user_mode.user.popen(user_mode.curl(f"/v1/responses/{stream.id}?stream=true&starting_after=3"))
    from machine import Stream
    assert Stream(process).rest() == [e for e in events if e["sequence_number"] > 3]


def test_conversation_goes_on(user_mode, engineer, provider):
    first = user_mode.turn("engineer_alice", "remember the word xylophone [[reply: I will]]", conversation="conv-one")
    user_mode.turn("engineer_alice", "which word? [[reply: that one]]", previous_response_id=first["id"])
    body = next(e for e in reversed(provider.log()) if "which word?" in (e["text"] or ""))["body"]
    assert "xylophone" in json.dumps(body)
    user_mode.turn("engineer_alice", "fresh start [[reply: ok]]", conversation="conv-two")
    body = next(e for e in reversed(provider.log()) if "fresh start" in (e["text"] or ""))["body"]
    assert "xylophone" not in json.dumps(body)


def test_cancel(user_mode, engineer, provider):
    with user_mode.stream("engineer_alice", "cancel me [[words: 2000]] [[slow: 50ms]]") as stream:
        stream.until("response.output_text.delta")
        answer = user_mode.http("POST", f"/v1/responses/{stream.id}/cancel", {})
        assert answer.status == 200
        assert stream.rest()[-1]["type"] == "response.incomplete"
    assert user_mode.http("GET", "/v1/responses/" + stream.id).json["status"] == "cancelled"
    user_mode.wait(lambda: provider.outcomes("cancel me")[-1] == "client-gone", 10, "the provider's stream is closed")
    engineer.wait_state("ready")


def test_background(user_mode, engineer):
    answer = user_mode.http("POST", "/v1/responses", {"model": "engineer_alice", "background": True,
                                                      "input": "[[words: 10]] [[slow: 20ms]]"})
    assert answer.status == 200 and answer.json["status"] in ("queued", "in_progress")
    done = user_mode.wait(lambda: (r := user_mode.http("GET", "/v1/responses/" + answer.json["id"]).json)["status"] ==
                          "completed" and r, 20, "the background turn ends")
    assert output_text(done).startswith("word1 word2")


def test_turns_queue(user_mode, engineer, provider):
    """Two clients at once: both are answered, one after the other."""
    results = {}

    def ask(n):
        results[n] = output_text(user_mode.turn("engineer_alice", f"[[reply: answer {n}]] [[slow: 30ms]]"))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {n: f"answer {n}" for n in range(6)}


def test_provider_trouble_is_a_failed_response(user_mode, engineer):
    answer = user_mode.http("POST", "/v1/responses", {"model": "engineer_alice", "input":
                                                      "[[status: 400]] [[error: invalid_request_error]]"})
    assert answer.status == 200 and answer.json["status"] == "failed"
    assert answer.json["error"]["message"]
    engineer.wait_state("ready")


def test_short_trouble_is_waited_out(user_mode, engineer, provider):
    response = user_mode.turn("engineer_alice", "short trouble [[status: 529]] [[times: 1]] [[reply: through]]")
    assert response["status"] == "completed" and output_text(response) == "through"


def test_hire(user_mode):
    body = {"role": "writer", "name": "bo"}
    answer = user_mode.http("POST", "/hire", body)
    assert answer.status == 201 and answer.json["agent"] == "writer_bo" and answer.json["created"] is True
    assert answer.json["pid"] == user_mode.agent("writer_bo").MainPID and answer.json["state"] == "ready"
    again = user_mode.http("POST", "/hire", body)
    assert again.status == 200 and again.json["created"] is False and again.json["pid"] == answer.json["pid"]


def test_published_curl_lines(user_mode, alice):
    """Word for word what the documentation of agent-proxy tells people to type."""
    out = alice.run(["bash", "-c", f"""curl -N {BASE}/v1/responses -H 'Content-Type: application/json' \
        -H "Authorization: Bearer $KEY" -d '{{"model":"writer_bo","input":"status?","stream":true}}'"""],
                    env={"KEY": "whatever"}).stdout
    assert "event: response.completed" in out
    out = alice.run(["bash", "-c", f"""curl -s {BASE}/hire -H 'Content-Type: application/json' \
        -d '{{"role":"writer","name":"bo"}}'"""]).stdout
    assert json.loads(out)["agent"] == "writer_bo"


def test_agents_list(user_mode, engineer):
    listed = {a["agent"]: a for a in user_mode.http("GET", "/agents").json["agents"]}
    assert listed["engineer_alice"]["state"] == "ready" and listed["engineer_alice"]["pid"] == engineer.MainPID


def test_official_client(user_mode, engineer, alice):
    modules = pathlib.Path("/srv/puffo/openai/node_modules")
    if not modules.is_dir():
        pytest.fail("the openai client is not installed: ./check integration does that")
    # Modules are looked for beside the script.
    place = alice.home / "openai"
    place.mkdir(exist_ok=True)
    os.symlink(modules, place / "node_modules")
    (place / "conformance.mjs").write_bytes((SOURCE / "tests/integration/openai/conformance.mjs").read_bytes())
    out = alice.run(["node", place / "conformance.mjs"], check=False, env={
        "BASE_URL": BASE + "/v1", "OPENAI_API_KEY": "none", "MODEL": "engineer_alice",
        "FAIL_INPUT": "[[status: 400]]", "HANG_INPUT": "[[hang: 1]]"})
    assert out.returncode == 0 and "not ok" not in out.stdout, out.stdout + out.stderr
    assert out.stdout.count("\nok ") > 5


@pytest.fixture
def with_key(user_mode, alice):
    """A key is configured, the way "agent-proxy enable" does it: as a credential."""
    key = alice.write(".agent_proxy/.state/api-key", "the-right-key\n")
    drop_in = alice.write(".config/systemd/user/puffo-gateway.service.d/10-api-key.conf",
                          f"[Service]\nLoadCredential=api-key:{key}\n")
    user_mode.systemctl("daemon-reload")
    user_mode.systemctl("restart", "puffo-gateway.service")
    yield "the-right-key"
    drop_in.unlink()
    key.unlink()
    user_mode.systemctl("daemon-reload")
    user_mode.systemctl("restart", "puffo-gateway.service")


def test_key(user_mode, engineer, with_key, bob):
    for method, path, body in [("GET", "/v1/models", None), ("POST", "/v1/responses", {"input": "x"}),
                               ("GET", "/agents", None), ("POST", "/hire", {"role": "a", "name": "b"})]:
        missing = user_mode.http(method, path, body)
        assert missing.status == 401 and missing.headers["www-authenticate"] == "Bearer"
        assert "Missing bearer" in missing.json["error"]["message"]
        wrong = user_mode.http(method, path, body, headers={"Authorization": "Bearer nonsense"})
        assert wrong.status == 401 and wrong.json["error"]["code"] == "invalid_api_key"
        assert "nonsense" not in wrong.text
    # With the key, a stranger is as good as the owner.
    assert user_mode.http("GET", "/v1/models", headers={"Authorization": f"bearer {with_key}"}, user=bob).status == 200
    assert user_mode.http("GET", "/healthz", user=bob).status == 200


def test_ports_of_nobody_else(user_mode):
    """The listening socket belongs to systemd: a gateway that is restarted refuses nobody."""
    refused = []
    stop = threading.Event()

    def knock():
        while not stop.is_set():
            code = subprocess.run(["curl", "-s", "-o", "/dev/null", BASE + "/healthz"]).returncode
            if code == 7:
                refused.append(code)

    thread = threading.Thread(target=knock)
    thread.start()
    for _ in range(5):
        user_mode.systemctl("restart", "puffo-gateway.service")
    stop.set()
    thread.join()
    assert refused == []
