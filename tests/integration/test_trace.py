# SPDX-License-Identifier: MIT
"""puffoctl trace: one message's way through the journal."""

import json
import pathlib
import socket
import subprocess
import time

import pytest

from machine import BusError
from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import Resident


@pytest.fixture(scope="module")
def helper(town):
    return Resident(town, "tracee")


@pytest.fixture(scope="module")
def answered(helper, bo):
    """A message and its answer."""
    root = bo.say("follow me [[reply: Here I am.]]", to=helper.slug)
    answer = bo.answer(root)
    helper.wait_settled()
    return root, answer["envelope_id"]


@pytest.fixture
def trace(suite):
    def run(*args, check=True):
        return suite.user.run(["puffoctl", "trace", *args], check=check)
    return run


def rows(trace, *args, has=()):
    """The journal is written behind everybody's back: until these stations are in it."""
    # Not with Suite.wait(): its monitor of the bus gets a copy of each descriptor, and nobody reads what it prints.
    end = time.monotonic() + 90
    while True:
        result = trace(*args, "--json", check=False)
        found = json.loads(result.stdout) if result.returncode == 0 else []
        if set(has) <= {row["station"] for row in found}:
            return found
        assert time.monotonic() < end, (has, result)


def say_in_journal(text, **fields):
    """A line from somewhere else than the agent's unit."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        lines = "".join(f"{k}={v}\n" for k, v in {"MESSAGE": text, "PRIORITY": 6, **fields}.items())
        s.sendto(lines.encode(), "/run/systemd/journal/socket")


def say_in_unit(suite, helper, text, **fields):
    """The same from a process in the agent's unit."""
    pid = suite.main_pid(helper.agent.properties()["Unit"])
    group = pathlib.Path(f"/proc/{pid}/cgroup").read_text().strip().partition("::")[2]
    code = ("import os, socket, sys\n"
            "open(sys.argv[1], 'w').write('0')\n"
            "os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))\n"
            "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
            "s.sendto(bytes.fromhex(sys.argv[4]), '/run/systemd/journal/socket')\n")
    data = b"".join(f"{k}\n".encode() + len(v.encode()).to_bytes(8, "little") + v.encode() + b"\n"
                    for k, v in {"MESSAGE": text, "PRIORITY": "6", **fields}.items())
    subprocess.run(["/usr/bin/python3", "-c", code, f"/sys/fs/cgroup{group}/cgroup.procs", str(suite.user.uid),
                    str(suite.user.gid), data.hex()], check=True, timeout=30)


STATIONS = ["queued", "prepared", "started", "sealed", "posted"]


def test_from_arrival_to_answer(trace, helper, answered):
    root, answer = answered
    found = rows(trace, root, has=STATIONS)
    seen = [row["station"] for row in found if row["station"]]
    assert [s for s in seen if s in STATIONS] == STATIONS, seen
    times = [row["time"] for row in found]
    assert times == sorted(times) and times[-1] - times[0] < 60e6
    assert [row["delta_usec"] for row in found] == [0] + [b - a for a, b in zip(times, times[1:])]
    turns = {row["turn"] for row in found} - {None}
    assert len(turns) == 1
    assert {row["envelope"] for row in found} - {None} == {root, answer}
    assert {row["agent"] for row in found} == {helper.slug}
    assert all("puffo-session@" in row["unit"] for row in found)
    assert all(row["message"] for row in found)


def test_by_the_answer_and_by_agent(trace, helper, answered):
    root, answer = answered
    whole = rows(trace, root, has=STATIONS)
    by_answer = rows(trace, answer, has=["posted"])
    assert {row["turn"] for row in by_answer} == {row["turn"] for row in whole} - {None}
    assert rows(trace, root, helper.slug, has=STATIONS) == whole


def test_for_people(trace, answered):
    root, _ = answered
    rows(trace, root, has=STATIONS)
    lines = trace(root).stdout.splitlines()
    cells = [line.split("\t") for line in lines]
    assert {len(c) for c in cells} == {5}
    assert cells[0][1] in ("", "-") and all(c[1].startswith("+") for c in cells[1:])
    assert "queued" in [c[3] for c in cells] and "posted" in [c[3] for c in cells]


def test_each_message_of_a_batch(trace, helper, bo, provider):
    """What comes while the agent is at work is one turn, which is found by the last of its messages, too."""
    root = bo.say("first [[hold: first]] [[reply: One.]]", to=helper.slug)
    rows(trace, root, has=["started"])
    later = [bo.say(f"and {word} [[reply: All.]]", to=helper.slug, thread=root) for word in ("second", "third")]
    helper.wait_received(*later)
    provider.release("first")
    bo.wait(lambda m: m.get("thread_root_id") == root and m["text"] == "All.")
    helper.wait_settled()
    turns = [{row["turn"] for row in rows(trace, one, has=STATIONS[:1] + ["started", "posted"])} - {None}
             for one in [root, *later]]
    assert len(turns[0]) == 1 and turns[1] == turns[2] and len(turns[1]) == 1 and turns[0] != turns[1]


def test_each_message_of_a_backlog(suite, trace, helper, town):
    """What was missed is one line for many, which each of them finds."""
    helper.agent.call("Stop")
    helper.agent.wait_state("stopped")
    ids = town.server.bulk(helper.slug, 100, push=False, text="missed {n} [[reply: Seen.]]",
                           thread_root_id="msg_missed")
    helper.agent.call("Start")
    helper.agent.wait_state("ready")
    for one in (ids[0], ids[49], ids[99]):
        found = rows(trace, one, has=["queued", "started", "posted"])
        named = [row["station"] for row in found if row["envelope"] == one]
        assert [station for station in named if station != "prepared"] == ["queued", "started"], named
        assert len({row["turn"] for row in found} - {None}) == 1
    cursors = subprocess.run(["journalctl", "-q", "-o", "json", "PUFFO_STATION=queued", "PUFFO_THREAD=msg_missed"],
                             check=True, capture_output=True, text=True).stdout.splitlines()
    assert 1 <= len(cursors) <= 10
    helper.wait_settled()


def test_others_cannot_join(suite, trace, helper, answered):
    """What is written from elsewhere says nothing of the agent; what its unit writes cannot fool a terminal."""
    root, _ = answered
    before = rows(trace, root, has=STATIONS)
    say_in_journal("forged", PUFFO_ENVELOPE=root, PUFFO_STATION="forged", PUFFO_AGENT=helper.slug)
    say_in_unit(suite, helper, "two\nlines \033[31mred", PUFFO_ENVELOPE=root, PUFFO_STATION="inside")
    after = rows(trace, root, has=STATIONS + ["inside"])
    assert len(after) == len(before) + 1 and "forged" not in [row["station"] for row in after]
    text = trace(root).stdout
    assert "\033" not in text and "two lines ?[31mred" in text
    assert len(text.splitlines()) == len(after)


@pytest.mark.parametrize("args, code, says", [
    (["msg_nothing"], 1, "no message 'msg_nothing' in the journal of any agent"),
    (["msg_nothing", "nobody"], 1, "cannot trace message 'msg_nothing'"),
    (["+"], 1, "no message '+'"),
    ([""], 2, "is no message id"),
    (["m" * 201], 2, "is no message id"),
    ([], 2, "needs MESSAGE"),
    (["a", "b", "c"], 2, ""),
])
def test_errors(suite, helper, trace, args, code, says):
    result = trace(*args, check=False)
    assert result.returncode == code and result.stdout == ""
    assert result.stderr.startswith("puffoctl: ") and result.stderr.count("\n") == 1 and says in result.stderr


def test_option_of_the_bus(suite, helper):
    with pytest.raises(BusError) as e:
        helper.agent.call("OpenJournal", "a{sv}", {"Envelope": ("s", "m" * 257)})
    assert "takes 1 to 256 bytes" in str(e.value)
