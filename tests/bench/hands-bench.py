#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a CLI in a unit of its own costs: from a message that has been decrypted to the first byte on the CLI's standard
input, warm and with a start of the sandbox; and the memory of an agent whose CLI is asleep. Runs as root in the machine
of tests/integration/container; prints a Markdown table. usage: hands-bench.py [TURNS [STARTS]]

The CLI is tests/bench/stamp-cli.c, which notes the time and answers at once. The beginning is the time of the session's
line in the journal about the message, which it writes behind the commit."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "integration"))

from machine import SOURCE, Provider, Suite, User  # noqa: E402
from puffo_town import Resident, Town  # noqa: E402

NEIGHBOURS = 19
SETTLED_SECONDS = 20
SETTINGS = ("runtime:\n  kind: cli-local\n  harness: claude-code\n  sandbox_profile: workspace\n"
            "  permission_mode: bypassPermissions\n  freeze_after_seconds: 0\n  stop_after_seconds: {}\n")


def received(agent):
    """When messages were decrypted (µs), oldest first."""
    out = subprocess.run(["journalctl", "--output=json", "--output-fields=MESSAGE,_SOURCE_REALTIME_TIMESTAMP",
                          f"_PID={agent.agent.MainPID}"], capture_output=True, text=True, check=True).stdout
    entries = [json.loads(line) for line in out.splitlines()]
    return [int(e["_SOURCE_REALTIME_TIMESTAMP"]) for e in entries if str(e["MESSAGE"]).startswith("Received")]


def stamps(agent):
    path = agent.workspace / "stamps"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def await_stamp(agent, count):
    """Not Suite.wait(), which starts a program that listens on the bus: beside what is measured nothing else is done."""
    end = time.monotonic() + 30
    while len(stamps(agent)) < count:
        if time.monotonic() > end:
            sys.exit("the CLI has not got the message")
        time.sleep(0.005)


def ask(agent, person, count):
    """So many messages, one after the other; how long each took to the CLI's standard input (ms)."""
    before, heard = len(received(agent)), len(stamps(agent))
    for n in range(count):
        person.say(f"number {n}", to=agent.slug)
        await_stamp(agent, heard + n + 1)
        agent.wait_settled()
    return [(b - a) / 1000 for a, b in zip(received(agent)[before:], stamps(agent)[heard:])]


def figures(times):
    times = sorted(times)
    return f"{times[0]:.1f} / {statistics.median(times):.1f} / {times[-1]:.1f} ms"


def pss_mib(pid):
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in rollup if line.startswith("Pss:")) / 1024


def agent_pss(agent):
    """All processes of the agent's slice."""
    group = agent.suite.user.run(["systemctl", "--user", "show", "--value", "--property=ControlGroup",
                                  agent.agent.Slice]).stdout.strip()
    root = next(p for p in pathlib.Path("/sys/fs/cgroup").rglob(group.rpartition("/")[2]) if p.is_dir())
    pids = {pid for procs in root.rglob("cgroup.procs") for pid in procs.read_text().split()}
    return len(pids), sum(pss_mib(pid) for pid in pids)


def main():
    turns, starts = [int(a) for a in sys.argv[1:]] + [100, 20][len(sys.argv) - 1:]
    alice = User("alice")
    suite, provider = Suite("user", alice), Provider()

    def row(what, value):
        print(f"| {what} | {value} |", flush=True)

    os.symlink(SOURCE / "build/tests/bench/stamp-cli", "/usr/local/bin/claude")
    suite.start()
    alice.append(".puffo-agent/daemon.yml", "dispatch_jitter_ms: 0\n")
    suite.manager("SetProvider", "sa{sv}", "anthropic",
                  {"ApiKey": ("s", "sk-test-alice"), "BaseUrl": ("s", provider.url), "Model": ("s", "test-model")})
    with tempfile.TemporaryDirectory() as directory:
        town = Town(suite, directory)
        try:
            worker = Resident(town, "worker", SETTINGS.format(3600))
            bo = town.human("bo", "Bo Lin")
            print("| CLI | min / median / max |\n|---|---|")
            ask(worker, bo, 1)
            row(f"message decrypted to first byte on the CLI's input, warm, {turns} messages",
                figures(ask(worker, bo, turns)))
            worker.edit(SETTINGS.format(0.2))
            worker.agent.wait_state("ready")
            times = []
            for _ in range(starts):
                suite.wait(lambda: worker.agent.HarnessState == "none", 30, "the CLI is ended")
                times += ask(worker, bo, 1)
            row(f"… with a start of the CLI in its sandbox, {starts} messages", figures(times))
            suite.wait(lambda: worker.agent.HarnessState == "none", 30, "the CLI is ended")
            time.sleep(SETTLED_SECONDS)         # what is not needed is given back by then
            processes, pss = agent_pss(worker)
            row(f"PSS of an agent whose CLI is ended (processes: {processes}), alone with its libraries",
                f"{pss:.2f} MiB")
            others = [Resident(town, f"resident-{n}") for n in range(NEIGHBOURS)]
            time.sleep(SETTLED_SECONDS)
            row(f"… among {len(others)} other connected agents", f"{agent_pss(worker)[1]:.2f} MiB")
        finally:
            town.close()
            provider.close()
            suite.stop()
            os.unlink("/usr/local/bin/claude")


if __name__ == "__main__":
    main()
