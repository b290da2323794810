# SPDX-License-Identifier: MIT
"""kill -9 in the middle of streamed turns: a connection may be lost, but never a turn, and none is answered twice."""

import os
import pathlib
import time

import pytest

from machine import output_text

TIMES = 20
# The first time it comes to nothing: what asks for it is killed meanwhile.
REPLY = "[[words: 30]] [[hang: 5]] [[times: 1]]"
WORDS = " ".join(f"word{n}" for n in range(1, 31))


@pytest.fixture(scope="module")
def engineer(user_mode):
    return user_mode.hire("engineer", "alice")


def test_puffod_dies(user_mode, engineer, provider):
    """Nothing of the turn goes through puffod: the stream runs on as if nothing had happened."""
    session = engineer.MainPID
    for n in range(TIMES):
        with user_mode.stream("engineer_alice", f"puffod dies {n}. [[words: 30]] [[hold: puffod-{n}]]") as stream:
            stream.until("response.output_text.delta")
            user_mode.kill("puffod.service")
            provider.release(f"puffod-{n}")
            assert stream.rest()[-1]["type"] == "response.completed"
            assert stream.text == WORDS
        assert provider.outcomes(f"puffod dies {n}.") == ["complete"]
    assert engineer.MainPID == session
    assert engineer.wait_state("ready")


def test_gateway_dies(user_mode, engineer, provider):
    """The client's connection is cut; the turn goes on and can be fetched from the next gateway."""
    for n in range(TIMES):
        with user_mode.stream("engineer_alice", f"gateway dies {n}. [[words: 30]] [[hold: gateway-{n}]]") as stream:
            stream.until("response.output_text.delta")
            user_mode.kill("puffo-gateway.service")
            assert stream.rest()[-1]["type"] != "response.completed"
            provider.release(f"gateway-{n}")
        path = "/v1/responses/" + stream.id
        done = user_mode.wait(lambda: (r := user_mode.http("GET", path).json)["status"] == "completed" and r, 20,
                              "the turn ends", lambda: user_mode.http("GET", path))
        assert output_text(done) == WORDS
        assert provider.outcomes(f"gateway dies {n}.") == ["complete"]


def test_session_dies(user_mode, provider):
    """systemd brings the session back after its RestartSec=, and the turn is begun again: answered and shown once."""
    agents = [user_mode.hire("worker", f"w{n}") for n in range(TIMES)]
    killed, streams = {}, []
    try:
        for n, agent in enumerate(agents):
            manager = user_mode.stream(agent.id, f"session dies {n}. {REPLY}")
            stream = manager.__enter__()
            streams.append((manager, stream))
            stream.until("response.output_text.delta")
            killed[agent.id] = agent.MainPID
            os.kill(killed[agent.id], 9)
        dead = time.monotonic()
        for (_, stream), agent in zip(streams, agents):
            assert stream.rest()[-1]["type"] == "response.completed", stream.seen[-1]
            done = stream.seen[-1]["response"]
            complete = [i for i in done["output"] if i["type"] == "message" and i["status"] == "completed"]
            assert len(complete) == 1 and complete[0]["content"][0]["text"] == WORDS
        assert time.monotonic() - dead > 5, "RestartSec= is 10 s"
    finally:
        for manager, _ in streams:
            manager.__exit__(None, None, None)

    for n, agent in enumerate(agents):
        assert agent.MainPID not in (0, killed[agent.id])
        assert agent.Restarts == 1
        outcomes = provider.outcomes(f"session dies {n}.")
        assert outcomes.count("complete") == 1 and len(outcomes) == 2, outcomes
        messages = agent.call("ListMessages", "ssu", "", "", 50)[0]
        assert [(m[1], m[2]) for m in messages if f"session dies {n}." in m[2] or m[2] == WORDS] == [
            ("user", f"session dies {n}. {REPLY}"), ("assistant", WORDS)]
    resumed = user_mode.journal("MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a08")
    assert {line["PUFFO_AGENT"] for line in resumed} >= {agent.id for agent in agents}


def test_second_death_is_a_failed_turn(user_mode, provider):
    """A turn that kills its session twice is not tried a third time."""
    agent = user_mode.hire("worker", "w0")
    with user_mode.stream(agent.id, "dies twice. [[words: 400]] [[slow: 50ms]]") as stream:
        stream.until("response.output_text.delta")
        first = agent.MainPID
        os.kill(first, 9)
        second = user_mode.wait(lambda: (p := agent.MainPID) not in (0, first) and p, 30, "the session is back")
        user_mode.wait(lambda: provider.count("dies twice.") == 2, 30, "the turn is begun again")
        os.kill(second, 9)
        assert stream.rest()[-1]["type"] == "response.failed"
    agent.wait_state("ready")
    assert provider.count("dies twice.") == 2
    assert user_mode.turn(agent.id, "[[reply: alive]]")["status"] == "completed"


def test_session_that_ends_without_an_error(user_mode):
    """Restart=on-failure leaves those to puffod: it makes the same pause, and a Start cuts it short."""
    agent = user_mode.hire("worker", "w0")
    agent.wait_state("ready")
    first = user_mode.kill(agent.Unit, "TERM")
    dead = time.monotonic()
    agent.wait_state("restarting", deadline=5)
    second = user_mode.wait(lambda: (p := agent.MainPID) not in (0, first) and p, 30, "the session is back")
    assert time.monotonic() - dead > 5, "as after a crash"

    agent.wait_state("ready")
    os.kill(second, 15)
    dead = time.monotonic()
    agent.wait_state("restarting", deadline=5)
    agent.call("Start")
    assert agent.MainPID not in (0, second) and time.monotonic() - dead < 15, "the second pause is 20 s"
    assert user_mode.turn(agent.id, "[[reply: alive]]")["status"] == "completed"


def test_export_after_a_death(user_mode, alice):
    """What a killed session has promised is in the log beside its database: it is exported all the same."""
    agent = user_mode.hire("worker", "w0")
    agent.wait_state("ready")
    assert output_text(user_mode.turn(agent.id, "[[reply: kept in the log]]")) == "kept in the log"
    os.kill(agent.MainPID, 9)
    agent.call("Stop")
    agent.wait_state("stopped")
    log = alice.home / ".agent_proxy/.state/agents/worker_w0/messages.db-wal"
    assert log.stat().st_size > 0

    archive = str(alice.home / "killed.zip")
    agent.call("Export", "ha{sv}", {"open": archive}, {"Messages": ("b", True), "Workspace": ("b", True)})
    user_mode.manager("Import", "hs", {"read": archive}, "worker_copy")
    copy = user_mode.agent("worker_copy")
    copy.call("Start")
    copy.wait_state("ready")
    assert "kept in the log" in [m[2] for m in copy.call("ListMessages", "ssu", "", "", 50)[0]]
    for made in [agent, copy]:
        made.call("Delete")


def test_everything_dies_at_once(user_mode, engineer, provider):
    with user_mode.stream("engineer_alice", f"all die. {REPLY}") as stream:
        stream.until("response.output_text.delta")
        for unit in ["puffod.service", "puffo-gateway.service", engineer.Unit]:
            user_mode.kill(unit)
    path = "/v1/responses/" + stream.id

    def completed():
        answer = user_mode.http("GET", path)
        return answer.json if answer.status == 200 and answer.json["status"] == "completed" else None

    done = user_mode.wait(completed, 60, "the turn ends", lambda: user_mode.http("GET", path))
    assert output_text(done).endswith(WORDS)
    assert provider.outcomes("all die.").count("complete") == 1


def test_stop_while_busy(user_mode, engineer):
    """A running turn has its grace time, and is gone from the queue afterwards."""
    with user_mode.stream("engineer_alice", "[[words: 20]] [[slow: 50ms]]") as stream:
        stream.until("response.output_text.delta")
        engineer.call("Stop")
        assert stream.rest()[-1]["type"] in ("response.completed", "response.incomplete", "response.failed")
    assert engineer.State == "stopped"
    engineer.call("Start")


@pytest.mark.parametrize("point", ["files-saved", "files-left", "files-removed"])
def test_files_of_a_turn(user_mode, hooks, point):
    """Those of turns that are gone go, those of turns that there are stay, and none is left over."""
    agent = user_mode.hire("clerk", point.partition("-")[2])
    content = [{"role": "user", "content": [{"type": "input_file", "filename": "a", "file_data": "eA=="}]}]
    directory = user_mode.user.home / f".agent_proxy/.state/agents/{agent.id}"
    inbox = pathlib.Path(agent.Workspace) / ".puffo/inbox"
    kept, given = [user_mode.turn(agent.id, content)["id"] for _ in range(2)]
    assert {path.name for path in inbox.iterdir()} == {kept, given}
    restarts = agent.Restarts
    user_mode.user.write(directory / "crash-at", f"{point}\n")
    if point == "files-saved":
        # Its client is refused, or the turn comes to be after all.
        user_mode.http("POST", "/v1/responses", {"model": agent.id, "input": content})
    else:
        user_mode.http("DELETE", f"/v1/responses/{given}")
    user_mode.wait(lambda: agent.Restarts == restarts + 1 and agent.State == "ready", 60, "the session is back",
                   agent.properties)
    assert not (directory / "crash-at").exists()

    def stored():
        return {name for name in [path.name for path in inbox.iterdir()]
                if user_mode.http("GET", f"/v1/responses/{name}").status == 200}
    user_mode.wait(lambda: {path.name for path in inbox.iterdir()} == stored(), 60, "nothing is left over",
                   lambda: list(inbox.iterdir()))
    assert kept in stored() and (given in stored()) == (point == "files-saved")
