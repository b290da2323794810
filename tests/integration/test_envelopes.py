# SPDX-License-Identifier: MIT
"""What the journal has of envelopes that are refused: which one and why, and never what is in it."""

import json
import subprocess
import sys
import time

import pytest

from machine import SOURCE

sys.path.insert(0, str(SOURCE / "tests" / "peers"))
from puffo.process import Server  # noqa: E402

REFUSED = "7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a0a"
UNIT = "test-wire-client"


@pytest.fixture
def refusals(tmp_path):
    """A server, the slug of an agent whose client runs as a service, and a way to its journal."""
    server = Server(tmp_path / "server")
    try:
        slug = server.register(tmp_path / "keys", "bot")
        # It ends with its standard input.
        command = f"sleep infinity | {SOURCE}/build/tests/peers/wire-client {tmp_path}/keys {slug} {server.url}"
        subprocess.run(["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", "sh", "-c", command], check=True)
        yield server, slug, tmp_path / "keys" / f"{slug}.json"
        subprocess.run(["systemctl", "stop", UNIT], check=True)
    finally:
        server.kill()


def entry_of(envelope):
    for _ in range(200):
        out = subprocess.run(["journalctl", "-q", "-o", "json", f"PUFFO_ENVELOPE={envelope}"], check=True,
                             capture_output=True, text=True).stdout
        if out:
            entry, = map(json.loads, out.splitlines())
            return entry
        time.sleep(0.1)
    pytest.fail(f"the journal has nothing of {envelope}")


@pytest.mark.parametrize("spoil,reason", [
    ("ciphertext", "content_open_failed"), ("signature", "signature_invalid"), ("wrapped_key", "wrap_open_failed"),
    ("inner_route", "inner_outer_mismatch"), ("no_entry", "no_recipient_entry")])
def test_refused_envelopes_are_in_the_journal(refusals, spoil, reason):
    server, slug, key_file = refusals
    envelope, = server.bulk(slug, 1, spoil=spoil, text="nobody is to read this")
    entry = entry_of(envelope)
    assert (entry["MESSAGE_ID"], entry["PUFFO_REASON"], entry["PRIORITY"]) == (REFUSED, reason, "4")
    explained = subprocess.run(["journalctl", "-q", "-x", f"PUFFO_ENVELOPE={envelope}"], check=True,
                               capture_output=True, text=True).stdout
    assert f"Envelope {envelope} was refused: {reason}" in explained

    everything = subprocess.run(["journalctl", "-q", "-o", "export", f"_SYSTEMD_UNIT={UNIT}.service"], check=True,
                                capture_output=True, text=True).stdout
    for name, value in json.loads(key_file.read_text()).items():
        if name.endswith("_secret_key"):
            assert value not in everything
    assert "nobody is to read this" not in everything
