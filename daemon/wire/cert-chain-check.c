/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "base64url.h"
#include "cert-chain-internal.h"
#include "certificate.h"

/* The slug as a whole. */
static int refuse_slug(CertChain *c, const char *what, const char *why) {
        int r;

        c->verdict = CERT_CHAIN_REFUSED;
        c->lacks = 0;
        c->has_root = c->pin_wanted = false;
        for (size_t i = 0; i < c->n_devices; i++)
                cert_device_done(&c->devices[i]);
        for (size_t i = 0; i < c->n_subkeys; i++)
                cert_subkey_done(&c->subkeys[i]);
        c->n_devices = c->n_subkeys = 0;
        c->n_refused = 0;
        r = chain_refuse_row(c, what, NULL, why);
        return r < 0 ? r : 0;
}

static bool is_refused(const CertChain *c) {
        return c->verdict == CERT_CHAIN_REFUSED;
}

/* The row's certificate; the parser has read this text's original before. */
static int row_parse(const CertRows *rows, size_t i, SignedDocument **ret) {
        return signed_document_parse(ret, rows->json[i], strlen(rows->json[i]));
}

static bool read_key(const SignedValue *o, const char *member, uint8_t ret[KEY_SIZE]) {
        const char *text = signed_get_string(o, member);

        return text && base64url_decode_exact(text, strlen(text), ret, KEY_SIZE) >= 0;
}

typedef int (*row_check_t)(CertChain *c, const SignedValue *cert, char **reterr);

static int check_identity(CertChain *c, const SignedValue *cert, char **reterr) {
        return identity_cert_check(cert, c->pin.root, reterr);
}

static int check_binding(CertChain *c, const SignedValue *cert, char **reterr) {
        const char *slug;
        int r = slug_binding_check(cert, c->pin.root, &slug, reterr);

        if (r < 0)
                return r;
        if (streq(slug, c->slug))
                return 0;
        *reterr = strdup("slug_binding is of another slug");
        return *reterr ? -EBADMSG : -ENOMEM;
}

/* Without an identity_cert: the root key is the one that signed something. */
static int check_own_binding(CertChain *c, const SignedValue *cert, char **reterr) {
        if (!read_key(cert, "root_public_key", c->pin.root)) {
                *reterr = strdup("slug_binding missing root_public_key");
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        return check_binding(c, cert, reterr);
}

static int check_own_device(CertChain *c, const SignedValue *cert, char **reterr) {
        uint8_t signing[KEY_SIZE];

        if (!read_key(cert, "root_public_key", c->pin.root)) {
                *reterr = strdup("device_cert missing root_public_key");
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        return device_cert_check(cert, c->pin.root, signing, reterr);
}

/* 1 = one of the rows is good. 0 = none: *reterr says why not, of the first that was looked at. */
static int find_good_row(CertChain *c, CertKind kind, bool last, row_check_t check, char **reterr) {
        const CertRows *rows = &c->rows[kind];

        for (size_t i = 0; i < rows->n; i++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                _cleanup_free_ char *error = NULL;
                int r;

                r = row_parse(rows, last ? rows->n - 1 - i : i, &d);
                if (r >= 0)
                        r = check(c, signed_document_root(d), &error);
                if (r >= 0)
                        return 1;
                if (r == -ENOMEM)
                        return r;
                if (!*reterr)
                        *reterr = TAKE_PTR(error);
        }
        return 0;
}

static int check_limits(CertChain *c) {
        if (c->n_entries > CERT_ENTRIES_MAX)
                return refuse_slug(c, "registry", "there are too many entries");
        for (CertKind k = 0; k < _CERT_KIND_MAX; k++) {
                const size_t max = k == CERT_IDENTITY || k == CERT_SLUG_BINDING ? CERT_ROOTS_MAX : CERT_DEVICES_MAX;

                if (k != CERT_SUBKEY && c->rows[k].n_seen > max)
                        return refuse_slug(c, cert_kind_to_string(k), "there are too many");
        }
        return 0;
}

static int find_root(CertChain *c, const CertPin *pin) {
        _cleanup_free_ char *error = NULL;
        int r;

        if (c->rows[CERT_IDENTITY].n_seen > 0) {
                r = find_good_row(c, CERT_IDENTITY, true, check_identity, &error);
                if (r == 0)
                        return refuse_slug(c, "identity_cert", error ?: "is no certificate");
        } else {
                c->lacks |= LACKS_IDENTITY;
                if (pin) {
                        memcpy(c->pin.root, pin->root, KEY_SIZE);
                        r = 1;
                } else {
                        r = find_good_row(c, CERT_SLUG_BINDING, true, check_own_binding, &error);
                        if (r == 0 && c->rows[CERT_SLUG_BINDING].n_seen > 0)
                                return refuse_slug(c, "slug_binding", error ?: "is no certificate");
                        if (r == 0)
                                r = find_good_row(c, CERT_DEVICE, false, check_own_device, &error);
                }
        }
        if (r < 0)
                return r;

        c->has_root = r > 0;
        if (pin && c->has_root && memcmp(c->pin.root, pin->root, KEY_SIZE) != 0)
                return refuse_slug(c, "identity_cert", "the root key is not the one that was there before");
        return 0;
}

static int find_binding(CertChain *c) {
        _cleanup_free_ char *error = NULL;
        int r;

        if (c->rows[CERT_SLUG_BINDING].n_seen == 0) {
                c->lacks |= LACKS_BINDING;
                return 0;
        }
        r = c->has_root ? find_good_row(c, CERT_SLUG_BINDING, true, check_binding, &error) : 0;
        if (r == 0)
                return refuse_slug(c, "slug_binding", error ?: "is no certificate");
        return r < 0 ? r : 0;
}

/* --- devices --- */

/* The flat form of old rows has no "keys", but may be signed. */
static bool is_flat(const SignedValue *cert) {
        return signed_is_null(signed_get(cert, "keys"));
}

static int check_flat_device(const CertChain *c, const SignedValue *cert, char **reterr) {
        const char *text = signed_get_string(cert, "signature");
        uint8_t root[KEY_SIZE], signature[SIGNATURE_SIZE];
        int r = 0;

        if (streq_ptr(signed_get_string(cert, "type"), "device_cert") && read_key(cert, "root_public_key", root) &&
            memcmp(root, c->pin.root, KEY_SIZE) == 0 && text &&
            base64url_decode_exact(text, strlen(text), signature, SIGNATURE_SIZE) >= 0)
                r = signed_object_verify(cert, root, signature);
        if (r != 0)
                return r < 0 ? r : 0;
        *reterr = strdup("device_cert signature verification failed");
        return *reterr ? -EBADMSG : -ENOMEM;
}

/* A row without signature: nothing in it may speak against the root key. */
static int check_unsigned_device(const CertChain *c, const SignedValue *cert, bool strict, CertDevice *device,
                                 char **reterr) {
        const SignedValue *signing = signed_get(signed_get(cert, "keys"), "signing");
        uint8_t root[KEY_SIZE];

        if (strict || (c->has_root && !signed_is_null(signed_get(cert, "root_public_key")) &&
                       (!read_key(cert, "root_public_key", root) || memcmp(root, c->pin.root, KEY_SIZE) != 0))) {
                *reterr = strdup(strict ? "is not signed" : "root_public_key does not match identity_cert");
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        device->has_signing_key = streq_ptr(signed_get_string(signing, "algorithm"), "ed25519") &&
                                  read_key(signing, "public_key", device->signing_key);
        return 0;
}

/* A key that nothing can be sealed to counts as none: one member of a channel must not keep the others from getting
 * messages. */
static bool kem_key_is_usable(const uint8_t key[KEY_SIZE]) {
        static const uint8_t any_secret[KEY_SIZE] = { 1 };
        uint8_t shared[KEY_SIZE];

        return crypto_scalarmult(shared, any_secret, key) == 0;
}

static bool read_kem_key(const SignedValue *cert, uint8_t ret[KEY_SIZE]) {
        const SignedValue *encryption = signed_get(signed_get(cert, "keys"), "encryption"),
                          *algorithm = signed_get(encryption, "algorithm");

        if (isempty(signed_get_string(encryption, "public_key")))
                return read_key(cert, "kem_public_key", ret) && kem_key_is_usable(ret);
        return (signed_is_null(algorithm) || streq_ptr(signed_get_string(encryption, "algorithm"), "x25519")) &&
               read_key(encryption, "public_key", ret) && kem_key_is_usable(ret);
}

static int check_device(const CertChain *c, const SignedValue *cert, bool strict, CertDevice *ret, char **reterr) {
        CertDevice d = { .revoked_from_ms = INT64_MAX };
        const char *id = signed_get_string(cert, "device_id");
        int r;

        if (isempty(id)) {
                *reterr = strdup("device_cert missing device_id");
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        if (!cert_is_signed(cert))
                r = check_unsigned_device(c, cert, strict, &d, reterr);
        else if (!c->has_root) {
                *reterr = strdup("device_cert signature verification failed");
                r = *reterr ? -EBADMSG : -ENOMEM;
        } else {
                r = is_flat(cert) ? check_flat_device(c, cert, reterr)
                                  : device_cert_check(cert, c->pin.root, d.signing_key, reterr);
                d.verified = r >= 0;
                d.has_signing_key = !is_flat(cert);
        }
        if (r < 0)
                return r;

        d.has_kem_key = read_kem_key(cert, d.kem_key);
        d.device_id = strdup(id);
        if (!d.device_id)
                return -ENOMEM;
        *ret = d;
        return 0;
}

static size_t find_device(const CertChain *c, const char *device_id) {
        for (size_t i = 0; device_id && i < c->n_devices; i++)
                if (streq(c->devices[i].device_id, device_id))
                        return i;
        return SIZE_MAX;
}

static unsigned device_rank(const CertDevice *d) {
        return 2 * d->verified + d->has_kem_key;
}

/* The first of an id wins, but nothing unverified wins over what is verified, and no row without a key over one that
 * has it (§9.4). */
static void put_device(CertChain *c, CertDevice *d) {
        size_t i = find_device(c, d->device_id);

        if (i == SIZE_MAX)
                c->devices[c->n_devices++] = *d;
        else if (device_rank(d) > device_rank(&c->devices[i])) {
                cert_device_done(&c->devices[i]);
                c->devices[i] = *d;
        } else
                cert_device_done(d);
}

static int check_devices(CertChain *c, bool strict) {
        const CertRows *rows = &c->rows[CERT_DEVICE];

        c->devices = new0(CertDevice, rows->n);
        if (!c->devices)
                return -ENOMEM;

        for (size_t i = 0; i < rows->n; i++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                _cleanup_free_ char *error = NULL;
                CertDevice device = {};
                int r;

                r = row_parse(rows, i, &d);
                if (r >= 0)
                        r = check_device(c, signed_document_root(d), strict, &device, &error);
                if (r >= 0) {
                        put_device(c, &device);
                        continue;
                }
                if (r != -ENOMEM)
                        r = chain_refuse_row(c, "device_cert",
                                             d ? signed_get_string(signed_document_root(d), "device_id") : NULL,
                                             error ?: "is no certificate");
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < c->n_devices; i++)
                if (!c->devices[i].verified)
                        c->lacks |= LACKS_DEVICE;
        return 0;
}

static int check_revocations(CertChain *c) {
        const CertRows *rows = &c->rows[CERT_DEVICE_REVOCATION];

        for (size_t i = 0; i < rows->n; i++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                _cleanup_free_ char *error = NULL;
                int64_t from;
                const char *id;
                size_t device;
                int r;

                r = row_parse(rows, i, &d);
                if (r >= 0)
                        r = c->has_root ? device_revocation_check(signed_document_root(d), c->pin.root, &id, &from,
                                                                  &error)
                                        : -EBADMSG;
                if (r < 0) {
                        if (r != -ENOMEM)
                                r = chain_refuse_row(c, "device_revocation", NULL, error ?: "cannot be verified");
                        if (r < 0)
                                return r;
                        continue;
                }
                device = find_device(c, id);
                if (device != SIZE_MAX)
                        c->devices[device].revoked_from_ms = MIN(c->devices[device].revoked_from_ms, from);
        }
        return 0;
}

/* --- subkeys --- */

static int refuse_subkey(CertChain *c, CertSubkey *k, const char *why) {
        k->state = SUBKEY_REFUSED;
        k->json = mfree(k->json);
        return chain_refuse_row(c, "subkey_cert", k->subkey_id, why);
}

int chain_check_subkey(CertChain *c, CertSubkey *k) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        const CertDevice *device;
        uint8_t key[KEY_SIZE];
        SubkeyError error = SUBKEY_MALFORMED;
        int r;

        if (k->state != SUBKEY_UNCHECKED)
                return 0;
        device = &c->devices[k->device];
        r = signed_document_parse(&d, k->json, strlen(k->json));
        if (r >= 0)     /* when it expires is looked at for each message */
                r = subkey_cert_check(signed_document_root(d), device->signing_key, device->device_id, INT64_MIN, key,
                                      &error);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return refuse_subkey(c, k, subkey_error_to_string(error));

        k->state = device->verified ? SUBKEY_VERIFIED : SUBKEY_UNVERIFIED;
        k->json = mfree(k->json);
        return 0;
}

static int sort_subkey(CertChain *c, CertSubkey *k, bool strict) {
        const CertDevice *d;

        k->device = find_device(c, k->device_id);
        d = k->device == SIZE_MAX ? NULL : &c->devices[k->device];
        if (!d && (strict || c->rows[CERT_DEVICE].n_seen > 0))
                return refuse_subkey(c, k, "there is no device_cert for it");
        if (d && d->has_signing_key && (d->verified || k->is_signed)) {
                k->state = SUBKEY_UNCHECKED;
                if (!d->verified)
                        c->lacks |= LACKS_DEVICE;
                return 0;
        }
        if (strict)
                return refuse_subkey(c, k, "there is no key to verify it with");

        k->state = SUBKEY_UNVERIFIED;
        k->json = mfree(k->json);
        c->lacks |= d && d->has_signing_key ? LACKS_SUBKEY : LACKS_DEVICE;
        return 0;
}

static int sort_subkeys(CertChain *c, bool strict) {
        int r = 0;

        for (size_t i = 0; i < c->n_subkeys && r >= 0; i++)
                r = sort_subkey(c, chain_subkey(c, i), strict);
        return r;
}

/* --- all of it --- */

static bool has_nothing_usable(const CertChain *c) {
        for (size_t i = 0; i < c->n_subkeys; i++)
                if (c->subkeys[i].state != SUBKEY_REFUSED)
                        return false;
        return c->n_devices == 0;
}

static bool has_verified_device(const CertChain *c) {
        for (size_t i = 0; i < c->n_devices; i++)
                if (c->devices[i].verified)
                        return true;
        return false;
}

static int conclude(CertChain *c, const CertPin *pin) {
        if (has_nothing_usable(c) && c->n_refused > 0) {
                _cleanup_free_ char *why = TAKE_PTR(c->refusal);

                return refuse_slug(c, "nothing is left", strempty(why));
        }
        c->verdict = c->lacks ? CERT_CHAIN_LACKING : CERT_CHAIN_COMPLETE;
        c->pin.complete = (pin && pin->complete) || (c->verdict == CERT_CHAIN_COMPLETE && has_verified_device(c));
        c->pin_wanted = c->has_root && (!pin || pin->complete != c->pin.complete);
        return 0;
}

static int finish(CertChain *c, const CertPin *pin) {
        const bool strict = c->policy == CERT_POLICY_ENFORCE || (pin && pin->complete);
        int r;

        r = check_limits(c);
        if (r < 0 || is_refused(c))
                return r;
        r = find_root(c, pin);
        if (r < 0 || is_refused(c))
                return r;
        r = find_binding(c);
        if (r < 0 || is_refused(c))
                return r;
        if (c->policy == CERT_POLICY_ENFORCE && c->lacks && c->n_entries > 0)
                return refuse_slug(c, c->lacks & LACKS_IDENTITY ? "identity_cert" : "slug_binding", "is missing");
        r = check_devices(c, strict);
        if (r >= 0)
                r = check_revocations(c);
        if (r >= 0)
                r = sort_subkeys(c, strict);
        return r < 0 ? r : conclude(c, pin);
}

int cert_chain_finish(CertChain *c, const CertPin *pin, CertPolicy policy) {
        int r;

        c->policy = policy;
        r = finish(c, pin);
        for (CertKind k = 0; k < _CERT_KIND_MAX; k++) {
                for (size_t i = 0; i < c->rows[k].n; i++)
                        free(c->rows[k].json[i]);
                c->rows[k].json = mfree(c->rows[k].json);
                c->rows[k].n = c->rows[k].allocated = 0;
        }
        return r;
}
