/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "certificate.h"
#include "event-util.h"
#include "log.h"
#include "server-client-internal.h"

/* A subkey is looked for in the session file first; another process of this agent may have renewed it. Only then a new
 * one is made, under a lock that those processes share, and registered with the device's key (wire-protocol §6.7). */

#define REFUSED_PAUSE_USEC (60 * USEC_PER_SEC)
#define LOCK_PAUSE_USEC (100 * USEC_PER_MSEC)
#define LOCK_TRIES 150U

/* server-api §2.1: a device that was just enrolled is not seen by all of the server at once. */
static const uint64_t post_delays_usec[] = { 0, 250 * USEC_PER_MSEC, 750 * USEC_PER_MSEC, 1500 * USEC_PER_MSEC };
static const uint64_t probe_delays_usec[] = {
        0, 250 * USEC_PER_MSEC, 750 * USEC_PER_MSEC, 1500 * USEC_PER_MSEC, 2500 * USEC_PER_MSEC,
};

static int rotation_on_timer(sd_event_source *s, uint64_t usec, void *userdata);

/* > 0 when a call may be signed right now. */
static bool subkey_is_ready(const ServerClient *c) {
        return c->key && !subkey_needs_rotation(c->key->expires_at_ms, now_realtime_ms());
}

const SessionKey* server_client_subkey(const ServerClient *c) {
        return subkey_is_ready(c) ? c->key : NULL;
}

void rotation_done(ServerClient *c) {
        Rotation *t = &c->rotation;

        t->timer = sd_event_source_disable_unref(t->timer);
        t->request = http_request_free(t->request);
        t->candidate = session_key_free(t->candidate);
        t->refused = mfree(t->refused);
        t->lock_fd = safe_close(t->lock_fd);
        t->state = ROTATION_NONE;
        t->attempt = t->lock_attempt = 0;
        t->probe = false;
}

/* Everybody who waits is told; they may begin the next rotation from there. */
static void rotation_finish(ServerClient *c, const CallReply *reply) {
        struct SubkeyWaitList told = LIST_HEAD_INITIALIZER(told);
        SubkeyWait *w;

        rotation_done(c);
        while ((w = LIST_FIRST(&c->waits))) {
                LIST_REMOVE(w, waits);
                LIST_INSERT_HEAD(&told, w, waits);
        }
        while ((w = LIST_FIRST(&told))) {
                LIST_REMOVE(w, waits);
                w->client = NULL;
                w->on_ready(reply, w->userdata);
        }
}

static void rotation_fail(ServerClient *c, CallFailure failure, const char *error) {
        CallReply reply = { .failure = failure, .error = error };

        rotation_finish(c, &reply);
}

static void rotation_fail_errno(ServerClient *c, int error) {
        rotation_fail(c, error == -ENOMEM ? CALL_MEMORY : CALL_KEYS, strerror(-error));
}

static void rotation_arm(ServerClient *c, uint64_t delay_usec) {
        int r = event_arm_timer(c->spec.event, &c->rotation.timer, delay_usec, /* accuracy= */ USEC_PER_MSEC,
                                rotation_on_timer, c);
        if (r < 0)
                rotation_fail_errno(c, r);
}

static void rotation_adopt(ServerClient *c, SessionKey *key) {
        session_key_free(c->key);
        c->key = key;
}

/* > 0: the session file has a key that will do. *ret_first: it has none at all. */
static int rotation_look(ServerClient *c, bool *ret_first, char **reterr) {
        _cleanup_(session_key_freep) SessionKey *key = NULL;
        int r = session_key_load(&key, c->key_directory, c->spec.identity->slug, now_realtime_ms(), reterr);

        *ret_first = r == 0;
        if (r <= 0)
                return r;
        if (key->excess_mode)
                log_warning("Others may read '%s/%s.session.json'; 'puffoctl doctor --fix' puts it right.",
                            c->key_directory, key->slug);
        if (subkey_needs_rotation(key->expires_at_ms, now_realtime_ms()) ||
            streq_ptr(key->subkey_id, c->rotation.refused))
                return 0;
        rotation_adopt(c, TAKE_PTR(key));
        return 1;
}

static void rotation_on_probe(HttpRequest *q, const HttpReply *http, void *userdata) {
        CallReply ok = { .failure = CALL_OK };
        ServerClient *c = userdata;

        c->rotation.request = http_request_free(c->rotation.request);
        if (http->failure == HTTP_OK && http->status == 401 && ++c->rotation.attempt < ELEMENTSOF(probe_delays_usec))
                rotation_arm(c, probe_delays_usec[c->rotation.attempt]);
        else
                rotation_finish(c, &ok);
}

static int rotation_probe(ServerClient *c) {
        CallSpec spec = { .method = "GET", .path = "/spaces" };

        return server_client_send(c, &spec, &(Signer) { c->key->subkey_id, c->key->seed }, rotation_on_probe, c,
                                  &c->rotation.request);
}

/* The server knows the key: it is used, whether or not it can be kept for the next start. */
static void rotation_registered(ServerClient *c) {
        CallReply ok = { .failure = CALL_OK };
        int r = session_key_save(c->rotation.candidate, c->key_directory);

        if (r < 0)
                log_warning_errno(r, "Cannot write the subkey to '%s', using it all the same: %m", c->key_directory);
        rotation_adopt(c, TAKE_PTR(c->rotation.candidate));
        c->rotation.lock_fd = safe_close(c->rotation.lock_fd);

        if (!c->rotation.probe) {
                rotation_finish(c, &ok);
                return;
        }
        c->rotation.state = ROTATION_PROBING;
        c->rotation.attempt = 0;
        rotation_arm(c, probe_delays_usec[0]);
}

static void rotation_on_posted(HttpRequest *q, const HttpReply *http, void *userdata) {
        _cleanup_(signed_document_freep) SignedDocument *document = NULL;
        _cleanup_(http_request_freep) _unused_ HttpRequest *request = NULL;
        _cleanup_free_ char *text = NULL, *line = NULL;
        ServerClient *c = userdata;
        CallReply reply;
        int r;

        request = TAKE_PTR(c->rotation.request);
        r = call_reply_from_http(q, http, /* raw= */ true, &reply, &text, &document);
        if (r < 0) {
                rotation_fail_errno(c, r);
                return;
        }
        if (reply.failure == CALL_OK) {
                rotation_registered(c);
                return;
        }

        if (reply.failure == CALL_STATUS &&
            (reply.status == 401 || (reply.status == 400 && streq_ptr(reply.code, "DEVICE_NOT_FOUND"))) &&
            ++c->rotation.attempt < ELEMENTSOF(post_delays_usec)) {
                c->rotation.probe = true;
                rotation_arm(c, post_delays_usec[c->rotation.attempt]);
                return;
        }

        line = strjoin("Cannot register a subkey: ", reply.error);
        reply.error = line ?: reply.error;
        rotation_finish(c, &reply);
}

static int rotation_post(ServerClient *c) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        const Identity *i = c->spec.identity;
        _cleanup_(strbuf_done) StrBuf body = {};
        uint8_t public[KEY_SIZE], seed[KEY_SIZE];
        int64_t now = now_realtime_ms(), expires = now + SUBKEY_LIFETIME_MS;
        CallSpec spec = { .method = "POST", .path = "/devices/subkeys" };
        _cleanup_free_ char *id = NULL;
        SignedValue *cert, *root;
        int r;

        randombytes_buf(seed, sizeof(seed));
        sign_public_key(seed, public);
        id = key_id("sk", public);
        r = id ? session_key_new(&c->rotation.candidate, i->slug, id, seed, expires) : -ENOMEM;
        sodium_memzero(seed, sizeof(seed));
        if (r < 0)
                return r;

        r = signed_document_new(&d);
        if (r >= 0)
                r = subkey_cert_new(d, i->secrets->device_seed, i->device_id, public, now, SUBKEY_LIFETIME_MS, &cert);
        if (r < 0)
                return r;
        root = signed_object(d);
        r = root ? signed_put(d, root, "subkey_cert", cert) : -ENOMEM;
        if (r >= 0)
                r = signed_value_format(root, &body);
        if (r < 0)
                return r;

        spec.body = body.text;
        spec.body_size = body.size;
        return server_client_send(c, &spec, &(Signer) { i->device_id, i->secrets->device_seed }, rotation_on_posted, c,
                                  &c->rotation.request);
}

/* The way from nothing to a certificate on its way to the server. */
static void rotation_step_look(ServerClient *c) {
        CallReply ok = { .failure = CALL_OK };
        _cleanup_free_ char *error = NULL;
        bool first;
        int r;

        if (!c->rotation.refused && subkey_is_ready(c)) {
                rotation_finish(c, &ok);
                return;
        }
        r = rotation_look(c, &first, &error);
        if (r < 0) {
                /* A session file is worth nothing compared to an agent that answers: it is made anew. */
                log_warning("%s; making a new subkey.", error ?: strerror(-r));
                error = mfree(error);
        }
        if (r > 0) {
                rotation_finish(c, &ok);
                return;
        }

        if (c->rotation.lock_fd < 0) {
                r = key_store_lock(c->key_directory, c->spec.identity->slug);
                if (r == -EAGAIN && ++c->rotation.lock_attempt < LOCK_TRIES) {
                        rotation_arm(c, LOCK_PAUSE_USEC);
                        return;
                }
                if (r == -EAGAIN) {
                        rotation_fail(c, CALL_KEYS, "Another process holds the lock of the key files");
                        return;
                }
                if (r >= 0) {
                        /* Whoever had it before may have made the key that we want. */
                        c->rotation.lock_fd = r;
                        rotation_step_look(c);
                        return;
                }
                log_warning_errno(r, "Cannot lock the key files in '%s', going on without: %m", c->key_directory);
        }

        c->rotation.probe = first;
        c->rotation.state = ROTATION_POSTING;
        c->rotation.attempt = 0;
        rotation_arm(c, post_delays_usec[0]);
}

static int rotation_on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        ServerClient *c = userdata;
        int r = 0;

        switch (c->rotation.state) {
        case ROTATION_LOOKING:
                rotation_step_look(c);
                break;
        case ROTATION_POSTING:
                c->rotation.candidate = session_key_free(c->rotation.candidate);
                r = rotation_post(c);
                break;
        case ROTATION_PROBING:
                r = rotation_probe(c);
                break;
        case ROTATION_NONE:
                break;
        }
        if (r < 0)
                rotation_fail_errno(c, r);
        return 0;
}

static int rotation_begin(ServerClient *c, const char *refused) {
        int r = free_and_strdup(&c->rotation.refused, refused);

        if (r < 0)
                return r;
        r = event_arm_timer(c->spec.event, &c->rotation.timer, 0, /* accuracy= */ 1, rotation_on_timer, c);
        if (r < 0)
                return r;
        c->rotation.state = ROTATION_LOOKING;
        return 0;
}

int subkey_wait_new(SubkeyWait **ret, ServerClient *c, const char *refused,
                    void (*on_ready)(const CallReply *reply, void *userdata), void *userdata) {
        _cleanup_(subkey_wait_freep) SubkeyWait *w = NULL;
        uint64_t now = now_boottime_usec();
        Rotation *t = &c->rotation;
        int r;

        assert(ret && c && on_ready);

        w = new0(SubkeyWait, 1);
        if (!w)
                return -ENOMEM;

        if (t->state == ROTATION_NONE) {
                /* With a wrong clock every call is refused, whatever signs it (§17.22). */
                if (refused && t->last_refused_usec > 0 && now - t->last_refused_usec < REFUSED_PAUSE_USEC)
                        return -EBUSY;
                r = rotation_begin(c, refused);
                if (r < 0)
                        return r;
                if (refused)
                        t->last_refused_usec = now;
        }

        w->on_ready = on_ready;
        w->userdata = userdata;
        w->client = c;
        LIST_INSERT_HEAD(&c->waits, w, waits);
        *ret = TAKE_PTR(w);
        return 0;
}

SubkeyWait* subkey_wait_free(SubkeyWait *w) {
        if (!w)
                return NULL;
        if (w->client)
                LIST_REMOVE(w, waits);
        return mfree(w);
}
