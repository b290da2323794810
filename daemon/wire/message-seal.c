/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "log.h"
#include "message-seal.h"
#include "server-api.h"

struct MessageSeal {
        MessageSealSpec spec;           /* its texts are ours */
        char *space_id, *channel_id, *recipient_slug, *thread_root_id, *reply_to_id, *content_type;
        SignedDocument *content;        /* NULL: this envelope once more, for these */
        char *again, **devices;
        char **slugs;                   /* who is to read it */
        ServerCall *members;
        SubkeyWait *wait;
        CertLookup *lookup;
};

static void seal_finish(MessageSeal *m, const SealedMessage *sealed) {
        m->spec.on_sealed(m, sealed, m->spec.userdata);
}

static void seal_fail(MessageSeal *m, int error, const char *text, bool transient) {
        seal_finish(m, &(SealedMessage) { .error = error, .text = text ?: strerror(-error), .transient = transient });
}

static void seal_fail_reply(MessageSeal *m, const CallReply *reply) {
        seal_fail(m, reply->failure == CALL_MEMORY ? -ENOMEM : -EIO, reply->error, call_reply_is_transient(reply));
}

/* --- everything is known: seal --- */

static int seal_envelope(MessageSeal *m, const SessionKey *key, const Recipient *recipients, size_t n, StrBuf *ret,
                         char **ret_id) {
        MessageDraft draft = {
                .kind = m->spec.kind,
                .sender_slug = server_client_identity(m->spec.client)->slug,
                .sender_subkey_id = key->subkey_id,
                .space_id = m->space_id,
                .channel_id = m->channel_id,
                .recipient_slug = m->recipient_slug,
                .thread_root_id = m->thread_root_id,
                .reply_to_id = m->reply_to_id,
                .content_type = m->content_type,
                .content = signed_document_root(m->content),
                .sent_at = m->spec.sent_at,
        };
        SealSecrets secrets;
        int r = seal_secrets_random(&secrets, ret_id);

        if (r < 0)
                return r;
        signing_key_init(&draft.subkey, key->seed);
        r = envelope_seal(&draft, recipients, n, &secrets, ret);
        signing_key_done(&draft.subkey);
        explicit_bzero(secrets.content_key, KEY_SIZE);
        return r;
}

static int seal_again(MessageSeal *m, const Recipient *recipients, size_t n, StrBuf *ret) {
        const Identity *identity = server_client_identity(m->spec.client);
        KemKey kem;
        int r;

        kem_key_init(&kem, identity->secrets->kem_secret);
        r = envelope_seal_again(m->again, strlen(m->again), identity->device_id, &kem, recipients, n, ret);
        kem_key_done(&kem);
        return r;
}

/* Those that were asked for, in front. */
static size_t keep_devices(MessageSeal *m, Recipient *recipients, size_t n) {
        size_t kept = 0;

        for (size_t i = 0; i < n; i++)
                if (strv_contains(m->devices, recipients[i].device_id))
                        recipients[kept++] = recipients[i];
        return kept;
}

static void seal_for(MessageSeal *m, Recipient *recipients, size_t n) {
        const SessionKey *key = server_client_subkey(m->spec.client);
        _cleanup_(strbuf_done) StrBuf envelope = {};
        _cleanup_free_ char *id = NULL;
        int r;

        if (m->again)
                n = keep_devices(m, recipients, n);

        if (n == 0) {
                seal_fail(m, -ENODEV, "There is no device that could read it", /* transient= */ false);
                return;
        }
        if (m->again)
                r = seal_again(m, recipients, n, &envelope);
        else
                r = key ? seal_envelope(m, key, recipients, n, &envelope, &id) : -EAGAIN;
        if (r < 0)
                seal_fail(m, r, NULL, r == -ENOMEM || r == -EAGAIN);
        else
                seal_finish(m, &(SealedMessage) {
                        .envelope_id = id, .envelope = envelope.text, .envelope_size = envelope.size, .n_devices = n,
                });
}

/* --- the devices of the readers --- */

static void seal_warn(MessageSeal *m, const CertChain *chain) {
        _cleanup_free_ char *text = NULL;

        if (cert_cache_warn_once(m->spec.cache, chain, &text) > 0)
                log_warning("%s", text);
}

/* In a conversation of two, one who cannot read it must not go unnoticed behind our own devices' copies. */
static void seal_on_lookup(CertLookup *l, void *userdata) {
        _cleanup_free_ Recipient *recipients = NULL;
        MessageSeal *m = userdata;
        size_t n = 0;
        int r = 0;

        for (size_t i = 0; m->slugs[i] && r >= 0; i++) {
                bool is_recipient = streq_ptr(m->slugs[i], m->recipient_slug);
                CertChain *chain = cert_lookup_chain(l, i);
                const char *text = NULL;
                size_t before = n;

                if (!chain) {
                        r = cert_lookup_error(l, &text);
                        seal_fail(m, r == -ENOMEM ? r : -EIO, text, /* transient= */ true);
                        return;
                }
                seal_warn(m, chain);
                if (cert_chain_verdict(chain) == CERT_CHAIN_REFUSED && is_recipient) {
                        seal_fail(m, -EPERM, "The recipient's certificates are refused", /* transient= */ false);
                        return;
                }
                r = cert_chain_recipients(chain, now_realtime_ms(), &recipients, &n);
                if (r >= 0 && is_recipient && n == before) {
                        seal_fail(m, -ENODEV, "The recipient has no device that could read it",
                                  /* transient= */ false);
                        return;
                }
        }
        if (r < 0)
                seal_fail(m, r, NULL, r == -ENOMEM);
        else
                seal_for(m, recipients, n);
}

static void seal_look_up(MessageSeal *m) {
        int r;

        for (char **slug = m->slugs; m->again && *slug; slug++)
                cert_cache_invalidate(m->spec.cache, *slug);
        r = cert_cache_lookup(m->spec.cache, (const char *const*) m->slugs, strv_length(m->slugs), seal_on_lookup, m,
                              &m->lookup);
        if (r < 0)
                seal_fail(m, r, NULL, r == -ENOMEM);
}

/* --- the readers --- */

static void seal_on_members(ServerCall *call, const CallReply *reply, void *userdata) {
        _cleanup_free_ Member *members = NULL;
        _cleanup_free_ char *error = NULL;
        MessageSeal *m = userdata;
        size_t n = 0;
        int r;

        if (reply->failure != CALL_OK) {
                seal_fail_reply(m, reply);
                return;
        }
        r = api_read_members(reply, &members, &n, &error);
        if (r < 0) {
                seal_fail(m, -EIO, error, /* transient= */ true);
                return;
        }
        /* Each has a device at least. */
        if (n > ENVELOPE_RECIPIENTS_MAX) {
                seal_fail(m, -E2BIG, "The channel has more members than a message can have recipients",
                          /* transient= */ false);
                return;
        }
        for (size_t i = 0; i < n && r >= 0; i++)
                if (cert_slug_is_valid(members[i].slug) && !strv_contains(m->slugs, members[i].slug))
                        r = strv_extend(&m->slugs, members[i].slug);
        if (r < 0)
                seal_fail(m, r, NULL, /* transient= */ true);
        else if (!m->slugs)
                seal_fail(m, -ENODEV, "The channel has no members", /* transient= */ false);
        else
                seal_look_up(m);
}

static void seal_on_subkey(const CallReply *reply, void *userdata) {
        MessageSeal *m = userdata;
        int r = 0;

        m->wait = subkey_wait_free(m->wait);
        if (reply->failure != CALL_OK) {
                seal_fail_reply(m, reply);
                return;
        }
        if (m->spec.kind == ENVELOPE_DM)
                seal_look_up(m);
        else
                r = api_channel_members(m->spec.client, m->space_id, m->channel_id, seal_on_members, m, &m->members);
        if (r < 0)
                seal_fail(m, r, NULL, /* transient= */ true);
}

/* --- */

static bool spec_is_complete(const MessageSealSpec *s) {
        return s->kind == ENVELOPE_CHANNEL ? !isempty(s->space_id) && !isempty(s->channel_id)
                                           : s->kind == ENVELOPE_DM && cert_slug_is_valid(strempty(s->recipient_slug));
}

static int seal_copy(MessageSeal *m, const MessageSealSpec *s) {
        bool channel = s->kind == ENVELOPE_CHANNEL;

        m->spec = *s;
        if (free_and_strdup(&m->space_id, channel ? s->space_id : NULL) < 0 ||
            free_and_strdup(&m->channel_id, channel ? s->channel_id : NULL) < 0 ||
            free_and_strdup(&m->recipient_slug, channel ? NULL : s->recipient_slug) < 0 ||
            free_and_strdup(&m->thread_root_id, s->thread_root_id) < 0 ||
            free_and_strdup(&m->reply_to_id, s->reply_to_id) < 0 ||
            free_and_strdup(&m->content_type, s->content_type ?: CONTENT_TYPE_TEXT) < 0)
                return -ENOMEM;
        return 0;
}

int message_seal_new(MessageSeal **ret, const MessageSealSpec *spec) {
        _cleanup_(message_seal_freep) MessageSeal *m = NULL;
        const char *own;
        int r;

        assert(ret && spec && spec->client && spec->cache && (spec->content || spec->again) && spec->on_sealed);

        if (!spec_is_complete(spec))
                return -EINVAL;
        m = new0(MessageSeal, 1);
        if (!m)
                return -ENOMEM;
        r = seal_copy(m, spec);
        for (size_t i = 0; i < spec->n_devices && r >= 0; i++)
                r = strv_extend(&m->devices, spec->devices[i]);
        if (r >= 0 && spec->again)
                r = free_and_strdup(&m->again, spec->again);
        else if (r >= 0)
                r = signed_document_parse(&m->content, spec->content, strlen(spec->content));
        if (r < 0)
                return r == -EBADMSG ? -EINVAL : r;

        own = server_client_identity(spec->client)->slug;
        if (spec->kind == ENVELOPE_DM) {
                r = strv_extend(&m->slugs, own);
                if (r >= 0 && !streq(own, spec->recipient_slug))
                        r = strv_extend(&m->slugs, spec->recipient_slug);
                if (r < 0)
                        return r;
        }
        /* The message names the subkey that signs it, so there must be one before anything else. */
        r = subkey_wait_new(&m->wait, spec->client, NULL, seal_on_subkey, m);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

MessageSeal* message_seal_free(MessageSeal *m) {
        if (!m)
                return NULL;

        server_call_free(m->members);
        subkey_wait_free(m->wait);
        cert_lookup_free(m->lookup);
        signed_document_free(m->content);
        strv_free(m->slugs);
        strv_free(m->devices);
        free(m->again);
        free(m->space_id);
        free(m->channel_id);
        free(m->recipient_slug);
        free(m->thread_root_id);
        free(m->reply_to_id);
        free(m->content_type);
        return mfree(m);
}
