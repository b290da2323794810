# SPDX-License-Identifier: MIT
"""What an agent may use: a limit is kept, the operator hears of it once, and no message is lost. And where an agent in
the profile strict may go."""

import json
import re
import time
import urllib.parse

import pytest
from puffo_fixtures import bo, helper, suite, town  # noqa: F401
from puffo_town import Resident, once
from test_hands import CLAUDE, pid_of, programs, tool  # noqa: F401

KIND = "runtime:\n  kind: chat-local\n"


@pytest.fixture(autouse=True)
def within_an_hour():
    """The budget's hour does not end during the test."""
    left = 3600 - time.time() % 3600
    if left < 120:
        time.sleep(left + 1)


def test_messages_wait_for_budget(town, helper, bo, provider):
    helper.edit(KIND + "limits:\n  tokens_per_hour: 40\npricing:\n  test-model: {input: 1, output: 2}\n")
    root = bo.say("budget one [[words: 60]]", to=helper.slug)
    once(bo, helper, root)
    notice = town.operator.wait(lambda m: "My budget is used up" in m["text"])
    assert "limits.tokens_per_hour" in str(notice)
    helper.suite.wait(lambda: "tokens for this hour" in helper.agent.StatusText, 10, "the status says so")
    used = helper.rows("SELECT model, calls, output_tokens, cost_micro FROM model_usage")
    assert [(u["model"], u["calls"], u["output_tokens"]) for u in used] == [("test-model", 1, 60)]
    assert used[0]["cost_micro"] > 120
    cost = helper.rows("SELECT cost_micro FROM session_turns ORDER BY seq DESC LIMIT 1")[0]["cost_micro"]
    assert cost == used[0]["cost_micro"]

    second = bo.say("budget two [[reply: later]]", to=helper.slug)
    helper.suite.wait(lambda: helper.rows("SELECT 1 FROM session_turns WHERE error_kind = 'budget'"), 10, "it is put off")
    assert provider.count("budget two") == 0

    # A restart changes nothing, more budget does.
    helper.agent.call("Restart")
    helper.suite.wait(lambda: helper.agent.State == "ready", 20, "the agent is there again")
    helper.suite.wait(lambda: len(helper.rows("SELECT 1 FROM session_turns WHERE error_kind = 'budget'")) >= 2, 20,
                      "it is put off again")
    assert provider.count("budget two") == 0
    helper.edit(KIND + "limits:\n  tokens_per_hour: 1000000\n")
    assert once(bo, helper, second)["text"] == "later"
    town.operator.look()
    assert sum("My budget is used up" in m["text"] for m in town.operator.inbox) == 1


def test_a_cli_is_stopped_at_its_budget(town, programs, bo, provider):
    """Between two calls of a turn: the first one is paid for, the second one is not made."""
    worker = Resident(town, "spender", CLAUDE + "limits:\n  tokens_per_hour: 10\n")
    root = bo.say(f"Spend it. {tool('Bash', command='echo spent')} [[reply: Earned.]]", to=worker.slug)
    hour = time.time() // 3600
    worker.suite.wait(lambda: worker.rows("SELECT 1 FROM session_turns WHERE error_kind = 'budget'"), 60, "it is put off")
    assert time.time() // 3600 == hour, "the CLI does not wait for the next hour"
    town.operator.wait(lambda m: "My budget is used up" in m["text"] and m["sender_slug"] == worker.slug)
    assert len([e for e in provider.log() if "Spend it." in (e["text"] or "")]) == 1
    used = worker.rows("SELECT sum(calls) AS n FROM model_usage")
    assert used[0]["n"] == 1

    worker.edit(CLAUDE + "limits:\n  tokens_per_hour: 100000000\n")
    assert once(bo, worker, root, seconds=90)["text"] == "Earned."
    turn = worker.rows("SELECT input_tokens, output_tokens, cost_micro FROM session_turns ORDER BY seq DESC LIMIT 1")[0]
    assert turn["input_tokens"] > 0 and turn["output_tokens"] > 0
    worker.remove()


def test_who_takes_a_cli_over_keeps_to_its_budget(town, programs, bo, provider):
    """The session is killed between the two calls: the next one goes on counting."""
    worker = Resident(town, "heir", CLAUDE + "limits:\n  tokens_per_hour: 10\n")
    waiting = tool("Bash", command="touch begun; while ! test -e go; do sleep 0.1; done")
    bo.say(f"Inherit it. {waiting} [[reply: Earned.]]", to=worker.slug)
    worker.suite.wait((worker.workspace / "begun").exists, 60, "the first call is over")
    cli = pid_of(worker)
    worker.suite.kill(worker.agent.Unit)
    worker.suite.wait(lambda: worker.agent.State == "busy", 60, "the session is there again")
    assert pid_of(worker) == cli, "the CLI has gone on"
    (worker.workspace / "go").touch()
    worker.suite.wait(lambda: worker.rows("SELECT 1 FROM session_turns WHERE error_kind = 'budget'"), 60, "it is put off")
    assert len([e for e in provider.log() if "Inherit it." in (e["text"] or "")]) == 1
    worker.remove()


def test_strict_reaches_what_is_listed(town, programs, bo, provider):
    port = urllib.parse.urlsplit(provider.url).port
    recluse = Resident(town, "recluse", CLAUDE.replace("workspace", "strict") +
                       f"sandbox:\n  allow_hosts: ['127.0.0.1:{port}', 'localhost:{port}', 'example.invalid']\n")
    url = "/v1/models"
    fetch = "curl -sS -m 20 -o /dev/null -w %{http_code}"
    commands = {
        "plain": f"{fetch} --noproxy '' -x $HTTP_PROXY http://127.0.0.1:{port}{url}",
        "tunnel": f"{fetch} --noproxy '' -p -x $HTTPS_PROXY http://127.0.0.1:{port}{url}",
        "named": f"{fetch} --noproxy '' -p -x $HTTPS_PROXY http://localhost:{port}{url}",
        "other": f"{fetch} --noproxy '' -p -x $HTTPS_PROXY http://127.0.0.1:{port + 1}{url}",
        "elsewhere": f"{fetch} --noproxy '' -p -x $HTTPS_PROXY http://example.org:443/",
        "direct": f"{fetch} --noproxy '*' http://127.0.0.1:{port}{url}",
    }
    script = "; ".join(f"echo {name}=$({command} 2>&1 | tr '\\n' ' ')+" for name, command in commands.items())
    root = bo.say(f"Go out. {tool('Bash', command=script)} [[reply: Back.]]", to=recluse.slug)
    assert once(bo, recluse, root, seconds=90)["text"] == "Back."
    seen = json.dumps([e["body"] for e in provider.log() if "Go out." in (e["text"] or "")][-1])
    results = dict(re.findall(r"(plain|tunnel|named|other|elsewhere|direct)=([^+$]*)[+]", seen.split("tool_result")[-1]))
    assert (results["plain"], results["tunnel"], results["named"]) == ("200", "200", "200"), results
    assert "403" in results["other"] and "403" in results["elsewhere"], results
    assert "200" not in results["direct"], results
    lines = recluse.suite.journal("PUFFO_PROXY_HOST=example.org")
    assert [line["PUFFO_PROXY_VERDICT"] for line in lines] == ["refused"]
    assert all(line["PUFFO_AGENT"] == recluse.slug for line in lines)
    recluse.remove()


def test_a_change_of_hosts_counts_at_once(town, programs, bo, provider):
    """Also for a CLI that is in the middle of a turn, and has used the proxy a moment ago."""
    port = urllib.parse.urlsplit(provider.url).port
    strict = CLAUDE.replace("workspace", "strict") + "sandbox:\n  allow_hosts: ['{}:%d']\n" % port
    walker = Resident(town, "walker", strict.format("127.0.0.1"))
    code = f"curl -sS -m 20 -o /dev/null -w %{{http_code}} --noproxy '' -x $HTTP_PROXY http://127.0.0.1:{port}/v1/models"
    script = f"echo first $({code}) >> seen; until [ $({code}) = 403 ]; do sleep 0.1; done; echo refused >> seen"
    root = bo.say(f"Walk. {tool('Bash', command=script)} [[reply: Home.]]", to=walker.slug)
    seen = walker.workspace / "seen"
    walker.suite.wait(seen.exists, 60, "it is out")
    assert seen.read_text().startswith("first 200")
    walker.edit(strict.format("localhost"))
    assert once(bo, walker, root, seconds=90)["text"] == "Home."
    assert seen.read_text().endswith("refused\n")
    walker.remove()
