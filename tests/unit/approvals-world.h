/* SPDX-License-Identifier: MIT */
#pragma once

/* Approvals of an agent whose operator, chat service and clock are the test's. */

#include <stdio.h>

#include "approvals-internal.h"
#include "cert-cache.h"
#include "fake-server.h"
#include "file-util.h"
#include "json-util.h"
#include "key-store.h"
#include "outbox-store.h"
#include "outbox.h"

#define OPERATOR "op-0001"
#define LS "{\"command\":\"ls\"}"

typedef struct World {
        char path[64];
        char *file;
        sd_event *event;
        Database *db;
        CertCache *certs;
        Outbox *outbox;
        Approvals *approvals;
        unsigned n_changed, n_answered, n_broken;
} World;

/* One that waits for an answer. */
typedef struct Asker {
        ApprovalWait *wait;
        unsigned n;
        ApprovalState state;
        bool allow;
        char *message;
        int result;                     /* what it says when it is told */
} Asker;

static int on_done(ApprovalWait *w, const ApprovalVerdict *verdict, void *userdata) {
        Asker *asker = userdata;

        assert_ptr_equal(asker->wait, w);
        asker->n++;
        asker->state = verdict->state;
        asker->allow = verdict->allow;
        free(asker->message);
        asker->message = strdup(verdict->message);
        asker->wait = approval_wait_free(w);
        return asker->result;
}

static void asker_done(Asker *asker) {
        approval_wait_free(asker->wait);
        free(asker->message);
}

#define ASKER(a) _cleanup_(asker_done) Asker a = {}

static void on_changed(void *userdata) {
        ((World*) userdata)->n_changed++;
}

static void on_answered(const ApprovalRow *row, void *userdata) {
        assert_true(row->state != APPROVAL_PENDING);
        ((World*) userdata)->n_answered++;
}

static void on_broken(int error, void *userdata) {
        ((World*) userdata)->n_broken++;
}

static int fetch(void *userdata, const char *const *slugs, size_t n_slugs, int64_t since, cert_fetched_t on_fetched,
                 void *fetched_userdata, void **ret_call) {
        return -ENOMEM;
}

static void cancel(void *userdata, void *call) {
}

static int no_pin(void *userdata, const char *slug, CertPin *ret) {
        return 0;
}

static int put_pin(void *userdata, const char *slug, const CertPin *pin) {
        return 0;
}

static bool is_online(void *userdata) {
        return true;
}

static void make_approvals(World *w, bool with_operator) {
        ASSERT_OK(approvals_new(&w->approvals, &(ApprovalsSpec) {
                .event = w->event, .db = w->db, .agent = "rob", .on_changed = on_changed, .on_answered = on_answered,
                .on_broken = on_broken, .userdata = w,
        }));
        if (with_operator)
                ASSERT_OK(approvals_set_operator(w->approvals, w->outbox, OPERATOR));
}

static void world_begin(World *w) {
        *w = (World) { .path = "/tmp/test-approvals-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->path));
        w->file = path_join(w->path, "messages.db");
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(database_open(&w->db, w->file, NULL));
        ASSERT_OK(cert_cache_new(&w->certs, &(CertCacheSpec) {
                .event = w->event, .source = { fetch, cancel, w }, .pins = { no_pin, put_pin, w },
        }));
        /* It is never started: what is in it stays there for the test to look at. */
        ASSERT_OK(outbox_new(&w->outbox, &(OutboxSpec) {
                .event = w->event, .db = w->db, .client = FAKE_CLIENT, .certs = w->certs, .is_online = is_online,
        }));
        make_approvals(w, true);
}

static void world_end(World *w) {
        approvals_free(w->approvals);
        outbox_free(w->outbox);
        cert_cache_free(w->certs);
        database_free(w->db);
        sd_event_unref(w->event);
        free(w->file);
        ASSERT_OK(directory_remove(w->path));
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

/* Another process with the same database. */
_unused_ static void restart(World *w) {
        approvals_free(w->approvals);
        make_approvals(w, true);
        fake_run(w->event);
}

static int try_ask(World *w, Asker *asker, const char *turn, const char *ask, const char *tool, const char *input) {
        return approvals_ask(w->approvals, &(ApprovalRequest) { turn, ask, tool, input }, on_done, asker,
                             &asker->wait);
}

static void ask(World *w, Asker *asker, const char *ask) {
        ASSERT_EQ(try_ask(w, asker, "turn-1", ask, "Bash", LS), 0);
        ASSERT_EQ(asker->n, 0);
        fake_run(w->event);
}

/* The message of a key: its text, for the caller to free; NULL when there is none. */
static char* said(World *w, const char *key, char **ret_root) {
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;
        _cleanup_json_ json_object *o = NULL;
        int64_t id;

        if (outbox_store_find(w->db, key, &id) == 0)
                return NULL;
        ASSERT_EQ(outbox_store_get(w->db, id, &row), 1);
        ASSERT_STREQ(row->recipient_slug, OPERATOR);
        ASSERT_OK(json_parse(row->content, strlen(row->content), &o));
        if (ret_root)
                *ret_root = strdup(row->thread_root_id);
        return strdup(json_object_get_string(o));
}

static char* key_of(World *w, const char *suffix) {
        return strjoin(APPROVAL_KEY, approvals_open_id(w->approvals, 0), suffix);
}

/* The question has got its envelope. */
static void seal(World *w, const char *envelope_id) {
        _cleanup_free_ char *key = key_of(w, "");
        int64_t id;

        ASSERT_EQ(outbox_store_find(w->db, key, &id), 1);
        ASSERT_OK(outbox_store_sealed(w->db, id, envelope_id, "{}", 2, 1));
}

static int reply(World *w, const char *envelope_id, const char *root, const char *text) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r;

        ASSERT_OK(database_begin_lazy(w->db, &t));
        r = approvals_consume_answer(w->approvals, envelope_id, root, text);
        ASSERT_OK(database_commit(&t));
        return r;
}

static size_t count_messages(World *w) {
        sqlite3_stmt *s;
        size_t n;

        ASSERT_EQ(sqlite3_prepare_v2(database_handle(w->db), "SELECT count(*) FROM outbox WHERE state != 'failed'", -1,
                                     &s, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        n = (size_t) sqlite3_column_int64(s, 0);
        (void) sqlite3_finalize(s);
        return n;
}

/* Time goes by. */
_unused_ static void pass(World *w, uint64_t usec) {
        uint64_t end = fake.now_usec + usec;
        bool due = true;

        while (due) {
                due = false;
                for (size_t i = 0; i < fake.n_sources; i++) {
                        int enabled;

                        ASSERT_OK(sd_event_source_get_enabled(fake.timers[i].source, &enabled));
                        due = due || (enabled != SD_EVENT_OFF && fake.timers[i].due_usec <= end);
                }
                if (due)
                        ASSERT_TRUE(fake_pass(w->event));
        }
        fake.now_usec = end;
}
