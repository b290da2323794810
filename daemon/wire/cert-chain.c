/* SPDX-License-Identifier: MIT */

#include "base64url.h"
#include "cert-chain-internal.h"
#include "certificate.h"

const char* cert_policy_to_string(CertPolicy p) {
        static const char *const names[_CERT_POLICY_MAX] = {
                [CERT_POLICY_WARN] = "warn",
                [CERT_POLICY_ENFORCE] = "enforce",
        };

        return p >= 0 && p < _CERT_POLICY_MAX ? names[p] : NULL;
}

CertPolicy cert_policy_from_string(const char *s) {
        for (CertPolicy p = 0; s && p < _CERT_POLICY_MAX; p++)
                if (streq(s, cert_policy_to_string(p)))
                        return p;
        return _CERT_POLICY_INVALID;
}

int cert_chain_new(CertChain **ret, const char *slug) {
        _cleanup_(cert_chain_unrefp) CertChain *c = new0(CertChain, 1);

        if (!c)
                return -ENOMEM;
        c->n_ref = 1;
        c->slug = strdup(slug);
        if (!c->slug)
                return -ENOMEM;

        *ret = TAKE_PTR(c);
        return 0;
}

CertChain* cert_chain_ref(CertChain *c) {
        assert(c && c->n_ref > 0);
        c->n_ref++;
        return c;
}

void cert_device_done(CertDevice *d) {
        d->device_id = mfree(d->device_id);
}

void cert_subkey_done(CertSubkey *k) {
        k->subkey_id = mfree(k->subkey_id);
        k->device_id = mfree(k->device_id);
        k->json = mfree(k->json);
}

CertChain* cert_chain_unref(CertChain *c) {
        if (!c || --c->n_ref > 0)
                return NULL;

        for (CertKind k = 0; k < _CERT_KIND_MAX; k++) {
                for (size_t i = 0; i < c->rows[k].n; i++)
                        free(c->rows[k].json[i]);
                free(c->rows[k].json);
        }
        for (size_t i = 0; i < c->n_devices; i++)
                cert_device_done(&c->devices[i]);
        free(c->devices);
        for (size_t i = 0; i < c->n_subkeys; i++)
                cert_subkey_done(&c->subkeys[i]);
        free(c->subkeys);
        free(c->slug);
        free(c->refusal);
        return mfree(c);
}

/* --- rows --- */

int chain_refuse_row(CertChain *c, const char *what, const char *id, const char *why) {
        _cleanup_free_ char *shown_id = NULL, *shown_why = NULL;

        if (c->n_refused++ > 0)
                return 0;
        shown_id = str_printable(strempty(id), 80);
        shown_why = str_printable(why, 200);
        if (!shown_id || !shown_why)
                return -ENOMEM;
        free(c->refusal);
        c->refusal = id ? asprintf_new("%s '%s': %s", what, shown_id, shown_why)
                        : asprintf_new("%s: %s", what, shown_why);
        return c->refusal ? 0 : -ENOMEM;
}

static size_t rows_max(CertKind k) {
        return k == CERT_IDENTITY || k == CERT_SLUG_BINDING ? CERT_ROOTS_MAX : CERT_DEVICES_MAX;
}

static int rows_add(CertRows *rows, char *json) {
        if (rows->n == rows->allocated) {
                size_t allocated = MAX(rows->allocated * 2, (size_t) 4);
                char **more = realloc(rows->json, allocated * sizeof(char*));

                if (!more)
                        return -ENOMEM;
                rows->json = more;
                rows->allocated = allocated;
        }
        rows->json[rows->n++] = json;
        return 0;
}

/* 1 with its text, 0 when it is left out. */
static int format_cert(CertChain *c, const CertEntry *e, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        if (e->cert->type != SIGNED_OBJECT) {
                r = chain_refuse_row(c, cert_kind_to_string(e->kind), NULL, "must be an object");
                return r < 0 ? r : 0;
        }
        r = signed_value_format(e->cert, &b);
        if (r < 0)
                return r;
        if (b.size > CERT_SIZE_MAX) {
                r = chain_refuse_row(c, cert_kind_to_string(e->kind), NULL, "is too large");
                return r < 0 ? r : 0;
        }
        *ret = strbuf_take(&b);
        return *ret ? 1 : -ENOMEM;
}

static int copy_text(char **ret, const char *s) {
        *ret = s ? strdup(s) : NULL;
        return s && !*ret ? -ENOMEM : 0;
}

/* 1 = it has a key, 0 = not. */
static int read_subkey(const SignedValue *cert, CertSubkey *k) {
        const char *key = signed_get_string(cert, "subkey_public_key");
        int r;

        if (!key || base64url_decode_exact(key, strlen(key), k->key, KEY_SIZE) < 0)
                return 0;
        k->expires_at_ms = -1;
        r = signed_get_int(cert, "expires_at", &k->expires_at_ms);
        if (r < 0 && r != -ENOENT)
                return 0;
        if (r >= 0)     /* below zero means never here, and 1960 there */
                k->expires_at_ms = MAX(k->expires_at_ms, (int64_t) 0);
        (void) signed_get_int(cert, "issued_at", &k->issued_at_ms);
        k->is_signed = cert_is_signed(cert);
        k->device = SIZE_MAX;

        r = copy_text(&k->subkey_id, signed_get_string(cert, "subkey_id"));
        if (r >= 0)
                r = copy_text(&k->device_id, signed_get_string(cert, "device_id"));
        return r < 0 ? r : 1;
}

static CertSubkey* subkey_place(CertChain *c) {
        CertSubkey *k;

        if (c->n_subkeys == CERT_SUBKEYS_MAX) {
                k = &c->subkeys[c->subkeys_head];
                c->subkeys_head = (c->subkeys_head + 1) % CERT_SUBKEYS_MAX;
                cert_subkey_done(k);
                return k;
        }
        if (c->n_subkeys == c->subkeys_allocated) {
                size_t allocated = CLAMP(c->subkeys_allocated * 2, (size_t) 4, (size_t) CERT_SUBKEYS_MAX);
                CertSubkey *more = realloc(c->subkeys, allocated * sizeof(CertSubkey));

                if (!more)
                        return NULL;
                c->subkeys = more;
                c->subkeys_allocated = allocated;
        }
        return &c->subkeys[c->n_subkeys++];
}

static int add_subkey(CertChain *c, const CertEntry *e) {
        _cleanup_(cert_subkey_done) CertSubkey k = {};
        CertSubkey *place;
        int r;

        r = read_subkey(e->cert, &k);
        if (r <= 0)
                return r;
        r = format_cert(c, e, &k.json);
        if (r <= 0)
                return r;
        place = subkey_place(c);
        if (!place)
                return -ENOMEM;

        *place = k;
        k = (CertSubkey) {};
        return 0;
}

int cert_chain_add(CertChain *c, const CertEntry *e) {
        CertRows *rows = &c->rows[e->kind];
        _cleanup_free_ char *json = NULL;
        int r;

        if (!streq_ptr(e->slug, c->slug))
                return 0;
        c->n_entries++;
        rows->n_seen++;
        if (c->n_entries > CERT_ENTRIES_MAX)
                return 0;
        if (e->kind == CERT_SUBKEY)
                return add_subkey(c, e);
        if (rows->n_seen > rows_max(e->kind))
                return 0;
        r = format_cert(c, e, &json);
        if (r <= 0)
                return r;
        r = rows_add(rows, json);
        if (r < 0)
                return r;
        json = NULL;
        return 0;
}

/* --- what is in it --- */

const char* cert_chain_slug(const CertChain *c) {
        return c->slug;
}

CertVerdict cert_chain_verdict(const CertChain *c) {
        return c->verdict;
}

bool cert_chain_is_empty(const CertChain *c) {
        return c->n_devices == 0 && c->n_subkeys == 0;
}

const uint8_t* cert_chain_root(const CertChain *c) {
        return c->has_root ? c->pin.root : NULL;
}

const CertDevice* cert_chain_devices(const CertChain *c, size_t *ret_n) {
        *ret_n = c->n_devices;
        return c->devices;
}

size_t cert_chain_n_subkeys(const CertChain *c) {
        return c->n_subkeys;
}

CertSubkey* chain_subkey(const CertChain *c, size_t i) {
        assert(i < c->n_subkeys);
        return &c->subkeys[(c->subkeys_head + c->n_subkeys - 1 - i) % c->n_subkeys];
}

const CertSubkey* cert_chain_subkey(const CertChain *c, size_t i) {
        return chain_subkey(c, i);
}

static size_t text_size(const char *s) {
        return s ? strlen(s) + 1 : 0;
}

size_t cert_chain_size(const CertChain *c) {
        size_t size = sizeof(*c) + text_size(c->slug) + text_size(c->refusal) + c->n_devices * sizeof(CertDevice) +
                      c->subkeys_allocated * sizeof(CertSubkey);

        for (size_t i = 0; i < c->n_devices; i++)
                size += text_size(c->devices[i].device_id);
        for (size_t i = 0; i < c->n_subkeys; i++)
                size += text_size(c->subkeys[i].subkey_id) + text_size(c->subkeys[i].device_id) +
                        text_size(c->subkeys[i].json);
        return size;
}

int cert_chain_pin(const CertChain *c, CertPin *ret) {
        if (!c->pin_wanted)
                return 0;
        *ret = c->pin;
        return 1;
}

static int put_lacking(const CertChain *c, StrBuf *b) {
        static const char *const names[] = { "an identity_cert", "a slug_binding", "a signed device_cert",
                                             "a signed subkey_cert" };
        const char *separator = " lack ";
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(names) && r >= 0; i++)
                if (c->lacks & (1U << i)) {
                        r = strbuf_printf(b, "%s%s", separator, names[i]);
                        separator = ", ";
                }
        return r < 0 ? r : strbuf_puts(b, ", and are accepted unverified as wire.verify_certs is warn");
}

int cert_chain_warning(const CertChain *c, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_free_ char *slug = NULL;
        int r;

        *ret = NULL;
        if (c->n_entries == 0 || (c->verdict != CERT_CHAIN_LACKING && !c->refusal))
                return 0;
        slug = str_printable(c->slug, 80);
        if (!slug)
                return -ENOMEM;
        r = strbuf_printf(&b, "The certificates of '%s'", slug);
        if (r >= 0 && c->verdict == CERT_CHAIN_LACKING)
                r = put_lacking(c, &b);
        if (r >= 0 && c->refusal)
                r = strbuf_printf(&b, c->verdict == CERT_CHAIN_REFUSED ? " are refused: %s"
                                      : c->verdict == CERT_CHAIN_LACKING ? "; left out: %s"
                                                                         : ": left out: %s",
                                  c->refusal);
        if (r >= 0 && c->verdict != CERT_CHAIN_REFUSED && c->n_refused > 1)
                r = strbuf_printf(&b, " (and %zu more)", c->n_refused - 1);
        if (r < 0)
                return r;

        *ret = strbuf_take(&b);
        return *ret ? 1 : -ENOMEM;
}

static bool contains_device(const Recipient *recipients, size_t n, const char *device_id) {
        for (size_t i = 0; i < n; i++)
                if (streq(recipients[i].device_id, device_id))
                        return true;
        return false;
}

int cert_chain_recipients(const CertChain *c, int64_t now_ms, Recipient **recipients, size_t *n_recipients) {
        Recipient *more;

        if (c->n_devices == 0)
                return 0;
        more = reallocarray(*recipients, *n_recipients + c->n_devices, sizeof(Recipient));
        if (!more)
                return -ENOMEM;
        *recipients = more;

        for (size_t i = 0; i < c->n_devices; i++) {
                const CertDevice *d = &c->devices[i];

                if (!d->has_kem_key || d->revoked_from_ms <= now_ms ||
                    contains_device(*recipients, *n_recipients, d->device_id))
                        continue;
                if (*n_recipients >= ENVELOPE_RECIPIENTS_MAX)
                        return -E2BIG;
                more[*n_recipients] = (Recipient) { .device_id = d->device_id };
                memcpy(more[*n_recipients].kem_key, d->kem_key, KEY_SIZE);
                (*n_recipients)++;
        }
        return 0;
}

/* 1 = it may have signed a message of then. */
static int subkey_fits(CertChain *c, CertSubkey *k, int64_t sent_at_ms) {
        int r;

        if (k->state == SUBKEY_REFUSED || subkey_is_expired(k->expires_at_ms, sent_at_ms) ||
            (k->device != SIZE_MAX && sent_at_ms >= c->devices[k->device].revoked_from_ms))
                return 0;
        r = chain_check_subkey(c, k);
        return r < 0 ? r : k->state != SUBKEY_REFUSED;
}

static bool contains_key(uint8_t (*keys)[KEY_SIZE], size_t n, const uint8_t key[KEY_SIZE]) {
        for (size_t i = 0; i < n; i++)
                if (memcmp(keys[i], key, KEY_SIZE) == 0)
                        return true;
        return false;
}

int cert_chain_keys_at(CertChain *c, int64_t sent_at_ms, const char *preferred_subkey_id, uint8_t (*ret)[KEY_SIZE],
                       size_t max) {
        size_t n = 0;

        for (unsigned round = 0; round < 2; round++)
                for (size_t i = 0; i < c->n_subkeys && n < max; i++) {
                        CertSubkey *k = chain_subkey(c, i);
                        const bool preferred = preferred_subkey_id && streq_ptr(k->subkey_id, preferred_subkey_id);
                        int r;

                        if (preferred != (round == 0))
                                continue;
                        r = subkey_fits(c, k, sent_at_ms);
                        if (r < 0)
                                return r;
                        if (r > 0 && !contains_key(ret, n, k->key))
                                memcpy(ret[n++], k->key, KEY_SIZE);
                }
        return (int) n;
}
