# SPDX-License-Identifier: MIT
"""A disk that is full and a database that cannot be written: no message is lost, and none is answered twice."""

import os
import shutil
import subprocess
import time

import pytest

from machine import BusError
from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import Resident, once

LONG = 90                               # the agent looks again after half a minute


@pytest.fixture(scope="module")
def helper(town, tmp_path_factory):
    """An agent with a small disk of its own."""
    made = Resident(town, "helper")
    made.agent.call("Stop")
    made.agent.wait_state("stopped")
    owner, aside = os.stat(made.directory), tmp_path_factory.mktemp("aside") / "home"
    shutil.copytree(made.directory, aside, ignore=shutil.ignore_patterns("*.sock"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=16m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}", "tmpfs",
                    made.directory], check=True)
    shutil.copytree(aside, made.directory, dirs_exist_ok=True)
    subprocess.run(["chown", "-R", f"{owner.st_uid}:{owner.st_gid}", made.directory], check=True)
    made.agent.call("Start")
    made.agent.wait_state("ready")
    yield made
    made.agent.call("Stop")
    made.agent.wait_state("stopped")
    subprocess.run(["umount", made.directory], check=True)


def fill(helper):
    """Not a byte is left."""
    with open(helper.directory / "filler", "wb", buffering=0) as f:
        for size in (65536, 512, 1):
            try:
                while f.write(b"x" * size) == size:
                    pass
            except OSError:
                pass
    assert os.statvfs(helper.directory).f_bavail == 0


def complaints(helper):
    return [str(line["MESSAGE"]) for line in helper.suite.journal(f"_SYSTEMD_USER_UNIT={helper.agent.Unit}")]


def complained(helper, text):
    end = time.monotonic() + 90
    while not any(text in line for line in complaints(helper)):
        assert time.monotonic() < end, complaints(helper)[-12:]
        time.sleep(0.2)


def status(helper):
    return next(s for s in helper.town.server.control("statuses")["statuses"] if s["slug"] == helper.slug)


@pytest.fixture(autouse=True)
def room_again(helper):
    yield
    (helper.directory / "filler").unlink(missing_ok=True)


def test_message_comes_to_a_full_disk(helper, bo):
    once(bo, helper, bo.say("hello [[reply: hi]]", to=helper.slug))
    fill(helper)
    roots = [bo.say(f"number {n} {'x' * 12000} [[reply: answer {n}]]", to=helper.slug) for n in range(8)]
    complained(helper, "they will come again")
    helper.suite.wait(lambda: status(helper)["status"] == "error", 30, "people see it", lambda: status(helper))
    assert "No space left" in status(helper)["error_text"]
    (helper.directory / "filler").unlink()
    for n, root in enumerate(roots):
        bo.answer(root, LONG)
        assert once(bo, helper, root)["text"] == f"answer {n}"
    helper.suite.wait(lambda: status(helper)["status"] == "idle", 30, "it is well again", lambda: status(helper))


def test_disk_fills_up_during_a_turn(helper, bo, provider):
    root = bo.say("slow [[words: 9000]] [[hold: disk]]", to=helper.slug)
    helper.agent.wait_state("busy")
    fill(helper)
    provider.release("disk")
    complained(helper, "Failed to store the end of turn")
    (helper.directory / "filler").unlink()
    bo.answer(root, LONG)
    assert once(bo, helper, root)["text"].endswith("word9000")


def test_database_that_cannot_be_written(helper, bo):
    """The agent stays up, says why, and goes on when somebody has mended it."""
    helper.agent.call("Stop")
    helper.agent.wait_state("stopped")
    database = helper.directory / "messages.db"
    database.chmod(0o400)
    root = bo.say("are you there? [[reply: I am back]]", to=helper.slug)
    with pytest.raises(BusError, match="messages.db: Permission denied"):
        helper.agent.call("Start")
    helper.agent.wait_state("failed")
    assert "messages.db" in helper.agent.StatusText
    helper.suite.wait(lambda: status(helper)["status"] == "error", LONG, "people see it", lambda: status(helper))
    assert status(helper)["error_text"] == "StorageError: the messages cannot be opened: Permission denied"
    database.chmod(0o600)
    helper.agent.call("Restart")
    assert bo.answer(root, LONG)["text"] == "I am back"
    once(bo, helper, root)
    helper.suite.wait(lambda: status(helper)["status"] == "idle", LONG, "it is well again", lambda: status(helper))
