# SPDX-License-Identifier: MIT
"""What an agent on Puffo is told, and the files that it is kept in."""

import pytest

from puffo_fixtures import bo, suite, town  # noqa: F401
from puffo_town import Resident


@pytest.fixture(scope="module")
def reader(town):
    return Resident(town, "reader", profile="You read aloud.\n")


def prompt_files(resident):
    return [(resident.directory / name).read_text() for name in (".claude/CLAUDE.md", ".gemini/GEMINI.md")]


def test_files(reader):
    claude, gemini = prompt_files(reader)
    assert claude == gemini and claude.startswith("# Puffo.ai platform primer\n")
    assert f"`{reader.slug}`" in claude and "Call `send_message`" in claude and "- `get_thread_history`: " in claude
    assert "# Your role\n\nYou read aloud.\n" in claude
    assert "install_skill" not in claude and "You have no tools" not in claude
    skill = (reader.workspace / ".claude/skills/puffo-send-message/SKILL.md").read_text()
    assert skill.startswith("---\nname: puffo-send-message\n")


def test_reload(reader, bo):
    """The agent asks for its instructions anew: before the next batch the files are, and the flags go."""
    flags = reader.workspace / ".puffo-agent"
    user = reader.suite.user
    user.write(reader.directory / "memory/colour.md", "The colour is green.\n")
    user.write(flags / "reload.flag", '{"requested_at": 1}\n')
    user.write(flags / "refresh.flag", '{"requested_at": 1, "model": "other"}\n')
    bo.answer(bo.say("and now? [[reply: Now.]]", to=reader.slug))
    reader.wait_settled()
    for text in prompt_files(reader):
        assert "# Your memory\n\n### colour\n\nThe colour is green.\n" in text
    assert sorted(p.name for p in flags.iterdir()) == []
