/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-chain.h"

/* Shared by cert-chain.c (rows, answers) and cert-chain-check.c (verification). */

enum {
        LACKS_IDENTITY = 1U << 0,
        LACKS_BINDING = 1U << 1,
        LACKS_DEVICE = 1U << 2,
        LACKS_SUBKEY = 1U << 3,
};

/* Certificates as JSON, until the chain is finished. */
typedef struct CertRows {
        char **json;
        size_t n, allocated, n_seen;
} CertRows;

struct CertChain {
        unsigned n_ref;
        char *slug;

        CertRows rows[_CERT_KIND_MAX];
        size_t n_entries;

        CertPolicy policy;
        CertVerdict verdict;
        unsigned lacks;
        bool has_root, pin_wanted;
        CertPin pin;            /* root: the slug's root key */
        CertDevice *devices;
        size_t n_devices;
        CertSubkey *subkeys;    /* a ring once it is full */
        size_t n_subkeys, subkeys_allocated, subkeys_head;

        char *refusal;          /* why: of the slug, else of the first row */
        size_t n_refused;       /* rows */
};

static inline bool cert_is_signed(const SignedValue *cert) {
        const SignedValue *v = signed_get(cert, "signature");

        return !signed_is_null(v) && (v->type != SIGNED_STRING || v->size > 0);
}

void cert_device_done(CertDevice *d);
void cert_subkey_done(CertSubkey *k);
CertSubkey* chain_subkey(const CertChain *c, size_t i);
/* Counts a row that is left out. why: may quote what the server sent; id may be NULL. -ENOMEM. */
int chain_refuse_row(CertChain *c, const char *what, const char *id, const char *why);
/* Looks at the signature of one that is unchecked. */
int chain_check_subkey(CertChain *c, CertSubkey *k);
