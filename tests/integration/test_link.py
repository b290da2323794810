# SPDX-License-Identifier: MIT
"""puffo-link, the network of the sessions: that nothing else of it is in them, and that it may die at any time."""

import os
import pathlib
import re
import subprocess

from link_process import OF_THE_NETWORK, SERVICE, SOCKET, inet_sockets, kill_link, loaded
from machine import LINK
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import PATIENCE, Resident, once


def test_session_has_no_network_of_its_own(suite, town, helper, bo):
    once(bo, helper, bo.say("who speaks TLS? [[reply: Not I.]]", to=helper.slug))
    session, link = helper.agent.MainPID, suite.main_pid(SERVICE)
    assert not [name for name in loaded(session) if OF_THE_NETWORK.match(name)], loaded(session)
    assert inet_sockets(session) == [] and inet_sockets(link) != []
    assert {"libcurl", "libssl"} <= loaded(link)


def test_one_for_all_sessions(suite, town, helper):
    link = suite.main_pid(SERVICE)
    other = Resident(town, "other")
    assert suite.main_pid(SERVICE) == link
    other.remove()


def test_sandbox_is_there(suite, helper):
    pid = suite.main_pid(SERVICE)
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M) and re.search(r"^Seccomp:\s+2$", status, re.M)
    assert re.search(r"^CapEff:\s+0+$", status, re.M) and re.search(r"^CapBnd:\s+0+$", status, re.M)
    assert pathlib.Path(f"/proc/{pid}/ns/user").readlink() != pathlib.Path("/proc/self/ns/user").readlink()
    # The sessions' tokens are in its memory, and its service manager aborts it when it hangs.
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.M), limits
    mode = (suite.user.runtime / "puffo/link").stat().st_mode
    assert oct(mode & 0o777) == "0o600"


def test_nobody_else_gets_in(suite, helper, bob):
    out = bob.run(["python3", "-c", "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])",
                   suite.user.runtime / "puffo/link"], check=False)
    assert out.returncode != 0 and "PermissionError" in out.stderr


def test_dies_amid_a_turn(suite, town, helper, bo, provider):
    session = helper.agent.MainPID
    root = bo.say("the network dies [[words: 20]] [[hold: link]]", to=helper.slug)
    town.wait_request("POST", f"/messages/{root}/processing/start", helper.slug)
    kill_link(suite)
    provider.release("link")
    assert once(bo, helper, root)["text"].endswith("word20")
    assert helper.agent.MainPID == session and provider.outcomes("the network dies") == ["complete"]


def test_dies_again_and_again(suite, town, helper, bo, provider):
    """At whatever moments: each message is answered, once."""
    session = helper.agent.MainPID
    roots = []
    for n in range(8):
        roots.append(bo.say(f"network killed {n} [[reply: answer {n}]]", to=helper.slug))
        kill_link(suite)
        if n % 2:
            helper.wait_received(*roots)
            kill_link(suite)
    for n, root in enumerate(roots):
        assert once(bo, helper, root)["text"] == f"answer {n}"
    assert helper.agent.MainPID == session
    assert [provider.count(f"network killed {n}") for n in range(8)] == [1] * 8
    suite.wait(lambda: town.server.queued(helper.slug) == [], PATIENCE, "all is acknowledged")


def test_hangs(suite, town, helper, bo):
    """Its service manager notices when it does not move any more, and starts it anew."""
    pid = suite.main_pid(SERVICE)
    os.kill(pid, 19)    # SIGSTOP
    root = bo.say("the network hangs [[reply: it does not]]", to=helper.slug)
    assert once(bo, helper, root, seconds=180)["text"] == "it does not"
    assert suite.main_pid(SERVICE) != pid


def test_what_is_missing_is_said(suite, town, helper, bo):
    since = subprocess.run(["date", "+%Y-%m-%d %H:%M:%S"], capture_output=True, text=True).stdout.strip()

    def told():
        lines = subprocess.run(["journalctl", "--output=cat", f"--since={since}", f"PUFFO_AGENT={helper.slug}"],
                               capture_output=True, text=True).stdout
        return "(is puffo-link.socket running?)" in lines
    suite.systemctl("stop", *LINK)
    try:
        suite.wait(told, 60, "the session says what it misses")
        root = bo.say("unheard [[reply: heard]]", to=helper.slug)
        assert helper.agent.State == "ready"
    finally:
        suite.systemctl("start", SOCKET)
    assert once(bo, helper, root)["text"] == "heard"


def test_comes_and_goes_with_the_sessions(suite, town, helper):
    helper.agent.call("Stop")
    helper.agent.wait_state("stopped")
    for agent in suite.agents():
        suite.agent(agent).call("Stop")
    # It would end by itself, later.
    suite.systemctl("stop", SERVICE)
    suite.wait(lambda: suite.show(SOCKET, "ActiveState") == "inactive", 30, "nobody needs the socket")
    after = town.now()
    helper.agent.call("Start")
    town.wait_log("stream_connected", lambda line: line["slug"] == helper.slug, after)
    assert suite.show(SOCKET, "ActiveState") == "active"
