# SPDX-License-Identifier: MIT
"""Units as puffod makes them for coding CLIs, with puffo-sandbox in front of something that is no CLI."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading
import uuid

SANDBOX = "/usr/lib/puffo/puffo-sandbox"

COMMON = ["PrivateUsers=yes", "NoNewPrivileges=yes", "ProtectControlGroups=yes", "RestrictSUIDSGID=yes",
          "LockPersonality=yes", "PrivateIPC=yes", "KeyringMode=private", "KillMode=control-group", "OOMPolicy=stop",
          "OOMScoreAdjust=500", "IgnoreSIGPIPE=no", "TimeoutStopSec=10",
          "UnsetEnvironment=DBUS_SESSION_BUS_ADDRESS XDG_RUNTIME_DIR SSH_AUTH_SOCK MANAGERPID SYSTEMD_EXEC_PID"]
STRICT = ["PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
          "SystemCallFilter=@system-service @mount",
          "SystemCallFilter=~@keyring io_uring_setup io_uring_enter io_uring_register userfaultfd",
          "SystemCallErrorNumber=EPERM", "SystemCallArchitectures=native", "RestrictRealtime=yes",
          "ProtectKernelModules=yes", "ProtectClock=yes", "ProtectHostname=yes"]


class Sandbox:
    """What one user's coding CLIs are given."""

    def __init__(self, user):
        self.user = user
        self.workspace = user.home / "sandbox-work"
        self.manager = os.stat(f"/proc/{self.manager_pid()}/ns/user").st_ino
        user.write("sandbox-work/notes", "mine\n")
        user.write("secret", "not for others\n")
        user.write(".ssh/id_test", "key\n")

    def manager_pid(self):
        out = subprocess.run(["systemctl", "show", "--value", "-p", "MainPID", f"user@{self.user.uid}.service"],
                             check=True, capture_output=True, text=True).stdout
        return int(out)

    def properties(self, profile, without=(), sockets=(), mounts=()):
        run = f"/run/user/{self.user.uid}"
        wanted = list(COMMON)
        if profile == "host":
            hidden = [f"{run}/bus", f"{run}/systemd", f"-{run}/puffo", f"-{run}/gnupg", f"-{run}/keyring",
                      "-/run/dbus/system_bus_socket", "-/run/docker.sock", f"-{self.user.home}/.ssh"]
            wanted += [f"InaccessiblePaths={path}" for path in hidden]
        else:
            wanted += ["ProtectSystem=strict", "ProtectHome=tmpfs", "PrivateTmp=yes", "PrivateDevices=yes",
                       "TemporaryFileSystem=/run:ro", f"BindPaths={self.workspace}"]
        if profile == "strict":
            wanted += STRICT
        wanted += [f"BindPaths={source}:{target}" for source, target in sockets]
        return [p for p in wanted if not any(p.startswith(w) for w in without)] + list(mounts)

    def command(self, profile, options=(), without=(), sockets=(), mounts=(), unit=None):
        """systemd-run's words; its standard streams are the CLI's."""
        unit = unit or f"puffo-test-{uuid.uuid4().hex[:12]}"
        return ["systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec",
                f"--unit={unit}", *[f"--property={p}" for p in self.properties(profile, without, sockets, mounts)],
                "--",
                SANDBOX, f"--profile={profile}", f"--user-namespace={self.manager}", *options]

    def launch(self, argv, env=None, **more):
        body = {"argv": [str(a) for a in argv], "env": {"PATH": "/usr/bin:/bin", **(env or {})},
                "cwd": str(self.workspace), **more}
        text = json.dumps(body)
        return f"{len(text.encode()):08x}\n{text}"

    def run(self, profile, argv, env=None, input="", raw=None, timeout=60, more=None, **options):
        """What the CLI's end was, and what it wrote."""
        text = raw if raw is not None else self.launch(argv, env, **(more or {})) + input
        return self.user.run(self.command(profile, **options), input=text, check=False, timeout=timeout)

    def python(self, profile, script, **options):
        """What a script in the sandbox prints, as JSON."""
        out = self.run(profile, ["/usr/bin/python3", "-B", "-c", script], **options)
        assert out.returncode == 0, f"{out.returncode}: {out.stdout}{out.stderr}"
        return json.loads(out.stdout)


class SystemSandbox:
    """The same of the system manager: a user of its own, and nothing of its own user namespace."""

    COMMON = ["DynamicUser=yes", "User=pf-sandbox-test", "StateDirectory=puffo/sandbox-test", "NoNewPrivileges=yes",
              "ProtectControlGroups=yes", "PrivateIPC=yes", "KeyringMode=private", "KillMode=control-group",
              "ProtectHome=tmpfs", "ProtectProc=invisible"]
    PROFILES = {
        "host": ["InaccessiblePaths=/run/dbus/system_bus_socket -/run/puffo"],
        "workspace": ["PrivateDevices=yes", "TemporaryFileSystem=/run:ro /var/lib:ro"],
        "strict": ["PrivateDevices=yes", "TemporaryFileSystem=/run:ro /var/lib:ro", *STRICT],
    }

    def run(self, profile, argv=None, without=(), options=()):
        body = json.dumps({"argv": argv or ["/bin/true"], "env": {"PATH": "/usr/bin:/bin"}, "cwd": "/"})
        wanted = [p for p in self.COMMON + self.PROFILES[profile] if not any(p.startswith(w) for w in without)]
        return subprocess.run(["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--service-type=exec",
                               *[f"--property={p}" for p in wanted], "--", SANDBOX, f"--profile={profile}", *options],
                              input=f"{len(body):08x}\n{body}" if argv else "", capture_output=True, text=True,
                              timeout=60, check=False)


class EchoServer:
    """A Unix socket of the user's that answers each connection with what it said, once all of it is there."""

    def __init__(self, user, path):
        self.path = pathlib.Path(path)
        self.count = 0
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(self.path))
        os.chown(self.path, user.uid, user.gid)
        self.socket.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection = self.socket.accept()[0]
                self.count += 1
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    @staticmethod
    def serve(connection):
        with connection, contextlib.suppress(OSError):
            data = b""
            while piece := connection.recv(65536):
                data += piece
            connection.sendall(data[::-1])

    def close(self):
        self.socket.close()
        self.path.unlink()
