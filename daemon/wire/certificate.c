/* SPDX-License-Identifier: MIT */

#include "base64url.h"
#include "certificate.h"

static int refuse(char **reterr, char *text) {
        if (!text)
                return -ENOMEM;
        *reterr = text;
        return -EBADMSG;
}

/* One canonical form into b and verified. */
static int verify_form(const SignedValue *o, CanonicalMode mode, const uint8_t key[KEY_SIZE],
                       const uint8_t signature[SIGNATURE_SIZE]) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = canonical_format_for_signing(o, mode, &b);

        if (r < 0)
                return r == -ENOMEM ? r : 0;
        return sign_verify(key, KEY_SIZE, b.text, b.size, signature, SIGNATURE_SIZE);
}

int signed_object_verify(const SignedValue *o, const uint8_t key[KEY_SIZE], const uint8_t signature[SIGNATURE_SIZE]) {
        int r = verify_form(o, CANONICAL_COMPAT, key, signature);

        return r != 0 ? r : verify_form(o, CANONICAL_RFC8785, key, signature);
}

int signed_object_sign(SignedDocument *d, SignedValue *o, const char *member, const uint8_t seed[KEY_SIZE]) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_free_ char *text = NULL;
        uint8_t signature[SIGNATURE_SIZE];
        int r = canonical_format_for_signing(o, CANONICAL_COMPAT, &b);

        if (r < 0)
                return r;
        sign_detached(seed, b.text, b.size, signature);
        text = base64url_encode(signature, sizeof(signature));
        return text ? signed_put(d, o, member, signed_string(d, text)) : -ENOMEM;
}

/* A text as an error quotes it: in the original's language, where nothing in it can end a line of a log. */
static int put_quoted(StrBuf *b, const char *text, size_t n) {
        static const char escaped[] = "\\\n\r\t", letters[] = "\\nrt";
        const char *quote = memchr(text, '\'', n) && !memchr(text, '"', n) ? "\"" : "'";
        int r = strbuf_puts(b, quote);

        for (size_t i = 0; i < n && r >= 0; i++) {
                const char *found = text[i] ? strchr(escaped, text[i]) : NULL;

                if (found)
                        r = strbuf_append(b, (char[]) { '\\', letters[found - escaped] }, 2);
                else if (text[i] == *quote)
                        r = strbuf_append(b, (char[]) { '\\', *quote }, 2);
                else if ((unsigned char) text[i] < 0x20 || text[i] == 0x7f)
                        r = strbuf_printf(b, "\\x%02x", (unsigned) text[i]);
                else
                        r = strbuf_append(b, text + i, 1);
        }
        return r < 0 ? r : strbuf_puts(b, quote);
}

/* The value as an error text quotes it: 'text', None, True, or JSON. */
static char* quoted(const SignedValue *v) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        if (signed_is_null(v))
                return strdup("None");
        if (v->type == SIGNED_TRUE || v->type == SIGNED_FALSE)
                return strdup(v->type == SIGNED_TRUE ? "True" : "False");
        r = v->type == SIGNED_STRING ? put_quoted(&b, v->text, v->size) : signed_value_format(v, &b);
        return r < 0 ? NULL : strbuf_take(&b);
}

static int refuse_value(char **reterr, const char *prefix, const SignedValue *v) {
        _cleanup_free_ char *value = quoted(v);

        return value ? refuse(reterr, strjoin(prefix, value)) : -ENOMEM;
}

static int check_type(const SignedValue *cert, const char *type, const char *what, char **reterr) {
        if (!cert || cert->type != SIGNED_OBJECT)
                return refuse(reterr, strjoin(type, " must be an object"));
        if (!streq_ptr(signed_get_string(cert, "type"), type)) {
                _cleanup_free_ char *prefix = strjoin("unexpected ", what, " ");

                return prefix ? refuse_value(reterr, prefix, signed_get(cert, "type")) : -ENOMEM;
        }
        return 0;
}

static bool is_string(const SignedValue *o, const char *key) {
        const SignedValue *v = signed_get(o, key);

        return v && v->type == SIGNED_STRING;
}

/* A member of fixed size. name: how an error calls it. */
static int decode_member(const SignedValue *o, const char *key, const char *name, uint8_t *field, size_t size,
                         char **reterr) {
        const SignedValue *v = signed_get(o, key);
        int r = base64url_decode_exact(v->text, v->size, field, size);

        if (r == -EMSGSIZE)
                return refuse(reterr, asprintf_new("%s must be %zu bytes", name, size));
        return r < 0 ? refuse(reterr, strjoin(name, " decode: not base64url")) : 0;
}

static int check_signature(const SignedValue *cert, const uint8_t key[KEY_SIZE],
                           const uint8_t signature[SIGNATURE_SIZE], const char *name, char **reterr) {
        int r = signed_object_verify(cert, key, signature);

        if (r < 0)
                return r;
        return r > 0 ? 0 : refuse(reterr, strjoin(name, " verification failed"));
}

int identity_cert_check(const SignedValue *cert, uint8_t ret_root[KEY_SIZE], char **reterr) {
        uint8_t root[KEY_SIZE], signature[SIGNATURE_SIZE];
        int r;

        if (!cert || cert->type != SIGNED_OBJECT)
                return refuse(reterr, strdup("identity_cert must be an object"));
        r = check_type(cert, "identity_cert", "cert_type", reterr);
        if (r < 0)
                return r;
        if (!is_string(cert, "root_public_key") || !is_string(cert, "self_signature"))
                return refuse(reterr, strdup("identity_cert missing root_public_key/self_signature"));
        r = decode_member(cert, "root_public_key", "identity_cert root_public_key", root, KEY_SIZE, reterr);
        if (r >= 0)
                r = decode_member(cert, "self_signature", "identity_cert self_signature", signature, SIGNATURE_SIZE,
                                  reterr);
        if (r >= 0)
                r = check_signature(cert, root, signature, "identity_cert self_signature", reterr);
        if (r < 0)
                return r;

        memcpy(ret_root, root, KEY_SIZE);
        return 0;
}

int slug_binding_check(const SignedValue *cert, const uint8_t root[KEY_SIZE], const char **ret_slug, char **reterr) {
        uint8_t own[KEY_SIZE], signature[SIGNATURE_SIZE];
        int r;

        r = check_type(cert, "slug_binding", "slug_binding type", reterr);
        if (r < 0)
                return r;
        if (!is_string(cert, "root_public_key") || !is_string(cert, "self_signature"))
                return refuse(reterr, strdup("slug_binding missing root_public_key/self_signature"));
        if (isempty(signed_get_string(cert, "slug")))
                return refuse(reterr, strdup("slug_binding missing slug"));
        r = decode_member(cert, "root_public_key", "slug_binding root_public_key", own, KEY_SIZE, reterr);
        if (r < 0)
                return r;
        if (memcmp(own, root, KEY_SIZE) != 0)
                return refuse(reterr, strdup("slug_binding.root_public_key does not match identity_cert"));
        r = decode_member(cert, "self_signature", "slug_binding self_signature", signature, SIGNATURE_SIZE, reterr);
        if (r >= 0)
                r = check_signature(cert, root, signature, "slug_binding self_signature", reterr);
        if (r < 0)
                return r;

        *ret_slug = signed_get_string(cert, "slug");
        return 0;
}

/* The part of a device certificate below "keys". */
static int check_device_keys(const SignedValue *cert, const SignedValue **ret_signing, char **reterr) {
        const SignedValue *keys = signed_get(cert, "keys"), *signing = signed_get(keys, "signing");

        if (!keys || keys->type != SIGNED_OBJECT)
                return refuse(reterr, strdup("device_cert missing keys (v2 nested {signing, encryption})"));
        if (!signing || signing->type != SIGNED_OBJECT)
                return refuse(reterr, strdup("device_cert.keys.signing missing"));
        if (!is_string(signing, "public_key"))
                return refuse(reterr, strdup("device_cert.keys.signing.public_key missing"));
        if (!streq_ptr(signed_get_string(signing, "algorithm"), "ed25519"))
                return refuse_value(reterr, "device_cert.keys.signing.algorithm must be 'ed25519', got ",
                                    signed_get(signing, "algorithm"));
        if (isempty(signed_get_string(cert, "device_id")))
                return refuse(reterr, strdup("device_cert missing device_id"));

        *ret_signing = signing;
        return 0;
}

int device_cert_check(const SignedValue *cert, const uint8_t root[KEY_SIZE], uint8_t ret_signing[KEY_SIZE],
                      char **reterr) {
        uint8_t own[KEY_SIZE], key[KEY_SIZE], signature[SIGNATURE_SIZE];
        const SignedValue *signing = NULL;
        int r;

        r = check_type(cert, "device_cert", "cert_type", reterr);
        if (r < 0)
                return r;
        if (!is_string(cert, "root_public_key") || !is_string(cert, "signature"))
                return refuse(reterr, strdup("device_cert missing root_public_key/signature"));
        r = check_device_keys(cert, &signing, reterr);
        if (r >= 0)
                r = decode_member(cert, "root_public_key", "device_cert root_public_key", own, KEY_SIZE, reterr);
        if (r < 0)
                return r;
        if (memcmp(own, root, KEY_SIZE) != 0)
                return refuse(reterr, strdup("device_cert.root_public_key does not match identity_cert"));
        r = decode_member(cert, "signature", "device_cert signature", signature, SIGNATURE_SIZE, reterr);
        if (r >= 0)
                r = decode_member(signing, "public_key", "device_cert signing_public_key", key, KEY_SIZE, reterr);
        if (r >= 0)
                r = check_signature(cert, root, signature, "device_cert signature", reterr);
        if (r < 0)
                return r;

        memcpy(ret_signing, key, KEY_SIZE);
        return 0;
}

/* A member of an attestation: of whatever size, a wrong one is found out when it is compared. */
static int decode_any(const SignedValue *o, const char *key, uint8_t **ret, size_t *ret_size, char **reterr) {
        const SignedValue *v = signed_get(o, key);
        int r = base64url_decode(v->text, v->size, ret, ret_size);

        return r == -EBADMSG ? refuse(reterr, strdup("attestation field decode: not base64url")) : r;
}

int operator_attestation_check(const SignedValue *cert, const uint8_t agent_root[KEY_SIZE],
                               const uint8_t operator_root[KEY_SIZE], char **reterr) {
        _cleanup_free_ uint8_t *operator = NULL, *agent = NULL, *signature = NULL;
        size_t n_operator, n_agent, n_signature;
        int r;

        if (!cert || cert->type != SIGNED_OBJECT)
                return refuse(reterr, strdup("operator_attestation must be an object"));
        r = check_type(cert, "operator_attestation", "attestation type", reterr);
        if (r < 0)
                return r;
        if (!is_string(cert, "operator_root_public_key") || !is_string(cert, "agent_root_public_key") ||
            !is_string(cert, "signature"))
                return refuse(reterr, strdup("operator_attestation missing required fields"));
        r = decode_any(cert, "operator_root_public_key", &operator, &n_operator, reterr);
        if (r >= 0)
                r = decode_any(cert, "agent_root_public_key", &agent, &n_agent, reterr);
        if (r >= 0)
                r = decode_any(cert, "signature", &signature, &n_signature, reterr);
        if (r < 0)
                return r;
        if (n_operator != KEY_SIZE || memcmp(operator, operator_root, KEY_SIZE) != 0)
                return refuse(reterr, strdup("attestation.operator_root_public_key != paired user"));
        if (n_agent != KEY_SIZE || memcmp(agent, agent_root, KEY_SIZE) != 0)
                return refuse(reterr, strdup("attestation.agent_root_public_key != agent identity_cert"));
        if (n_signature != SIGNATURE_SIZE)
                return refuse(reterr, strdup("attestation signature verification failed"));
        return check_signature(cert, operator, signature, "attestation signature", reterr);
}

int device_revocation_check(const SignedValue *cert, const uint8_t root[KEY_SIZE], const char **ret_device_id,
                            int64_t *ret_effective_from_ms, char **reterr) {
        uint8_t own[KEY_SIZE], signature[SIGNATURE_SIZE];
        int64_t effective_from;
        int r;

        r = check_type(cert, "device_revocation", "cert_type", reterr);
        if (r < 0)
                return r;
        if (!is_string(cert, "root_public_key") || !is_string(cert, "signature"))
                return refuse(reterr, strdup("device_revocation missing root_public_key/signature"));
        if (isempty(signed_get_string(cert, "device_id")))
                return refuse(reterr, strdup("device_revocation missing device_id"));
        if (signed_get_int(cert, "effective_from", &effective_from) < 0)
                return refuse(reterr, strdup("device_revocation missing effective_from"));
        r = decode_member(cert, "root_public_key", "device_revocation root_public_key", own, KEY_SIZE, reterr);
        if (r < 0)
                return r;
        if (memcmp(own, root, KEY_SIZE) != 0)
                return refuse(reterr, strdup("device_revocation.root_public_key does not match identity_cert"));
        r = decode_member(cert, "signature", "device_revocation signature", signature, SIGNATURE_SIZE, reterr);
        if (r >= 0)
                r = check_signature(cert, root, signature, "device_revocation signature", reterr);
        if (r < 0)
                return r;

        *ret_device_id = signed_get_string(cert, "device_id");
        *ret_effective_from_ms = effective_from;
        return 0;
}

const char* subkey_error_to_string(SubkeyError e) {
        static const char *const names[_SUBKEY_ERROR_MAX] = {
                [SUBKEY_OK] = "ok",
                [SUBKEY_MALFORMED] = "malformed",
                [SUBKEY_ID_MISMATCH] = "id_mismatch",
                [SUBKEY_DEVICE_MISMATCH] = "device_mismatch",
                [SUBKEY_SIGNATURE_INVALID] = "signature_invalid",
                [SUBKEY_EXPIRED] = "expired",
        };

        return e < _SUBKEY_ERROR_MAX ? names[e] : NULL;
}

bool subkey_is_expired(int64_t expires_at_ms, int64_t now_ms) {
        return expires_at_ms >= 0 && now_ms >= expires_at_ms;
}

bool subkey_needs_rotation(int64_t expires_at_ms, int64_t now_ms) {
        return expires_at_ms >= 0 && expires_at_ms <= now_ms + SUBKEY_ROTATION_MARGIN_MS;
}

static int refuse_subkey(SubkeyError *reterr, SubkeyError e) {
        *reterr = e;
        return -EBADMSG;
}

int subkey_cert_check(const SignedValue *cert, const uint8_t device_signing[KEY_SIZE], const char *device_id,
                      int64_t at_ms, uint8_t ret_key[KEY_SIZE], SubkeyError *reterr) {
        const char *key_text = signed_get_string(cert, "subkey_public_key"),
                   *signature_text = signed_get_string(cert, "signature");
        uint8_t key[KEY_SIZE], signature[SIGNATURE_SIZE];
        int64_t version, expires_at = -1;
        _cleanup_free_ char *id = NULL;
        int r;

        if (!streq_ptr(signed_get_string(cert, "type"), "subkey_cert") ||
            signed_get_int(cert, "version", &version) < 0 || version != 1 || !key_text ||
            base64url_decode_exact(key_text, strlen(key_text), key, KEY_SIZE) < 0)
                return refuse_subkey(reterr, SUBKEY_MALFORMED);
        r = signed_get_int(cert, "expires_at", &expires_at);
        if (r < 0 && r != -ENOENT)
                return refuse_subkey(reterr, SUBKEY_MALFORMED);

        id = key_id("sk", key);
        if (!id)
                return -ENOMEM;
        if (!streq_ptr(signed_get_string(cert, "subkey_id"), id))
                return refuse_subkey(reterr, SUBKEY_ID_MISMATCH);
        if (!streq_ptr(signed_get_string(cert, "device_id"), device_id))
                return refuse_subkey(reterr, SUBKEY_DEVICE_MISMATCH);
        if (!signature_text ||
            base64url_decode_exact(signature_text, strlen(signature_text), signature, SIGNATURE_SIZE) < 0)
                return refuse_subkey(reterr, SUBKEY_SIGNATURE_INVALID);
        r = signed_object_verify(cert, device_signing, signature);
        if (r <= 0)
                return r < 0 ? r : refuse_subkey(reterr, SUBKEY_SIGNATURE_INVALID);
        if (subkey_is_expired(expires_at, at_ms))
                return refuse_subkey(reterr, SUBKEY_EXPIRED);

        memcpy(ret_key, key, KEY_SIZE);
        return 0;
}
