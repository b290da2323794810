# SPDX-License-Identifier: MIT
"""What is to be there after the next boot, and what is not (test_after_reboot.py)."""

import json
import pathlib

import pytest

from machine import Suite, User

STATE = pathlib.Path("/srv/puffo/out/before-reboot.json")


@pytest.mark.parametrize("scope", ["user", "system"])
def test_agents(alice, scope):
    suite = Suite(scope, alice if scope == "user" else User("root"))
    suite.systemctl("enable", "--now", "puffod.service")
    for socket in ["puffod.socket", "puffod-credentials.socket"]:
        suite.systemctl("is-enabled", socket)
    suite.manager("SetProvider", "sa{sv}", "anthropic", {"ApiKey": ("s", "sk-test"), "Model": ("s", "test-model"),
                                                         "BaseUrl": ("s", "http://127.0.0.1:9/")})
    for id in ["returns", "rests", "fell"]:
        suite.manager("CreateAgent", "sa{sv}", id, {"RuntimeKind": ("s", "chat-local"),
                                                    "Provider": ("s", "anthropic")})
        suite.agent(id).wait_state("ready")
    suite.agent("rests").call("Stop")
    suite.agent("rests").wait_state("stopped")
    known = json.loads(STATE.read_text()) if STATE.exists() else {}
    known[scope] = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
    STATE.write_text(json.dumps(known))
    # Not put right by anybody before the boot: a session that has just been killed is one that is to run.
    suite.kill(suite.agent("fell").Unit)
