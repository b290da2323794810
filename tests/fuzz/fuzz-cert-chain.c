/* SPDX-License-Identifier: MIT */

/* A page of the certificate registry and what it makes of a slug. So that something is behind the signature checks,
 * "$R", "$D" and "$S" in it are replaced: keys by those of a root, a device and a subkey, signatures by real ones. */

#include <stdlib.h>

#include "base64url.h"
#include "cert-chain.h"
#include "certificate.h"
#include "fuzz.h"

#define SLUG "bob-0001"
#define NOW ((int64_t) 1780000000000)

enum { ROOT, DEVICE, SUBKEY, N_KEYS };

static uint8_t seeds[N_KEYS][KEY_SIZE], keys[N_KEYS][KEY_SIZE];
static char *key_texts[N_KEYS], *device_id, *subkey_id;

static void keys_init(void) {
        if (subkey_id)
                return;
        if (crypto_init() < 0)
                abort();
        for (size_t i = 0; i < N_KEYS; i++) {
                seeds[i][0] = (uint8_t) (i + 1);
                sign_public_key(seeds[i], keys[i]);
                key_texts[i] = base64url_encode(keys[i], KEY_SIZE);
        }
        device_id = key_id("dev", keys[DEVICE]);
        subkey_id = key_id("sk", keys[SUBKEY]);
        if (!key_texts[SUBKEY] || !device_id || !subkey_id)
                abort();
}

static size_t placeholder(const SignedValue *v) {
        static const char *const names[N_KEYS] = { "$R", "$D", "$S" };

        for (size_t i = 0; i < N_KEYS; i++)
                if (v && v->type == SIGNED_STRING && streq(v->text, names[i]))
                        return i;
        return N_KEYS;
}

static SignedValue* filled(SignedDocument *d, const SignedValue *v);

static void put_filled(SignedDocument *d, SignedValue *o, const SignedValue *m) {
        size_t which = placeholder(m);
        SignedValue *value = streq(m->key, "device_id") && which == DEVICE ? signed_string(d, device_id) :
                             streq(m->key, "subkey_id") && which == SUBKEY ? signed_string(d, subkey_id) :
                                                                             filled(d, m);

        if (!signed_get(o, m->key) && signed_put(d, o, m->key, value) < 0)
                abort();
}

static SignedValue* filled(SignedDocument *d, const SignedValue *v) {
        static const char *const signatures[] = { "signature", "self_signature" };
        SignedValue *copy;

        if (placeholder(v) < N_KEYS)
                return signed_string(d, key_texts[placeholder(v)]);
        if (v->type != SIGNED_OBJECT && v->type != SIGNED_ARRAY)
                return signed_copy(d, v);

        copy = v->type == SIGNED_OBJECT ? signed_object(d) : signed_array(d);
        for (const SignedValue *m = v->child; m; m = m->next)
                if (v->type == SIGNED_ARRAY)
                        (void) signed_push(d, copy, filled(d, m));
                else if (placeholder(m) == N_KEYS || (!streq(m->key, signatures[0]) && !streq(m->key, signatures[1])))
                        put_filled(d, copy, m);
        for (size_t i = 0; i < ELEMENTSOF(signatures); i++) {
                size_t which = placeholder(signed_get(v, signatures[i]));

                if (which < N_KEYS && !signed_get(copy, signatures[i]))
                        (void) signed_object_sign(d, copy, signatures[i], seeds[which]);
        }
        return copy;
}

static int add_entry(const CertEntry *e, void *userdata) {
        return cert_chain_add(userdata, e);
}

static void check_warning(const CertChain *c) {
        char *text = NULL;
        int r = cert_chain_warning(c, &text);

        if ((r > 0) != !!text || (text && (strpbrk(text, "\n\r\x1b") || !utf8_is_valid(text, strlen(text)))))
                abort();
        free(text);
}

/* Whoever is in it is there for a reason. */
static void check_subkeys(const CertChain *c, const CertDevice *devices, size_t n_devices, CertPolicy policy) {
        for (size_t i = 0; i < cert_chain_n_subkeys(c); i++) {
                const CertSubkey *k = cert_chain_subkey(c, i);

                if (k->device != SIZE_MAX && k->device >= n_devices)
                        abort();
                if (k->state == SUBKEY_VERIFIED &&
                    (!devices[k->device].verified || memcmp(k->key, keys[SUBKEY], KEY_SIZE) != 0))
                        abort();
                if (k->state == SUBKEY_UNVERIFIED && policy == CERT_POLICY_ENFORCE)
                        abort();
        }
}

/* How many devices get a message. */
static size_t check_chain(CertChain *c, CertPolicy policy) {
        _cleanup_free_ Recipient *recipients = NULL;
        size_t n_devices, n_recipients = 0;
        const CertDevice *devices = cert_chain_devices(c, &n_devices);
        uint8_t found[8][KEY_SIZE];
        int n;

        if (cert_chain_verdict(c) == CERT_CHAIN_REFUSED && (!cert_chain_is_empty(c) || cert_chain_root(c)))
                abort();
        for (size_t i = 0; i < n_devices; i++)
                if (isempty(devices[i].device_id) || (!devices[i].verified && policy == CERT_POLICY_ENFORCE) ||
                    (devices[i].verified && memcmp(cert_chain_root(c), keys[ROOT], KEY_SIZE) != 0))
                        abort();
        n = cert_chain_keys_at(c, NOW, subkey_id, found, ELEMENTSOF(found));
        if (n < 0 || n > (int) ELEMENTSOF(found))
                abort();
        check_subkeys(c, devices, n_devices, policy);
        if (cert_chain_recipients(c, NOW, &recipients, &n_recipients) < 0 || n_recipients > n_devices)
                abort();
        check_warning(c);
        return n_recipients;
}

/* The same page without and with a pin, which must not change what it says. */
static size_t check_page(const SignedValue *page, CertPolicy policy, const CertPin *pin, CertPin *ret_pin) {
        _cleanup_(cert_chain_unrefp) CertChain *c = NULL;
        const char *problem;
        CertPageEnd end;

        *ret_pin = (CertPin) {};
        if (cert_chain_new(&c, SLUG) < 0)
                abort();
        if (cert_page_read(page, SLUG, 0, add_entry, c, &end, &problem) < 0)
                return 0;
        if (cert_chain_finish(c, pin, policy) < 0)
                abort();
        (void) cert_chain_pin(c, ret_pin);
        return check_chain(c, policy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL, *f = NULL;
        size_t n_enforce, n_warn, n_again;
        CertPin pin, ignored;
        SignedValue *page;

        keys_init();
        if (signed_document_parse(&d, (const char*) data, size) < 0)
                return 0;
        if (signed_document_new(&f) < 0)
                abort();
        page = filled(f, signed_document_root(d));
        n_enforce = check_page(page, CERT_POLICY_ENFORCE, NULL, &ignored);
        n_warn = check_page(page, CERT_POLICY_WARN, NULL, &pin);
        if (n_enforce > n_warn)
                abort();
        if (pin.complete) {
                n_again = check_page(page, CERT_POLICY_WARN, &pin, &ignored);
                if (n_again != n_warn)
                        abort();
        }
        return 0;
}
