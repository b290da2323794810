# SPDX-License-Identifier: MIT
"""The real CLIs, of which each file of tests has one: where it is found, and that it speaks by the agent's tools."""

import contextlib
import pathlib

import pytest

MODULES = pathlib.Path("/srv/puffo/cli/node_modules")


@contextlib.contextmanager
def installed(name, program):
    """It is where the user's service manager looks for programs."""
    if not program.exists():
        pytest.fail("the CLIs are not installed: ./check integration does that")
    link = pathlib.Path("/usr/local/bin") / name
    link.unlink(missing_ok=True)
    link.symlink_to(program)
    try:
        yield
    finally:
        link.unlink()


def answers_by_tool(worker, bo, request, text):
    """Asks for a turn in which the CLI says the text by a tool, and sees that bo gets that and nothing else."""
    bo.say(request, to=worker.slug)
    answer, = bo.wait(lambda m: m["sender_slug"] == worker.slug and m["text"] == text, seconds=90)
    assert answer["encrypted"] and answer["recipient_slug"] == bo.slug
    worker.wait_settled()
    bo.look()
    # What it says besides is not for the chat.
    assert [m["text"] for m in bo.inbox if m["sender_slug"] == worker.slug] == [text]
