#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the files of the chat page into C (daemon/gateway/page.h): embed.py OUTPUT.c DIRECTORY FILE…

FILE is a path below DIRECTORY; index.html is the page, and has @WEB@ where the address of the others begins."""

import gzip
import hashlib
import pathlib
import sys

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
         ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8"}
ESCAPES = {byte: f"\\{byte:03o}" for byte in range(256)}
# No digits (they would belong to an escape in front of them) and no question marks (trigraphs).
ESCAPES.update({byte: chr(byte) for byte in range(32, 127) if chr(byte) not in '"\\?0123456789'})


def c_string(data):
    lines = [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    return "\n".join('        "' + "".join(ESCAPES[byte] for byte in line) + '"' for line in lines)


def c_file(name, data):
    # Without a time in it: the same files give the same program.
    packed = gzip.compress(data, 9, mtime=0)
    tag = hashlib.sha256(data).hexdigest()[:32]
    return (f'{{\n        .name = "{name}", .type = "{TYPES[pathlib.PurePath(name).suffix]}",\n'
            f'        .etag = "W/\\"{tag}\\"", .size = {len(data)}, .gzip_size = {len(packed)},\n'
            f"        .data =\n{c_string(data)},\n        .gzip =\n{c_string(packed)},\n}}")


def main(output, directory, *names):
    contents = {name: (pathlib.Path(directory) / name).read_bytes() for name in sorted(names)}
    page = contents.pop("index.html")
    digest = hashlib.sha256()
    for name, data in contents.items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    version = digest.hexdigest()[:16]
    files = ",\n".join(c_file(name, data) for name, data in contents.items())
    pathlib.Path(output).write_text(f'''/* Made by web/embed.py. */
#include "page.h"

const char page_version[] = "{version}";
const PageFile page_index = {c_file("index.html", page.replace(b"@WEB@", b"/web/" + version.encode()))};
const PageFile page_files[] = {{
{files}
}};
const size_t page_n_files = {len(contents)};
''')


if __name__ == "__main__":
    main(*sys.argv[1:])
