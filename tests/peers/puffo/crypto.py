# SPDX-License-Identifier: MIT
"""Encodings, canonical JSON, signatures and HPKE of the Puffo protocol.

Every failure is a CryptoError; what is built on these (envelopes, certificates) is in envelope.py and certs.py.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import os
import re
import sys
import time
from typing import Any, Callable

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SKEW_MS = 300_000
SUBKEY_TTL_MS = 47 * 3_600_000
ROTATION_MARGIN_MS = 300_000
FINGERPRINT_DOMAIN = b"puffo/root-public-key-fingerprint/v1"

# Canonical JSON keeps every digit of an integer, however long.
if hasattr(sys, "set_int_max_str_digits"):
    sys.set_int_max_str_digits(0)


class CryptoError(Exception):
    """The reason is a code of the protocol where it has one."""

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


# --- encodings ---

def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unb64(text: Any) -> bytes:
    """Both alphabets, with the right padding or none; anything else is refused."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9+/_-]*={0,2}", text, re.ASCII) or "\n" in text:
        raise CryptoError("bad_base64url")
    body = text.rstrip("=")
    missing = -len(body) % 4
    if missing == 3 or len(text) - len(body) not in (0, missing):
        raise CryptoError("bad_base64url")
    return base64.b64decode(body.translate({ord("-"): "+", ord("_"): "/"}) + "=" * missing)


def random_b64(size: int) -> str:
    return b64(os.urandom(size))


def now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- canonical JSON ---

def _constant_refused(token: str) -> Any:
    raise ValueError(f"{token} is not JSON")


def parse_json(data: bytes | str) -> Any:
    """UTF-8 only, no NaN, no lone surrogates' bytes; a repeated key's last value wins."""
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        return json.loads(text, parse_constant=_constant_refused)
    except (ValueError, RecursionError) as e:
        raise CryptoError("bad_json", str(e)) from None


def parse_object(data: bytes | str) -> dict[str, Any]:
    value = parse_json(data)
    if not isinstance(value, dict):
        raise CryptoError("bad_json", "not an object")
    return value


def _number_compat(value: int | float) -> str:
    if isinstance(value, int):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        raise CryptoError("bad_json", "number out of range")
    if value == 0 and str(value)[0] == "-":
        return "-0.0"
    return str(int(value)) if value.is_integer() else repr(value)


def _number_rfc8785(value: int | float) -> str:
    """ECMAScript's Number::toString."""
    try:
        number = float(value)
    except OverflowError:
        raise CryptoError("bad_json", "number out of range") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise CryptoError("bad_json", "number out of range")
    if number == 0:
        return "0"
    sign = "-" if number < 0 else ""
    mantissa, _, exponent = f"{abs(number)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # The value is 0.digits × 10^point.
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len((whole + fraction).lstrip("0")))
    digits = digits.rstrip("0")
    size = len(digits)
    if size <= point <= 21:
        return sign + digits + "0" * (point - size)
    if 0 < point <= 21:
        return sign + digits[:point] + "." + digits[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + digits
    tail = "." + digits[1:] if size > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"


ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
ESCAPED = re.compile(r'["\\\x00-\x1f]')


def _string(text: str) -> str:
    return '"' + ESCAPED.sub(lambda m: ESCAPES.get(m[0]) or f"\\u{ord(m[0]):04x}", text) + '"'


def _canonical(value: Any, number: Callable[[int | float], str], order: Callable[[str], bytes]) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return number(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list):
        return "[" + ",".join([_canonical(v, number, order) for v in value]) + "]"
    if isinstance(value, dict):
        members = [_string(k) + ":" + _canonical(value[k], number, order) for k in sorted(value, key=order)]
        return "{" + ",".join(members) + "}"
    raise CryptoError("bad_json", f"{type(value).__name__} is not JSON")


def canonical(value: Any, rfc8785: bool = False) -> bytes:
    """The compat form, which is what is signed, orders keys by little-endian UTF-16 bytes and prints numbers as
    Python does; the RFC 8785 form is accepted when verifying."""
    try:
        if rfc8785:
            text = _canonical(value, _number_rfc8785, lambda k: k.encode("utf-16-be"))
        else:
            text = _canonical(value, _number_compat, lambda k: k.encode("utf-16-le"))
        return text.encode("utf-8")
    except (UnicodeError, RecursionError) as e:
        raise CryptoError("bad_json", str(e)) from None


def for_signing(value: Any, rfc8785: bool = False) -> bytes:
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if k not in ("signature", "self_signature")}
    return canonical(value, rfc8785)


# --- Ed25519 ---

def ed25519_public(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def sign(seed: bytes, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).sign(message)


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    if len(public_key) != 32 or len(signature) != 64:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        return True
    except (InvalidSignature, ValueError):
        return False


def verify_json(public_key: bytes, signature: bytes, value: Any) -> bool:
    """Over for_signing(value), in either canonical form."""
    return verify(public_key, signature, for_signing(value)) or \
        verify(public_key, signature, for_signing(value, rfc8785=True))


def sign_json(seed: bytes, value: Any) -> str:
    return b64(sign(seed, for_signing(value)))


def key_id(prefix: str, public_key: bytes) -> str:
    return f"{prefix}_{b64(hashlib.sha256(public_key).digest())}"


def root_fingerprint(public_key: bytes) -> bytes:
    if len(public_key) != 32:
        raise CryptoError("bad_length")
    return hashlib.sha256(FINGERPRINT_DOMAIN + b"\0ed25519\0" + public_key).digest()


# --- X25519 and HPKE (RFC 9180: base mode, HKDF-SHA256, ChaCha20-Poly1305, one message per key) ---

KEM_SUITE = b"KEM" + bytes.fromhex("0020")
HPKE_SUITE = b"HPKE" + bytes.fromhex("002000010003")


# OpenSSL takes half a millisecond to load a key, as long as for all the rest of sealing to a device.


@functools.lru_cache(maxsize=256)
def _x25519_secret(secret: bytes) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(secret)


@functools.lru_cache(maxsize=4096)
def _x25519_key(public_key: bytes) -> X25519PublicKey:
    return X25519PublicKey.from_public_bytes(public_key)


def _public_of(secret: X25519PrivateKey) -> bytes:
    return secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@functools.lru_cache(maxsize=256)
def x25519_public(secret: bytes) -> bytes:
    return _public_of(_x25519_secret(secret))


def _dh(secret: X25519PrivateKey, public_key: bytes) -> bytes:
    try:
        return secret.exchange(_x25519_key(public_key))
    except ValueError as e:
        raise CryptoError("hpke_failed", str(e)) from None


def x25519(secret: bytes, public_key: bytes) -> bytes:
    return _dh(_x25519_secret(secret), public_key)


def _extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    block = out = b""
    counter = 1
    while len(out) < size:
        block = hmac.digest(prk, block + labelled + bytes([counter]), "sha256")
        out += block
        counter += 1
    return out[:size]


def hpke_schedule(dh: bytes, enc: bytes, recipient_public: bytes, info: bytes) -> tuple[bytes, bytes, bytes]:
    """Shared secret, key and base nonce."""
    shared = _expand(KEM_SUITE, _extract(KEM_SUITE, b"", b"eae_prk", dh), b"shared_secret",
                     enc + recipient_public, 32)
    context = b"\0" + _extract(HPKE_SUITE, b"", b"psk_id_hash", b"") + _extract(HPKE_SUITE, b"", b"info_hash", info)
    secret = _extract(HPKE_SUITE, shared, b"secret", b"")
    return shared, _expand(HPKE_SUITE, secret, b"key", context, 32), \
        _expand(HPKE_SUITE, secret, b"base_nonce", context, 12)


def hpke_seal(recipient_public: bytes, info: bytes, aad: bytes, plaintext: bytes,
              ephemeral: bytes | None = None) -> tuple[bytes, bytes]:
    """Encapsulated key and ciphertext. Only vectors fix the ephemeral secret."""
    secret = X25519PrivateKey.from_private_bytes(ephemeral) if ephemeral else X25519PrivateKey.generate()
    enc = _public_of(secret)
    _, key, nonce = hpke_schedule(_dh(secret, recipient_public), enc, recipient_public, info)
    return enc, ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)


def hpke_open(secret: bytes, enc: bytes, info: bytes, aad: bytes, ciphertext: bytes) -> bytes:
    if len(enc) != 32 or len(ciphertext) < 16:
        raise CryptoError("hpke_failed")
    _, key, nonce = hpke_schedule(x25519(secret, enc), enc, x25519_public(secret), info)
    return aead_open(key, nonce, aad, ciphertext, "hpke_failed")


def aead_open(key: bytes, nonce: bytes, aad: bytes, ciphertext: bytes, reason: str) -> bytes:
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, aad)
    except (InvalidTag, ValueError):
        raise CryptoError(reason) from None


# --- signed requests ---

def request_message(method: str, path: bytes, timestamp: str, nonce: str, body: bytes) -> bytes:
    head = f"{method.upper()}\n".encode() + path + f"\n{timestamp}\n{nonce}\n".encode("utf-8", "surrogateescape")
    return head + body


def request_headers(seed: bytes, slug: str, signer_id: str, method: str, path: str, body: bytes,
                    timestamp: int | None = None, nonce: str | None = None) -> dict[str, str]:
    """path: the target as it will be sent, with its query and without the server's prefix."""
    stamp = str(now_ms() if timestamp is None else timestamp)
    nonce = nonce or random_b64(16)
    return {
        "x-puffo-version": "v1",
        "x-puffo-slug": slug,
        "x-puffo-signer-id": signer_id,
        "x-puffo-timestamp": stamp,
        "x-puffo-nonce": nonce,
        "x-puffo-signature": b64(sign(seed, request_message(method, path.encode(), stamp, nonce, body))),
        "content-type": "application/json",
    }


def request_verify(public_key: bytes, method: str, path: bytes, timestamp: str, nonce: str, body: bytes,
                   signature: str) -> bool:
    try:
        return verify(public_key, unb64(signature), request_message(method, path, timestamp, nonce, body))
    except (CryptoError, UnicodeError):
        return False


def timestamp_fresh(text: str, now: int) -> bool:
    return re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) is not None and abs(now - int(text)) <= SKEW_MS


def stream_message(slug: str, subkey_id: str, nonce: str, timestamp: int) -> bytes:
    return f"ws-connect\n{slug}\n{subkey_id}\n{nonce}\n{timestamp}".encode()


def stream_connect(seed: bytes, slug: str, subkey_id: str, timestamp: int | None = None,
                   nonce: str | None = None) -> dict[str, Any]:
    timestamp = now_ms() if timestamp is None else timestamp
    nonce = nonce or random_b64(16)
    return {"type": "connect", "slug": slug, "subkey_id": subkey_id, "nonce": nonce, "timestamp": timestamp,
            "signature": b64(sign(seed, stream_message(slug, subkey_id, nonce, timestamp)))}


def stream_url(server_url: str) -> str:
    url = server_url.rstrip("/")
    for http, ws in (("https://", "wss://"), ("http://", "ws://")):
        if url.startswith(http):
            url = ws + url[len(http):]
            break
    return url + "/subscribe"
