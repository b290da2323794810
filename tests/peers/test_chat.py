# SPDX-License-Identifier: MIT
"""A chat that calls tools, against the emulator of the providers: in each dialect, and killed in the middle."""

import hashlib
import json
import os
import pathlib
import subprocess
import time

import pytest

from provider_peer import DIALECTS, clean, peer  # noqa: F401

CLIENT = os.environ["CHAT_CLIENT"]
SCRIPT = ('Hi. [[think: hm]] [[say: One moment.]] [[tool: look]] [[tool: send_message {"text": "ä \\"b\\""}]] [[then]] '
          '[[tool: send_message {"text": "c"}]] [[then]] [[think: aha]] [[say: Nearly.]] '
          '[[tool: send_message {"text": "d"}]] [[reply: Done.]]')
EFFECTS = ['0/0 look ', '0/1 send_message {"text":"ä \\"b\\""}', '1/0 send_message {"text":"c"}',
           '2/0 send_message {"text":"d"}']


class Agent:
    def __init__(self, directory, peer, dialect, more=""):
        self.directory = directory
        (directory / "agent.yml").write_text(
            f"runtime:\n  kind: chat-local\n  provider: {dialect}\n  api_key: sk-test-1\n"
            f"  llm_base_url: http://127.0.0.1:{peer.port}\n{more}")

    def start(self, turn, text, *images):
        return subprocess.Popen([CLIENT, self.directory, turn, text, *images], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    def run(self, turn, text, *images):
        process = self.start(turn, text, *images)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        return json.loads(out)

    def effects(self):
        path = self.directory / "effects"
        return path.read_text().splitlines() if path.exists() else []


def log(peer):
    return [json.loads(line) for line in peer.call("GET", "/_log")[2].splitlines()]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_steps(peer, dialect, tmp_path):
    agent = Agent(tmp_path, peer, dialect)
    assert agent.run("t1", SCRIPT) == ["completed", "One moment.", "Nearly.", "Done."]
    assert agent.effects() == [f"t1/{e}" for e in EFFECTS]
    entries = log(peer)
    assert [e["status"] for e in entries] == [200] * 4
    assert entries[1]["results"] == ["result of look", "result of send_message"]
    assert entries[0]["offered"] == ["mcp__puffo__send_message", "mcp__puffo__look"]

    # Later on, what was said is there, and nothing of the tools.
    agent.run("t2", "And now?")
    body = json.dumps(log(peer)[-1]["body"], ensure_ascii=False)
    assert "One moment." in body and 'ä \\"b\\"\\n\\nc\\n\\nd' in body
    assert "result of" not in body and "functionCall" not in body and "tool_calls" not in body


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("split", (1, 3, 7))
def test_pieces(peer, dialect, split, tmp_path):
    agent = Agent(tmp_path, peer, dialect)
    assert agent.run("t1", f"{SCRIPT} [[split: {split}]]")[0] == "completed"
    assert agent.effects() == [f"t1/{e}" for e in EFFECTS]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_troubles(peer, dialect, tmp_path):
    agent = Agent(tmp_path, peer, dialect)
    for i, trouble in enumerate(("[[status: 503]]", "[[cut: 1]]", "[[end: 1]]", "[[stream-error]]")):
        assert agent.run(f"t{i}", f"{SCRIPT} {trouble} [[times: 1]] [[at-step: 2]]")[0] == "completed"
        assert agent.effects()[4 * i:] == [f"t{i}/{e}" for e in EFFECTS]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_bad_calls(peer, dialect, tmp_path):
    agent = Agent(tmp_path, peer, dialect)
    broken = "" if dialect == "google" else '[[tool: look {"a": ]] '      # comes parsed there, or not at all
    assert agent.run("t1", f"{broken}[[tool: missing {{}}]] [[reply: Sorry.]]") == ["completed", "Sorry."]
    assert agent.effects() == []
    results = log(peer)[-1]["results"]
    assert "There is no tool 'missing'." in results[-1]
    assert dialect == "google" or "not valid JSON" in results[0]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_end_of_steps(peer, dialect, tmp_path):
    agent = Agent(tmp_path, peer, dialect, "  max_turns: 2\n")
    script = " [[then]] ".join(["[[tool: look]]"] * 5)
    assert agent.run("t1", f"{script} [[reply: Enough.]]")[0] == "completed"
    assert len(agent.effects()) == 2
    entries = log(peer)
    assert [bool(e["offered"]) for e in entries] == [True, True, False]
    assert "used up its tool calls" in entries[-1]["text"]


def test_no_tools(peer, tmp_path):
    agent = Agent(tmp_path, peer, "openai")
    assert agent.run("t1", "[[no-tools]] Hi.") == ["completed", "You said: Hi."]
    assert [e["status"] for e in log(peer)] == [400, 200]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_killed(peer, dialect, tmp_path):
    """After every few milliseconds of a turn, and once more: each tool has done its work once."""
    again = 0
    for moment in range(0, 240, 12):
        directory = pathlib.Path(tmp_path, str(moment))
        directory.mkdir()
        agent = Agent(directory, peer, dialect)
        process = agent.start("t1", f"{SCRIPT} [[slow: 4ms]]")
        time.sleep(moment / 1000)
        again += process.poll() is None
        process.kill()
        process.communicate()
        assert agent.run("t1", f"{SCRIPT} [[slow: 4ms]]") == ["completed", "One moment.", "Nearly.", "Done."]
        assert agent.effects() == [f"t1/{e}" for e in EFFECTS]
    assert again > 5
    assert all(e["status"] in (200, None) for e in log(peer))


def picture(directory, name, content):
    path = directory / name
    path.write_bytes(content)
    return path


def short(kind, path):
    return f"image/{kind} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_images(peer, dialect, tmp_path):
    """Those of a turn, and those before it: in each of its calls, also in those after it was killed."""
    agent = Agent(tmp_path, peer, dialect)
    (tmp_path / "given").mkdir()
    first = picture(tmp_path / "given", "first.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4000)
    second = picture(tmp_path / "given", "second.jpg", b"\xff\xd8\xff" + b"x" * 5000)
    gif = picture(tmp_path / "given", "third.gif", b"GIF89a" + b"y" * 50)
    seen = [short("png", first), short("jpeg", second)] + [short("gif", gif)] * (dialect != "google")
    script = "Look. [[tool: look]] [[then]] [[hold: %s]] [[at-step: 2]] [[reply: Seen.]]" % dialect
    process = agent.start("t1", script, first, second, gif)
    for _ in range(600):
        if len(log(peer)) >= 2:
            break
        time.sleep(0.1)
    process.kill()
    process.communicate()
    for path in (first, second, gif):
        path.unlink()       # what was submitted is the turn's
    peer.call("POST", f"/_release/{dialect}", [])
    assert agent.run("t1", script)[0] == "completed"
    assert agent.run("t2", "And now? [[reply: Still.]]") == ["completed", "Still."]
    entries = log(peer)
    assert len(entries) >= 4 and [e["images"] for e in entries] == [seen] * len(entries)
    body = json.dumps(entries[-1]["body"])
    assert ("not shown to you: your provider takes no GIF" in body) == (dialect == "google")
    assert body.count("; shown to you)") == len(seen)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_images(peer, dialect, tmp_path):
    """A model without eyes is told, in this turn and in those after it."""
    agent = Agent(tmp_path, peer, dialect)
    image = picture(tmp_path, "a.png", b"\x89PNG\r\n\x1a\n" + b"z" * 100)
    assert agent.run("t1", "[[no-images]] Hi.", image)[0] == "completed"
    assert agent.run("t2", "[[no-images]] Well?") == ["completed", "You said: Well?"]
    entries = log(peer)
    assert [e["status"] for e in entries] == [400, 200] * 2
    assert [len(e["images"]) for e in entries] == [1, 0] * 2
    assert "did not take it]" in json.dumps(entries[-1]["body"])
