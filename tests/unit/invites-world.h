/* SPDX-License-Identifier: MIT */
#pragma once

/* Invitations of an agent whose operator and server are the test's. */

#include <stdio.h>

#include "cert-fixture.h"
#include "fake-server.h"
#include "file-util.h"
#include "invites-internal.h"
#include "json-util.h"
#include "message-store.h"
#include "outbox-store.h"
#include "request-signing.h"

#define ME "me-0003"
#define OPERATOR "op-0001"
#define POLL "GET /invites?direction=received"
#define ANSWER "POST /spaces/events"
#define CAROL "GET /identities/profiles?slugs=carol-77aa"

typedef struct Fetched {
        char *slug;
        cert_fetched_t on_fetched;
        void *userdata;
} Fetched;

typedef struct World {
        char path[64];
        sd_event *event;
        Database *db;
        CertCache *certs;
        Directory *directory;
        Outbox *outbox;
        Invites *invites;
        Person operator, carol;
        Fetched fetched[32];
        size_t n_fetched;
        bool certs_fail, fails_to_join;
        unsigned n_joined;
        char *joined;
        SessionKey *subkey;
} World;

static int fetch(void *userdata, const char *const *slugs, size_t n_slugs, int64_t since, cert_fetched_t on_fetched,
                 void *fetched_userdata, void **ret_call) {
        World *w = userdata;

        assert_in_range(w->n_fetched, 0, ELEMENTSOF(w->fetched) - 1);
        ASSERT_EQ(n_slugs, 1);
        w->fetched[w->n_fetched] = (Fetched) { strdup(slugs[0]), on_fetched, fetched_userdata };
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

static int on_joined(const char *space_id, const char *channel_id, void *userdata) {
        World *w = userdata;

        if (w->fails_to_join)
                return -ENOSPC;
        w->n_joined++;
        free(w->joined);
        w->joined = strjoin(space_id, " ", channel_id);
        return 0;
}

static void make_invites(World *w, const char *operator_slug) {
        ASSERT_OK(invites_new(&w->invites, &(InvitesSpec) {
                .event = w->event, .db = w->db, .client = FAKE_CLIENT, .certs = w->certs, .directory = w->directory,
                .outbox = w->outbox, .operator_slug = operator_slug, .on_joined = on_joined, .userdata = w,
        }));
}

static void make_identity(World *w) {
        _cleanup_(strbuf_done) StrBuf text = {};
        SignedValue *cert = NULL;
        PERSON(me, ME);
        PAGE(p);

        ASSERT_OK(identity_cert_new(p.d, me.root_seed, w->operator.root, &cert));
        ASSERT_OK(signed_value_format(cert, &text));
        fake.identity = new0(Identity, 1);
        fake.identity->slug = strdup(ME);
        fake.identity->device_id = strdup(me.device_id);
        fake.identity->identity_cert_json = strbuf_take(&text);
        ASSERT_OK(session_key_new(&w->subkey, ME, me.subkey_id, me.subkey_seed, -1));
        fake.subkey = w->subkey;
}

static void world_begin(World *w) {
        _cleanup_free_ char *file = NULL;

        *w = (World) { .path = "/tmp/test-invites-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->path));
        file = path_join(w->path, "messages.db");
        person_begin(&w->operator, OPERATOR);
        person_begin(&w->carol, "carol-77aa");
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(database_open(&w->db, file, NULL));
        make_identity(w);
        ASSERT_OK(cert_cache_new(&w->certs, &(CertCacheSpec) {
                .event = w->event, .source = { fetch, cancel, w }, .pins = { no_pin, put_pin, w },
        }));
        ASSERT_OK(directory_new(&w->directory, w->event, FAKE_CLIENT, w->db));
        ASSERT_OK(outbox_new(&w->outbox, &(OutboxSpec) {
                .event = w->event, .db = w->db, .client = FAKE_CLIENT, .certs = w->certs,
        }));
        make_invites(w, OPERATOR);
}

static void world_end(World *w) {
        invites_free(w->invites);
        outbox_free(w->outbox);
        directory_free(w->directory);
        cert_cache_free(w->certs);
        database_free(w->db);
        sd_event_unref(w->event);
        for (size_t i = 0; i < w->n_fetched; i++)
                free(w->fetched[i].slug);
        person_end(&w->operator);
        person_end(&w->carol);
        free(w->joined);
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

        if (w->certs_fail) {
                on_fetched(NULL, -EAGAIN, "HTTP 503", f->userdata);
                return;
        }
        if (streq(f->slug, OPERATOR))
                page_add_all(&p, &w->operator);
        else if (streq(f->slug, "boss-0009")) {
                /* The operator under another name. */
                Person boss = w->operator;

                boss.slug = f->slug;
                page_add_all(&p, &boss);
        } else if (streq(f->slug, "carol-77aa"))
                page_add_all(&p, &w->carol);
        on_fetched(p.root, 0, NULL, f->userdata);
}

/* Whatever goes on by itself. */
static void run(World *w) {
        bool again = true;

        while (again) {
                fake_run(w->event);
                again = false;
                for (size_t i = 0; i < w->n_fetched; i++)
                        if (w->fetched[i].on_fetched) {
                                give_certs(w, w->fetched + i);
                                again = true;
                        }
        }
}

static void answer(World *w, const char *line, long status, const char *body) {
        fake_answer(line, status, body);
        run(w);
}

/* Time passes until this is called. */
static void await(World *w, const char *line) {
        for (unsigned i = 0; !fake_waiting(line); i++) {
                if (i > 100 || !fake_pass(w->event))
                        fail_msg("Nobody calls %s, but %s", line, fake_next());
                run(w);
        }
}

static void poll(World *w, const char *invites) {
        _cleanup_free_ char *body = strjoin("{\"invites\":[", invites, "]}");

        if (!w->invites->connected)
                invites_set_connected(w->invites, true);
        await(w, POLL);
        answer(w, POLL, 200, body);
}

/* The end of a poll that has nothing more to tell. */
_unused_ static void assert_idle(World *w) {
        if (*fake_next())
                fail_msg("Unexpected call: %s", fake_next());
        ASSERT_FALSE(w->invites->cycling);
}

static void assert_row(World *w, const char *event_id, InviteState state) {
        _cleanup_(invite_row_freep) InviteRow *row = NULL;

        ASSERT_EQ(invite_store_get(w->db, event_id, &row), state < 0 ? 0 : 1);
        if (row)
                ASSERT_STREQ(invite_state_to_string(row->state), invite_state_to_string(state));
}

static void assert_space_of(World *w, const char *channel, const char *expected) {
        _cleanup_free_ char *space = NULL;

        ASSERT_EQ(message_store_space_of(w->db, channel, &space), expected ? 1 : 0);
        if (expected)
                ASSERT_STREQ(space, expected);
}

static OutboxRow* outgoing(World *w, const char *key) {
        OutboxRow *row = NULL;
        int64_t id;

        ASSERT_EQ(outbox_find(w->outbox, key, &id), 1);
        ASSERT_EQ(outbox_store_get(w->db, id, &row), 1);
        return row;
}

_unused_ static void assert_said(World *w, const char *key, const char *thread, const char *text) {
        _cleanup_(outbox_row_freep) OutboxRow *row = outgoing(w, key);
        _cleanup_json_ json_object *content = json_tokener_parse(row->content);

        ASSERT_STREQ(json_object_get_string(content), text);
        ASSERT_STREQ(row->recipient_slug, OPERATOR);
        ASSERT_STREQ(row->thread_root_id, thread);
        ASSERT_STREQ(row->channel_id, "");
}

static void question_was_sealed(World *w, const char *key, const char *envelope_id) {
        _cleanup_(outbox_row_freep) OutboxRow *row = outgoing(w, key);

        ASSERT_OK(outbox_store_sealed(w->db, row->id, envelope_id, "{}", 2, now_realtime_ms()));
}

static void question_was_sent(World *w, const char *key, const char *envelope_id) {
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;

        question_was_sealed(w, key, envelope_id);
        row = outgoing(w, key);
        ASSERT_OK(outbox_store_sent(w->db, row, ME, now_realtime_ms()));
}

#define INVITE(id, inviter) "{\"invitation_event_id\":\"" id "\",\"scope\":\"channel\",\"space_id\":\"sp_1\"," \
        "\"channel_id\":\"ch_1\",\"inviter_slug\":\"" inviter "\",\"space_name\":\"Lab\",\"channel_name\":\"ops\"}"
#define SPACE_INVITE(id, inviter) "{\"invitation_event_id\":\"" id "\",\"scope\":\"space\",\"space_id\":\"sp_1\"," \
        "\"channel_id\":null,\"inviter_slug\":\"" inviter "\",\"space_name\":null}"

_unused_ static void ask(World *w) {
        poll(w, INVITE("ev_1", "carol-77aa"));
        answer(w, CAROL, 200, "{\"profiles\":[{\"slug\":\"carol-77aa\",\"display_name\":\"Carol\"}]}");
        assert_row(w, "ev_1", INVITE_ANNOUNCING);
        question_was_sent(w, "invite/ev_1", "msg_q");
}

_unused_ static void join_space(World *w) {
        poll(w, SPACE_INVITE("ev_1", OPERATOR));
        ASSERT_NOT_NULL(strstr(fake_waiting(ANSWER)->body, "accept_space_invite"));
        answer(w, ANSWER, 200, "{}");
        invites_set_connected(w->invites, false);
}
