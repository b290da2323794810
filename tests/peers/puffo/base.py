# SPDX-License-Identifier: MIT
"""What the endpoints are made of: requests, answers, refusals, and the table of routes."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping

from puffo.crypto import CryptoError, parse_object

PAGE = "<!doctype html><html><head><title>Puffo</title></head><body><div id=\"root\"></div></body></html>"
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@dataclass
class Reply:
    """The body: JSON, or bytes of the given type."""

    status: int
    body: Any
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def data(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return json.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def reply(self) -> Reply:
        return Reply(self.status, {"error": self.code, "message": self.message})


def bad(message: str, code: str = "BAD_REQUEST") -> Refusal:
    return Refusal(400, code, message)


def unauthorized(message: str) -> Refusal:
    return Refusal(401, "UNAUTHORIZED", message)


def forbidden(message: str) -> Refusal:
    return Refusal(403, "FORBIDDEN", message)


def not_found(message: str) -> Refusal:
    return Refusal(404, "NOT_FOUND", message)


def conflict(message: str) -> Refusal:
    return Refusal(409, "CONFLICT", message)


def html_page(status: int = 200) -> Reply:
    return Reply(status, PAGE.encode(), "text/html; charset=utf-8")


@dataclass
class Signer:
    slug: str
    device_id: str


@dataclass
class Request:
    method: str
    target: str
    """As it was sent, without the server's prefix: what the signature covers."""
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    signer: Signer | None = None
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """Of the signer; only signed routes ask for it."""
        assert self.signer is not None
        return self.signer.slug

    def json(self) -> dict[str, Any]:
        try:
            return parse_object(self.body)
        except CryptoError as e:
            raise bad(f"the body is not a JSON object: {e}") from None

    def number(self, name: str, default: int, low: int, high: int) -> int:
        text = self.query.get(name, str(default))
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
            raise bad(f"{name} is not a number")
        return min(max(int(text), low), high)

    def slugs(self) -> list[str]:
        slugs = [s for s in self.query.get("slugs", "").split(",") if s]
        if not slugs:
            raise bad("slugs is missing")
        return list(dict.fromkeys(slugs))


Handler = Callable[..., Any]


@dataclass
class Route:
    method: str
    template: str
    handler: Handler
    auth: str
    """"subkey", "device" or "none"."""
    later: bool
    pattern: re.Pattern[str]


ROUTES: list[Route] = []


def route(method: str, template: str, auth: str = "subkey", later: bool = False) -> Callable[[Handler], Handler]:
    """Registers handler(server, request, *path parts), which returns a Reply or the object of a 200."""
    def register(handler: Handler) -> Handler:
        pattern = re.compile(re.sub(r"\\\{[a-z]+\\\}", "([^/]+)", re.escape(template)))
        ROUTES.append(Route(method, template, handler, auth, later, pattern))
        return handler
    return register


def find_route(method: str, path: str, later: bool) -> tuple[Route | None, tuple[str, ...]]:
    for candidate in ROUTES:
        match = candidate.pattern.fullmatch(path) if candidate.method == method else None
        if match and (later or not candidate.later):
            return candidate, match.groups()
    return None, ()


def text_of(obj: dict[str, Any], name: str, limit: int = 1024) -> str:
    value = obj.get(name)
    if not isinstance(value, str) or not value or len(value) > limit:
        raise bad(f"{name} must be a string of 1 to {limit} characters")
    try:
        value.encode("utf-8")
    except UnicodeError:
        raise bad(f"{name} is not Unicode text") from None
    return value


def integer_of(obj: dict[str, Any], name: str) -> int:
    value = obj.get(name)
    if type(value) is not int or not 0 <= value < 2 ** 63:
        raise bad(f"{name} must be an integer")
    return value


def id_of(obj: dict[str, Any], name: str, prefix: str) -> str:
    """A fresh id that a client made: prefix_uuid."""
    value = text_of(obj, name)
    if not re.fullmatch(f"{prefix}_{UUID}", value):
        raise bad(f"{name} must be {prefix}_ and a UUID")
    return value


def list_of(obj: dict[str, Any], name: str, kind: type, limit: int = 100_000) -> list[Any]:
    value = obj.get(name)
    if not isinstance(value, list) or len(value) > limit or any(not isinstance(v, kind) for v in value):
        raise bad(f"{name} must be a list of {kind.__name__}, at most {limit}")
    return value


def new_id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4()}"


def paged(request: Request, page: dict[str, Any], items: str) -> dict[str, Any]:
    """The faults of paged reads."""
    if "has_more_empty" in request.faults:
        return {**page, items: [], "has_more": True}
    if "has_more_stuck" in request.faults:
        return {**page, "has_more": True, "next_cursor": request.query.get("since") or page.get("next_cursor")}
    return page
