# SPDX-License-Identifier: MIT
"""Fixtures. The tests run as root inside the machine that tests/integration/container boots, and nowhere else."""

import datetime
import os
import pathlib
import shutil
import zoneinfo

import pytest

from machine import Provider, Suite, User


def pytest_sessionstart(session):
    if os.geteuid() != 0 or not pathlib.Path("/srv/puffo/src").is_dir():
        pytest.exit("run: tests/integration/container run -- /usr/bin/python3 -m pytest tests/integration", 2)


@pytest.fixture(scope="session")
def alice():
    return User("alice")


@pytest.fixture(scope="session")
def bob():
    return User("bob")


@pytest.fixture(scope="session")
def provider():
    emulator = Provider()
    yield emulator
    emulator.close()


@pytest.fixture(scope="session")
def hooks():
    """For tests that reach into a program: only a build of its own lets them."""
    if b"Failed to ask what a test wants" not in pathlib.Path("/usr/lib/puffo/puffo-session").read_bytes():
        pytest.skip("the build under test has no hooks for tests: meson setup -Dtest_hooks=true")


def forget(user):
    for name in [".puffo-agent", ".agent_proxy", ".config/systemd"]:
        shutil.rmtree(user.home / name, ignore_errors=True)


def use_provider(suite, provider, user=None):
    suite.manager("SetProvider", "sa{sv}", "anthropic",
                  {"ApiKey": ("s", "sk-test-alice"), "BaseUrl": ("s", provider.url), "Model": ("s", "test-model")},
                  user=user)
    suite.manager("SetDefaultProvider", "s", "anthropic", user=user)


@pytest.fixture(scope="module")
def user_mode(alice, provider):
    """alice's own suite, with the emulator as its provider."""
    suite = Suite("user", alice)
    forget(alice)
    suite.start()
    use_provider(suite, provider)
    yield suite
    suite.stop()
    forget(alice)


@pytest.fixture(scope="module")
def system_mode(alice, provider):
    """The machine's suite as alice sees it; root has set the provider."""
    suite = Suite("system", alice)
    suite.start()
    use_provider(suite, provider, user=User("root"))
    yield suite
    suite.stop()
    for name in ["/var/lib/private/puffo", "/var/lib/puffo", "/var/lib/puffod"]:
        shutil.rmtree(name, ignore_errors=True)
    pathlib.Path("/etc/puffo/daemon.yml").unlink(missing_ok=True)
    for name in ["/var/lib/private/puffo", "/var/lib/puffo"]:
        pathlib.Path(name).mkdir(mode=0o755)


@pytest.fixture
def another_day():
    """The machine's clock stays, its zone goes where the date is another one. Gives that date."""
    link = pathlib.Path("/etc/localtime")
    before = os.readlink(link)
    hour = datetime.datetime.now(datetime.timezone.utc).hour
    zone = "Etc/GMT-14" if hour >= 10 else "Etc/GMT+12"

    def point_to(target):
        fresh = link.with_suffix(".new")
        fresh.symlink_to(target)
        os.replace(fresh, link)

    point_to(f"/usr/share/zoneinfo/{zone}")
    yield datetime.datetime.now(zoneinfo.ZoneInfo(zone)).date().isoformat()
    point_to(before)


@pytest.fixture
def with_key(user_mode, alice):
    """A key is configured, the way "agent-proxy enable" does it: as a credential."""
    key = alice.write(".agent_proxy/.state/api-key", "the-right-key\n")
    drop_in = alice.write(".config/systemd/user/puffo-gateway.service.d/10-api-key.conf",
                          f"[Service]\nLoadCredential=api-key:{key}\n")
    user_mode.systemctl("daemon-reload")
    user_mode.systemctl("restart", "puffo-gateway.service")
    yield "the-right-key"
    drop_in.unlink()
    key.unlink()
    user_mode.systemctl("daemon-reload")
    user_mode.systemctl("restart", "puffo-gateway.service")
