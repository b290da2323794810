#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Figures of the running suite, for reading, not for judging: "./check bench" prints them and keeps them.

Runs inside the machine that tests/integration/container boots, as the tests do.
"""

import http.client
import json
import os
import pathlib
import statistics
import sys
import threading
import time

from conftest import forget, use_provider
from machine import Provider, Suite, User

AGENTS = 20
TURNS = 50
IDLE_SECONDS = 10


def show(name, value):
    print(f"{name:<58} {value}", flush=True)


def quantiles(seconds):
    ordered = sorted(seconds)
    return (f"p50 {statistics.median(ordered) * 1000:.1f} ms, p95 {ordered[int(len(ordered) * 0.95)] * 1000:.1f} ms "
            f"({len(ordered)} times)")


def timed(action, *args):
    begin = time.monotonic()
    action(*args)
    return time.monotonic() - begin


def proportional_kib(pid):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise KeyError("Pss")


def wakeups(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise KeyError("voluntary_ctxt_switches")


def turn_times(agent, text):
    """Seconds until the first words, and until the end, of a streamed turn on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", 7011, timeout=60)
    begin = time.monotonic()
    connection.request("POST", "/v1/responses", json.dumps({"model": agent, "input": text, "stream": True}),
                       {"Content-Type": "application/json"})
    answer = connection.getresponse()
    first = None
    while line := answer.readline():
        if first is None and line.startswith(b"event: response.output_text.delta"):
            first = time.monotonic() - begin
    connection.close()
    if first is None:
        raise RuntimeError(f"no answer from {agent}: {answer.status}")
    return first, time.monotonic() - begin


def as_user(user, action):
    """The gateway looks at whose connection it is: so a child becomes that user and sends its figures back."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
        with os.fdopen(writer, "w") as f:
            json.dump(action(), f)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as f:
        figures = f.read()
    if os.waitpid(pid, 0)[1] != 0:
        raise RuntimeError("the measuring child failed")
    return json.loads(figures)


def at_once(ids):
    threads = [threading.Thread(target=turn_times, args=(id, "[[words: 20]]")) for id in ids]
    begin = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return time.monotonic() - begin


def main():
    alice = User("alice")
    suite, provider = Suite("user", alice), Provider()
    forget(alice)
    show("first start, until the sockets and both daemons are ready", f"{timed(suite.start) * 1000:.0f} ms")
    use_provider(suite, provider)

    show("hire, until the agent is ready", quantiles([timed(suite.hire, "worker", f"w{n}") for n in range(AGENTS)]))
    agents = [suite.agent(f"worker_w{n}") for n in range(AGENTS)]

    pids = {"puffod": suite.main_pid("puffod.service"), "puffo-gateway": suite.main_pid("puffo-gateway.service"),
            "puffo-session": agents[0].MainPID}
    for name, pid in pids.items():
        show(f"memory of {name} (PSS), {AGENTS + 1} agents, idle", f"{proportional_kib(pid) / 1024:.1f} MiB")
    before = {name: wakeups(pid) for name, pid in pids.items()}
    time.sleep(IDLE_SECONDS)
    for name, pid in pids.items():
        show(f"wake-ups of {name} in {IDLE_SECONDS} idle seconds", wakeups(pid) - before[name])

    times = as_user(alice, lambda: [turn_times("worker_w0", "[[words: 20]]") for _ in range(TURNS)])
    show("streamed turn, until the first words", quantiles([t[0] for t in times]))
    show("streamed turn of 20 words, until the end", quantiles([t[1] for t in times]))
    seconds = as_user(alice, lambda: at_once([a.id for a in agents]))
    show(f"{AGENTS} agents with a turn each at once", f"{seconds * 1000:.0f} ms")
    show("memory of puffo-session (PSS), after its turns", f"{proportional_kib(pids['puffo-session']) / 1024:.1f} MiB")

    show("restart of puffod below running agents, until it is ready",
         quantiles([timed(suite.systemctl, "restart", "puffod.service") for _ in range(10)]))
    show("restart of puffo-gateway",
         quantiles([timed(suite.systemctl, "restart", "puffo-gateway.service") for _ in range(10)]))
    show(f"stop of everything, {AGENTS + 1} agents", f"{timed(suite.stop) * 1000:.0f} ms")
    provider.close()


sys.exit(main())
