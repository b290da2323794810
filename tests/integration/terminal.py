# SPDX-License-Identifier: MIT
"""Somebody at a terminal: a program on a pseudo-terminal of its own, what it shows, and keys."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from machine import Failed

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]|\x08")


class Terminal:
    def __init__(self, user, argv, cwd=None, env=None, columns=100):
        self.fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = user.environment({"TERM": "xterm", **(env or {})})
        self.process = subprocess.Popen(
            # Whose controlling terminal it is: Ctrl-C goes to the foreground of that.
            ["setsid", "--ctty", "--wait", *[str(a) for a in argv]], stdin=slave, stdout=slave, stderr=slave,
            user=user.uid, group=user.gid, extra_groups=user.groups, cwd=cwd or user.home, env=environment)
        os.close(slave)
        self.raw = b""
        self.begin = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.fd)       # a hang-up
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _read(self, left):
        if not select.select([self.fd], [], [], left)[0]:
            return False
        try:
            data = os.read(self.fd, 65536)
        except OSError:         # nobody has the other end any more
            return False
        self.raw += data
        return bool(data)

    def shown(self):
        """Behind what was expected last, without escape sequences."""
        return ESCAPES.sub("", self.raw.decode("utf-8", "replace"))[self.begin:]

    def expect(self, pattern, deadline=90):
        end = time.monotonic() + deadline
        while True:
            if match := re.search(pattern, self.shown()):
                self.begin += match.end()
                return match
            left = end - time.monotonic()
            if left <= 0 or not self._read(left) and self.process.poll() is not None:
                raise Failed(f"'{pattern}' was not shown within {deadline} s, but: {self.shown()!r}")

    def type(self, keys):
        os.write(self.fd, keys.encode())

    def wait(self, deadline=90):
        """The exit status."""
        end = time.monotonic() + deadline
        while self.process.poll() is None:
            if time.monotonic() > end:
                raise Failed(f"it does not end; shown: {self.shown()!r}")
            self._read(0.2)
        while self._read(0):
            pass
        return self.process.returncode

    def modes(self):
        """What the terminal does by itself: (it echoes, it has lines)."""
        local = termios.tcgetattr(self.fd)[3]
        return bool(local & termios.ECHO), bool(local & termios.ICANON)
