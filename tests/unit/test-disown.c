/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "disown"

#include "disown.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"

typedef struct World {
        char directory[64];
        char *path;
        Database *db;
} World;

static void world_begin(World *w) {
        *w = (World) { .directory = "/tmp/test-disown-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->directory));
        w->path = strjoin(w->directory, "/messages.db");
        ASSERT_EQ(database_open(&w->db, w->path, NULL), 0);
}

static void world_end(World *w) {
        (void) database_free(w->db);
        ASSERT_OK(directory_remove(w->directory));
        free(w->path);
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void exec(World *w, const char *sql) {
        if (database_exec(w->db, sql) < 0)
                fail_msg("%s: %s", sql, sqlite3_errmsg(database_handle(w->db)));
}

/* All rows as "a b c". */
static void assert_rows(World *w, const char *sql, const char *expected) {
        _cleanup_(strbuf_done) StrBuf b = {};
        sqlite3_stmt *s;

        ASSERT_EQ(sqlite3_prepare_v2(database_handle(w->db), sql, -1, &s, NULL), SQLITE_OK);
        while (sqlite3_step(s) == SQLITE_ROW)
                ASSERT_OK(strbuf_printf(&b, "%s%s", b.size > 0 ? " " : "", (const char*) sqlite3_column_text(s, 0)));
        ASSERT_EQ(sqlite3_finalize(s), SQLITE_OK);
        ASSERT_STREQ(strempty(b.text), expected);
}

/* What is done stays as it is; what is to be done is the original's. */
TEST(nothing_is_left_to_be_done) {
        WORLD(w);

        exec(&w, "WITH s (i, state) AS (VALUES (1, 'queued'), (2, 'running'), (3, 'done'), (4, 'failed')) "
                 "INSERT INTO dispatch_state (envelope_id, root_id, conversation, priority, state, record_json, sent_at, "
                 "queued_at, updated_at) SELECT 'msg_' || i, 'r', 'dm/bo', 1, state, '', 1, 1, 1 FROM s");
        exec(&w, "WITH s (i, state) AS (VALUES (1, 'queued'), (2, 'sealed'), (3, 'sent'), (4, 'failed')) "
                 "INSERT INTO outbox (key, state, space_id, channel_id, recipient_slug, thread_root_id, content_type, "
                 "content, turn, envelope, sent_at, created_at, updated_at) "
                 "SELECT 'k' || i, state, '', '', 'bo', '', 'text/plain', '\"x\"', '', 'sealed', 1, 1, 1 FROM s");
        exec(&w, "WITH s (i, state) AS (VALUES (1, 'accepting'), (2, 'left'), (3, 'announcing'), (4, 'announced'), "
                 "(5, 'answered'), (6, 'acting'), (7, 'done')) INSERT INTO invites (event_id, state, scope, space_id, "
                 "channel_id, inviter_slug, space_name, channel_name, updated_at) "
                 "SELECT 'e' || i, state, 'space', 'sp', '', 'bo', '', '', 1 FROM s");
        exec(&w, "INSERT INTO session_turns (id, conversation, status, text, instructions, history, document, source, "
                 "store, created_usec) VALUES ('t1', '', 'running', '', '', '', '', 'puffo', 1, 1), "
                 "('t2', '', 'completed', '', '', '', '', 'puffo', 1, 1)");
        exec(&w, "INSERT INTO session_values VALUES ('introduce/ch_1', 'sp_1'), ('working_dir', '/x')");

        ASSERT_OK(database_disown(database_handle(w.db)));
        assert_rows(&w, "SELECT state FROM dispatch_state ORDER BY envelope_id", "failed failed done failed");
        assert_rows(&w, "SELECT state FROM outbox ORDER BY key", "failed failed sent failed");
        assert_rows(&w, "SELECT key FROM outbox WHERE error LIKE '%copy%' AND envelope IS NULL ORDER BY key", "k1 k2");
        /* A question that was asked may be answered wherever the agent is. */
        assert_rows(&w, "SELECT state FROM invites ORDER BY event_id", "done left done announced done done done");
        assert_rows(&w, "SELECT status FROM session_turns ORDER BY id", "failed completed");
        assert_rows(&w, "SELECT name FROM session_values", "working_dir");
}

/* All of it or nothing. */
TEST(by_halves_it_is_not_done) {
        WORLD(w);

        exec(&w, "INSERT INTO session_turns (id, conversation, status, text, instructions, history, document, source, "
                 "store, created_usec) VALUES ('t1', '', 'running', '', '', '', '', 'puffo', 1, 1)");
        exec(&w, "INSERT INTO session_values VALUES ('introduce/ch_1', 'sp_1')");
        exec(&w, "CREATE TRIGGER stop BEFORE DELETE ON session_values BEGIN SELECT RAISE(FAIL, 'no'); END");
        ASSERT_TRUE(database_disown(database_handle(w.db)) < 0);
        assert_rows(&w, "SELECT status FROM session_turns", "running");
        exec(&w, "DROP TRIGGER stop");
        ASSERT_OK(database_disown(database_handle(w.db)));
        assert_rows(&w, "SELECT status FROM session_turns", "failed");
}

TEST_MAIN();
