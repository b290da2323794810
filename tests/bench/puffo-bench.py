#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What an agent on Puffo costs: a backlog of messages up to the commit, and doing nothing. Runs as root in the machine
of tests/integration/container; prints a Markdown table. usage: puffo-bench.py [MESSAGES [THREADS [IDLE-SECONDS]]]

The model keeps the agent waiting in its first turn until the backlog has come in: what is measured up to the commit is
reading, verifying, storing and acknowledging, and the beginning of one turn."""

import json
import os
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from machine import Provider, Suite, User  # noqa: E402
from puffo_town import Resident, Town  # noqa: E402


SETTLED_SECONDS = 20
FORGOTTEN_SECONDS = 80   # the model's client has ended, and connections that nobody uses are closed
PATIENCE_MS = 40_000     # the backlog takes less


def status_of(pid):
    lines = (line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: value.split()[0] for name, value in lines if value.split()}


def pss_kib(pid):
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) for line in rollup[1:]}


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def acknowledged(town, slug, count):
    """Waits until the agent has acknowledged that many; when the last one was (ms)."""
    after, seen, at = 0, set(), 0
    while len(seen) < count:
        answer = town.server.control(f"log?kind=ack&after={after}&wait=60")
        if not answer["lines"]:
            sys.exit(f"{len(seen)} of {count} messages are acknowledged, and no more come")
        for line in answer["lines"]:
            after, at = line["n"], line["at"]
            if line["slug"] == slug:
                seen.update(line["ids"])
    return at


def bench_idle(row, helper, seconds):
    pid = helper.agent.MainPID
    link = helper.suite.main_pid("puffo-link.service")
    before, link_before, cpu = status_of(pid), status_of(link), cpu_seconds(pid)
    time.sleep(seconds)
    switches, link_switches = (int(status_of(p)["voluntary_ctxt_switches"]) - int(b["voluntary_ctxt_switches"])
                               for p, b in ((pid, before), (link, link_before)))
    pss = pss_kib(pid)
    row("PSS of an idle, connected session that shares its libraries with no other", f"{pss['Pss'] / 1024:.2f} MiB")
    row("… of that its own (anonymous)", f"{pss['Pss_Anon'] / 1024:.2f} MiB")
    row(f"its wakeups in {seconds} s", str(switches))
    row(f"its CPU time in {seconds} s", f"{cpu_seconds(pid) - cpu:.2f} s")
    row(f"the wakeups of its puffo-link in {seconds} s", str(link_switches))


def bench_idle_many(row, town, count):
    residents = [Resident(town, f"resident-{n}") for n in range(count)]

    def sizes(when):
        pss = sorted(pss_kib(resident.agent.MainPID)["Pss"] for resident in residents)
        row(f"PSS of an idle, connected session, median of {count}, {when}", f"{pss[count // 2] / 1024:.2f} MiB")
        link = pss_kib(town.suite.main_pid("puffo-link.service"))["Pss"]
        row("… of puffo-link, which serves all of them and one more", f"{link / 1024:.2f} MiB")

    time.sleep(SETTLED_SECONDS)
    sizes("never asked")
    for resident in residents:
        town.operator.answer(town.operator.say("hi [[reply: hello]]", to=resident.slug))
    time.sleep(FORGOTTEN_SECONDS)
    sizes("after one answer each")
    for resident in residents:
        resident.remove()


def bench_backlog(row, town, helper, provider, count, threads):
    idle_peak = int(status_of(helper.agent.MainPID)["VmHWM"])
    helper.agent.call("Stop")
    helper.agent.wait_state("stopped")
    for n in range(threads):
        town.server.control("bulk", {"to": helper.slug, "count": count // threads, "push": False,
                                     "start": 1, "text": f"thread {n} message {{n}}. [[reply: seen]]",
                                     "thread_root_id": f"msg_thread-{n}"})
    town.server.control("log", method="DELETE")
    provider.reset()
    provider.request("/_script", "POST", [{"delay": PATIENCE_MS}])
    helper.agent.call("Start")
    connected = town.wait_log("stream_connected", lambda line: line["slug"] == helper.slug)["at"]
    last = acknowledged(town, helper.slug, count)
    pid = helper.agent.MainPID
    cpu, peak = cpu_seconds(pid), int(status_of(pid)["VmHWM"])
    seconds = (last - connected) / 1000
    row(f"{count} messages in {threads} threads, up to the commit: a second of the session's CPU time, its start and "
        "its acknowledgements included", f"{count / cpu:.0f}")
    row("… from the connection to the last acknowledgement, a second; the server in Python shares the machine",
        f"{count / seconds:.0f}")
    row("… growth of its peak memory", f"{(peak - idle_peak) / 1024:.1f} MiB")
    turns = [json.loads(line) for line in provider.request("/_log").splitlines()]
    if len(turns) != 1 or turns[0]["outcome"] is not None:
        sys.exit("turns have run while the backlog came in")
    return cpu


def bench_turns(row, helper, provider, count, threads, cpu):
    pid, began = helper.agent.MainPID, time.monotonic()
    helper.wait_settled(300)
    row("… CPU time of all of its turns", f"{cpu_seconds(pid) - cpu:.2f} s")
    row("… until all of them are answered", f"{time.monotonic() - began:.1f} s")
    texts = [entry["text"] for entry in provider.log()]
    shown = sum(any(f"- message: thread {n} message {m}. " in text for text in texts)
                for n in range(threads) for m in range(count // threads, count // threads - 50, -1))
    row("… the newest 50 of each thread that the model was shown", f"{shown} of {threads * 50}")
    orders = [[int(part.split()[0].rstrip(".")) for part in text.split(" message ")[1:]] for text in texts]
    row("… batches out of order", str(sum(order != sorted(order) for order in orders)))


def main():
    count, threads, idle = [int(a) for a in sys.argv[1:]] + [10_000, 50, 120][len(sys.argv) - 1:]
    alice = User("alice")
    suite, provider = Suite("user", alice), Provider()

    def row(what, value):
        print(f"| {what} | {value} |", flush=True)

    suite.start()
    alice.append(".puffo-agent/daemon.yml", "dispatch_jitter_ms: 0\n")
    suite.manager("SetProvider", "sa{sv}", "anthropic",
                  {"ApiKey": ("s", "sk-test-alice"), "BaseUrl": ("s", provider.url), "Model": ("s", "test-model")})
    suite.manager("SetDefaultProvider", "s", "anthropic")
    with tempfile.TemporaryDirectory() as directory:
        town = Town(suite, directory)
        try:
            helper = Resident(town, "helper")
            print("| Puffo | |\n|---|---|")
            bench_idle(row, helper, idle)
            bench_idle_many(row, town, 20)
            count = count // threads * threads
            cpu = bench_backlog(row, town, helper, provider, count, threads)
            bench_turns(row, helper, provider, count, threads, cpu)
        finally:
            town.close()
            provider.close()
            suite.stop()


if __name__ == "__main__":
    main()
