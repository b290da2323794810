# SPDX-License-Identifier: MIT
"""A Puffo server for tests and for trying out: everything that agents and people use, on SQLite, plain or with TLS.

Prints "ready http(s)://HOST:PORT[PREFIX]" when it listens (port 0: any free one). Everything it has answered is in
DIR/puffo.db, so that it can be ended, by whatever signal, and started again on the same DIR; with TLS its authority is
in DIR/tls. Anybody may sign up, with any invite code.
"""

from __future__ import annotations

import argparse
import asyncio
import pathlib
import shutil
import signal
import sys

from puffo import control as control_module
from puffo import faults as faults_module
from puffo.control import Control
from puffo.faults import Settings
from puffo.server import Listener, Server
from puffo.store import Store
from puffo.tls import make_context


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="puffo-server", formatter_class=argparse.RawDescriptionHelpFormatter, description=__doc__,
        epilog="\n".join(["CONTROL\n", control_module.__doc__ or "", "FAULTS\n", faults_module.__doc__ or "",
                          "Example: curl -d '{\"fault\": \"status\", \"status\": 429, \"times\": 1}'"
                          " http://127.0.0.1:PORT/_control/faults"]))
    parser.add_argument("--state", required=True, type=pathlib.Path, metavar="DIR", help="where everything is kept")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT", help="default 127.0.0.1:0")
    parser.add_argument("--tls", action="store_true", help="with a certificate for localhost, 127.0.0.1 and ::1")
    parser.add_argument("--ca-out", type=pathlib.Path, metavar="FILE", help="copies the authority's certificate there")
    parser.add_argument("--prefix", default="", metavar="/PATH", help="all paths (but /_control/) begin with it")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON",
                        help="a setting to begin with: " + ", ".join(vars(Settings())))
    args = parser.parse_args(argv)
    host, _, port = args.listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        parser.error(f"--listen {args.listen}: not HOST:PORT")
    args.host, args.port = host.strip("[]"), int(port)
    if args.prefix and (not args.prefix.startswith("/") or args.prefix.startswith("/_control")):
        parser.error(f"--prefix {args.prefix}: must begin with /")
    if args.ca_out and not args.tls:
        parser.error("--ca-out needs --tls")
    return args


def settings_of(pairs: list[str]) -> Settings:
    from puffo.crypto import CryptoError, parse_json
    settings = Settings()
    for pair in pairs:
        name, _, text = pair.partition("=")
        try:
            settings.change({name: parse_json(text)})
        except (ValueError, CryptoError) as e:
            sys.exit(f"puffo-server: --set {pair}: {e}")
    return settings


async def serve(args: argparse.Namespace) -> None:
    server = Server(Store(str(args.state / "puffo.db")), args.prefix, settings_of(args.set))
    server.control = Control(server, args.state)
    context = None
    if args.tls:
        context = make_context(args.state / "tls")
        if args.ca_out:
            shutil.copyfile(args.state / "tls" / "ca.pem", args.ca_out)
    listener = Listener(server)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        listening = await loop.create_server(listener, args.host, args.port, ssl=context, backlog=512)
    except OSError as e:
        sys.exit(f"puffo-server: {args.listen}: {e.strerror}")
    host = f"[{args.host}]" if ":" in args.host else args.host
    port = listening.sockets[0].getsockname()[1]
    print(f"ready {'https' if args.tls else 'http'}://{host}:{port}{server.prefix}", flush=True)
    await stop.wait()
    listening.close()
    server.stop()
    await asyncio.gather(*(s.close(1001) for s in list(server.streams) if not s.dead), return_exceptions=True)
    await listener.shutdown(1.0)
    server.store.close()


def main(argv: list[str] | None = None) -> None:
    args = arguments(argv)
    try:
        args.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        sys.exit(f"puffo-server: {args.state}: {e.strerror}")
    asyncio.run(serve(args))
