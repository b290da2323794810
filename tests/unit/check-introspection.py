#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""check-introspection.py PUFFOD XML…: compares the published interface files with what the program exports."""

import subprocess
import sys
import xml.etree.ElementTree as ET

EMITS = "org.freedesktop.DBus.Property.EmitsChangedSignal"


def arguments(member):
    return [(a.get("name"), a.get("type"), a.get("direction", "out" if member.tag == "signal" else "in"))
            for a in member.findall("arg")]


def facts(interface):
    """Everything that callers can rely on, as a set of comparable tuples."""
    found = set()
    for member in interface:
        name = member.get("name")
        if member.tag in ("method", "signal"):
            found.add((member.tag, name, tuple(arguments(member))))
        elif member.tag == "property":
            emits = [a.get("value") for a in member.findall("annotation") if a.get("name") == EMITS]
            found.add((member.tag, name, member.get("type"), member.get("access"), (emits or ["true"])[0]))
    return found


def main():
    puffod, status = sys.argv[1], 0
    for path in sys.argv[2:]:
        published = ET.parse(path).getroot().find("interface")
        name = published.get("name")
        xml = subprocess.run([puffod, "--bus-introspect", name], check=True, capture_output=True, text=True).stdout
        exported = ET.fromstring(xml).find("interface")
        for kind, facts_only in (("published, not exported", facts(published) - facts(exported)),
                                 ("exported, not published", facts(exported) - facts(published))):
            for fact in sorted(facts_only, key=str):
                print("%s: %s: %s" % (name, kind, fact))
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
