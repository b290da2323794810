# SPDX-License-Identifier: MIT
"""puffo-link and what is in a process, seen from outside."""

import os
import pathlib
import re
import subprocess

SERVICE, SOCKET = "puffo-link.service", "puffo-link.socket"
OF_THE_NETWORK = re.compile(r"lib(curl|ssl|crypto|gnutls|wslay|nghttp2|krb5|ldap)\b")


def loaded(pid):
    return set(re.findall(r"/(lib\w+)[^/\n]*\.so", pathlib.Path(f"/proc/{pid}/maps").read_text()))


def inet_sockets(pid):
    """Of TCP, at either end of which that process is."""
    out = subprocess.run(["ss", "--no-header", "--numeric", "--tcp", "--processes"], check=True, capture_output=True,
                         text=True).stdout
    return [line for line in out.splitlines() if f"pid={pid}," in line]


def kill_link(manager):
    """kill -9; the service manager starts it again, when somebody wants something or at once."""
    pid = manager.wait(lambda: manager.main_pid(SERVICE), 30, "puffo-link runs")
    os.kill(pid, 9)
    manager.wait(lambda: manager.main_pid(SERVICE) != pid, 30, "the killed one is gone")
