/* SPDX-License-Identifier: MIT */
#pragma once

/* Somebody with fresh keys, and registry pages of what they signed. */

#include <sodium.h>

#include "base64url.h"
#include "certificate.h"
#include "cert-chain.h"
#include "tests.h"

#define NOW ((int64_t) 1780000000000)
#define HOUR ((int64_t) 3600 * 1000)

typedef struct Person {
        const char *slug;
        uint8_t root_seed[KEY_SIZE], root[KEY_SIZE], device_seed[KEY_SIZE], device[KEY_SIZE], kem_secret[KEY_SIZE],
                        kem[KEY_SIZE], subkey_seed[KEY_SIZE], subkey[KEY_SIZE];
        char *device_id, *subkey_id;
} Person;

static inline void person_begin(Person *p, const char *slug) {
        *p = (Person) { .slug = slug };
        ASSERT_OK(crypto_init());
        randombytes_buf(p->root_seed, KEY_SIZE);
        randombytes_buf(p->device_seed, KEY_SIZE);
        randombytes_buf(p->kem_secret, KEY_SIZE);
        randombytes_buf(p->subkey_seed, KEY_SIZE);
        sign_public_key(p->root_seed, p->root);
        sign_public_key(p->device_seed, p->device);
        sign_public_key(p->subkey_seed, p->subkey);
        kem_public_key(p->kem_secret, p->kem);
        p->device_id = key_id("dev", p->device);
        p->subkey_id = key_id("sk", p->subkey);
        ASSERT_NOT_NULL(p->device_id);
        ASSERT_NOT_NULL(p->subkey_id);
}

static inline void person_end(Person *p) {
        free(p->device_id);
        free(p->subkey_id);
}
#define PERSON(p, slug) \
        _cleanup_(person_end) Person p; \
        person_begin(&p, slug)

/* A page under construction. */
typedef struct Page {
        SignedDocument *d;
        SignedValue *root, *entries;
        int64_t seq;
} Page;

static inline void page_begin(Page *p) {
        *p = (Page) {};
        ASSERT_OK(signed_document_new(&p->d));
        p->root = signed_object(p->d);
        p->entries = signed_array(p->d);
        ASSERT_OK(signed_put(p->d, p->root, "entries", p->entries));
}

static inline void page_end(Page *p) {
        p->d = signed_document_free(p->d);
}
#define PAGE(p) \
        _cleanup_(page_end) Page p; \
        page_begin(&p)

static inline void page_add(Page *p, const char *kind, const char *slug, SignedValue *cert) {
        SignedValue *e = signed_object(p->d);

        ASSERT_NOT_NULL(cert);
        ASSERT_OK(signed_put(p->d, e, "seq", signed_int(p->d, ++p->seq)));
        ASSERT_OK(signed_put(p->d, e, "kind", signed_string(p->d, kind)));
        ASSERT_OK(signed_put(p->d, e, "slug", signed_string(p->d, slug)));
        ASSERT_OK(signed_put(p->d, e, "cert", cert));
        ASSERT_OK(signed_push(p->d, p->entries, e));
}

static inline void page_add_identity(Page *p, const Person *who, const char *slug) {
        SignedValue *cert = NULL;

        ASSERT_OK(identity_cert_new(p->d, who->root_seed, NULL, &cert));
        page_add(p, "identity_cert", slug, cert);
}

static inline void page_add_binding(Page *p, const Person *who, const char *bound, const char *slug) {
        SignedValue *cert = NULL;

        ASSERT_OK(slug_binding_new(p->d, who->root_seed, bound, NOW, &cert));
        page_add(p, "slug_binding", slug, cert);
}

static inline SignedValue* device_of(Page *p, const Person *who) {
        SignedValue *cert = NULL;

        ASSERT_OK(device_cert_new(p->d, who->root_seed, who->device_id, who->device, who->kem, NOW, &cert));
        return cert;
}

static inline SignedValue* subkey_of(Page *p, const Person *who, int64_t issued_at) {
        SignedValue *cert = NULL;

        ASSERT_OK(subkey_cert_new(p->d, who->device_seed, who->device_id, who->subkey, issued_at, SUBKEY_LIFETIME_MS,
                                  &cert));
        return cert;
}

static inline void page_add_revocation(Page *p, const Person *by, const char *device_id, int64_t from) {
        SignedValue *cert = NULL;

        ASSERT_OK(device_revocation_new(p->d, by->root_seed, device_id, from, NOW, &cert));
        page_add(p, "device_revocation", by->slug, cert);
}

static inline void page_add_roots(Page *p, const Person *who) {
        page_add_identity(p, who, who->slug);
        page_add_binding(p, who, who->slug, who->slug);
}

static inline void page_add_all(Page *p, const Person *who) {
        page_add_roots(p, who);
        page_add(p, "device_cert", who->slug, device_of(p, who));
        page_add(p, "subkey_cert", who->slug, subkey_of(p, who, NOW));
}

/* Removes a member: a certificate of before there were signatures. */
static inline SignedValue* without(SignedValue *o, const char *key) {
        for (SignedValue **v = &o->child; *v; v = &(*v)->next)
                if (streq((*v)->key, key)) {
                        *v = (*v)->next;
                        o->size--;
                        break;
                }
        return o;
}

/* Puts another text in the place of one, signature and all else kept. */
static inline SignedValue* with_text(Page *p, SignedValue *o, const char *key, const char *text) {
        SignedValue *v = signed_get(o, key), *new = signed_string(p->d, text);

        ASSERT_NOT_NULL(v);
        ASSERT_NOT_NULL(new);
        v->type = SIGNED_STRING;
        v->text = new->text;
        v->size = new->size;
        return o;
}

static inline int add_entry(const CertEntry *e, void *userdata) {
        return cert_chain_add(userdata, e);
}

static inline CertChain* chain_of(Page *p, const char *slug, const CertPin *pin, CertPolicy policy) {
        const char *error = NULL;
        CertChain *c = NULL;
        CertPageEnd end;

        ASSERT_OK(cert_chain_new(&c, slug));
        ASSERT_OK(cert_page_read(p->root, slug, 0, add_entry, c, &end, &error));
        page_end(p);    /* it keeps nothing of the page */
        ASSERT_OK(cert_chain_finish(c, pin, policy));
        return c;
}
#define CHAIN(c, page, slug, pin, policy) \
        _cleanup_(cert_chain_unrefp) CertChain *c = chain_of(&(page), slug, pin, policy)

static inline void assert_warns(const CertChain *c, const char *text) {
        _cleanup_free_ char *warning = NULL;

        ASSERT_EQ(cert_chain_warning(c, &warning), text ? 1 : 0);
        if (text)
                ASSERT_STREQ(warning, text);
        else
                ASSERT_NULL(warning);
}

static inline void assert_refused(const CertChain *c, const char *text) {
        CertPin pin;

        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_REFUSED);
        ASSERT_TRUE(cert_chain_is_empty(c));
        ASSERT_NULL(cert_chain_root(c));
        ASSERT_EQ(cert_chain_pin(c, &pin), 0);
        assert_warns(c, text);
}

static inline size_t count_recipients(const CertChain *c, int64_t now) {
        _cleanup_free_ Recipient *r = NULL;
        size_t n = 0;

        ASSERT_OK(cert_chain_recipients(c, now, &r, &n));
        return n;
}

static inline int count_keys(CertChain *c, int64_t sent_at) {
        uint8_t keys[64][KEY_SIZE];

        return ASSERT_OK(cert_chain_keys_at(c, sent_at, NULL, keys, ELEMENTSOF(keys)));
}
