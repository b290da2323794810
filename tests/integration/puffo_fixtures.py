# SPDX-License-Identifier: MIT
"""Fixtures of the tests with a Puffo server: one town for each file, with an agent and a person."""

import pytest

from puffo_town import Resident, Town, quick_restarts


@pytest.fixture(scope="module")
def suite(user_mode, alice):
    quick_restarts(alice)
    alice.append(".puffo-agent/daemon.yml", "dispatch_jitter_ms: 0\n")
    user_mode.manager("Reload")
    return user_mode


@pytest.fixture(scope="module")
def town(suite, tmp_path_factory):
    made = Town(suite, tmp_path_factory.mktemp("town"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def helper(town):
    made = Resident(town, "helper")
    made.join(town.lobby)
    return made


@pytest.fixture(scope="module")
def bo(town):
    return town.human("bo", "Bo Lin")
