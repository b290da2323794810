#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""check-documentation.py XML…: each interface, method, signal and property of the published files says what it is. The
programs themselves cannot: sd-bus has no annotations of one's own in what it answers to Introspect."""

import sys
import xml.etree.ElementTree as ET

DOC = "org.gtk.GDBus.DocString"
MEMBERS = ("method", "signal", "property")


def main():
    status, n = 0, 0
    for path in sys.argv[1:]:
        for interface in ET.parse(path).getroot().findall("interface"):
            for element in (interface, *(e for e in interface if e.tag in MEMBERS)):
                docs = [a.get("value", "").strip() for a in element.findall("annotation") if a.get("name") == DOC]
                n += 1
                if len(docs) != 1 or len(docs[0]) < 3:
                    print(f"{path}: {element.tag} {element.get('name')}: {len(docs)} annotations {DOC}: {docs}")
                    status = 1
    if n == 0:
        print("there is nothing to be looked at")
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
