# SPDX-License-Identifier: MIT
"""Key files as clients keep them: <slug>.json and <slug>.session.json."""

from __future__ import annotations

import json
import os
import pathlib
from dataclasses import dataclass
from typing import Any

from puffo.crypto import CryptoError, b64, now_ms, parse_object, unb64

SECRETS = ("root_secret_key", "device_signing_secret_key", "kem_secret_key")
TEXTS = ("slug_binding_json", "identity_cert_json", "identity_profile_json")


@dataclass
class Identity:
    slug: str
    device_id: str
    root_secret_key: bytes
    device_signing_secret_key: bytes
    kem_secret_key: bytes
    server_url: str
    slug_binding_json: str | None = None
    identity_cert_json: str | None = None
    identity_profile_json: str | None = None

    def text(self) -> str:
        members: dict[str, Any] = {"slug": self.slug, "device_id": self.device_id,
                                   **{k: b64(getattr(self, k)) for k in SECRETS}, "server_url": self.server_url,
                                   **{k: getattr(self, k) for k in TEXTS if getattr(self, k) is not None}}
        return file_text(members)


@dataclass
class Session:
    slug: str
    subkey_id: str
    subkey_secret_key: bytes
    expires_at: int | None

    def text(self) -> str:
        return file_text({"slug": self.slug, "subkey_id": self.subkey_id,
                          "subkey_secret_key": b64(self.subkey_secret_key), "expires_at": self.expires_at})


def file_text(members: dict[str, Any]) -> str:
    return json.dumps(members, indent=2, ensure_ascii=True).replace("\x7f", "\\u007f")


def decode_secret(text: Any) -> bytes:
    data = unb64(text)
    if len(data) != 32:
        raise CryptoError("bad_secret_length")
    return data


def save(directory: pathlib.Path, name: str, text: str) -> pathlib.Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, temporary = directory / name, directory / f"{name}.tmp"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as f:
        f.write(text)
    temporary.rename(path)
    return path


def save_identity(directory: pathlib.Path, identity: Identity) -> pathlib.Path:
    return save(directory, f"{identity.slug}.json", identity.text())


def save_session(directory: pathlib.Path, session: Session) -> pathlib.Path:
    return save(directory, f"{session.slug}.session.json", session.text())


def load_identity(directory: pathlib.Path, slug: str) -> Identity:
    value = parse_object((directory / f"{slug}.json").read_bytes())
    return Identity(value["slug"], value["device_id"], *(decode_secret(value[k]) for k in SECRETS),
                    value["server_url"], *(value.get(k) for k in TEXTS))


def load_session(directory: pathlib.Path, slug: str) -> Session | None:
    """None when there is none; an expired one is deleted."""
    path = directory / f"{slug}.session.json"
    try:
        value = parse_object(path.read_bytes())
    except FileNotFoundError:
        return None
    session = Session(value["slug"], value["subkey_id"], decode_secret(value["subkey_secret_key"]),
                      value["expires_at"])
    if session.expires_at is not None and session.expires_at <= now_ms():
        path.unlink()
        return None
    return session


def list_identities(directory: pathlib.Path) -> list[str]:
    if not directory.is_dir():
        return []
    return sorted(p.name[:-5] for p in directory.iterdir()
                  if p.name.endswith(".json") and not p.name.endswith(".session.json")
                  and not p.name.startswith("pending-") and p.name != "registered-agents.json")
