# SPDX-License-Identifier: MIT
"""The Responses API as curl and the official client see it."""

import base64
import hashlib
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


PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 300


def data_url(type, content):
    return f"data:{type};base64,{base64.b64encode(content).decode()}"


def test_files(user_mode, engineer, provider):
    """They are in the workspace before the agent is told of them, and it goes on knowing of them."""
    text = "a table of sizes\n".encode() * 1000
    user_mode.turn("engineer_alice", "before [[reply: nothing]]")
    response = user_mode.turn("engineer_alice", [{"role": "user", "content": [
        {"type": "input_text", "text": "what are these? [[reply: files]]"},
        {"type": "input_file", "filename": "../../sizes.txt", "file_data": data_url("text/plain", text)},
        {"type": "input_image", "detail": "auto", "image_url": data_url("image/png", PNG)}]}])
    assert output_text(response) == "files"
    inbox = pathlib.Path(engineer.Workspace) / ".puffo/inbox" / response["id"]
    assert (inbox / "sizes.txt").read_bytes() == text and (inbox / "image-1.png").read_bytes() == PNG
    entry = next(e for e in reversed(provider.log()) if "what are these?" in json.dumps(e["body"]))
    asked, image = entry["body"], f"image/png {hashlib.sha256(PNG).hexdigest()[:16]}"
    assert entry["images"] == [image], "the model sees it, and does not only read of it"
    assert f"- {inbox}/sizes.txt (text/plain, {len(text)} bytes)" in json.dumps(asked)
    user_mode.turn("engineer_alice", "and now? [[reply: still]]")
    entry = next(e for e in reversed(provider.log()) if "and now?" in json.dumps(e["body"]))
    assert f"{inbox}/image-1.png" in json.dumps(entry["body"]) and entry["images"] == [image]
    # The same from a client of the older API.
    answer = user_mode.http("POST", "/v1/chat/completions", {"model": "engineer_alice", "messages": [
        {"role": "user", "content": [{"type": "text", "text": "an old client [[reply: seen]]"},
                                     {"type": "image_url", "image_url": {"url": data_url("image/jpeg", PNG)}}]}]})
    assert answer.json["choices"][0]["message"]["content"] == "seen"
    entry = next(e for e in reversed(provider.log()) if "an old client" in json.dumps(e["body"]))
    assert entry["images"] == [image] * 2
    page = user_mode.http("GET", "/agents/engineer_alice/messages?limit=6").json
    page["messages"] = page["messages"][:4]
    assert page["has_more"] and [(m["role"], m["text"].split("?")[0], m["files"]) for m in page["messages"]] == [
        ("user", "what are these", ["sizes.txt", "image-1.png"]), ("assistant", "files", []), ("user", "and now", []),
        ("assistant", "still", [])]
    assert page["messages"][1]["response_id"] == response["id"]
    assert abs(page["messages"][1]["at"] - response["completed_at"]) <= 1
    older = user_mode.http("GET", f"/agents/engineer_alice/messages?before={page['messages'][0]['id']}").json
    assert older["messages"] and "what are these" not in json.dumps(older)
    # A file alone will do, and one that nobody can take leaves no trace.
    assert user_mode.turn("engineer_alice", [{"role": "user", "content": [
        {"type": "input_file", "filename": "a", "file_data": "eA=="}]}])["status"] == "completed"
    before = set(inbox.parent.iterdir())
    answer = user_mode.http("POST", "/v1/responses", {
        "model": "engineer_alice", "previous_response_id": response["id"][:-1] + "x",
        "input": [{"role": "user", "content": [{"type": "input_file", "file_data": "eA=="}]}]})
    assert answer.status == 400 and set(inbox.parent.iterdir()) == before
    # They go with the response.
    assert user_mode.http("DELETE", f"/v1/responses/{response['id']}").json["deleted"]
    assert not inbox.exists() and set(inbox.parent.iterdir()) == before - {inbox}


def test_agent_events(user_mode, engineer):
    with user_mode.feed() as feed:
        listed = feed.until(lambda kind, value: kind == "agents")
        assert listed == user_mode.http("GET", "/agents").json
        # Long enough to be seen: what has passed when the gateway comes to tell of it is not told.
        slow = "[[words: 20]] [[slow: 50ms]]"
        user_mode.turn("engineer_alice", "seen? " + slow)
        feed.until(lambda kind, a: kind == "agent" and (a["agent"], a["state"]) == ("engineer_alice", "busy"))
        feed.until(lambda kind, a: kind == "agent" and (a["agent"], a["state"]) == ("engineer_alice", "ready"))
        extra = user_mode.hire("extra", "one")
        feed.until(lambda kind, a: kind == "agent" and (a["agent"], a.get("state")) == ("extra_one", "ready"))
        extra.call("Delete")
        feed.until(lambda kind, a: kind == "agent" and a == {"agent": "extra_one", "removed": True})
        # Over a restart of puffod: what has changed meanwhile, and what changes then.
        user_mode.kill("puffod.service")
        user_mode.turn("engineer_alice", "again " + slow)
        feed.until(lambda kind, a: kind == "agent" and (a["agent"], a["state"]) == ("engineer_alice", "busy"))
        feed.until(lambda kind, value: kind is None and value == ": keep-alive")


def test_many_streams(user_mode, provider):
    """Clients that all come at once are all answered, and leave nothing behind in the gateway."""
    def memory():
        pid = user_mode.main_pid("puffo-gateway.service")
        return int(pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().split("Pss:")[1].split()[0])

    def wave():
        answers = {}

        def ask(n):
            with user_mode.stream(f"many_a{n % 10}", f"[[reply: one two three {n}]]", conversation="load") as stream:
                answers[n] = (stream.rest()[-1]["type"], stream.text)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(100)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert answers == {n: ("response.completed", f"one two three {n}") for n in range(100)}

    for i in range(10):
        user_mode.hire("many", f"a{i}")
    wave()
    after = memory()
    wave()
    assert memory() < after + 1024
    for i in range(10):
        user_mode.agent(f"many_a{i}").call("Delete")


def test_stored_responses_outlive_everybody(user_mode, engineer):
    """The id alone leads to it, whatever was restarted in between."""
    response = user_mode.turn("engineer_alice", "to be kept [[reply: kept]]", metadata={"a": "b"})
    for what in ["puffo-gateway.service", "puffod.service", engineer.Unit]:
        user_mode.systemctl("restart", what)
        user_mode.wait(lambda: user_mode.http("GET", "/v1/responses/" + response["id"]).json == response, 60,
                       f"the response is there after a restart of {what}")
    events = user_mode.user.run(user_mode.curl(f"/v1/responses/{response['id']}?stream=true")).stdout
    assert '"code":"stream_not_available"' in events
    again = user_mode.turn("engineer_alice", "go on [[reply: on]]", previous_response_id=response["id"])
    assert again["previous_response_id"] == response["id"] and output_text(again) == "on"


def test_official_client(user_mode, engineer, alice):
    modules = pathlib.Path("/srv/puffo/openai/node_modules")
    if not modules.is_dir():
        pytest.fail("the openai client is not installed: ./check integration does that")
    # Modules are looked for beside the script.
    place = alice.home / "openai"
    place.mkdir(exist_ok=True)
    os.symlink(modules, place / "node_modules")
    for name in ["conformance.mjs", "types.mjs"]:
        (place / name).write_bytes((SOURCE / "tests/integration/openai" / name).read_bytes())
    out = alice.run(["node", place / "conformance.mjs"], check=False, env={
        "BASE_URL": BASE + "/v1", "OPENAI_API_KEY": "none", "MODEL": "engineer_alice",
        "FAIL_INPUT": "[[status: 400]]", "HANG_INPUT": "[[hang: 1]]", "QUEUE_LIMIT": "32",
        "SCHEMA_INPUT": '[[reply: {"answer":"yes"}]]'}, timeout=300)
    assert out.returncode == 0 and "not ok" not in out.stdout, out.stdout + out.stderr
    assert out.stdout.count("\nok ") > 20


def test_key(user_mode, engineer, with_key, bob):
    for method, path, body in [("GET", "/v1/models", None), ("POST", "/v1/responses", {"input": "x"}),
                               ("GET", "/agents", None), ("POST", "/hire", {"role": "a", "name": "b"})]:
        missing = user_mode.http(method, path, body)
        assert missing.status == 401 and missing.headers["www-authenticate"] == "Bearer"
        assert "Missing bearer" in missing.json["error"]["message"]
        wrong = user_mode.http(method, path, body, headers={"Authorization": "Bearer nonsense"})
        assert wrong.status == 401 and wrong.json["error"]["code"] == "invalid_api_key"
        assert "nonsense" not in wrong.text
    # The page's cookie stands for the key, in what the page itself asks for.
    page = {"Sec-Fetch-Site": "same-origin"}
    assert user_mode.http("POST", "/session", {"key": "nonsense"}, headers=page).status == 401
    cookie = user_mode.http("POST", "/session", {"key": with_key}, headers=page).headers["set-cookie"].split(";")[0]
    assert user_mode.http("GET", "/agents", headers=page | {"Cookie": cookie}, user=bob).status == 200
    assert user_mode.http("GET", "/agents", headers={"Cookie": cookie}).status == 401
    for _ in range(2):          # nothing of it is kept by a process
        user_mode.systemctl("restart", "puffo-gateway.service")
        assert user_mode.http("GET", "/agents", headers=page | {"Cookie": cookie}, user=bob).status == 200
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
