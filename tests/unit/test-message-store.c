/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "file-util.h"
#include "message-store.h"
#include "string-util.h"
#include "tests.h"

#define DAY_MS ((int64_t) 86400000)

typedef struct Fixture {
        char *directory, *path;
        Database *db;
        SignedDocument *content;
        int64_t nonce;
} Fixture;

static void fixture_done(Fixture *f) {
        (void) database_free(f->db);
        (void) directory_remove(f->directory);
        signed_document_free(f->content);
        free(f->path);
        free(f->directory);
}

static Fixture fixture_new(void) {
        Fixture f = { .directory = strdup("/tmp/puffo-test-messages-XXXXXX") };

        ASSERT_NOT_NULL(mkdtemp(f.directory));
        f.path = path_join(f.directory, "messages.db");
        ASSERT_OK(database_open(&f.db, f.path, NULL));
        ASSERT_OK(signed_document_parse(&f.content, "\"hello\"", 7));
        return f;
}
#define FIXTURE(name) _cleanup_(fixture_done) Fixture name = fixture_new()

static Message message(Fixture *f, const char *id, int64_t sent_at) {
        static char nonces[64][32];
        char *nonce = nonces[f->nonce++ % 64];

        (void) snprintf(nonce, 32, "nonce-%" PRId64, f->nonce);
        return (Message) {
                .kind = ENVELOPE_CHANNEL, .envelope_id = id, .sender_slug = "bo-17fe", .space_id = "sp_1",
                .channel_id = "ch_1", .message_nonce = nonce, .content_type = "text/plain",
                .content = signed_document_root(f->content), .sent_at = sent_at, .encrypted = true,
        };
}

static void add(Fixture *f, const char *id, int64_t sent_at) {
        Message m = message(f, id, sent_at);

        ASSERT_EQ(message_store_add(f->db, &m, sent_at), MESSAGE_NEW);
}

TEST(a_message_comes_once) {
        FIXTURE(f);
        Message m = message(&f, "msg_1", 1000), other = m;
        StoredMessage *row;

        ASSERT_EQ(message_store_add(f.db, &m, 1), MESSAGE_NEW);
        m.content_type = "changed";
        ASSERT_EQ(message_store_add(f.db, &m, 2), MESSAGE_KNOWN);
        /* The same payload in an envelope of somebody else's making. */
        other.envelope_id = "msg_2";
        ASSERT_EQ(message_store_add(f.db, &other, 3), MESSAGE_REPLAYED);
        ASSERT_EQ(message_store_get(f.db, "msg_2", &row), 0);

        ASSERT_EQ(message_store_get(f.db, "msg_1", &row), 1);
        ASSERT_STREQ(row->content, "hello");
        ASSERT_STREQ(row->content_type, "text/plain");
        ASSERT_NULL(row->thread_root_id);
        ASSERT_NULL(row->recipient_slug);
        ASSERT_EQ(row->sent_at, 1000);
        ASSERT_EQ(row->received_at, 1);
        ASSERT_TRUE(row->encrypted);
        stored_messages_free(row, 1);
}

/* Within a transaction of somebody else's, which then undoes what that one did. */
static int add_within(Fixture *f, const Message *m) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r;

        ASSERT_OK(database_begin_lazy(f->db, &t));
        r = message_store_add(f->db, m, 1);
        if (r == MESSAGE_NEW)
                ASSERT_OK(database_commit(&t));
        return r;
}

TEST(a_replay_within_a_transaction_leaves_nothing) {
        FIXTURE(f);
        Message m = message(&f, "msg_1", 1000), other = m, next = message(&f, "msg_3", 1001);

        other.envelope_id = "msg_2";
        ASSERT_EQ(add_within(&f, &m), MESSAGE_NEW);
        ASSERT_EQ(add_within(&f, &other), MESSAGE_REPLAYED);
        ASSERT_EQ(add_within(&f, &m), MESSAGE_KNOWN);
        ASSERT_EQ(add_within(&f, &next), MESSAGE_NEW);
        ASSERT_OK(database_flush(f.db));
        ASSERT_EQ(message_store_has(f.db, "msg_1"), 1);
        ASSERT_EQ(message_store_has(f.db, "msg_2"), 0);
        ASSERT_EQ(message_store_has(f.db, "msg_3"), 1);
}

TEST(nonces_are_a_senders_own) {
        FIXTURE(f);
        Message a = message(&f, "msg_1", 1000), b = a;

        b.envelope_id = "msg_2";
        b.sender_slug = "carol-77aa";
        ASSERT_EQ(message_store_add(f.db, &a, 1), MESSAGE_NEW);
        ASSERT_EQ(message_store_add(f.db, &b, 1), MESSAGE_NEW);
}

TEST(content_that_is_no_text_and_no_ciphertext) {
        static const char json[] = "{\"text\":\"\\u00e9\",\"n\":[1.50,null]}";
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        FIXTURE(f);
        Message m = message(&f, "msg_1", 1000);
        StoredMessage *row;

        ASSERT_OK(signed_document_parse(&d, json, strlen(json)));
        m.content = signed_document_root(d);
        m.encrypted = false;
        ASSERT_EQ(message_store_add(f.db, &m, 1), MESSAGE_NEW);
        ASSERT_EQ(message_store_get(f.db, "msg_1", &row), 1);
        ASSERT_STREQ(row->content, json);
        ASSERT_FALSE(row->encrypted);
        stored_messages_free(row, 1);
}

static void assert_ids(StoredMessage *rows, size_t n, const char *expected) {
        _cleanup_(strbuf_done) StrBuf b = {};

        for (size_t i = 0; i < n; i++) {
                ASSERT_OK(strbuf_puts(&b, rows[i].envelope_id));
                ASSERT_OK(strbuf_puts(&b, " "));
        }
        ASSERT_STREQ(strempty(b.text), expected);
        stored_messages_free(rows, n);
}

TEST(conversations) {
        FIXTURE(f);
        Message reply = message(&f, "d", 25), dm = message(&f, "e", 30), back = message(&f, "f", 31),
                other = message(&f, "g", 32);
        StoredMessage *rows;
        size_t n;

        add(&f, "a", 10);
        add(&f, "c", 20);
        add(&f, "b", 20);
        reply.thread_root_id = "a";
        ASSERT_EQ(message_store_add(f.db, &reply, 1), MESSAGE_NEW);
        dm.kind = back.kind = other.kind = ENVELOPE_DM;
        dm.channel_id = back.channel_id = other.channel_id = dm.space_id = back.space_id = other.space_id = NULL;
        dm.recipient_slug = other.recipient_slug = "bot-1";
        back.sender_slug = "bot-1";
        back.recipient_slug = "bo-17fe";
        other.sender_slug = "carol-77aa";
        ASSERT_EQ(message_store_add(f.db, &dm, 1), MESSAGE_NEW);
        ASSERT_EQ(message_store_add(f.db, &back, 1), MESSAGE_NEW);
        ASSERT_EQ(message_store_add(f.db, &other, 1), MESSAGE_NEW);

        ASSERT_OK(message_store_roots(f.db, "ch_1", NULL, &rows, &n));
        assert_ids(rows, n, "a b c ");
        ASSERT_OK(message_store_roots(f.db, "ch_1", &(MessageRange) { .limit = 2 }, &rows, &n));
        assert_ids(rows, n, "b c ");
        ASSERT_OK(message_store_roots(f.db, "ch_1", &(MessageRange) { .after = 10, .before = 25 }, &rows, &n));
        assert_ids(rows, n, "b c ");
        ASSERT_OK(message_store_roots(f.db, "ch_2", NULL, &rows, &n));
        assert_ids(rows, n, "");
        ASSERT_OK(message_store_thread(f.db, "a", NULL, &rows, &n));
        assert_ids(rows, n, "a d ");
}

TEST(roots_and_their_replies) {
        FIXTURE(f);
        Message reply = message(&f, "r1", 21), second = message(&f, "r2", 22), stray = message(&f, "r3", 23);
        StoredMessage *rows;
        size_t n;

        add(&f, "a", 10);
        add(&f, "b", 20);
        add(&f, "c", 20);
        add(&f, "d", 30);
        reply.thread_root_id = second.thread_root_id = "a";
        stray.thread_root_id = "gone";
        ASSERT_EQ(message_store_add(f.db, &reply, 1), MESSAGE_NEW);
        ASSERT_EQ(message_store_add(f.db, &second, 1), MESSAGE_NEW);
        ASSERT_EQ(message_store_add(f.db, &stray, 1), MESSAGE_NEW);

        ASSERT_OK(message_store_roots(f.db, "ch_1", NULL, &rows, &n));
        ASSERT_EQ(n, 4);
        ASSERT_EQ(rows[0].n_replies, 2);
        ASSERT_EQ(rows[1].n_replies, 0);
        assert_ids(rows, n, "a b c d ");
        ASSERT_OK(message_store_roots(f.db, "ch_1", &(MessageRange) { .limit = 2 }, &rows, &n));
        assert_ids(rows, n, "c d ");
        ASSERT_OK(message_store_thread(f.db, "a", NULL, &rows, &n));
        ASSERT_EQ(rows[0].n_replies, 0);
        assert_ids(rows, n, "a r1 r2 ");
}

TEST(bounds_are_exclusive_and_the_later_one_counts) {
        static const struct { MessageRange range; const char *ids; } t[] = {
                { { .since = "a" }, "b c d " },
                { { .since = "b" }, "d " },             /* c was sent at the same time */
                { { .since = "nowhere" }, "a b c d " },
                { { .since = "" }, "a b c d " },
                { { .since = "a", .after = 20 }, "d " },
                { { .since = "b", .after = 5 }, "d " },
                { { .after = 10, .before = 30 }, "b c " },
                { { .before = 10 }, "" },
                { { .after = -1, .before = -1 }, "a b c d " },
                { { .since = "d" }, "" },
        };
        FIXTURE(f);

        add(&f, "a", 10);
        add(&f, "b", 20);
        add(&f, "c", 20);
        add(&f, "d", 30);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                StoredMessage *rows;
                size_t n;

                ASSERT_OK(message_store_roots(f.db, "ch_1", &t[i].range, &rows, &n));
                assert_ids(rows, n, t[i].ids);
        }
}

TEST(unknown_is_not_empty) {
        FIXTURE(f);
        Message reply = message(&f, "r", 20);

        ASSERT_EQ(message_store_knows_channel(f.db, "ch_1"), 0);
        ASSERT_EQ(message_store_has(f.db, "r"), 0);
        reply.thread_root_id = "a";
        ASSERT_EQ(message_store_add(f.db, &reply, 1), MESSAGE_NEW);
        ASSERT_EQ(message_store_knows_channel(f.db, "ch_1"), 1);
        ASSERT_EQ(message_store_knows_channel(f.db, ""), 0);
        ASSERT_EQ(message_store_has(f.db, "r"), 1);
        ASSERT_EQ(message_store_has(f.db, "a"), 0);
        ASSERT_EQ(message_store_has(f.db, ""), 0);
}

TEST(cursors_never_go_back) {
        FIXTURE(f);
        int64_t at = -1;

        ASSERT_OK(message_store_cursor(f.db, "a", &at));
        ASSERT_EQ(at, 0);
        ASSERT_OK(message_store_set_cursor(f.db, "a", 7));
        ASSERT_OK(message_store_set_cursor(f.db, "a", 5));
        ASSERT_OK(message_store_cursor(f.db, "a", &at));
        ASSERT_EQ(at, 7);
}

TEST(space_of_a_channel) {
        _cleanup_free_ char *space = NULL, *learned = NULL;
        FIXTURE(f);

        ASSERT_EQ(message_store_space_of(f.db, "ch_1", &space), 0);
        add(&f, "a", 10);
        ASSERT_EQ(message_store_space_of(f.db, "ch_1", &space), 1);
        ASSERT_STREQ(space, "sp_1");
        ASSERT_OK(message_store_learn_space(f.db, "ch_1", "", 1));
        ASSERT_OK(message_store_learn_space(f.db, "ch_1", "sp_2", 1));
        ASSERT_EQ(message_store_space_of(f.db, "ch_1", &learned), 1);
        ASSERT_STREQ(learned, "sp_2");
}

TEST(sweep) {
        FIXTURE(f);
        int64_t at;

        add(&f, "old", DAY_MS);
        add(&f, "new", 50 * DAY_MS);
        ASSERT_OK(message_store_set_cursor(f.db, "old", 1));
        ASSERT_OK(message_store_set_cursor(f.db, "new", 1));
        ASSERT_EQ(message_store_sweep(f.db, 0, 100 * DAY_MS), 0);
        ASSERT_EQ(message_store_sweep(f.db, 90, 92 * DAY_MS), 1);
        ASSERT_OK(message_store_cursor(f.db, "old", &at));
        ASSERT_EQ(at, 0);
        ASSERT_OK(message_store_cursor(f.db, "new", &at));
        ASSERT_EQ(at, 1);
}

TEST(pins) {
        FIXTURE(f);
        CertPins pins = message_store_pins(f.db);
        CertPin pin = { .root = { 1, 2, 3 } }, got = {};

        ASSERT_EQ(pins.get(pins.userdata, "bo-17fe", &got), 0);
        ASSERT_OK(pins.put(pins.userdata, "bo-17fe", &pin));
        pin.complete = true;
        ASSERT_OK(pins.put(pins.userdata, "bo-17fe", &pin));
        f.db = database_free(f.db);
        ASSERT_OK(database_open(&f.db, f.path, NULL));
        pins = message_store_pins(f.db);
        ASSERT_EQ(pins.get(pins.userdata, "bo-17fe", &got), 1);
        assert_memory_equal(got.root, pin.root, KEY_SIZE);
        ASSERT_TRUE(got.complete);
}

/* A file of the original's, as its own statements make it. */
TEST(a_database_of_the_originals) {
        static const char original[] =
                "CREATE TABLE messages (envelope_id TEXT PRIMARY KEY, envelope_kind TEXT NOT NULL, sender_slug TEXT NOT "
                "NULL, channel_id TEXT, space_id TEXT, recipient_slug TEXT, content_type TEXT NOT NULL DEFAULT "
                "'text/plain', content TEXT NOT NULL, sent_at INTEGER NOT NULL, received_at INTEGER NOT NULL, "
                "thread_root_id TEXT, reply_to_id TEXT);"
                "CREATE TABLE thread_processing_state (root_id TEXT PRIMARY KEY, last_processed_sent_at INTEGER NOT "
                "NULL);"
                "INSERT INTO messages VALUES ('msg_1', 'dm', 'bo-17fe', NULL, NULL, 'bot-1', 'text/plain', '123', 5, "
                "6, NULL, NULL);"
                "INSERT INTO thread_processing_state VALUES ('msg_1', 5);";
        FIXTURE(f);
        StoredMessage *rows;
        sqlite3 *raw;
        int64_t at;

        f.db = database_free(f.db);
        ASSERT_OK(unlink(f.path));
        ASSERT_EQ(sqlite3_open(f.path, &raw), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(raw, original, NULL, NULL, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_close(raw), SQLITE_OK);

        ASSERT_OK(database_open(&f.db, f.path, NULL));
        ASSERT_EQ(message_store_get(f.db, "msg_1", &rows), 1);
        ASSERT_STREQ(rows[0].content, "123");
        ASSERT_EQ(rows[0].kind, ENVELOPE_DM);
        stored_messages_free(rows, 1);
        ASSERT_OK(message_store_cursor(f.db, "msg_1", &at));
        ASSERT_EQ(at, 5);
        add(&f, "msg_2", 7);
}

#define TEST_SUITE "message-store"
TEST_MAIN();
