# SPDX-License-Identifier: MIT
"""Nobody has logged in and nobody has asked for anything since the boot."""

import json
import pathlib

import pytest

from machine import Suite, User
from test_before_reboot import STATE


@pytest.mark.parametrize("scope", ["user", "system"])
def test_agents(alice, scope):
    suite = Suite(scope, alice if scope == "user" else User("root"))
    before = json.loads(STATE.read_text())[scope]
    assert pathlib.Path("/proc/sys/kernel/random/boot_id").read_text() != before, "this is the same boot"

    # The service manager alone is asked: a call to puffod would start it.
    def is_up(unit):
        return suite.show(unit, "ActiveState") == "active"
    for id in ["returns", "fell"]:
        suite.wait(lambda: is_up(f"puffo-session@{id}.service"), 120, f"the session of {id} is back")
    assert suite.show("puffo-session@rests.service", "ActiveState") == "inactive"
    began = {unit: int(suite.show(unit, "ExecMainStartTimestampMonotonic"))
             for unit in ["puffod.service", "puffo-session@returns.service", "puffo-session@fell.service"]}
    assert min(began, key=began.get) == "puffod.service", began

    for id in ["returns", "fell"]:
        suite.agent(id).wait_state("ready")
    assert suite.agent("rests").State == "stopped"
    assert suite.systemctl("list-units", "--failed", "--plain", "--no-legend", "puffo*").stdout == ""
