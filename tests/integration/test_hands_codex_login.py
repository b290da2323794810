# SPDX-License-Identifier: MIT
"""The real Codex with an operator's account instead of a key: what it makes of the view that it is given of that
login, and what happens when the account's backend refuses it, or is not there."""

import base64
import http.server
import json
import pathlib
import threading
import time

import pytest

from conftest import forget
from machine import Suite, output_text
from test_hands_codex import CODEX, ID, PATIENCE, PATIENT, SETTINGS, Role


def token(**claims):
    """Unsigned: Codex reads when it expires, and whose it is."""
    parts = [{"alg": "none"}, {"exp": int(time.time()) + 86400, "email": "alice@example.org", **claims,
                               "https://api.openai.com/auth": {"chatgpt_account_id": "account-1",
                                                               "chatgpt_plan_type": "plus"}}]
    return ".".join([base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts] + ["x"])


class Backend:
    """What an account is for: it answers every question with the same words. Questions come compressed, and are not
    looked at."""

    def __init__(self, port=0):
        self.asked, self.refuses = [], False
        backend = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, status, body, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Connection", "close")         # nobody is to be served by one that is gone
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.answer(426 if self.headers.get("Upgrade") else 404, b"{}")

            def do_POST(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if not self.path.endswith("/responses"):
                    return self.answer(404, b"{}")
                backend.asked.append(dict(self.headers.items()))
                if backend.refuses:
                    return self.answer(401, b'{"error": {"message": "expired", "code": "token_expired"}}')
                message = {"type": "message", "role": "assistant", "id": "m1",
                           "content": [{"type": "output_text", "text": "By the account."}]}
                usage = {"input_tokens": 70, "input_tokens_details": {"cached_tokens": 20}, "output_tokens": 3,
                         "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 73}
                events = [{"type": "response.output_item.done", "output_index": 0, "item": message},
                          {"type": "response.completed", "response": {"id": "r1", "usage": usage}}]
                self.answer(200, "".join(f"data: {json.dumps(e)}\n\n" for e in events).encode(), "text/event-stream")

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture(scope="module")
def backend():
    backend = Backend()
    yield backend
    backend.close()


@pytest.fixture(scope="module")
def role(alice, provider, backend):
    if not CODEX.exists():
        pytest.fail("the CLIs are not installed: ./check integration does that")
    link = pathlib.Path("/usr/local/bin/codex")
    link.unlink(missing_ok=True)
    link.symlink_to(CODEX)
    suite = Suite("user", alice)
    forget(alice)
    url = f"http://127.0.0.1:{backend.port}"
    config = f"codex_config:\n  chatgpt_base_url: {url}/backend-api/\n  openai_base_url: {url}/v1\n"
    suite.user.write(suite.user.home / SETTINGS, PATIENT + config)
    home = suite.user.home / ".codex"
    login = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None,
             "last_refresh": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "tokens": {
                 "id_token": token(), "access_token": token(scope="access"), "refresh_token": "refresh-1",
                 "account_id": "account-1"}}
    suite.user.write(home / "auth.json", json.dumps(login))
    suite.start()
    suite.user.run(["agent-proxy", "hire", "engineer", "alice"])
    yield Role(suite, provider)
    suite.stop()
    link.unlink()
    suite.user.run(["rm", "-r", home])
    forget(alice)


def test_a_turn(role, backend):
    """It asks the account's backend itself, and its tokens of a turn are counted all the same."""
    assert (role.agent.RuntimeKind, role.agent.Harness) == ("cli-local", "codex")
    turn = role.suite.turn(ID, "Who pays?")
    assert output_text(turn) == "By the account."
    assert (turn["usage"]["input_tokens"], turn["usage"]["output_tokens"]) == (70, 3)
    headers = {name.lower(): value for name, value in backend.asked[-1].items()}
    login = json.loads((role.suite.user.home / ".codex/auth.json").read_text())
    assert headers["authorization"] == "Bearer " + login["tokens"]["access_token"]
    assert headers["chatgpt-account-id"] == "account-1"
    # What would let it work on for ever it has never had, and has not got by itself.
    assert login["tokens"]["refresh_token"] == "refresh-1"
    assert json.loads((role.directory / ".codex/auth.json").read_text())["tokens"]["refresh_token"] == ""


def test_refused(role, backend):
    """Nobody but the operator's own Codex can do anything about that."""
    backend.refuses = True
    try:
        turn = role.suite.turn(ID, "And now?")
        assert turn["status"] == "failed" and "(auth)" in turn["error"]["message"]
        assert role.agent.Health == "auth_failed"
    finally:
        backend.refuses = False
    assert output_text(role.suite.turn(ID, "Again?")) == "By the account."
    assert role.agent.Health == "ok"


def test_unreachable(role, backend):
    """Codex would wait for ever; two minutes are enough."""
    backend.close()
    before = role.codex()
    body = {"model": ID, "input": "Anybody?", "background": True}
    id = role.suite.http("POST", "/v1/responses", body).json["id"]
    answer = role.suite.wait(lambda: next((r.json for r in [role.suite.http("GET", f"/v1/responses/{id}")]
                                           if r.json["status"] not in ("queued", "in_progress")), None),
                             3 * PATIENCE, "the turn ends")
    assert answer["status"] == "failed" and "backend unreachable" in answer["error"]["message"]
    # It is the same process that goes on when it is back.
    again = Backend(backend.port)
    try:
        assert output_text(role.suite.turn(ID, "Back?")) == "By the account."
        assert role.codex() == before
    finally:
        again.close()
