#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Stands in for puffo-session: registers with puffod, and calls its methods about the harness as a test asks for.

session_double.py SCOPE AGENT_DIRECTORY, as main process of an agent's session. Tests connect to run/double.sock in the
directory and write one JSON object, {"do": NAME, …}; they get one back. Pipes of the harness are kept in the service
manager's descriptor store, as a session keeps them.
"""

import array
import json
import os
import pathlib
import signal
import socket
import sys
import threading
import time

from gi.repository import Gio, GLib

PATH, INTERFACE = "/ai/puffo/Private1", "ai.puffo.Private1.Manager"
PIPES = ["in", "out", "err"]


def notify(text, fd=None):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect("\0" + address[1:] if address[0] == "@" else address)
        extra = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        s.sendmsg([text.encode()], extra)


class Double:
    def __init__(self, scope, directory):
        runtime = pathlib.Path("/run" if scope == "system" else os.environ["XDG_RUNTIME_DIR"]) / "puffo"
        self.address = f"unix:path={runtime}/private"
        self.directory, self.ends, self.bus, self.lock = directory, {}, None, threading.Lock()
        names = os.environ.get("LISTEN_FDNAMES", "").split(":") if os.environ.get("LISTEN_FDS") else []
        for i, name in enumerate(names):
            self.ends[name.removeprefix("harness-")] = 3 + i

    def connect(self):
        with self.lock:
            if self.bus is None or self.bus.is_closed():
                bus = Gio.DBusConnection.new_for_address_sync(
                    self.address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT, None, None)
                status = GLib.Variant("(a{sv})", ({"Status": GLib.Variant("s", "ready")},))
                try:
                    for method, parameters in [("Register", None), ("Report", status)]:
                        bus.call_sync(None, PATH, INTERFACE, method, parameters, None, Gio.DBusCallFlags.NONE, 5000,
                                      None)
                except GLib.Error:
                    bus.close_sync(None)
                    raise
                self.bus = bus
            return self.bus

    def call(self, method, parameters=None, fds=None):
        result, _ = self.connect().call_with_unix_fd_list_sync(None, PATH, INTERFACE, method, parameters, None,
                                                               Gio.DBusCallFlags.NONE, 120000, fds, None)
        return result.unpack()

    # what tests ask for
    def do_start(self, launch=None, harness=None):
        pairs = {name: os.pipe() for name in PIPES}
        theirs = {"in": pairs["in"][0], "out": pairs["out"][1], "err": pairs["err"][1]}
        ends = {"in": pairs["in"][1], "out": pairs["out"][0], "err": pairs["err"][0]}
        if launch is not None:
            text = json.dumps(launch).encode()
            os.write(ends["in"], b"%08x\n" % len(text) + text)
        options = {}
        for name, value in (harness or {}).items():
            signature = {"Sockets": "a(ss)", "Description": "s", "WorkingDirectory": "s"}.get(name, "as")
            options[name] = GLib.Variant(signature, [tuple(v) for v in value] if name == "Sockets" else value)
        fds = Gio.UnixFDList.new()
        for name in PIPES:
            fds.append(theirs[name])
        try:
            started, = self.call("StartHarness", GLib.Variant("(a{sv}hhh)", (options, 0, 1, 2)), fds)
            # Those of the one before were still of use until now.
            ends, self.ends = self.ends, ends
            for name in PIPES:
                notify(f"FDSTOREREMOVE=1\nFDNAME=harness-{name}")
                notify(f"FDSTORE=1\nFDNAME=harness-{name}\nFDPOLL=0", self.ends[name])
        finally:
            for fd in [*theirs.values(), *ends.values()]:
                os.close(fd)
            del fds
        return {**started, "InvocationID": bytes(started["InvocationID"]).hex()}

    def do_stop(self):
        return self.call("StopHarness")

    def do_freeze(self, freeze):
        return self.call("FreezeHarness", GLib.Variant("(b)", (freeze,)))[0]

    def do_wait(self, invocation):
        value = GLib.Variant.new_tuple(GLib.Variant("ay", bytes.fromhex(invocation)))
        return self.call("WaitHarness", value)[0]

    def do_boss(self, method, *texts):
        """What the manager agent's session alone may call."""
        fds = Gio.UnixFDList.new()
        if method != "AskAgent":
            return self.call(method, GLib.Variant("(ss)", texts))
        with open(os.devnull, "w") as stream:
            fds.append(stream.fileno())
            return self.call(method, GLib.Variant("(sssh)", (*texts, 0)), fds)

    def do_write(self, text):
        return os.write(self.ends["in"], text.encode())

    def do_close(self):
        os.close(self.ends.pop("in"))
        notify("FDSTOREREMOVE=1\nFDNAME=harness-in")

    def do_line(self, pipe="out"):
        """The next line, or what there is before the end."""
        line = b""
        while not line.endswith(b"\n") and (c := os.read(self.ends[pipe], 1)):
            line += c
        return line.decode()

    def do_rest(self, pipe="out"):
        """Everything up to the end."""
        return b"".join(iter(lambda: os.read(self.ends[pipe], 65536), b"")).decode()

    def do_crash(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def serve(self, connection):
        with connection, connection.makefile("rw", encoding="utf-8") as lines:
            line = lines.readline()
            if not line:
                return
            request = json.loads(line)
            try:
                answer = {"result": getattr(self, "do_" + request.pop("do"))(*request.pop("args", ()), **request)}
            except GLib.Error as e:
                name = Gio.DBusError.get_remote_error(e)
                Gio.DBusError.strip_remote_error(e)
                answer = {"error": name or "lost", "message": e.message}
            except (OSError, KeyError) as e:
                answer = {"error": type(e).__name__, "message": str(e)}
            lines.write(json.dumps(answer) + "\n")

    def keep_connected(self):
        while True:
            try:
                self.connect()
            except GLib.Error:
                pass
            time.sleep(0.1)

    def run(self):
        place = self.directory / "run"
        place.mkdir(mode=0o700, exist_ok=True)
        path = place / "double.sock"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            notify("READY=1")
            threading.Thread(target=self.keep_connected, daemon=True).start()
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()


if __name__ == "__main__":
    Double(sys.argv[1], pathlib.Path(sys.argv[2])).run()
