# SPDX-License-Identifier: MIT
"""The server as a process of its own, for tests that kill it."""

import json
import pathlib
import ssl
import subprocess
import urllib.request

from puffo import client as people

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "puffo-server"


class Server:
    def __init__(self, state, *options):
        self.state, self.options, self.port, self.tls = state, options, 0, "--tls" in options
        self.start()

    def start(self):
        # A process of its own: it is killed and comes back on the same port.
        self.process = subprocess.Popen([PROGRAM, "--state", self.state,
                                         "--listen", f"127.0.0.1:{self.port}", *self.options],
                                        stdout=subprocess.PIPE, text=True)
        word, _, self.url = self.process.stdout.readline().strip().partition(" ")
        assert word == "ready"
        self.port = int(self.url.split(":")[2].split("/")[0])
        self.origin = "/".join(self.url.split("/")[:3])

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def context(self):
        return ssl.create_default_context(cafile=self.state / "tls" / "ca.pem") if self.tls else None

    def request(self, method, path, body=None, base=None):
        request = urllib.request.Request((base or self.origin) + path, method=method,
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=300, context=self.context()) as answer:
            return json.loads(answer.read() or "null")

    def control(self, path, body=None, method=None):
        return self.request(method or ("GET" if body is None else "POST"), "/_control/" + path, body)

    def fault(self, name, **options):
        self.control("faults", {"fault": name, **options})

    def clear(self):
        self.control("faults", method="DELETE")

    def counters(self):
        return self.control("counters")

    def log(self, kind):
        return self.control(f"log?kind={kind}")["lines"]

    def bulk(self, slug, count=1, **options):
        return self.control("bulk", {"to": slug, "count": count, **options})["envelope_ids"]

    def queued(self, slug):
        return [i for ids in self.control(f"queue?slug={slug}")["devices"].values() for i in ids]

    def person(self, directory, username):
        """Somebody with the Python client of this folder."""
        connection = people.Connection(self.url)
        connection.context = self.context()
        identity = people.sign_up(connection, directory, username, None, "x")
        return people.Client(connection, directory, identity.slug)

    def register(self, directory, username):
        """An agent with its key file, as the operator's browser makes it."""
        self.operator = self.person(self.state.parent / "operator", "operator")
        return self.operator.create_agent(username, directory).slug
