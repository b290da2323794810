#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""One method call on the session or system bus, for tests that need error names or descriptors.

Standard input: JSON {"scope": "user"|"system", "path", "interface", "method", "signature", "args"}. In args a variant
is ["signature", value], {"open": PATH} is a descriptor opened for writing, {"read": PATH} one for reading. Standard output: {"result": [...]} or
{"error": NAME, "message": TEXT}; a returned descriptor is shown as {"fd": n} and then copied there until it ends.
"""

import json
import os
import sys

import dbus

NAME = "ai.puffo.Agents1"


def variant(value):
    signature, plain = value
    types = {"s": dbus.String, "b": dbus.Boolean, "u": dbus.UInt32, "t": dbus.UInt64,
             "as": lambda v: dbus.Array(v, signature="s")}
    return types[signature](plain)


def argument(value):
    if isinstance(value, dict) and set(value) == {"open"}:
        return dbus.types.UnixFd(os.open(value["open"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
    if isinstance(value, dict) and set(value) == {"read"}:
        return dbus.types.UnixFd(os.open(value["read"], os.O_RDONLY))
    if isinstance(value, dict):
        return dbus.Dictionary({k: variant(v) for k, v in value.items()}, signature="sv")
    return value


def main():
    request = json.load(sys.stdin)
    bus = dbus.SessionBus() if request["scope"] == "user" else dbus.SystemBus()
    descriptors = []

    def plain(value):
        if isinstance(value, dbus.types.UnixFd):
            descriptors.append(value.take())
            return {"fd": len(descriptors) - 1}
        if isinstance(value, dbus.Boolean):
            return bool(value)
        if isinstance(value, dict):
            return {str(k): plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return value

    try:
        result = bus.call_blocking(request.get("name", NAME), request["path"], request["interface"],
                                   request["method"], request["signature"], [argument(a) for a in request["args"]],
                                   timeout=120)
    except dbus.DBusException as e:
        print(json.dumps({"error": e.get_dbus_name(), "message": e.get_dbus_message()}))
        return
    if result is None:
        result = ()
    elif not isinstance(result, tuple):
        result = (result,)
    print(json.dumps({"result": plain(result)}), flush=True)
    for fd in descriptors:
        while chunk := os.read(fd, 65536):
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


main()
