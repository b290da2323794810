# SPDX-License-Identifier: MIT
"""The tools of an agent, called by the official client of the Model Context Protocol."""

import os
import pathlib
import subprocess

import pytest

from machine import SOURCE

MODULES = pathlib.Path("/srv/puffo/openai/node_modules")


@pytest.fixture
def tools(tmp_path):
    """The socket and the workspace of a server that runs."""
    workspace, socket = tmp_path / "workspace", tmp_path / "run" / "tools.sock"
    workspace.mkdir()
    with subprocess.Popen([SOURCE / "build/tests/peers/tool-server", tmp_path, workspace, socket],
                          stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout.readline() == "listening\n"
        yield socket, workspace
        server.terminate()
        assert server.wait(10) == 0
    assert not socket.exists()


def test_official_client(tools, tmp_path):
    if not (MODULES / "@modelcontextprotocol/sdk").is_dir():
        pytest.fail("the MCP client is not installed: ./check integration does that")
    # Modules are looked for beside the script.
    place = tmp_path / "mcp"
    place.mkdir()
    os.symlink(MODULES, place / "node_modules")
    for name in "conformance.mjs", "bridge.mjs":
        (place / name).write_bytes((SOURCE / "tests/integration/mcp" / name).read_bytes())
    out = subprocess.run(["node", place / "conformance.mjs", *tools], capture_output=True, text=True, timeout=120)
    assert out.returncode == 0 and "not ok" not in out.stdout, out.stdout + out.stderr
    assert out.stdout.count("ok ") == 10
