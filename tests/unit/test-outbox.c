/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "outbox"

#include <stdio.h>

#include "cert-fixture.h"
#include "envelope.h"
#include "fake-server.h"
#include "file-util.h"
#include "message-store.h"
#include "outbox-store.h"
#include "outbox.h"

#define ME "me-0003"
#define BO "bo-17fe"
#define AL "al-5c01"
#define POST "POST /messages"

typedef struct Fetched {
        char *slug;
        cert_fetched_t on_fetched;
        void *userdata;
} Fetched;

/* Two people and, for one of them, a second device that the registry shows from some moment on. */
typedef struct World {
        char path[64];
        sd_event *event;
        Database *db;
        CertCache *certs;
        Outbox *outbox;
        OutboxWatch *watch;
        bool online, certs_fail;
        Person me, bo, tablet, al;
        bool bo_is_unknown;     /* his keys are not to be had for the moment */
        unsigned n_settled;
        bool tablet_is_known;
        Fetched fetched[32];
        size_t n_fetched;
        SessionKey *subkey;
        int result;             /* of the watch: 1: not called */
        char *text;
} World;

static int fetch(void *userdata, const char *const *slugs, size_t n_slugs, int64_t since, cert_fetched_t on_fetched,
                 void *fetched_userdata, void **ret_call) {
        World *w = userdata;
        _cleanup_(strbuf_done) StrBuf b = {};

        for (size_t i = 0; i < n_slugs; i++)
                ASSERT_OK(strbuf_printf(&b, "%s,", slugs[i]));
        assert_in_range(w->n_fetched, 0, ELEMENTSOF(w->fetched) - 1);
        w->fetched[w->n_fetched] = (Fetched) { strbuf_take(&b), on_fetched, fetched_userdata };
        *ret_call = w->fetched + w->n_fetched++;
        return 0;
}

static void cancel(void *userdata, void *call) {
        ((Fetched*) call)->on_fetched = NULL;
}

static int no_pin(void *userdata, const char *slug, CertPin *ret) {
        return 0;
}

static int put_pin(void *userdata, const char *slug, const CertPin *pin) {
        return 0;
}

static bool is_online(void *userdata) {
        return ((World*) userdata)->online;
}

static void on_settled(void *userdata) {
        World *w = userdata;

        ASSERT_TRUE(outbox_is_settled(w->outbox));
        w->n_settled++;
}

static void open_outbox(World *w) {
        ASSERT_OK(outbox_new(&w->outbox, &(OutboxSpec) {
                .event = w->event, .db = w->db, .client = FAKE_CLIENT, .certs = w->certs, .is_online = is_online,
                .on_settled = on_settled, .userdata = w,
        }));
        ASSERT_OK(outbox_start(w->outbox));
}

static void world_begin(World *w) {
        _cleanup_free_ char *file = NULL;
        IdentitySecrets secrets = {};

        *w = (World) { .path = "/tmp/test-outbox-XXXXXX", .online = true };
        ASSERT_NOT_NULL(mkdtemp(w->path));
        file = path_join(w->path, "messages.db");
        person_begin(&w->me, ME);
        person_begin(&w->bo, BO);
        person_begin(&w->tablet, BO);
        person_begin(&w->al, AL);
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(database_open(&w->db, file, NULL));
        memcpy(secrets.kem_secret, w->me.kem_secret, KEY_SIZE);
        ASSERT_OK(identity_new(&fake.identity, ME, w->me.device_id, "http://x", &secrets));
        ASSERT_OK(session_key_new(&w->subkey, ME, w->me.subkey_id, w->me.subkey_seed, -1));
        fake.subkey = w->subkey;
        ASSERT_OK(cert_cache_new(&w->certs, &(CertCacheSpec) {
                .event = w->event, .source = { fetch, cancel, w }, .pins = { no_pin, put_pin, w },
        }));
        open_outbox(w);
}

static void world_end(World *w) {
        outbox_watch_free(w->watch);
        outbox_free(w->outbox);
        cert_cache_free(w->certs);
        database_free(w->db);
        sd_event_unref(w->event);
        for (size_t i = 0; i < w->n_fetched; i++)
                free(w->fetched[i].slug);
        person_end(&w->me);
        person_end(&w->bo);
        person_end(&w->tablet);
        person_end(&w->al);
        free(w->text);
        fake.identity = identity_free(fake.identity);
        fake.subkey = NULL;
        session_key_free(w->subkey);
        ASSERT_OK(directory_remove(w->path));
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void give_certs(World *w, Fetched *f) {
        cert_fetched_t on_fetched = TAKE_PTR(f->on_fetched);
        PAGE(p);

        if (w->certs_fail || (w->bo_is_unknown && strstr(f->slug, BO))) {
                on_fetched(NULL, -EAGAIN, "HTTP 503", f->userdata);
                return;
        }
        if (strstr(f->slug, ME))
                page_add_all(&p, &w->me);
        if (strstr(f->slug, AL))
                page_add_all(&p, &w->al);
        if (strstr(f->slug, BO)) {
                page_add_all(&p, &w->bo);
                if (w->tablet_is_known) {
                        SignedValue *cert = NULL;

                        ASSERT_OK(device_cert_new(p.d, w->bo.root_seed, w->tablet.device_id, w->tablet.device,
                                                  w->tablet.kem, NOW, &cert));
                        page_add(&p, "device_cert", BO, cert);
                }
        }
        on_fetched(p.root, 0, NULL, f->userdata);
}

/* Until nothing more happens by itself: keys are there when somebody asks for them. */
static void run(World *w) {
        bool busy;

        do {
                busy = false;
                fake_run(w->event);
                if (fake.wait.is_waiting) {
                        fake_subkey_is_ready(CALL_OK);
                        busy = true;
                }
                for (size_t i = 0; i < w->n_fetched; i++)
                        if (w->fetched[i].on_fetched) {
                                give_certs(w, w->fetched + i);
                                busy = true;
                        }
        } while (busy);
}

static void on_done(OutboxWatch *watch, const OutboxResult *result, void *userdata) {
        World *w = userdata;

        w->result = result->error;
        ASSERT_OK(free_and_strdup(&w->text, result->error < 0 ? result->text : result->envelope_id));
        w->watch = outbox_watch_free(watch);
}

static int64_t add_to(World *w, const char *slug, const char *key, const char *text) {
        _cleanup_free_ char *content = strjoin("\"", text, "\"");
        int64_t id;

        ASSERT_OK(outbox_add(w->outbox, &(OutgoingMessage) { .key = key, .recipient_slug = slug, .content = content },
                             &id));
        return id;
}

static int64_t add(World *w, const char *key, const char *text) {
        return add_to(w, BO, key, text);
}

static void send_watched(World *w, const char *text) {
        w->result = 1;
        ASSERT_OK(outbox_watch(w->outbox, add(w, NULL, text), on_done, w, &w->watch));
        run(w);
}

static void answer(World *w, long status, const char *body) {
        fake_answer(POST, status, body);
        run(w);
}

static void assert_state(World *w, int64_t id, OutboxState state) {
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;

        ASSERT_EQ(outbox_store_get(w->db, id, &row), 1);
        ASSERT_EQ(row->state, state);
}

/* How many recipients the last post has, and whether this person can read it. */
static size_t posted_to(World *w, const Person *p, const char *text) {
        FakeCall *call = fake_waiting(POST);
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL;
        EnvelopeError error;
        KemKey kem;
        Message m;

        ASSERT_NOT_NULL(call);
        ASSERT_OK(signed_document_parse(&d, call->body, strlen(call->body)));
        ASSERT_OK(envelope_parse(&e, call->body, strlen(call->body)));
        kem_key_init(&kem, p->kem_secret);
        if (envelope_decrypt(e, p->device_id, &kem, &error) < 0)
                ASSERT_NULL(text);
        else {
                ASSERT_OK(envelope_verify(e, (const uint8_t (*)[KEY_SIZE]) &w->me.subkey, 1, &m, &error));
                ASSERT_NOT_NULL(text);
                ASSERT_STREQ(m.content->text, text);
        }
        return signed_get(signed_document_root(d), "recipients")->size;
}

TEST(sent_and_stored) {
        _cleanup_free_ char *id = NULL;
        StoredMessage *m;
        WORLD(w);

        send_watched(&w, "hello");
        ASSERT_EQ(posted_to(&w, &w.bo, "hello"), 2);
        ASSERT_EQ(posted_to(&w, &w.me, "hello"), 2);
        ASSERT_EQ(w.result, 1);
        answer(&w, 201, "{\"ok\":true}");
        ASSERT_EQ(w.result, 0);
        ASSERT_NOT_NULL(id = strdup(w.text));
        ASSERT_EQ(message_store_get(w.db, id, &m), 1);
        ASSERT_STREQ(m->content, "hello");
        ASSERT_STREQ(m->sender_slug, ME);
        stored_messages_free(m, 1);
}

/* server-api §9.1: the same message for the device that was forgotten, and for nobody else. */
TEST(devices_that_were_forgotten) {
        _cleanup_free_ char *body = NULL;
        size_t n_fetched;
        WORLD(w);

        send_watched(&w, "hello");
        ASSERT_EQ(posted_to(&w, &w.tablet, NULL), 2);
        w.tablet_is_known = true;
        n_fetched = w.n_fetched;
        body = strjoin("{\"missing_devices\":[\"dev_of_nobody\",\"", w.tablet.device_id, "\",7]}");
        answer(&w, 201, body);
        ASSERT_TRUE(w.n_fetched > n_fetched);
        ASSERT_EQ(posted_to(&w, &w.tablet, "hello"), 1);
        ASSERT_EQ(posted_to(&w, &w.bo, NULL), 1);
        ASSERT_EQ(w.result, 1);
        /* Once: a server that goes on about it is not believed. */
        answer(&w, 201, body);
        ASSERT_EQ(w.result, 0);
        ASSERT_EQ(fake_count(POST), 2);
        ASSERT_TRUE(strstr(fake.calls[0]->body, w.text) && strstr(fake.calls[1]->body, w.text));

        /* The next one reaches all of them at once. */
        send_watched(&w, "again");
        ASSERT_EQ(posted_to(&w, &w.tablet, "again"), 3);
        answer(&w, 201, NULL);
        ASSERT_EQ(w.result, 0);
}

/* It is best effort: the message has been sent. */
TEST(devices_that_cannot_be_reached) {
        _cleanup_free_ char *body = NULL;
        WORLD(w);

        body = strjoin("{\"missing_devices\":[\"", w.tablet.device_id, "\"]}");
        for (unsigned i = 0; i < 4; i++) {
                w.tablet_is_known = w.certs_fail = false;
                cert_cache_invalidate(w.certs, BO);
                send_watched(&w, "hello");
                w.certs_fail = i == 1;
                w.tablet_is_known = i >= 2;
                if (i == 0)
                        answer(&w, 201, "{\"missing_devices\":[\"dev_of_nobody\"]}");
                else
                        answer(&w, 201, body);
                if (i >= 2)
                        answer(&w, i == 2 ? 500 : 0, NULL);
                ASSERT_EQ(w.result, 0);
        }
        ASSERT_EQ(fake_count(POST), 6);
}

/* A crash behind the server's answer: the envelope goes out again, and so does what was left to be done. */
TEST(forgotten_devices_outlive_a_crash) {
        _cleanup_free_ char *body = NULL;
        int64_t id;
        WORLD(w);

        body = strjoin("{\"replay\":true,\"missing_devices\":[\"", w.tablet.device_id, "\"]}");
        id = add(&w, "k", "hello");
        run(&w);
        w.tablet_is_known = true;
        answer(&w, 201, body);
        ASSERT_EQ(posted_to(&w, &w.tablet, "hello"), 1);
        outbox_free(w.outbox);
        open_outbox(&w);
        run(&w);
        ASSERT_EQ(posted_to(&w, &w.bo, "hello"), 2);
        answer(&w, 200, body);
        ASSERT_EQ(posted_to(&w, &w.tablet, "hello"), 1);
        answer(&w, 200, NULL);
        assert_state(&w, id, OUTBOX_SENT);
}

/* P-6: 2, 8, 30 s, then who waits is told. */
TEST(attempts) {
        static const unsigned pauses[] = { 2, 8, 30 };
        int64_t id;
        WORLD(w);

        send_watched(&w, "hello");
        for (size_t i = 0; i < ELEMENTSOF(pauses); i++) {
                answer(&w, 503, NULL);
                ASSERT_EQ(fake.last_delay_usec, pauses[i] * USEC_PER_SEC);
                ASSERT_EQ(w.result, 1);
                ASSERT_TRUE(fake_pass(w.event));
                run(&w);
        }
        answer(&w, 503, NULL);
        ASSERT_EQ(w.result, -EIO);
        ASSERT_STREQ(w.text, "the server refused it (503)");

        /* What is refused for good is not tried again. */
        send_watched(&w, "hello");
        answer(&w, 403, NULL);
        ASSERT_EQ(w.result, -EIO);
        ASSERT_STREQ(w.text, "the server refused it (403)");

        /* Posted, answer lost, and known there the second time. */
        send_watched(&w, "hello");
        answer(&w, 0, NULL);
        ASSERT_TRUE(fake_pass(w.event));
        run(&w);
        answer(&w, 409, NULL);
        ASSERT_EQ(w.result, 0);

        /* Nobody waits, and the server is away: for as long as it takes. */
        w.online = false;
        id = add(&w, NULL, "patient");
        run(&w);
        for (unsigned i = 0; i < 30; i++) {
                answer(&w, 0, NULL);
                ASSERT_TRUE(fake_pass(w.event));
                run(&w);
        }
        assert_state(&w, id, OUTBOX_SEALED);
        answer(&w, 200, NULL);
        assert_state(&w, id, OUTBOX_SENT);
}

/* One after the other, each key once. */
TEST(order_and_keys) {
        int64_t a, b;
        WORLD(w);

        a = add(&w, "k1", "first");
        b = add(&w, "k2", "second");
        ASSERT_EQ(add(&w, "k1", "not again"), a);
        run(&w);
        ASSERT_EQ(posted_to(&w, &w.bo, "first"), 2);
        ASSERT_EQ(fake_count(POST), 1);
        answer(&w, 200, NULL);
        ASSERT_EQ(posted_to(&w, &w.bo, "second"), 2);
        answer(&w, 200, NULL);
        assert_state(&w, a, OUTBOX_SENT);
        assert_state(&w, b, OUTBOX_SENT);
        ASSERT_EQ(fake_count(POST), 2);
}

/* One whose keys are not to be had keeps nobody else waiting, and gets his messages in their order. */
TEST(conversations_do_not_wait_for_each_other) {
        int64_t first, second, other;
        WORLD(w);

        (void) add_to(&w, AL, NULL, "before");
        run(&w);
        answer(&w, 200, NULL);

        w.bo_is_unknown = true;
        first = add(&w, NULL, "first");
        second = add(&w, NULL, "second");
        other = add_to(&w, AL, NULL, "hello");
        run(&w);
        ASSERT_EQ(fake_count(POST), 2);
        ASSERT_EQ(posted_to(&w, &w.al, "hello"), 2);
        ASSERT_FALSE(outbox_is_settled(w.outbox));
        answer(&w, 200, NULL);
        assert_state(&w, other, OUTBOX_SENT);
        assert_state(&w, first, OUTBOX_QUEUED);
        assert_state(&w, second, OUTBOX_QUEUED);
        /* What waits for another try is not on its way. */
        ASSERT_TRUE(outbox_is_settled(w.outbox));
        ASSERT_TRUE(w.n_settled > 0);

        other = add_to(&w, AL, NULL, "once more");
        ASSERT_FALSE(outbox_is_settled(w.outbox));
        run(&w);
        answer(&w, 200, NULL);
        assert_state(&w, other, OUTBOX_SENT);

        w.bo_is_unknown = false;
        ASSERT_TRUE(fake_pass(w.event));
        run(&w);
        ASSERT_EQ(posted_to(&w, &w.bo, "first"), 2);
        ASSERT_EQ(fake_count(POST), 4);
        answer(&w, 200, NULL);
        assert_state(&w, first, OUTBOX_SENT);
        assert_state(&w, second, OUTBOX_SEALED);
        answer(&w, 200, NULL);
        assert_state(&w, second, OUTBOX_SENT);
}

/* So many at a time, and all of them in the end. */
TEST(many_conversations) {
        int64_t ids[12];
        WORLD(w);

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                _cleanup_free_ char *content = asprintf_new("\"%zu\"", i), *channel = asprintf_new("ch_%zu", i);

                /* Who is in a channel nobody says: it stays on its way. */
                ASSERT_OK(outbox_add(w.outbox, &(OutgoingMessage) {
                        .channel_id = channel, .space_id = "sp_1", .content = content,
                }, ids + i));
        }
        run(&w);
        ASSERT_EQ(fake.n_calls, 4);
        while (*fake_next()) {
                fake_answer(fake_next(), 404, NULL);
                run(&w);
        }
        ASSERT_EQ(fake.n_calls, ELEMENTSOF(ids));
        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                assert_state(&w, ids[i], OUTBOX_FAILED);
}

/* One that is withdrawn makes way for what comes behind it. */
TEST(withdrawn_while_it_waits) {
        int64_t first, second;
        WORLD(w);

        w.bo_is_unknown = true;
        first = add(&w, NULL, "first");
        second = add(&w, NULL, "second");
        run(&w);
        ASSERT_EQ(outbox_withdraw(w.outbox, first), 1);
        w.bo_is_unknown = false;
        cert_cache_invalidate(w.certs, BO);
        run(&w);
        ASSERT_EQ(posted_to(&w, &w.bo, "second"), 2);
        answer(&w, 200, NULL);
        assert_state(&w, first, OUTBOX_FAILED);
        assert_state(&w, second, OUTBOX_SENT);
}

TEST_MAIN();
