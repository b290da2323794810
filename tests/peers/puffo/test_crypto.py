# SPDX-License-Identifier: MIT
"""The protocol's vectors against this package. PUFFO_VECTORS names their directory if it is not tests/vectors."""

import json
import os
import pathlib

import pytest

from puffo import certs, crypto, envelope, keystore
from puffo.crypto import CryptoError, b64, unb64

VECTORS = pathlib.Path(os.environ.get("PUFFO_VECTORS", pathlib.Path(__file__).resolve().parents[2] / "vectors"))


def load(name):
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def cases(name, *kinds):
    chosen = [c for c in load(name) if not kinds or c.get("kind") in kinds]
    assert chosen, f"no {kinds} in {name}"
    return pytest.mark.parametrize("case", chosen, ids=[c["name"] for c in chosen])


def expect_error(reason, call, *args):
    with pytest.raises(CryptoError) as caught:
        call(*args)
    assert caught.value.reason == reason


# --- encodings, canonical JSON ---

@cases("base64url.json")
def test_base64url(case):
    if case["kind"] == "encode":
        assert b64(bytes.fromhex(case["raw_hex"])) == case["encoded"]
        assert unb64(case["encoded"]).hex() == case["raw_hex"]
    elif case["required"] == "accept":
        assert unb64(case["encoded"]).hex() == case["raw_hex"]
    else:
        expect_error("bad_base64url", unb64, case["encoded"])


@cases("canonical-json.json")
def test_canonical_json(case):
    if "error" in case:
        for rfc8785 in (False, True):
            with pytest.raises(CryptoError):
                crypto.canonical(crypto.parse_json(case["input_json"]), rfc8785)
        return
    value = crypto.parse_json(case["input_json"])
    compat = crypto.canonical(value)
    assert compat.decode() == case["canonical_utf8"]
    assert compat.hex() == case["canonical_hex"]
    assert crypto.canonical(value, rfc8785=True).decode() == case.get("rfc8785_utf8", case["canonical_utf8"])
    assert crypto.for_signing(value).decode() == case.get("for_signing_utf8", case["canonical_utf8"])


@pytest.mark.parametrize("value, text", [
    (1e20, "100000000000000000000"), (123e18, "123000000000000000000"), (1.5e300, "1.5e+300"), (1e-6, "0.000001"),
    (1.5e-7, "1.5e-7"), (-0.001, "-0.001"), (5e-324, "5e-324"), (100, "100"), (12.5, "12.5"), (-7, "-7")])
def test_rfc8785_numbers(value, text):
    assert crypto.canonical(value, rfc8785=True).decode() == text


def test_deep_json():
    assert crypto.canonical(crypto.parse_json("[" * 400 + "]" * 400)) == b"[" * 400 + b"]" * 400
    expect_error("bad_json", crypto.parse_json, "[" * 100_000)


# --- primitives ---

@cases("fingerprint.json")
def test_fingerprint(case):
    key = unb64(case["public_key"] if case["kind"] == "key_id" else case["root_public_key"])
    if case["kind"] == "key_id":
        assert crypto.key_id(case["prefix"], key) == case["id"]
    elif "error" in case:
        expect_error(case["error"], crypto.root_fingerprint, key)
    else:
        assert crypto.root_fingerprint(key).hex() == case["fingerprint_hex"]


@cases("hpke.json", "seal")
def test_hpke_seal(case):
    info, aad, plaintext = (bytes.fromhex(case[k]) for k in ("info_hex", "aad_hex", "plaintext_hex"))
    ephemeral, secret = unb64(case["ephemeral_secret_key"]), unb64(case["recipient_secret_key"])
    public = unb64(case["recipient_public_key"])
    assert crypto.x25519_public(secret) == public
    enc, ciphertext = crypto.hpke_seal(public, info, aad, plaintext, ephemeral)
    assert (b64(enc), b64(ciphertext)) == (case["enc"], case["ciphertext"])
    assert crypto.hpke_open(secret, enc, info, aad, ciphertext) == plaintext
    schedule = crypto.hpke_schedule(crypto.x25519(secret, enc), enc, public, info)
    assert [s.hex() for s in schedule] == [case[k] for k in ("shared_secret_hex", "key_hex", "base_nonce_hex")]


@cases("hpke.json", "open_fail")
def test_hpke_refuses(case):
    expect_error("hpke_failed", crypto.hpke_open, unb64(case["recipient_secret_key"]), unb64(case["enc"]),
                 bytes.fromhex(case["info_hex"]), bytes.fromhex(case["aad_hex"]), unb64(case["ciphertext"]))


@cases("rfc9180-x25519-chacha.json")
def test_rfc9180(case):
    field = {k: bytes.fromhex(v) for k, v in case.items() if isinstance(v, str) and k not in ("name", "source")}
    dh = crypto.x25519(field["skRm"], field["enc"])
    schedule = crypto.hpke_schedule(dh, field["enc"], field["pkRm"], field["info"])
    assert schedule == (field["shared_secret"], field["key"], field["base_nonce"])
    first = case["encryptions"][0]
    assert first["sequence_number"] == 0
    assert crypto.hpke_open(field["skRm"], field["enc"], field["info"], bytes.fromhex(first["aad"]),
                            bytes.fromhex(first["ct"])).hex() == first["pt"]


def test_upstream_primitives():
    v = load("upstream-test-vectors.json")
    seed = unb64(v["ed25519"]["secret_key"])
    assert b64(crypto.ed25519_public(seed)) == v["ed25519"]["public_key"]
    for s in v["ed25519"]["signatures"]:
        assert b64(crypto.sign(seed, unb64(s["message"]))) == s["signature"]
    c = v["chacha20poly1305"]
    opened = crypto.aead_open(*(unb64(c[k]) for k in ("key", "nonce", "aad", "ciphertext")), "x")
    assert opened == unb64(c["plaintext"])
    for h in (v["hpke"], load("upstream-rust-cross-vectors.json")):
        opened = crypto.hpke_open(*(unb64(h[k]) for k in ("recipient_secret_key", "enc", "info", "aad", "ciphertext")))
        assert opened == unb64(h["plaintext"])


@cases("aad.json")
def test_aad(case):
    if case["kind"] == "root_key_envelope":
        make, args = envelope.root_key_aad, [unb64(case[k]) for k in (
            "enrollment_nonce", "recipient_kem_public_key", "root_public_key_fingerprint")]
    elif case["kind"] == "wrap":
        make, args = envelope.wrap_aad, [case["envelope_id"], case["device_id"]]
    else:
        make, args = envelope.outer_aad, [case["input"][k] for k in (
            "envelope_id", "envelope_kind", "sender_slug", "sent_at_ms", "space_id", "channel_id", "recipient_slug")]
    if "error" in case:
        expect_error(case["error"], make, *args)
    else:
        assert make(*args).hex() == case["aad_hex"]


# --- messages ---

@cases("message-encrypt.json")
def test_message_encrypt(case):
    given, expected = case["input"], case["expected"]
    seed = unb64(case["sender_signing_secret_key"])
    payload = envelope.new_payload(given["sender_slug"], given["sender_subkey_id"], given["content"], **{
        k: given[k] for k in ("space_id", "channel_id", "recipient_slug", "thread_root_id", "reply_to_id",
                              "content_type", "sent_at", "message_nonce")})
    assert crypto.for_signing(payload).decode() == expected["canonical_payload_utf8"]
    signature = crypto.sign_json(seed, payload)
    assert signature == expected["payload_signature"]
    assert envelope.plaintext_of(payload, signature).decode() == expected["plaintext_utf8"]
    made = envelope.seal(
        payload, seed, [(r["device_id"], unb64(r["kem_public_key"])) for r in given["recipients"]],
        envelope_id=given["envelope_id"], content_key=unb64(given["content_key"]),
        content_nonce=unb64(given["content_nonce"]),
        ephemerals={r["device_id"]: unb64(r["ephemeral_secret_key"]) for r in given["recipients"]})
    assert made == expected["envelope"]
    assert list(made) == list(expected["envelope"])
    for device_id, secret in case["recipient_secret_keys"].items():
        assert envelope.open_envelope(made, device_id, unb64(secret), [unb64(case["sender_signing_public_key"])]) == \
            expected["payload"]


@cases("message-decrypt.json")
def test_message_decrypt(case):
    opened = envelope.open_envelope(case["envelope"], case["device_id"], unb64(case["kem_secret_key"]),
                                    [unb64(k) for k in case["sender_public_keys"]])
    assert {k: opened[k] for k in case["expected_payload"]} == case["expected_payload"]


@cases("message-reject.json")
def test_message_reject(case):
    expect_error(case["reason"], envelope.open_envelope, case["envelope"], case["device_id"],
                 unb64(case["kem_secret_key"]), [unb64(case["sender_public_key"])])


@cases("message-hardening.json")
def test_message_hardening(case):
    expect_error(case["reason"], envelope.open_envelope, case["envelope"], case["device_id"],
                 unb64(case["kem_secret_key"]), [unb64(case["sender_public_key"])])


def test_plaintext_envelope():
    seed = bytes(range(32))
    payload = envelope.new_payload("al-0001", "sk_1", "hi", recipient_slug="bo-0002")
    made = envelope.plaintext_envelope(payload, seed)
    key = crypto.ed25519_public(seed)
    assert envelope.open_envelope(made, "", b"", [key])["content"] == "hi"
    expect_error("signature_invalid", envelope.open_envelope, made, "", b"", [crypto.ed25519_public(bytes(32))])
    bad = envelope.plaintext_envelope({**payload, "channel_id": "ch_1"}, seed)
    expect_error("inner_outer_mismatch", envelope.open_envelope, bad, "", b"", [key])


@cases("attachment.json")
def test_attachment(case):
    if case["kind"] == "roundtrip":
        sealed, meta = envelope.seal_attachment(unb64(case["plaintext"]), case["filename"], case["mime_type"],
                                                unb64(case["key"]), unb64(case["nonce"]))
        assert envelope.attachment_aad(case["mime_type"], case["filename"]).hex() == case["aad_hex"]
        assert b64(sealed) == case["ciphertext"]
        assert {**meta, "blob_id": case["meta"]["blob_id"]} == case["meta"]
        assert envelope.open_attachment(case["meta"], sealed) == unb64(case["plaintext"])
    elif case["kind"] == "reject":
        expect_error(case["reason"], envelope.open_attachment, case["meta"], unb64(case["ciphertext"]))
    elif case["kind"] == "strip_multipart":
        assert envelope.strip_multipart(bytes.fromhex(case["input_hex"])).hex() == case["output_hex"]
    else:
        assert envelope.safe_name(case["filename"], case["blob_id"]) == case["required"]


# --- certificates, events, requests, the stream, key files ---

def cert_check(case):
    cert = case["cert"]
    if case["kind"] == "identity_cert":
        return b64(certs.check_identity(cert))
    root = unb64(case["root_public_key"])
    if case["kind"] == "slug_binding":
        return certs.check_slug_binding(cert, root)
    if case["kind"] == "device_cert":
        return b64(certs.check_device(cert, root))
    certs.check_attestation(cert, root, unb64(case["operator_root_public_key"]))
    return ""


@cases("certs.json", "identity_cert", "slug_binding", "device_cert", "operator_attestation")
def test_certs(case):
    if case["valid"]:
        assert cert_check(case) == case["returns"]
        return
    with pytest.raises(certs.CertError) as caught:
        cert_check(case)
    text, decode, _ = case["error_text"].partition("decode:")
    assert str(caught.value).startswith(text + decode) and (decode or str(caught.value) == text)


@cases("certs.json", "subkey_cert")
def test_subkey_cert(case):
    args = (case["cert"], unb64(case["device_signing_public_key"]), case["device_id"], case["now_ms"])
    if case["valid"]:
        assert b64(certs.check_subkey(*args)) == case["cert"]["subkey_public_key"]
    else:
        expect_error(case["reason"], certs.check_subkey, *args)


@cases("certs.json", "create_subkey_cert")
def test_create_subkey_cert(case):
    made = certs.subkey_cert(unb64(case["device_signing_secret_key"]), case["device_id"],
                             unb64(case["subkey_public_key"]), case["issued_at"],
                             None if case["ttl_hours"] is None else case["ttl_hours"] * 3_600_000)
    assert crypto.for_signing(made).decode() == case["signed_utf8"]
    assert made == case["cert"] and list(made) == list(case["cert"])


@cases("certs.json", "needs_rotation", "is_expired")
def test_expiry(case):
    check = certs.needs_rotation if case["kind"] == "needs_rotation" else certs.is_expired
    assert check(case["expires_at"], case["now_ms"]) is case["expect"]


def test_certs_made_here_are_valid():
    root, device, kem, operator = (bytes([n]) * 32 for n in range(1, 5))
    root_key = crypto.ed25519_public(root)
    assert certs.check_identity(certs.identity_cert(root, "agent", crypto.ed25519_public(operator))) == root_key
    assert certs.check_slug_binding(certs.slug_binding(root, "a-0001"), root_key) == "a-0001"
    assert certs.check_device(certs.device_cert(root, device, kem), root_key) == crypto.ed25519_public(device)
    certs.check_attestation(certs.operator_attestation(operator, root_key), root_key, crypto.ed25519_public(operator))
    assert certs.check_revocation(certs.device_revocation(root, "dev_1", 5), root_key) == ("dev_1", 5)


@cases("signed-event.json")
def test_signed_event(case):
    made = certs.signed_event(unb64(case["signing_secret_key"]), case["kind"], case["payload"], case["signer_slug"],
                              case["signer_device_id"], case["signer_subkey_id"], case["event_id"])
    assert crypto.for_signing(made).decode() == case["signed_utf8"]
    assert made == case["event"]
    assert crypto.verify_json(unb64(case["signing_public_key"]), unb64(made["signature"]), made)


@cases("http-signing.json", "sign")
def test_request_sign(case):
    body = unb64(case["body"])
    made = crypto.request_headers(unb64(case["signing_secret_key"]), case["slug"], case["signer_id"], case["method"],
                                  case["path"], body, case["timestamp_ms"], case["nonce"])
    assert made == case["headers"]
    assert crypto.request_verify(unb64(case["signing_public_key"]), case["method"], case["path"].encode(),
                                 made["x-puffo-timestamp"], made["x-puffo-nonce"], body, made["x-puffo-signature"])


@cases("http-signing.json", "verify")
def test_request_verify(case):
    assert crypto.request_verify(unb64(case["public_key"]), case["method"], case["path"].encode(), case["timestamp"],
                                 case["nonce"], unb64(case["body"]), case["signature"]) is case["valid"]


@cases("http-signing.json", "fresh")
def test_request_fresh(case):
    assert crypto.timestamp_fresh(case["timestamp"], case["now_ms"]) is case["required"]


@cases("ws.json")
def test_stream(case):
    if case["kind"] == "url":
        assert crypto.stream_url(case["server_url"]) == case["ws_url"]
    else:
        assert crypto.stream_connect(unb64(case["signing_secret_key"]), case["slug"], case["subkey_id"],
                                     case["timestamp"], case["nonce"]) == case["frame"]


@cases("keystore.json")
def test_keystore(case, tmp_path):
    if case["kind"] == "identity_file":
        fields = {k: unb64(v) if k in keystore.SECRETS else v for k, v in case["identity"].items()}
        identity = keystore.Identity(**fields)
        assert keystore.save_identity(tmp_path, identity).read_text() == case["file_utf8"]
        assert keystore.load_identity(tmp_path, identity.slug) == identity
    elif case["kind"] == "session_file":
        given = case["session"]
        session = keystore.Session(given["slug"], given["subkey_id"], unb64(given["subkey_secret_key"]),
                                   given["expires_at"])
        assert keystore.save_session(tmp_path, session).read_text() == case["file_utf8"]
        assert keystore.load_session(tmp_path, session.slug) == session
    elif case["kind"] == "list_identities":
        for name in case["files"]:
            (tmp_path / name).write_text("{}")
        assert keystore.list_identities(tmp_path) == case["identities"]
    elif "error" in case:
        with pytest.raises(CryptoError):
            keystore.decode_secret(case["encoded"])
    else:
        assert keystore.decode_secret(case["encoded"]).hex() == case["raw_hex"]


def test_expired_session_is_deleted(tmp_path):
    path = keystore.save_session(tmp_path, keystore.Session("a-1", "sk_1", bytes(32), 1))
    assert keystore.load_session(tmp_path, "a-1") is None and not path.exists()
