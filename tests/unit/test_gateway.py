# SPDX-License-Identifier: MIT
"""Turns over puffo-gateway: the Responses API and the older chat completions.

    GATEWAY=build/daemon/gateway/puffo-gateway python3 -m pytest tests/unit/test_gateway.py
"""

import http.client
import json
import signal
import socket
import threading
import time

import pytest

from gateway_world import Events, bare, wait, world  # noqa: F401


def test_answers(world):
    status, response, _ = world.create("hello", instructions="be kind", metadata={"a": "b"}, conversation="c-1")
    assert status == 200 and response["status"] == "completed"
    assert response["output"][0]["content"][0]["text"] == "Hello to you."
    assert world.request("GET", "/v1/responses/" + response["id"])[1] == response
    submitted = json.loads(world.calls("Submit ")[0].split(" ", 3)[3])
    assert submitted == {"Text": "hello", "Instructions": "be kind", "Conversation": "c-1", "Store": "1",
                         "Source": "responses"}


def test_files(world):
    content = [{"type": "input_text", "text": "look"},
               {"type": "input_file", "filename": "ä.txt", "file_data": "data:text/plain;base64,aGk="},
               {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,iVBORw0KGgo="}]
    status, response, _ = world.create([{"role": "user", "content": content}])
    assert status == 200 and response["status"] == "completed"
    assert world.calls("File ") == ["File ä.txt text/plain file 6869", "File image-1.png image/png image 89504e470d0a1a0a"]
    items = world.request("GET", f"/v1/responses/{response['id']}/input_items")[1]["data"]
    assert items[0]["content"] == [content[0], {"type": "input_file", "filename": "ä.txt"},
                                   {"type": "input_image", "detail": "auto", "image_url": None}]
    status, response, _ = world.create([{"role": "user", "content": content[1:2]}])
    assert status == 200 and json.loads(world.calls("Submit ")[-1].split(" ", 3)[3]).get("Text") is None


def nested(levels):
    """An array with so many levels of objects in it."""
    return json.loads("[" + levels * '{"a":' + "1" + levels * "}" + "]")


def test_deep_requests(world):
    """Schemas have many levels; what was taken can be had back."""
    for levels in (29, 30, 31, 60, 90):
        status, response, _ = world.create("hello", tools=nested(levels))
        assert status == 200 and response["tools"] == nested(levels), levels
        assert world.request("GET", "/v1/responses/" + response["id"])[:2] == (200, response)
    assert world.request("POST", "/v1/chat/completions", {
        "model": "engineer_alice", "messages": [{"role": "user", "content": "hi"}], "tools": nested(60)})[0] == 200
    status, answer, _ = world.create("hello", tools=nested(200))
    assert status == 400 and answer["error"]["message"].startswith("We could not parse the JSON body")


def test_chat_completions(world):
    """The same turns in the older dress: what is before the last answer is history, each message an item."""
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "one"},
                {"role": "assistant", "content": "two"}, {"role": "tool", "tool_call_id": "c", "content": "x"},
                {"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "file", "file": {
                    "filename": "a.txt", "file_data": "YQ=="}}]}]
    body = {"model": "engineer_alice", "messages": messages, "temperature": 0.5,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}}
    status, answer, _ = world.request("POST", "/v1/chat/completions", body)
    assert status == 200 and answer["object"] == "chat.completion"
    assert answer["choices"] == [{"index": 0, "message": {"role": "assistant", "content": '{"answer": "yes"}',
                                                          "refusal": None}, "finish_reason": "stop", "logprobs": None}]
    assert answer["usage"] == {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
    submitted = json.loads(world.calls("Submit ")[0].split(" ", 3)[3])
    assert submitted["Text"] == "hello" and submitted["Store"] == "0"
    assert submitted["History"] == "system: be kind\n\nuser: one\n\nassistant: two"
    assert '"type":"object"' in submitted["Instructions"]
    assert world.calls("File ") == ["File a.txt application/octet-stream file 61"]

    connection = world.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps({
        "model": "engineer_alice", "messages": [{"role": "user", "content": "[[two]]"}], "stream": True}))
    lines = connection.getresponse().read().decode().split("\n\n")
    connection.close()
    assert all(line.startswith("data: ") for line in lines[:-1]) and lines[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(line[6:]) for line in lines[:-2]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""} and "usage" not in chunks[0]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == "Hello to you.\n\nHello to you."
    assert chunks[-1]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}

    for wrong, param in [({}, "messages"), ({"messages": "x"}, "messages"), ({"messages": [7]}, "messages[0]"),
                         ({"messages": [{"role": "user"}]}, "messages[0].content"),
                         ({"messages": [{"role": "user", "content": [{"type": "x"}]}]}, "messages[0].content[0]"),
                         ({"messages": messages[:3]}, "messages"),
                         ({"messages": messages, "response_format": {"type": "xml"}}, "response_format.type")]:
        status, answer, _ = world.request("POST", "/v1/chat/completions", {"model": "engineer_alice", **wrong})
        assert status == 400 and answer["error"]["param"] == param, wrong
        assert "input" not in answer["error"]["message"].split("Supported")[0]
    body["messages"] = [{"role": "user", "content": "[[fail]]"}]
    status, answer, headers = world.request("POST", "/v1/chat/completions", body)
    assert status == 429 and answer["error"]["code"] == "rate_limit_exceeded" and headers["x-should-retry"] == "false"


def test_one_conversation_only(world):
    status, answer, headers = world.create("[[main-only]]", conversation="other")
    assert status == 400 and answer["error"]["code"] == "unsupported_value"
    assert answer["error"]["param"] == "conversation" and "one conversation" in answer["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_head(world, stream):
    status, answer, headers = world.create("[[queue-full]]", stream=stream)
    assert status == 429 and answer["error"]["type"] == "rate_limit_error" and headers["retry-after"] == "5"
    assert headers["x-should-retry"] is None
    status, answer, headers = world.create("[[not-ready]]", stream=stream)
    assert status == 503 and answer["error"]["code"] == "agent_not_ready" and headers["x-should-retry"] == "true"
    status, answer, headers = world.create("x", model="nobody", stream=stream)
    assert status == 404 and answer["error"]["code"] == "model_not_found"
    status, answer, _ = world.create("x", previous_response_id="resp_4a5a67bb" + 40 * "0", stream=stream)
    assert status == 400 and answer["error"]["code"] == "previous_response_not_found"


def test_previous_is_running(world):
    events = world.stream("[[hang]]")
    id = events.until("response.created")["response"]["id"]
    status, answer, headers = world.create("x", previous_response_id=id)
    assert status == 409 and answer["error"]["code"] == "response_in_progress"
    assert headers["x-should-retry"] == "false"
    world.hang_up(events)


def test_head_comes_before_a_slow_agent(world):
    """The client's patience does not hang on the agent's."""
    events = world.stream("[[late: 2000]]")
    assert events.until("response.created")["response"]["status"] == "in_progress"
    assert not world.calls("Submitted")
    assert list(events)[-1]["type"] == "response.completed"


def test_queued(world):
    kinds = [e["type"] for e in world.stream("[[ahead]]")]
    assert kinds[:3] == ["response.created", "response.queued", "response.in_progress"]


def test_session_dies(world):
    events = world.stream("[[crash]]")
    all = list(events)
    assert [e["sequence_number"] for e in all] == list(range(len(all)))
    output = all[-1]["response"]["output"]
    assert [(i["status"], i["content"][0]["text"]) for i in output] == [("incomplete", "Hello "),
                                                                        ("completed", "Hello to you.")]
    assert len({l.split()[2] for l in world.calls("Submit ")}) == 1 and len(world.calls("Submit ")) == 2


def test_client_leaves(world):
    events = world.stream("[[hang]]")
    events.until("response.output_text.delta")
    world.hang_up(events)
    wait(lambda: world.calls("Interrupt"), "the turn is interrupted")
    id = events.seen[0]["response"]["id"]
    assert world.request("GET", "/v1/responses/" + id)[1]["status"] == "cancelled"


def test_client_leaves_before_the_agent_has_it(world):
    """The turn is on its way and cannot be called back: it is interrupted as soon as it is there."""
    events = world.stream("[[late: 1500]] [[hang]]")
    events.until("response.created")
    world.hang_up(events)
    wait(lambda: world.calls("Interrupt"), "the turn is interrupted")


def test_background_client_leaves(world):
    events = world.stream("[[words: 20]] [[slow: 20]]", background=True)
    id = events.until("response.output_text.delta") and events.seen[0]["response"]["id"]
    world.hang_up(events)
    response = wait(lambda: (r := world.request("GET", "/v1/responses/" + id)[1])["status"] == "completed" and r,
                    "the turn goes on")
    assert len(response["output"][0]["content"][0]["text"].split()) == 20
    assert not world.calls("Interrupt")


def test_someone_else_listens(world):
    events = world.stream("[[words: 100]] [[slow: 20]]")
    id = events.until("response.output_text.delta") and events.seen[0]["response"]["id"]
    first, connection = world.connection, world.connect()
    connection.request("GET", f"/v1/responses/{id}?stream=true")
    other = Events(connection.getresponse())
    other.until("response.output_text.delta")
    world.connection = first
    world.hang_up(events)
    assert list(other)[-1]["type"] == "response.completed"
    assert not world.calls("Interrupt")
    connection.close()


def test_stream_again(world):
    events = list(world.stream("[[two]]"))
    id = events[0]["response"]["id"]
    # Later is a second later: nothing of it may be the time of asking.
    time.sleep(1.1)
    for after in [None, 0, 5, 17]:
        connection = world.connect()
        query = "stream=true" + ("" if after is None else f"&starting_after={after}")
        connection.request("GET", f"/v1/responses/{id}?{query}")
        assert list(Events(connection.getresponse())) == events[0 if after is None else after + 1:]
        connection.close()
    # No stream ends without an end, but for who has seen it.
    for after, expected in [(len(events) - 2, events[-1:]), (len(events) - 1, []), (len(events), events[-1:]),
                            (2147483647, events[-1:])]:
        connection = world.connect()
        connection.request("GET", f"/v1/responses/{id}?stream=true&starting_after={after}")
        assert list(Events(connection.getresponse())) == expected, after
        connection.close()
    assert world.request("GET", f"/v1/responses/{id}?stream=true&starting_after=x")[0] == 400
    status, response, _ = world.create("[[gone]]")
    status, answer, _ = world.request("GET", f"/v1/responses/{response['id']}?stream=true")
    assert status == 400 and answer["error"]["code"] == "stream_not_available"


def test_stream_again_after_a_crash(world):
    """Numbers of the log that the crash took along say nothing about the new one."""
    before = list(world.stream("[[crash]]"))
    id, last = before[0]["response"]["id"], before[-1]["sequence_number"]
    for after in [3, last - 1, last]:
        status, answer, _ = world.request("GET", f"/v1/responses/{id}?stream=true&starting_after={after}")
        assert status == 400 and answer["error"]["code"] == "stream_not_available"
    connection = world.connect()
    connection.request("GET", f"/v1/responses/{id}?stream=true")
    again = list(Events(connection.getresponse()))
    connection.close()
    assert [e["sequence_number"] for e in again] == list(range(len(again)))
    assert again[-1]["type"] == "response.completed" and again[-1]["response"]["output"][0]["status"] == "completed"


def test_slow_client(world):
    """A client that does not read stops the stream, not the gateway, and gets all of it in the end."""
    # More than what the kernel's buffers take.
    events = world.stream("[[words: 2500]] [[fat: 4096]] [[slow: 1]]", receive_buffer=65536, instructions="x" * 300000)
    wait(lambda: world.calls("blocked"), "the gateway stops reading", 60)
    assert world.request("GET", "/healthz")[0] == 200
    seen = list(events)
    assert seen[-1]["type"] == "response.completed"
    deltas = [e["delta"] for e in seen if e["type"] == "response.output_text.delta"]
    assert deltas == [f"wörd{i}{'x' * 4096} " for i in range(2500)]


def test_deadline(bare):
    bare.start_puffod()
    state = bare.directory / ".agent_proxy/.state"
    state.mkdir(parents=True)
    (state / "config.yaml").write_text("sync_timeout: 1\n")
    bare.start_gateway()
    bare.ready()
    status, answer, headers = bare.create("[[hang]]")
    assert status == 504 and answer["error"]["code"] == "timeout" and headers["x-should-retry"] == "false"
    wait(lambda: bare.calls("Interrupt"), "the turn is interrupted")


def test_puffod_restarts(world):
    """A request that comes while puffod is away waits for it, and a running stream does not notice."""
    events = world.stream("[[words: 60]] [[slow: 20]]")
    events.until("response.output_text.delta")
    world.puffod.terminate()
    world.puffod.wait()
    status = {}
    thread = threading.Thread(target=lambda: status.update(code=world.create("while it is away")[0]))
    thread.start()
    world.start_puffod()
    thread.join()
    assert status["code"] == 200
    world.hang_up(events)


def test_without_puffod(bare):
    bare.start_gateway()
    wait(lambda: bare.request("GET", "/healthz")[0] == 503, "the gateway is up")
    status, answer, headers = bare.request("GET", "/v1/models")
    assert status == 503 and answer["error"]["code"] == "agent_not_ready" and headers["retry-after"] == "10"


def test_goodbye(world):
    events = world.stream("[[hang]]")
    events.until("response.output_text.delta")
    world.gateway.send_signal(signal.SIGTERM)
    last = list(events)[-1]
    assert last["type"] == "error" and events.seen[0]["response"]["id"] in last["message"]
    assert last["sequence_number"] == len(events.seen) - 1
    assert world.gateway.wait(timeout=60) == 0
    assert not world.calls("Interrupt")


def test_key(bare):
    bare.start_puffod()
    bare.start_gateway(AGENT_PROXY_API_KEY="one,two")
    bare.ready()
    status, answer, headers = bare.request("GET", "/v1/models")
    assert status == 401 and headers["www-authenticate"] == "Bearer" and answer["error"]["code"] is None
    status, answer, headers = bare.request("GET", "/v1/models", headers={"Authorization": "Bearer three"})
    assert status == 401 and answer["error"]["code"] == "invalid_api_key" and "three" not in json.dumps(answer)
    assert bare.request("GET", "/v1/models", headers={"Authorization": "bearer two"})[0] == 200


def test_open_address_without_a_key(bare):
    bare.start_gateway(bare.listen("0.0.0.0"))
    assert bare.gateway.wait(timeout=60) == 78
    assert "AGENT_PROXY_API_KEY" in (bare.directory / "gateway.log").read_text()


def test_refusals(world):
    for method, path, headers, status, code in [
            ("GET", "/v1/models", {"Host": f"evil.example:{world.port}"}, 403, "permission_denied"),
            ("GET", "/v1/models", {"Origin": "http://evil.example"}, 403, "permission_denied"),
            ("GET", "/v1/models", {"Sec-Fetch-Site": "cross-site"}, 403, "permission_denied"),
            ("POST", "/hire", {"Cookie": "a=b", "Content-Type": "text/plain"}, 415, "unsupported_media_type"),
            ("GET", "/v1/responses", {"Upgrade": "websocket", "Connection": "Upgrade"}, 426,
             "websocket_not_supported"),
            ("POST", "/v1/responses/compact", {}, 404, "unsupported_endpoint"),
            ("GET", "/v1/nothing", {}, 404, None),
            ("GET", "/v1/responses/resp_x", {}, 404, None),
            ("POST", "/v1/responses", {"Content-Length": "99999999999"}, 413, "request_too_large")]:
        got, answer, _ = world.request(method, path, None, headers)
        assert (got, answer["error"]["code"]) == (status, code), path
    connection = world.connect()
    connection.putrequest("GET", "/v1/conversations/x")
    connection._buffer[0] = b"GET /v1/conversations/\xff\x1b[2J HTTP/1.1"
    connection.endheaders()
    assert json.loads(connection.getresponse().read())["error"]["message"].endswith("/v1/conversations/??[2J.")
    connection.close()
    for headers in [{"Transfer-Encoding ": "chunked"}, {"Transfer-Encoding": "gzip"},
                    {"Content-Length": "3", "Transfer-Encoding": "chunked"}]:
        got, answer, _ = world.request("POST", "/v1/responses", None, headers)
        assert got == 400 and "head of the request" in answer["error"]["message"]
    got, answer, _ = world.request("GET", "/v1/models", None, {"X-Large": "x" * 20000})
    assert got == 431 and "16 KiB" in answer["error"]["message"]
    for head in [b"GET /healthz HTTP/1.1\r\n\r\n", b"GET /health z HTTP/1.1\r\nHost: localhost\r\n\r\n"]:
        with socket.create_connection(("127.0.0.1", world.port), timeout=60) as s:
            s.sendall(head)
            answer = http.client.HTTPResponse(s)
            answer.begin()
            assert answer.status == 400 and json.loads(answer.read())["error"]["type"] == "invalid_request_error"
    assert not world.calls("Submit")
    got, answer, headers = world.request("PUT", "/v1/responses")
    assert got == 405 and headers["allow"] == "POST"


def test_oversize_chunked(world):
    def body():
        for _ in range(17):
            yield b"x" * 1024 * 1024

    connection = world.connect()
    connection.request("POST", "/v1/responses", body(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    answer = connection.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["error"]["code"] == "request_too_large"
    connection.close()
