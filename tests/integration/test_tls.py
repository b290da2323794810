# SPDX-License-Identifier: MIT
"""Model providers over HTTPS: nobody gets the key who cannot show who they are."""

import contextlib
import pathlib
import subprocess

import pytest

from machine import Provider, output_text

ANCHOR = pathlib.Path("/usr/local/share/ca-certificates/puffo-test.crt")


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


class Authority:
    """A certificate authority that nobody knows, until the administrator tells the machine of it."""

    def __init__(self, directory):
        self.directory = directory
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-subj", "/CN=puffo test authority", "-keyout", "ca.key", "-out", "ca.pem", cwd=directory)

    def issue(self, name, alternative, days=1):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=provider",
                "-keyout", f"{name}.key", "-out", f"{name}.csr", cwd=self.directory)
        (self.directory / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.pem", cwd=self.directory)
        return self.directory / f"{name}.pem", self.directory / f"{name}.key"

    @contextlib.contextmanager
    def trusted(self):
        ANCHOR.write_bytes((self.directory / "ca.pem").read_bytes())
        subprocess.run(["update-ca-certificates"], check=True, capture_output=True)
        try:
            yield
        finally:
            ANCHOR.unlink()
            subprocess.run(["update-ca-certificates", "--fresh"], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def engineer(user_mode):
    return user_mode.hire("engineer", "alice")


@contextlib.contextmanager
def https_provider(suite, certificate, host="127.0.0.1"):
    emulator = Provider("--tls", *certificate)
    try:
        suite.manager("SetProvider", "sa{sv}", "anthropic",
                      {"ApiKey": ("s", "sk-test-tls"), "BaseUrl": ("s", emulator.url.replace("127.0.0.1", host))})
        yield emulator
    finally:
        emulator.close()


def refused(suite, emulator):
    """Gives the reason, which is in the agent's journal: clients are told the kind of trouble only."""
    before = len(emulator.log())
    response = suite.turn("engineer_alice", "[[reply: never said]]")
    assert response["status"] == "failed"
    assert response["error"]["message"] == "There is no trustworthy TLS connection to the model provider (tls)."
    # Not even the head of a request, which has the key.
    assert len(emulator.log()) == before
    lines = suite.journal("PUFFO_AGENT=engineer_alice", "_COMM=puffo-session")
    return [line["MESSAGE"] for line in lines if "The call of the model failed" in line["MESSAGE"]][-1]


def test_unknown_authority(user_mode, engineer, authority):
    with https_provider(user_mode, authority.issue("unknown", "IP:127.0.0.1")) as emulator:
        assert "unable to get local issuer certificate" in refused(user_mode, emulator)


def test_self_signed(user_mode, engineer, authority, tmp_path):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "own.key",
            "-out", "own.pem", cwd=tmp_path)
    with authority.trusted(), https_provider(user_mode, (tmp_path / "own.pem", tmp_path / "own.key")) as emulator:
        assert "self-signed" in refused(user_mode, emulator)


@pytest.mark.parametrize("host, alternative", [("127.0.0.1", "IP:127.0.0.1"), ("localhost", "DNS:localhost")])
def test_known_authority(user_mode, engineer, authority, host, alternative):
    """The agent, which has failed before, needs no restart."""
    with https_provider(user_mode, authority.issue("known", alternative), host) as emulator:
        refused(user_mode, emulator)
        with authority.trusted():
            response = user_mode.turn("engineer_alice", "over TLS [[reply: whom I trust]]")
            assert response["status"] == "completed" and output_text(response) == "whom I trust"
            assert emulator.count("over TLS") == 1


@pytest.mark.parametrize("host, alternative", [("127.0.0.1", "DNS:localhost"), ("localhost", "DNS:other.example"),
                                               ("localhost", "IP:127.0.0.1")])
def test_name_of_another(user_mode, engineer, authority, host, alternative):
    with https_provider(user_mode, authority.issue("other", alternative), host) as emulator, authority.trusted():
        assert "no alternative certificate subject name matches target host name" in refused(user_mode, emulator)


def test_expired(user_mode, engineer, authority):
    with https_provider(user_mode, authority.issue("expired", "IP:127.0.0.1", days=-1)) as emulator, \
            authority.trusted():
        assert "expired" in refused(user_mode, emulator)


def test_plain_server_behind_https(user_mode, engineer, provider):
    """No falling back: what speaks no TLS gets nothing."""
    user_mode.manager("SetProvider", "sa{sv}", "anthropic",
                      {"BaseUrl": ("s", provider.url.replace("http:", "https:"))})
    assert "TLS" in refused(user_mode, provider)
