/* SPDX-License-Identifier: MIT */
#pragma once

#include "signed-json.h"

/* Pages of GET /certs/sync, in both of their forms (server-api §3.1). Borrowed from the page. */

typedef enum CertKind {
        CERT_IDENTITY,
        CERT_SLUG_BINDING,
        CERT_DEVICE,
        CERT_SUBKEY,
        CERT_DEVICE_REVOCATION,
        _CERT_KIND_MAX,
        _CERT_KIND_INVALID = -EINVAL,
} CertKind;

const char* cert_kind_to_string(CertKind k);
CertKind cert_kind_from_string(const char *s);

typedef struct CertEntry {
        CertKind kind;
        const char *slug;
        const SignedValue *cert;        /* anything: nothing is checked yet */
} CertEntry;

/* An error ends the reading, and is what cert_page_read() returns. */
typedef int (*cert_entry_t)(const CertEntry *e, void *userdata);

typedef struct CertPageEnd {
        bool has_more;
        int64_t since;          /* for the next page; greater than the one before when has_more */
        bool unattributed;      /* entries were left out because the page does not tell whose they are */
} CertPageEnd;

/* Entries of unknown kinds and those of nobody are left out. In the form of maps ("cache") devices and subkeys do not
 * name their slug: they are slug's, the only one that was asked for; NULL: several were, and these are left out.
 * -EBADMSG with *reterr (static) for what is no page, and for more pages without an end. */
int cert_page_read(const SignedValue *page, const char *slug, int64_t since, cert_entry_t on_entry, void *userdata,
                   CertPageEnd *ret, const char **reterr);
