/* SPDX-License-Identifier: MIT */
#pragma once

/* An agent for tools to work in: a real directory, workspace and database, a server that is no server (fake-server.h),
 * and an outbox that stores its rows and sends nothing: the test says how they end. */

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "bus-util.h"
#include "conversation.h"
#include "fake-server.h"
#include "file-util.h"
#include "json-util.h"
#include "manager-link.h"
#include "outbox-store.h"
#include "tool.h"

#define OWN_SLUG "bot-1"

struct OutboxWatch {
        int64_t id;
        outbox_done_t on_done;
        void *userdata;
};

typedef struct Bench {
        char path[64];
        char *workspace;
        sd_event *event;
        Database *db;
        Directory *directory;
        ToolBox *box;
        ToolCall *call;
        bool is_done, is_error;
        char *text;             /* the last answer */
} Bench;

static struct {
        Bench *bench;
        const char *home_space;
        OutboxWatch *watch;     /* who waits */
        unsigned n_added;
        char key[256];          /* of the last one */
        sd_bus *puffod;         /* the connection to it; NULL: there is none */
} desk;

#define FAKE_PUFFO ((Puffo*) &desk)
#define FAKE_OUTBOX ((Outbox*) &desk)

Outbox* puffo_outbox(Puffo *p) {
        return FAKE_OUTBOX;
}

Directory* puffo_directory(Puffo *p) {
        return desk.bench->directory;
}

ServerClient* puffo_client(Puffo *p) {
        return FAKE_CLIENT;
}

Database* puffo_database(Puffo *p) {
        return desk.bench->db;
}

const char* puffo_home_space(const Puffo *p) {
        return desk.home_space;
}

int outbox_add(Outbox *o, const OutgoingMessage *m, int64_t *ret_id) {
        desk.n_added++;
        (void) snprintf(desk.key, sizeof(desk.key), "%s", strempty(m->key));
        return outbox_store_add(desk.bench->db, &(OutboxRow) {
                .key = (char*) m->key,
                .space_id = (char*) strempty(m->space_id),
                .channel_id = (char*) strempty(m->channel_id),
                .recipient_slug = (char*) strempty(m->recipient_slug),
                .thread_root_id = (char*) strempty(m->thread_root_id),
                .content_type = (char*) (m->content_type ?: CONTENT_TYPE_TEXT),
                .content = (char*) m->content,
                .turn = (char*) strempty(m->turn),
        }, 1, ret_id);
}

int outbox_watch(Outbox *o, int64_t id, outbox_done_t on_done, void *userdata, OutboxWatch **ret) {
        ASSERT_NULL(desk.watch);
        desk.watch = new0(OutboxWatch, 1);
        *desk.watch = (OutboxWatch) { id, on_done, userdata };
        *ret = desk.watch;
        return 0;
}

OutboxWatch* outbox_watch_free(OutboxWatch *w) {
        if (w && w == desk.watch)
                desk.watch = NULL;
        return mfree(w);
}

int outbox_find(Outbox *o, const char *key, int64_t *ret_id) {
        return outbox_store_find(desk.bench->db, key, ret_id);
}

int manager_link_new_call(ManagerLink *l, const char *member, sd_bus_message **ret) {
        if (!desk.puffod)
                return -ENOTCONN;
        return sd_bus_message_new_method_call(desk.puffod, ret, NULL, PUFFO_PRIVATE_MANAGER_PATH,
                                              PUFFO_PRIVATE_MANAGER_INTERFACE, member);
}

int manager_link_call(ManagerLink *l, sd_bus_message *m, sd_bus_message_handler_t callback, void *userdata,
                      uint64_t timeout_usec, sd_bus_slot **ret) {
        return sd_bus_call_async(desk.puffod, ret, m, callback, userdata, timeout_usec);
}

_unused_ static void bench_file(Bench *b, const char *path, const char *text) {
        _cleanup_free_ char *full = path_join(b->workspace, path), *parent = strdup(full);

        *strrchr(parent, '/') = 0;
        ASSERT_OK(directory_make(parent, 0755));
        ASSERT_OK(file_write_snapshot(full, text, strlen(text), 0644));
}

/* What is in a file of the workspace; the caller frees it. */
_unused_ static char* bench_read(Bench *b, const char *path) {
        _cleanup_free_ char *full = path_join(b->workspace, path);
        char *text;

        ASSERT_OK(file_read(full, MIB(1), &text, NULL));
        return text;
}

_unused_ static ino_t bench_inode(Bench *b, const char *path) {
        _cleanup_free_ char *full = path_join(b->workspace, path);
        struct stat st;

        ASSERT_EQ(stat(full, &st), 0);
        return st.st_ino;
}

static void bench_box(Bench *b, const char *harness, RuntimeKind kind) {
        AgentHome home = { .id = (char*) "rob", .directory = b->path, .workspace = b->workspace };

        b->box = tool_box_free(b->box);
        ASSERT_OK(tool_box_new(&b->box, &(ToolBoxSpec) {
                .event = b->event, .puffo = FAKE_PUFFO, .home = &home, .kind = kind, .harness = harness,
        }));
}

static void bench_begin(Bench *b) {
        _cleanup_free_ char *file = NULL;

        *b = (Bench) { .path = "/tmp/test-tools-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(b->path));
        b->workspace = path_join(b->path, "workspace");
        ASSERT_OK(mkdir(b->workspace, 0700));
        file = path_join(b->path, "messages.db");
        ASSERT_OK(sd_event_new(&b->event));
        ASSERT_OK(database_open(&b->db, file, NULL));
        ASSERT_OK(directory_new(&b->directory, b->event, FAKE_CLIENT, b->db));
        desk.bench = b;
        desk.home_space = "sp_home";
        desk.n_added = 0;
        desk.key[0] = 0;
        bench_box(b, "", RUNTIME_CHAT_LOCAL);
}

static void bench_end(Bench *b) {
        tool_call_free(b->call);
        tool_box_free(b->box);
        directory_free(b->directory);
        database_free(b->db);
        sd_event_unref(b->event);
        ASSERT_NULL(desk.watch);
        ASSERT_OK(directory_remove(b->path));
        free(b->workspace);
        free(b->text);
        fake_done();
}

#define BENCH(b) \
        _cleanup_(bench_end) Bench b; \
        bench_begin(&b)

static void bench_on_done(ToolCall *c, const ToolResult *result, void *userdata) {
        Bench *b = userdata;

        ASSERT_FALSE(b->is_done);
        ASSERT_TRUE(utf8_is_valid(result->text, strlen(result->text)));
        b->is_done = true;
        b->is_error = result->is_error;
        free(b->text);
        b->text = strdup(result->text);
        b->call = tool_call_free(c);
}

static void bench_start(Bench *b, const char *name, const char *key, const char *arguments) {
        _cleanup_json_ json_object *parsed = NULL;

        if (arguments)
                ASSERT_OK(json_parse(arguments, strlen(arguments), &parsed));
        b->call = tool_call_free(b->call);
        b->is_done = false;
        ASSERT_OK(tool_call_start(b->box, name, parsed, key, bench_on_done, b, &b->call));
        ASSERT_FALSE(b->is_done);
        fake_run(b->event);
}

/* Calls a tool that answers at once, arguments as JSON. */
_unused_ static const char* bench_call(Bench *b, const char *name, const char *arguments) {
        bench_start(b, name, NULL, arguments);
        ASSERT_TRUE(b->is_done);
        return b->text;
}

_unused_ static void bench_answer(Bench *b, const char *line, long status, const char *body) {
        fake_answer(line, status, body);
        fake_run(b->event);
}

/* The row that somebody waits for is on the server, or (text) is not and never will be. */
_unused_ static void bench_sent(Bench *b, const char *envelope_id, const char *text) {
        OutboxWatch *w = TAKE_PTR(desk.watch);
        OutboxResult result = { .error = text ? -EIO : 0, .envelope_id = envelope_id, .text = text };

        ASSERT_NOT_NULL(w);
        w->on_done(w, &result, w->userdata);
        fake_run(b->event);
}

#define ASSERT_ANSWER(b, expected) ({ \
        ASSERT_TRUE((b)->is_done); \
        ASSERT_STREQ((b)->text, expected); \
        ASSERT_FALSE((b)->is_error); })
#define ASSERT_REFUSED(b, expected) ({ \
        ASSERT_TRUE((b)->is_done); \
        ASSERT_STREQ((b)->text, expected); \
        ASSERT_TRUE((b)->is_error); })

_unused_ static void bench_message_of(Bench *b, const char *id, int64_t sent_at, const char *root, const char *type,
                                      const char *json) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        ASSERT_OK(signed_document_parse(&d, json, strlen(json)));
        ASSERT_EQ(message_store_add(b->db, &(Message) {
                .kind = ENVELOPE_CHANNEL, .envelope_id = id, .sender_slug = "bo-17fe", .space_id = "sp_1",
                .channel_id = "ch_1", .thread_root_id = root, .message_nonce = id, .content_type = type,
                .content = signed_document_root(d), .sent_at = sent_at, .encrypted = true,
        }, sent_at), MESSAGE_NEW);
}

_unused_ static void bench_message(Bench *b, const char *id, int64_t sent_at, const char *root, const char *json) {
        bench_message_of(b, id, sent_at, root, CONTENT_TYPE_TEXT, json);
}
