#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What can be said of the chat page without running it: check-page.py DIRECTORY"""

import hashlib
import html.parser
import pathlib
import re
import sys

web = pathlib.Path(sys.argv[1])
wrong = []


def own_files():
    return [p for p in sorted(web.rglob("*"))
            if p.suffix in (".html", ".css", ".js", ".svg") and p.parent.name != "vendor"]


# Vendored files are what the README says they are.
sums = re.findall(r"^(\S+)\n(?: .*\n)*? +sha256 +([0-9a-f]{64})$", (web / "vendor/README").read_text(), re.M)
vendored = {p.name for p in (web / "vendor").iterdir() if p.suffix in (".js", ".mjs")}
if vendored != {name for name, _ in sums}:
    wrong.append(f"vendor/README is about {[name for name, _ in sums]}, and there is {sorted(vendored)}")
for name, digest in sums:
    if hashlib.sha256((web / "vendor" / name).read_bytes()).hexdigest() != digest:
        wrong.append(f"vendor/{name} is not what vendor/README says")

# All files go into the program.
built = (web / "meson.build").read_text()
for path in own_files() + [web / "vendor" / name for name in vendored]:
    if f"'{path.relative_to(web)}'" not in built:
        wrong.append(f"{path.relative_to(web)} is not in web/meson.build")


class Document(html.parser.HTMLParser):
    """Nothing inline, nothing from elsewhere, nothing that is not there."""

    inline = None
    ids = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        for name, value in attributes:
            if name == "style" or name.startswith("on"):
                wrong.append(f"index.html:{self.getpos()[0]}: inline {name}")
            if name in ("src", "href") and not (value.startswith("@WEB@/") and (web / value[6:]).is_file()):
                wrong.append(f"index.html:{self.getpos()[0]}: {value} is no file of the page")
            if name in ("aria-labelledby", "aria-describedby", "aria-controls", "for", "list") and \
                    f'id="{value}"' not in (web / "index.html").read_text():
                wrong.append(f"index.html:{self.getpos()[0]}: nothing has the id {value}")
        self.inline = tag if tag in ("script", "style") and "src" not in values else None

    def handle_data(self, data):
        if self.inline:
            wrong.append(f"index.html:{self.getpos()[0]}: inline {self.inline}")


document = Document()
document.feed((web / "index.html").read_text())
wrong += [f"index.html: two elements have the id {i}" for i in set(document.ids) if document.ids.count(i) > 1]

for path in own_files():
    where, text = path.relative_to(web), path.read_text()
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > 119 and path.suffix in (".js", ".html"):
            wrong.append(f"{where}:{number}: {len(line)} columns")
    if path.suffix == ".js":
        for name in re.findall(r'^(?:import|export) .*?from "(.+?)"|^import "(.+?)"', text, re.M | re.S):
            target = name[0] or name[1]
            if not (path.parent / target).resolve().is_file():
                wrong.append(f"{where}: {target} is not there")
        # The one place where markup comes from is the sanitiser.
        for sink in re.findall(r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function|"
                               r"createContextualFragment|setHTMLUnsafe)\b", text):
            wrong.append(f"{where}: {sink}")
        for name in re.findall(r'byId\("([^"]+)"\)', text):
            if name not in document.ids:
                wrong.append(f"{where}: nothing has the id {name}")
    if path.suffix == ".css" and re.search(r"@import|url\(", text):
        wrong.append(f"{where}: it loads something")

print("\n".join(wrong))
sys.exit(bool(wrong))
