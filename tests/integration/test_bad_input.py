# SPDX-License-Identifier: MIT
"""Everything from outside that is wrong gets an error of its own, changes nothing, and leaves no half-written file."""

import hashlib
import os
import re
import socket

import pytest

from machine import BASE, BusError

AGENTS = ".puffo-agent/agents"


@pytest.fixture(scope="module")
def engineer(user_mode):
    return user_mode.hire("engineer", "alice")


@pytest.fixture(autouse=True)
def nothing_half_written(user_mode, alice):
    yield
    left = [p for home in [".puffo-agent", ".agent_proxy"] for p in (alice.home / home).rglob("*")
            if re.search(r"\.tmp|\.#|~$", p.name)]
    assert left == []


def problems(suite):
    return {directory: reason for directory, reason in suite.manager("ListProblems")[0]}


@pytest.mark.parametrize("name, text, reason", [
    ("not-yaml", "id: [unclosed\n", r"agent\.yml:\d+"),
    ("not-a-map", "- one\n- two\n", r"mapping"),
    ("wrong-type", "id: wrong-type\nruntime:\n  max_turns: many\n", r"agent\.yml:3.*max_turns"),
    ("bad-kind", "id: bad-kind\nruntime:\n  kind: chat-remote\n", r"agent\.yml:3.*kind.*chat-remote"),
    ("bad-pair", "id: bad-pair\nruntime:\n  kind: cli-local\n  harness: hammer\n", r"harness.*hammer"),
    ("own-key", "id: own-key\nruntime:\n  sandbox_profile: loose\n", r"agent\.yml:3.*sandbox_profile"),
    ("twice", "id: twice\nid: twice\n", r"agent\.yml:2.*id"),
    ("binary", "id: \x00\x01\n", r"agent\.yml"),
])
def test_bad_agent_yml(user_mode, alice, name, text, reason):
    file = alice.write(f"{AGENTS}/{name}/agent.yml", text)
    before = hashlib.sha256(file.read_bytes()).digest()
    user_mode.manager("Reload")
    said = user_mode.wait(lambda: next((r for d, r in problems(user_mode).items() if d.endswith(name)), None), 10,
                          "the problem is listed", lambda: problems(user_mode))
    assert re.search(reason, said), said
    assert name not in user_mode.agents()
    assert hashlib.sha256(file.read_bytes()).digest() == before, "a file that is not understood is not touched"
    file.unlink()
    file.parent.rmdir()
    user_mode.manager("Reload")
    user_mode.wait(lambda: not any(d.endswith(name) for d in problems(user_mode)), 10, "the problem is gone")


def test_bad_edit_of_a_good_agent(user_mode, engineer, alice):
    """The last good configuration stays in force, and the agent runs on."""
    file = alice.home / ".agent_proxy/.state/agents/engineer_alice/agent.yml"
    text = file.read_text()
    pid = engineer.MainPID
    alice.run(["tee", file], input=text + "limits:\n  tasks_max: lots\n")
    said = user_mode.wait(lambda: next((r for d, r in problems(user_mode).items() if "engineer_alice" in d), None), 10,
                          "the problem is listed")
    assert "tasks_max" in said
    assert engineer.MainPID == pid and engineer.State == "ready"
    alice.run(["tee", file], input=text)
    user_mode.wait(lambda: problems(user_mode) == {}, 10, "the problem is gone")


def test_bad_daemon_yml(user_mode, alice, engineer):
    file = alice.home / ".puffo-agent/daemon.yml"
    text = file.read_text()
    alice.run(["tee", file], input=text + "max_parallel_starts: none\n")
    said = user_mode.wait(lambda: next((r for r in problems(user_mode).values() if "max_parallel_starts" in r), None),
                          10, "the problem is listed", lambda: problems(user_mode))
    assert re.search(r"daemon\.yml:\d+", said)
    assert user_mode.get("/ai/puffo/Agents1", "ai.puffo.Agents1.Manager", "DefaultProvider") == "anthropic"
    alice.run(["tee", file], input=text)
    user_mode.wait(lambda: problems(user_mode) == {}, 10, "the problem is gone")


ROOT = "/ai/puffo/Agents1"
ALICE = ROOT + "/agent/engineer_5falice"


@pytest.mark.parametrize("path, interface, method, signature, args, error", [
    (ROOT, "Manager", "GetAgent", "s", ["nobody"], "ai.puffo.Agents1.Error.NoSuchAgent"),
    (ROOT, "Manager", "Init", "s", ["../x"], "ai.puffo.Agents1.Error.InvalidName"),
    (ROOT, "Manager", "Init", "s", [""], "ai.puffo.Agents1.Error.InvalidName"),
    (ROOT, "Manager", "Init", "s", ["a/b"], "ai.puffo.Agents1.Error.InvalidName"),
    (ROOT, "Manager", "Init", "s", ["ünï"], "ai.puffo.Agents1.Error.InvalidName"),
    (ROOT, "Manager", "Hire", "ss", ["engineer", "x" * 100], "ai.puffo.Agents1.Error.InvalidName"),
    (ROOT, "Manager", "CreateAgent", "sa{sv}", ["x" * 65, {}], "ai.puffo.Agents1.Error.InvalidName"),
    (ROOT, "Manager", "CreateAgent", "sa{sv}", ["fine", {"Nonsense": ["s", "x"]}], "InvalidArg"),
    (ROOT, "Manager", "CreateAgent", "sa{sv}", ["fine", {"Model": ["u", 5]}], "InvalidArg"),
    (ROOT, "Manager", "CreateAgent", "sa{sv}", ["fine", {"RuntimeKind": ["s", "chat-remote"]}], "InvalidArg"),
    (ROOT, "Manager", "SetDefaultProvider", "s", ["clippy"], "InvalidArg"),
    (ROOT, "Manager", "Init", "u", [5], "org.freedesktop.DBus.Error.InvalidArgs"),
    (ROOT, "Manager", "NoSuchMethod", "", [], "org.freedesktop.DBus.Error.UnknownMethod"),
    (ROOT + "/agent/nobody", "Agent", "Stop", "", [], "org.freedesktop.DBus.Error.UnknownObject"),
    (ROOT + "/pairing", "Pairing", "Unpair", "", [], "ai.puffo.Agents1.Error.NotPaired"),
    (ALICE, "Agent", "Submit", "sa{sv}", ["../../x", {"Text": ["s", "x"]}], "InvalidArg"),
    (ALICE, "Agent", "Submit", "sa{sv}", ["turn", {}], "InvalidArg"),
    (ALICE, "Agent", "Submit", "sa{sv}", ["turn", {"Text": ["b", True]}], "InvalidArg"),
    (ALICE, "Agent", "Submit", "sa{sv}", ["turn", {"Text": ["s", "x"], "Previous": ["s", "no"]}],
     "NoSuchTurn"),
    (ALICE, "Agent", "GetTurn", "s", ["no-such-turn"], "NoSuchTurn"),
    (ALICE, "Agent", "ReadMemory", "s", ["../SOUL"], None),
    (ALICE, "Agent", "ListFiles", "s", ["../../"], None),
    (ALICE, "Agent", "OpenFile", "s", ["/etc/passwd"], None),
    (ALICE, "Agent", "Connect", "s", ["relative"], None),
    (ALICE, "Agent", "SetRuntime", "a{sv}", [{"SandboxProfile": ["s", "loose"]}], "InvalidArg"),
])
def test_bus(user_mode, engineer, path, interface, method, signature, args, error):
    listed = set(user_mode.agents())
    with pytest.raises(BusError) as caught:
        user_mode.call(path, f"ai.puffo.Agents1.{interface}", method, signature, *args)
    assert (error or "") in caught.value.name, caught.value
    assert caught.value.message
    assert set(user_mode.agents()) == listed


def test_link_out_of_the_workspace(user_mode, engineer, alice):
    alice.write("secret.txt", "not for agents")
    alice.run(["ln", "-sf", alice.home / "secret.txt", alice.home / ".agent_proxy/engineer_alice/innocent.txt"])
    with pytest.raises(BusError):
        engineer.call("OpenFile", "s", "innocent.txt")


@pytest.mark.parametrize("request_, status, code", [
    (("POST", "/v1/responses", {"model": "engineer_alice"}), 400, "missing_required_parameter"),
    (("POST", "/v1/responses", {"model": "engineer_alice", "input": ""}), 400, "missing_required_parameter"),
    (("POST", "/v1/responses", {"model": "engineer_alice", "input": 5}), 400, "invalid_type"),
    (("POST", "/v1/responses", {"model": "nobody", "input": "x"}), 404, "model_not_found"),
    (("POST", "/v1/responses", {"model": "../x", "input": "x"}), 404, "model_not_found"),
    (("POST", "/v1/responses", {"model": "engineer_alice", "input": "x", "previous_response_id": "a",
                                "conversation": "b"}), 400, "mutually_exclusive_parameters"),
    (("POST", "/v1/responses", {"model": "engineer_alice", "input": "x", "metadata": {"k": "v" * 513}}), 400,
     "invalid_value"),
    (("GET", "/v1/responses/resp_" + "0" * 48), 404, None),
    (("GET", "/v1/responses/../../etc/passwd"), 404, None),
    (("GET", "/v1/responses"), 405, "method_not_allowed"),
    (("PUT", "/v1/models"), 405, "method_not_allowed"),
    (("GET", "/no/such/path"), 404, None),
    (("POST", "/hire", {"role": "engineer"}), 400, None),
    (("POST", "/hire", {"role": "../x", "name": "y"}), 400, None),
])
def test_http(user_mode, engineer, request_, status, code):
    answer = user_mode.http(*request_)
    assert answer.status == status, answer
    error = answer.json["error"]
    assert error["message"] and set(error) == {"message", "type", "param", "code"}
    if code:
        assert error["code"] == code


@pytest.mark.parametrize("data", ["{", "[]", "", "null", '{"input": "x", "input"', "[" * 100000,
                                  '{"a":' * 10000])
def test_http_bad_json(user_mode, engineer, data):
    answer = user_mode.http("POST", "/v1/responses", data=data, headers={"Content-Type": "application/json"})
    assert answer.status == 400 and answer.json["error"]["type"] == "invalid_request_error"


def test_http_too_large(user_mode, engineer, alice):
    big = alice.write("big.json", '{"model":"engineer_alice","input":"' + "x" * (17 << 20) + '"}')
    for more in [[], ["--header", "Transfer-Encoding: chunked"]]:
        options = ["--header", "Content-Type: application/json", "--header", "Expect:", "--data-binary", f"@{big}",
                   "--write-out", "\n%{http_code}", *more]
        out = alice.run(user_mode.curl("/v1/responses", *options), check=False).stdout
        assert out.endswith("413") and "request_too_large" in out


@pytest.mark.parametrize("headers, status", [
    ({"Host": "evil.example"}, 403),
    ({"Host": "evil.example:7011"}, 403),
    ({"Host": "127.0.0.1:7012"}, 403),
    ({"Origin": "https://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Origin": "http://127.0.0.1:7011", "Content-Type": "text/plain"}, 415),
    ({"Host": "localhost:7011"}, 200),
    ({"Origin": "http://127.0.0.1:7011", "Sec-Fetch-Site": "same-origin"}, 200),
])
def test_http_cross_site(user_mode, engineer, headers, status):
    headers = {"Content-Type": "application/json", **headers}
    answer = user_mode.http("POST", "/v1/responses", data='{"model":"engineer_alice","input":"[[reply: ok]]"}',
                            headers=headers)
    assert answer.status == status, answer
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("bytes_", [b"\x00" * 4096, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 200000 + b"\r\n\r\n",
                                    b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: 127.0.0.1:7011\r\n\r\n",
                                    b"POST /v1/responses HTTP/1.1\r\nHost: 127.0.0.1:7011\r\n"
                                    b"Content-Length: -5\r\n\r\n",
                                    b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:7011\r\nHost: evil\r\n\r\n",
                                    os.urandom(8192)],
                         ids=["zeros", "header", "path", "length", "hosts", "noise"])
def test_http_raw(user_mode, engineer, bytes_):
    pid = user_mode.main_pid("puffo-gateway.service")
    with socket.create_connection(("127.0.0.1", 7011), timeout=10) as s:
        # Refused with an answer, by closing, or left to its idle limit: anything but served.
        s.settimeout(1)
        try:
            s.sendall(bytes_)
            s.shutdown(socket.SHUT_WR)
            assert not s.recv(65536).startswith(b"HTTP/1.1 200")
        except OSError:
            pass
    assert user_mode.http("GET", "/healthz").status == 200
    assert user_mode.main_pid("puffo-gateway.service") == pid


def test_missing_key(user_mode, engineer, alice, provider):
    """Without a key the agent says what to set, and takes turns again when it is."""
    alice.run(["sed", "-i", "s/sk-test-alice//; /base_url:/d", alice.home / ".puffo-agent/daemon.yml"])
    try:
        engineer.wait_state("failed")
        assert "puffoctl provider set anthropic --api-key" in engineer.StatusText
        answer = user_mode.http("POST", "/v1/responses", {"model": "engineer_alice", "input": "x"})
        assert answer.status == 503 and answer.json["error"]["code"] == "agent_not_ready"
        assert "api-key" in answer.json["error"]["message"]
    finally:
        from conftest import use_provider
        use_provider(user_mode, provider)
    engineer.wait_state("ready")


def test_wrong_key(user_mode, engineer, provider):
    user_mode.manager("SetProvider", "sa{sv}", "anthropic", {"ApiKey": ("s", "sk-wrong")})
    try:
        response = user_mode.http("POST", "/v1/responses", {"model": "engineer_alice", "input": "wrong key"}).json
        assert response["status"] == "failed" and "sk-wrong" not in str(response)
        user_mode.wait(lambda: engineer.Health == "auth_failed", 10, "the health tells")
    finally:
        from conftest import use_provider
        use_provider(user_mode, provider)
    engineer.wait_state("ready")
    assert user_mode.turn("engineer_alice", "[[reply: right]]")["status"] == "completed"


@pytest.mark.parametrize("size", range(76, 84))
def test_names_that_are_cut_in_a_character(user_mode, engineer, size):
    """Error texts show the beginning of what was given; half a character in them is for no bus."""
    pid = user_mode.main_pid("puffod.service")
    owner = user_mode.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "GetNameOwner", "s", "ai.puffo.Agents1",
                           name="org.freedesktop.DBus")
    text = "x" * (size % 4) + "\N{GRINNING FACE}" * (size // 2)
    for call in [lambda: user_mode.manager("CreateAgent", "sa{sv}", text, {}),
                 lambda: user_mode.manager("SetDefaultProvider", "s", text),
                 lambda: user_mode.manager("Hire", "ss", text, "a"),
                 lambda: user_mode.manager("CreateAgent", "sa{sv}", "fresh", {text: ("s", "")}),
                 lambda: user_mode.manager("CreateAgent", "sa{sv}", "fresh", {"RuntimeKind": ("s", text)}),
                 lambda: engineer.call("ReadMemory", "s", text * 2),
                 lambda: engineer.call("OpenFile", "s", text * 2),
                 lambda: engineer.call("GetTurn", "s", text * 2)]:
        with pytest.raises(BusError) as e:
            call()
        assert e.value.name.startswith("ai.puffo.Agents1.Error."), e.value
        assert "\N{GRINNING FACE}" in e.value.message
    assert user_mode.main_pid("puffod.service") == pid
    assert owner == user_mode.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "GetNameOwner", "s",
                                   "ai.puffo.Agents1", name="org.freedesktop.DBus")


def test_noncharacters_in_a_turn(user_mode, engineer):
    """JSON may hold them, the bus may not."""
    answer = user_mode.http("POST", "/v1/responses", {"model": "engineer_alice", "input": "[[reply: one]] \uffff\ufffe"})
    assert answer.status == 200 and answer.json["status"] == "completed", answer
