/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-page.h"
#include "envelope.h"

/* What the certificate registry says of one slug, verified: identity_cert → slug_binding → device_cert → subkey_cert
 * (wire-protocol §§6.6, 17.5). No I/O, no clock.
 *
 * What does not verify is never used. For most rows that is the end of it: the row is left out, whatever else is good
 * stays. All of the slug is refused when there is nothing left to hang the rest on: identity_certs or slug_bindings
 * are there and none is good, the root key is not the pinned one, or there are more rows than anybody has. Of several
 * good identity_certs the last one counts.
 *
 * What is missing is up to the policy: no identity_cert (the pin, or the key of whatever is signed, is the root key
 * then), no slug_binding, a device_cert without signature, a subkey_cert of such a device, or subkey_certs of a slug
 * without any device_cert. A subkey_cert without signature of a verified device, or of a device that is not among
 * those that are listed, is not missing but wrong, and refused under either policy. And a slug that was complete once
 * has to stay so: see CertPin. */

#define CERT_ENTRIES_MAX 32768U         /* rows of a slug */
#define CERT_ROOTS_MAX 64U              /* identity_certs, slug_bindings of a slug, each */
#define CERT_DEVICES_MAX 1024U          /* device_certs, device_revocations of a slug, each */
#define CERT_SUBKEYS_MAX 1024U          /* the last ones are kept: at 47 h each, years of a device */
#define CERT_SIZE_MAX KIB(16)           /* one certificate as JSON; a larger one does not verify */

/* wire.verify_certs (agent-home §3.1) */
typedef enum CertPolicy {
        CERT_POLICY_WARN,               /* accept chains that lack parts */
        CERT_POLICY_ENFORCE,
        _CERT_POLICY_MAX,
        _CERT_POLICY_INVALID = -EINVAL,
} CertPolicy;

const char* cert_policy_to_string(CertPolicy p);
CertPolicy cert_policy_from_string(const char *s);

typedef enum CertVerdict {
        CERT_CHAIN_COMPLETE,
        CERT_CHAIN_LACKING,             /* accepted */
        CERT_CHAIN_REFUSED,             /* has neither devices nor subkeys, nor a root key */
        _CERT_VERDICT_MAX,
} CertVerdict;

/* What is remembered of a slug for good. */
typedef struct CertPin {
        uint8_t root[KEY_SIZE];
        /* Every part was there once: from then on devices and subkeys without signature are refused under
         * CERT_POLICY_WARN too, as registries only grow: old rows do not come later. A store that never keeps this
         * gets the bare rule of §17.5. */
        bool complete;
} CertPin;

typedef struct CertDevice {
        char *device_id;
        uint8_t kem_key[KEY_SIZE], signing_key[KEY_SIZE];
        bool has_kem_key, has_signing_key;
        bool verified;                  /* under the root key */
        int64_t revoked_from_ms;        /* INT64_MAX: never */
} CertDevice;

typedef enum SubkeyState {
        SUBKEY_UNCHECKED,               /* its signature is looked at when it is needed */
        SUBKEY_VERIFIED,
        SUBKEY_UNVERIFIED,              /* accepted, as there is nothing to verify it with */
        SUBKEY_REFUSED,
} SubkeyState;

typedef struct CertSubkey {
        char *subkey_id, *device_id;    /* may be NULL */
        uint8_t key[KEY_SIZE];
        int64_t issued_at_ms, expires_at_ms;    /* expires: < 0 never */
        SubkeyState state;
        bool is_signed;
        size_t device;                  /* which of the devices; SIZE_MAX: none */
        char *json;                     /* while it is unchecked */
} CertSubkey;

typedef struct CertChain CertChain;

/* --- making one: add what the pages have, then finish --- */

int cert_chain_new(CertChain **ret, const char *slug);
CertChain* cert_chain_ref(CertChain *c);
CertChain* cert_chain_unref(CertChain *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(CertChain*, cert_chain_unref);

/* Copies what it needs. Entries of other slugs are left out. -ENOMEM. */
int cert_chain_add(CertChain *c, const CertEntry *e);
/* pin NULL: none yet. Only -ENOMEM: bad certificates are a result. */
int cert_chain_finish(CertChain *c, const CertPin *pin, CertPolicy policy);

/* --- what is in a finished one; all is borrowed from it --- */

/* Whose it is, and what came of it. */
const char* cert_chain_slug(const CertChain *c);
CertVerdict cert_chain_verdict(const CertChain *c);
/* No device and no subkey. */
bool cert_chain_is_empty(const CertChain *c);
const uint8_t* cert_chain_root(const CertChain *c);     /* NULL: unknown */
const CertDevice* cert_chain_devices(const CertChain *c, size_t *ret_n);
size_t cert_chain_n_subkeys(const CertChain *c);
const CertSubkey* cert_chain_subkey(const CertChain *c, size_t i);      /* the newest is 0 */
/* What it takes in memory, about. */
size_t cert_chain_size(const CertChain *c);

/* > 0: this is to be pinned from now on. 0: the pin stays as it is. */
int cert_chain_pin(const CertChain *c, CertPin *ret);
/* What to tell the user, once a slug: what lacks, what is refused and why. > 0, 0 when there is nothing to tell
 * (*ret is NULL then), -ENOMEM. */
int cert_chain_warning(const CertChain *c, char **ret);

/* Appends the devices that messages of now_ms go to, each id once over all of the list (§9.4). Ids are borrowed from
 * the chain. -E2BIG over 4096, -ENOMEM; the list is as it was then, or longer. */
int cert_chain_recipients(const CertChain *c, int64_t now_ms, Recipient **recipients, size_t *n_recipients);

/* The keys that may have signed a message of sent_at_ms: the preferred one first (its id; may be NULL), then from the
 * newest on. Not expired then (§6.6: issued_at does not matter) and of no device that was revoked by then. Returns how
 * many, at most max; with max = 1 mostly one signature is verified. -ENOMEM. */
int cert_chain_keys_at(CertChain *c, int64_t sent_at_ms, const char *preferred_subkey_id, uint8_t (*ret)[KEY_SIZE],
                       size_t max);
