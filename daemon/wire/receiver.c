/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "log.h"
#include "receiver.h"

/* What is hashed at most for a message whose key is not the one that it names. */
#define TRIES_BYTES_MAX MIB(64)
#define TRIES_MIN 4U

struct Receiver {
        const Identity *identity;
        CertCache *cache;
        KemKey *kem;                    /* locked memory */
        received_t on_received;
        void *userdata;
        Envelope *envelope;             /* under way; borrowed */
        CertLookup *lookup;
        bool asked_again;
};

/* The receipt may point into the lookup, and its reader may begin the next one. */
static void receiver_answer(Receiver *r, const Receipt *receipt) {
        _cleanup_(cert_lookup_freep) _unused_ CertLookup *lookup = TAKE_PTR(r->lookup);

        r->envelope = NULL;
        r->on_received(r, receipt, r->userdata);
}

/* Ids are the sender's choice and so may hold anything. */
static void receiver_later(Receiver *r, const char *reason) {
        _cleanup_free_ char *id = str_printable(envelope_id(r->envelope), 80);

        log_warning("Envelope '%s' has to wait: %s", strempty(id), reason);
        receiver_answer(r, &(Receipt) { .kind = RECEIPT_LATER, .reason = reason });
}

/* The reason is one of ours. */
static void receiver_refuse(Receiver *r, const char *reason) {
        _cleanup_free_ char *id = str_printable(envelope_id(r->envelope), 80),
                            *sender = str_printable(envelope_claimed_sender(r->envelope), 80),
                            *id_field = strjoin("PUFFO_ENVELOPE=", strempty(id)),
                            *reason_field = strjoin("PUFFO_REASON=", reason);
        const char *const fields[] = {
                PUFFO_MESSAGE_ENVELOPE_REFUSED, strempty(id_field), strempty(reason_field), NULL,
        };

        log_fields(LOG_WARNING, 0, fields, "Refused envelope '%s' of '%s': %s", strempty(id), strempty(sender),
                   reason);
        receiver_answer(r, &(Receipt) { .kind = RECEIPT_REFUSED, .reason = reason });
}

static void receiver_fail(Receiver *r, int error, EnvelopeError why) {
        if (error == -EBADMSG)
                receiver_refuse(r, envelope_error_to_string(why));
        else
                receiver_later(r, strerror(-error));
}

static void receiver_warn(Receiver *r, const CertChain *chain) {
        _cleanup_free_ char *text = NULL;

        if (cert_cache_warn_once(r->cache, chain, &text) > 0)
                log_warning("%s", text);
}

/* Anybody may send 16 MiB that a thousand keys do not fit, and the loop waits meanwhile: the newest will do then. */
static size_t tries_max(const Envelope *e) {
        return CLAMP(TRIES_BYTES_MAX / MAX(envelope_signed_size(e), (size_t) 1), (size_t) TRIES_MIN,
                     (size_t) CERT_SUBKEYS_MAX);
}

/* Tries this chain's keys: the one that the message names, which nearly always is the one, and then the others.
 * > 0: answered. 0: none fits. */
static int receiver_verify(Receiver *r, CertChain *chain) {
        const char *named = envelope_claimed_subkey(r->envelope);
        _cleanup_free_ uint8_t (*keys)[KEY_SIZE] = NULL;
        EnvelopeError error = ENVELOPE_OK;
        uint8_t first[1][KEY_SIZE];
        int64_t sent_at;
        Message message;
        int n, k;

        k = envelope_claimed_sent_at(r->envelope, &sent_at);
        if (k < 0) {
                receiver_refuse(r, envelope_error_to_string(ENVELOPE_MALFORMED));
                return 1;
        }
        receiver_warn(r, chain);

        n = cert_chain_keys_at(chain, sent_at, named, first, 1);
        k = n > 0 ? envelope_verify(r->envelope, (const uint8_t (*)[KEY_SIZE]) first, 1, &message, &error) : n;
        if (n > 0 && k == -EBADMSG && error == ENVELOPE_SIGNATURE_INVALID) {
                keys = calloc(CERT_SUBKEYS_MAX, KEY_SIZE);
                n = keys ? cert_chain_keys_at(chain, sent_at, named, keys, tries_max(r->envelope)) : -ENOMEM;
                if (n > 1)
                        k = envelope_verify(r->envelope, (const uint8_t (*)[KEY_SIZE]) keys + 1, (size_t) n - 1,
                                            &message, &error);
                else if (n < 0)
                        k = n;
        }
        if (n == 0 || (k == -EBADMSG && error == ENVELOPE_SIGNATURE_INVALID))
                return 0;

        if (k < 0)
                receiver_fail(r, k, error);
        else
                receiver_answer(r, &(Receipt) { .kind = RECEIPT_MESSAGE, .message = &message });
        return 1;
}

static void receiver_look_up(Receiver *r);

/* > 0: it is fetched once more, as what came may have been on its way before the message was signed. */
static int receiver_ask_again(Receiver *r, const CertChain *chain) {
        if (r->asked_again || !cert_lookup_joined(r->lookup))
                return 0;

        r->asked_again = true;
        cert_cache_drop(r->cache, chain);
        r->lookup = cert_lookup_free(r->lookup);
        receiver_look_up(r);
        return 1;
}

static void receiver_on_lookup(CertLookup *l, void *userdata) {
        Receiver *r = userdata;
        CertChain *chain = cert_lookup_chain(l, 0);
        const bool refused = chain && cert_chain_verdict(chain) == CERT_CHAIN_REFUSED;
        const char *text = NULL;

        if (!chain) {
                int error = cert_lookup_error(l, &text);

                receiver_later(r, text ?: strerror(-error));
                return;
        }
        if (!refused && !cert_chain_is_empty(chain) && receiver_verify(r, chain) > 0)
                return;
        if (receiver_ask_again(r, chain) > 0)
                return;
        if (refused) {
                receiver_warn(r, chain);
                receiver_refuse(r, "sender_certificates_refused");
        } else
                receiver_refuse(r, cert_chain_is_empty(chain) ? "sender_unknown"
                                                              : envelope_error_to_string(ENVELOPE_SIGNATURE_INVALID));
}

static void receiver_look_up(Receiver *r) {
        const char *sender = envelope_claimed_sender(r->envelope);
        int k = cert_cache_lookup(r->cache, &sender, 1, receiver_on_lookup, r, &r->lookup);

        if (k < 0)
                receiver_later(r, strerror(-k));
}

void receiver_take(Receiver *r, Envelope *e) {
        EnvelopeError error = ENVELOPE_OK;
        const char *sender;
        CertChain *chain;
        int k;

        assert(r && e && !r->envelope);

        r->envelope = e;
        r->asked_again = false;
        k = envelope_decrypt(e, r->identity->device_id, r->kem, &error);
        if (k < 0) {
                receiver_fail(r, k, error);
                return;
        }
        sender = envelope_claimed_sender(e);
        if (!cert_slug_is_valid(sender)) {
                receiver_refuse(r, envelope_error_to_string(ENVELOPE_MALFORMED));
                return;
        }

        chain = cert_cache_get(r->cache, sender);
        if (chain) {
                _cleanup_(cert_chain_unrefp) CertChain *held = cert_chain_ref(chain);

                if (receiver_verify(r, held) > 0)
                        return;
                /* It may have been signed by a subkey that is newer than what we know. */
                cert_cache_drop(r->cache, held);
        }
        receiver_look_up(r);
}

/* Forgets what is under way without calling back. */
static void receiver_cancel(Receiver *r) {
        r->lookup = cert_lookup_free(r->lookup);
        r->envelope = NULL;
}

int receiver_new(Receiver **ret, const Identity *identity, CertCache *cache, received_t on_received, void *userdata) {
        _cleanup_(receiver_freep) Receiver *r = NULL;

        assert(ret && identity && cache && on_received);

        r = new0(Receiver, 1);
        if (!r)
                return -ENOMEM;
        r->identity = identity;
        r->cache = cache;
        r->on_received = on_received;
        r->userdata = userdata;
        r->kem = sodium_malloc(sizeof(KemKey));
        if (!r->kem)
                return -ENOMEM;
        kem_key_init(r->kem, identity->secrets->kem_secret);

        *ret = TAKE_PTR(r);
        return 0;
}

Receiver* receiver_free(Receiver *r) {
        if (!r)
                return NULL;
        receiver_cancel(r);
        sodium_free(r->kem);
        return mfree(r);
}
