# SPDX-License-Identifier: MIT
"""The files of the chat page as the real puffo-gateway serves them. It needs no puffod for that, and has none here.

    GATEWAY=build/daemon/gateway/puffo-gateway python3 -m pytest tests/unit/test_gateway_page.py
"""

import gzip
import json
import pathlib
import re

import pytest

from gateway_world import World

WEB = pathlib.Path(__file__).parent.parent.parent / "daemon/gateway/web"
POLICY = ("default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
         ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8"}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("page"))
    w.start_gateway()
    yield w
    w.stop()


def get(world, path, method="GET", **headers):
    connection = world.connect()
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def place(world):
    """Where the page says its files are."""
    place, = set(re.findall(r'(/web/[0-9a-f]{16})/', get(world, "/")[2].decode()))
    return place


def test_page(world):
    status, headers, body = get(world, "/")
    assert status == 200 and headers["content-type"] == TYPES[".html"]
    assert body.decode() == (WEB / "index.html").read_text().replace("@WEB@", place(world))
    assert headers["content-security-policy"] == POLICY
    assert (headers["x-content-type-options"], headers["referrer-policy"], headers["cross-origin-opener-policy"]) == \
        ("nosniff", "no-referrer", "same-origin")
    # It is asked for again each time, and sent again only when it is another one.
    assert headers["cache-control"] == "no-cache" and re.fullmatch("req_[0-9a-f]{32}", headers["x-request-id"])
    assert get(world, "/web")[2] == body


def test_files(world):
    files = [p for p in WEB.rglob("*") if p.suffix in TYPES and p.name != "index.html"]
    assert len(files) > 15
    for file in files:
        status, headers, body = get(world, f"{place(world)}/{file.relative_to(WEB)}")
        assert status == 200 and body == file.read_bytes(), file
        assert headers["content-type"] == TYPES[file.suffix] and headers["content-security-policy"] == POLICY
        assert headers["cache-control"] == "public, max-age=31536000, immutable"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("accept,packed", [
    ("gzip", True), ("br, gzip", True), ("gzip;q=0.5, br", True), ("deflate,GZIP ; q=1", True), (" gzip", True),
    ("gzip;q=0", False), ("gzip; q=0.0", False), ("br", False), ("gzipped", False), ("", False), ("x-gzip", False),
    (",,;,", False), ("identity, gzip;q=0", False)])
def test_gzip(world, accept, packed):
    path = place(world) + "/vendor/marked.esm.js"
    status, headers, body = get(world, path, Accept_Encoding=accept)
    assert (headers["content-encoding"] == "gzip") == packed and headers["vary"] == "Accept-Encoding"
    assert status == 200 and (gzip.decompress(body) if packed else body) == (WEB / "vendor/marked.esm.js").read_bytes()
    assert int(headers["content-length"]) == len(body)


def test_tags(world):
    for path in ["/", place(world) + "/style/base.css"]:
        tag = get(world, path)[1]["etag"]
        assert re.fullmatch(r'W/"[0-9a-f]{32}"', tag)
        # The tag is of what is said, not of how it is packed.
        assert get(world, path, Accept_Encoding="gzip")[1]["etag"] == tag
        for seen in [tag, tag[2:], f'"other", {tag}', "*"]:
            status, headers, body = get(world, path, If_None_Match=seen)
            assert status == 304 and body == b"" and headers["etag"] == tag
            assert headers["content-security-policy"] == POLICY
        for other in ['"other"', "", tag[:-2] + '"', tag.strip('W/"')]:
            assert get(world, path, If_None_Match=other)[0] == 200


def test_head(world):
    status, headers, body = get(world, "/", method="HEAD")
    assert status == 200 and body == b"" and int(headers["content-length"]) == len(get(world, "/")[2])


def test_what_is_not_there(world):
    own = place(world)
    for path in [own, own + "/", own + "/index.html", own + "/script/none.js", own + "/script/../script/app.js",
                 own + "/%73cript/app.js", own + "/vendor/README", own + "/script/app.js/", "/web/", "/web/0/app.js",
                 "/web/0123456789abcdef/script/app.js", own + "x/script/app.js", own + "//script/app.js",
                 "/index.html", "//", "/web/../web", "/favicon.ico", own + "/" + "x" * 4000]:
        status, headers, body = get(world, path)
        assert status == 404 and json.loads(body)["error"]["message"], path
        assert headers["cache-control"] == "no-store"


def test_who_is_served(world):
    own = place(world)
    for path in ["/", "/web", own + "/script/app.js"]:
        # Nobody needs a key or has to be known for these, but no other site gets them.
        assert get(world, path, Host=f"evil.example:{world.port}")[0] == 403
        assert get(world, path, Origin="http://evil.example")[0] == 403
        assert get(world, path, Sec_Fetch_Site="cross-site")[0] == 403
        assert get(world, path, Sec_Fetch_Site="same-site")[0] == 403
        assert get(world, path, Sec_Fetch_Site="none")[0] == 200
        assert get(world, path, Sec_Fetch_Site="same-origin", Origin=f"http://127.0.0.1:{world.port}")[0] == 200
        for method in ["POST", "PUT", "DELETE"]:
            status, headers, _ = get(world, path, method=method)
            assert status == 405 and headers["allow"] == "GET, HEAD"
