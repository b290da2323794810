#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures what docs/performance.md reports. Runs as an ordinary user with a user manager ("./check bench" gives it one
in a throw-away machine); prints a Markdown table. Numbers only: nothing here passes or fails.

Needs the package installed, and no puffo units running: it uses homes of its own below a temporary directory.
"""

import argparse
import http.client
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT = 7011


class Source(ThreadingHTTPServer):
    request_queue_size = 256


class TokenSource(BaseHTTPRequestHandler):
    """An OpenAI-compatible endpoint whose tokens say when they were sent, so that any reader can tell their age."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    tokens = 400
    pause = 0.005

    def log_message(self, *_):
        pass

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def event(self, delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        body = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
        self.chunk("data: %s\n\n" % json.dumps(body))

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.event({"role": "assistant", "content": ""})
        for _ in range(self.tokens):
            self.event({"content": "%d " % time.monotonic_ns()})
            time.sleep(self.pause)
        self.event({}, "stop")
        self.chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")


def token_ages(connection, path, body, pick):
    """Milliseconds between a token's birth and its arrival, for each token of one streamed answer."""
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    if reply.status != 200:
        sys.exit("%s: %d %s" % (path, reply.status, reply.read()))
    ages, pending = [], ""
    for line in reply:
        now = time.monotonic_ns()
        if not line.startswith(b"data: {"):
            continue
        pending += pick(json.loads(line[6:])) or ""
        while " " in pending:
            token, pending = pending.split(" ", 1)
            if token.isdigit():
                ages.append((now - int(token)) / 1e6)
    return ages


def run(*argv):
    return subprocess.run(argv, check=True, text=True, capture_output=True).stdout


def unit_property(unit, name):
    return run("systemctl", "--user", "show", "-P", name, unit).strip()


def pss_kib(pid):
    for line in Path("/proc/%s/smaps_rollup" % pid).read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def percentile(values, p):
    return sorted(values)[min(len(values) - 1, int(len(values) * p / 100))]


def spread(values, digits=1):
    return "%.*f / %.*f / %.*f" % (digits, min(values), digits, statistics.median(values), digits, max(values))


def main_pids(agents):
    return [unit_property("puffo-session@%s.service" % a, "MainPID") for a in agents]


def bench_memory(rows, agents):
    """Before and after each agent has answered once: what a turn leaves behind counts too."""
    for when in ("never asked", "after one answer each"):
        if when != "never asked":
            for a in agents:
                run("puffoctl", "agent", "chat", a, "hello")
            time.sleep(2)
        sessions = [pss_kib(p) for p in main_pids(agents)]
        puffod = pss_kib(unit_property("puffod.service", "MainPID"))
        gateway = pss_kib(unit_property("puffo-gateway.service", "MainPID"))
        rows.append(("puffod, Pss, %s" % when, "%.1f MB" % (puffod / 1024), "≤ 6 MB"))
        rows.append(("gateway, Pss, %s" % when, "%.1f MB" % (gateway / 1024), "≤ 6 MB"))
        rows.append(("session, Pss, min / median / max of %d, %s" % (len(sessions), when),
                     spread([s / 1024 for s in sessions], 2) + " MB", "≤ 2 MB"))
        total = puffod + gateway + sum(sessions)
        rows.append(("puffod + gateway + %d sessions, %s" % (len(sessions), when), "%.1f MB" % (total / 1024), "≤ 46 MB"))


def bench_start(rows, agent, n):
    times = []
    for _ in range(n):
        run("puffoctl", "agent", "stop", agent)
        run("puffoctl", "agent", "start", agent)
        unit = "puffo-session@%s.service" % agent
        begin, ready = (int(unit_property(unit, p)) for p in
                        ("InactiveExitTimestampMonotonic", "ActiveEnterTimestampMonotonic"))
        times.append((ready - begin) / 1000)
    rows.append(("session unit, start to READY=1, min / median / max of %d" % n, spread(times) + " ms", "≤ 80 ms"))


def bench_list(rows, n_agents, n):
    have = len(run("puffoctl", "agent", "list", "--no-legend").splitlines())
    for i in range(n_agents - have):
        run("puffoctl", "agent", "create", "idle%d" % i, "--provider", "echo", "--no-start")
    times = []
    for _ in range(n):
        begin = time.perf_counter()
        run("puffoctl", "agent", "list")
        times.append((time.perf_counter() - begin) * 1000)
    rows.append(("`puffoctl agent list`, %d agents, min / median / max of %d" % (n_agents, n), spread(times) + " ms",
                 "≤ 10 ms"))


def bench_latency(rows, agent, source_port, rounds):
    """Both ways at the same time in each round, so that what else the machine does meets both."""
    direct, through = [], []
    for _ in range(rounds):
        def by_source():
            direct.extend(token_ages(http.client.HTTPConnection("127.0.0.1", source_port), "/v1/chat/completions",
                                     {"stream": True}, lambda e: e["choices"][0]["delta"].get("content")))

        def by_gateway():
            through.extend(token_ages(http.client.HTTPConnection("127.0.0.1", PORT), "/v1/responses",
                                      {"model": agent, "input": "go", "stream": True, "store": False},
                                      lambda e: e.get("delta") if e["type"] == "response.output_text.delta" else None))

        both = [threading.Thread(target=t) for t in (by_source, by_gateway)]
        for t in both:
            t.start()
        for t in both:
            t.join()
    for p in (50, 99):
        a, b = percentile(direct, p), percentile(through, p)
        rows.append(("token latency p%d: direct, through session and gateway, added (%d tokens each)" % (p, len(through)),
                     "%.2f, %.2f, **%.2f** ms" % (a, b, b - a), "≤ 2 ms" if p == 99 else ""))


def gateway_mb():
    return pss_kib(unit_property("puffo-gateway.service", "MainPID")) / 1024


def bench_load(rows, agents, source_port, clients):
    """So many streams at once; those of an agent wait for each other. Direct readers, one an agent, go beside them."""
    direct, through, errors = [], [], []

    def by_source():
        direct.extend(token_ages(http.client.HTTPConnection("127.0.0.1", source_port), "/v1/chat/completions",
                                 {"stream": True}, lambda e: e["choices"][0]["delta"].get("content")))

    def by_gateway(agent):
        try:
            ages = token_ages(http.client.HTTPConnection("127.0.0.1", PORT), "/v1/responses",
                              {"model": agent, "input": "go", "stream": True, "conversation": "load"},
                              lambda e: e.get("delta") if e["type"] == "response.output_text.delta" else None)
            if len(ages) != TokenSource.tokens:
                raise RuntimeError("%d tokens" % len(ages))
            through.extend(ages)
        except (Exception, SystemExit) as e:
            errors.append(repr(e))

    after = []
    for _ in range(3):
        threads = [threading.Thread(target=by_gateway, args=(agents[i % len(agents)],)) for i in range(clients)]
        threads += [threading.Thread(target=by_source) for _ in agents]
        begin = time.monotonic()
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        seconds = time.monotonic() - begin
        after.append(gateway_mb())
    what = "%d streams at once over %d agents, %d tokens each" % (clients, len(agents), TokenSource.tokens)
    rows.append(("%s: errors of 3 rounds" % what, "%d%s" % (len(errors), " (%s)" % errors[0] if errors else ""), "0"))
    rows.append(("the same: seconds of the last round", "%.1f" % seconds, ""))
    rows.append(("the same: gateway, Pss, after each round", ", ".join("%.1f" % a for a in after) + " MB", "flat"))
    for p in (50, 99):
        a, b = percentile(direct, p), percentile(through, p)
        rows.append(("the same: token latency p%d: direct, through session and gateway, added" % p,
                     "%.2f, %.2f, **%.2f** ms" % (a, b, b - a), ""))


def bench_idle(rows, clients):
    before, sockets = gateway_mb(), []
    for _ in range(clients):
        s = socket.create_connection(("127.0.0.1", PORT))
        s.sendall(b"GET /agents/events HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % PORT)
        sockets.append(s)
    for s in sockets:
        data = b""
        while b"event: agents" not in data:
            data += s.recv(65536) or sys.exit("a reader of events was turned away")
    rows.append(("gateway, Pss, before and with %d idle readers of /agents/events" % clients,
                 "%.1f, **%.1f** MB" % (before, gateway_mb()), "≤ 30 MB"))
    for s in sockets:
        s.close()
    time.sleep(2)
    rows.append(("the same, 2 s after they have gone", "%.1f MB" % gateway_mb(), ""))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--readers", type=int, default=1000)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))

    source = Source(("127.0.0.1", 0), TokenSource)
    threading.Thread(target=source.serve_forever, daemon=True).start()
    source_port = source.server_address[1]

    rows = []
    with tempfile.TemporaryDirectory(prefix="puffo-bench-", dir=str(Path.home())) as home:
        environment = ["PUFFO_AGENT_HOME=%s/puffo" % home, "AGENT_PROXY_HOME=%s/proxy" % home]
        os.makedirs("%s/puffo" % home, mode=0o700)
        Path("%s/puffo/daemon.yml" % home).write_text(
            "default_provider: openai\nopenai:\n  base_url: http://127.0.0.1:%d/v1\n  model: m\n" % source_port)
        os.environ.update(e.split("=", 1) for e in environment)
        run("systemctl", "--user", "set-environment", *environment)
        try:
            run("agent-proxy", "enable")
            agents = ["worker_a%d" % i for i in range(options.sessions)]
            for i in range(options.sessions):
                run("agent-proxy", "hire", "worker", "a%d" % i)
            time.sleep(2)
            http.client.HTTPConnection("127.0.0.1", PORT).request("GET", "/healthz")
            TokenSource.tokens, TokenSource.pause = 20, 0
            bench_memory(rows, agents)
            bench_start(rows, agents[0], options.repeat)
            TokenSource.tokens, TokenSource.pause = 400, 0.005
            bench_latency(rows, agents[1], source_port, 5)
            TokenSource.tokens, TokenSource.pause = 100, 0.02
            bench_load(rows, agents, source_port, options.streams)
            bench_idle(rows, options.readers)
            bench_list(rows, options.agents, options.repeat)
        finally:
            subprocess.run(["agent-proxy", "disable"], check=False)
            subprocess.run(["systemctl", "--user", "unset-environment", "PUFFO_AGENT_HOME", "AGENT_PROXY_HOME"],
                           check=False)

    print("| what | measured | aim |\n|---|---|---|")
    for row in rows:
        print("| %s | %s | %s |" % row)


if __name__ == "__main__":
    main()
