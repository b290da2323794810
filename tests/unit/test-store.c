/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "conversation.h"
#include "database-damage.h"
#include "database.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"
#include "turn-store.h"

#define NOW ((uint64_t) 1700000000000000ULL)
#define DAY ((uint64_t) 86400 * USEC_PER_SEC)

typedef struct Fixture {
        char *directory, *path;
        Database *db;
} Fixture;

static void fixture_done(Fixture *f) {
        (void) database_free(f->db);
        (void) directory_remove(f->directory);
        free(f->path);
        free(f->directory);
}
#define _fixture_ _cleanup_(fixture_done)

static Fixture fixture_new(bool open) {
        Fixture f = {};
        char template[] = "/tmp/puffo-test-store-XXXXXX";

        ASSERT_NOT_NULL(mkdtemp(template));
        f.directory = strdup(template);
        f.path = strjoin(template, "/messages.db");
        if (open)
                ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);
        return f;
}

static void reopen(Fixture *f) {
        f->db = database_free(f->db);
        ASSERT_EQ(database_open(&f->db, f->path, NULL), 0);
}

static int submit(Fixture *f, const char *id, const char *conversation, const char *previous, TurnRow **ret) {
        return turn_store_submit(f->db, &(TurnSubmission) {
                .id = id, .text = id, .conversation = conversation, .previous = previous, .store = true,
                .document = "{}", .now_usec = NOW,
        }, ret);
}

static int64_t submit_ok(Fixture *f, const char *id, const char *conversation) {
        _cleanup_(turn_row_freep) TurnRow *t = NULL;

        ASSERT_EQ(submit(f, id, conversation, NULL, &t), 0);
        ASSERT_STREQ(t->conversation, strempty(conversation));
        return t->seq;
}

static int finish(Fixture *f, int64_t seq, TurnStatus status, const char *text) {
        TurnItem item = { .item = (char*) "m1", .text = (char*) text, .complete = true };

        return turn_store_finish(f->db, seq, &(TurnResult) {
                .status = status, .items = &item, .n_items = text ? 1 : 0, .remember = status != TURN_FAILED,
                .usage.input_tokens = 7, .now_usec = NOW + 1,
        });
}

static void run(Fixture *f, const char *id, const char *conversation, const char *previous, const char *expected) {
        _cleanup_(turn_row_freep) TurnRow *t = NULL;

        ASSERT_EQ(submit(f, id, conversation, previous, &t), 0);
        ASSERT_STREQ(t->conversation, expected);
        ASSERT_OK(turn_store_start(f->db, t->seq, NOW));
        ASSERT_EQ(finish(f, t->seq, TURN_COMPLETED, "answer"), 0);
}

/* The texts of a conversation's messages in one string. */
static char* conversation_text(Fixture *f, const char *conversation) {
        ConversationMessage *m;
        StrBuf b = {};
        size_t n;

        ASSERT_OK(conversation_list(f->db, conversation, 0, 1000, 0, &m, &n, NULL));
        for (size_t i = 0; i < n; i++)
                ASSERT_OK(strbuf_printf(&b, "%s%s:%s", i > 0 ? " " : "", m[i].assistant ? "a" : "u", m[i].text));
        conversation_messages_free(m, n);
        return strbuf_take(&b);
}

static void assert_conversation(Fixture *f, const char *conversation, const char *expected) {
        _cleanup_free_ char *text = conversation_text(f, conversation);

        ASSERT_STREQ(text, expected);
}

TEST(opens_private_and_again) {
        _fixture_ Fixture f = fixture_new(false);
        struct stat st;

        (void) umask(0);
        ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);
        ASSERT_OK(stat(f.path, &st));
        ASSERT_EQ(st.st_mode & 07777, 0600);
        (void) submit_ok(&f, "one", NULL);
        reopen(&f);
        ASSERT_EQ(submit(&f, "one", NULL, NULL, &(TurnRow*) { NULL }), -EEXIST);
}

TEST(upstream_tables_are_left_alone) {
        _fixture_ Fixture f = fixture_new(false);
        sqlite3_stmt *s;
        sqlite3 *raw;

        ASSERT_EQ(sqlite3_open(f.path, &raw), SQLITE_OK);
        ASSERT_EQ(sqlite3_exec(raw, "PRAGMA journal_mode=WAL; CREATE TABLE messages (envelope_id TEXT PRIMARY KEY, "
                               "envelope_kind TEXT NOT NULL, sender_slug TEXT NOT NULL, channel_id TEXT, space_id "
                               "TEXT, recipient_slug TEXT, content_type TEXT NOT NULL DEFAULT 'text/plain', "
                               "content TEXT NOT NULL, sent_at INTEGER NOT NULL, received_at INTEGER NOT NULL, "
                               "thread_root_id TEXT, reply_to_id TEXT); CREATE TABLE thread_processing_state "
                               "(root_id TEXT PRIMARY KEY, last_processed_sent_at INTEGER NOT NULL); "
                               "INSERT INTO messages VALUES ('msg_1', 'dm', 'bo-17fe', NULL, NULL, 'bot', "
                               "'text/plain', 'hi', 1, 2, NULL, NULL)",
                               NULL, NULL, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_close(raw), SQLITE_OK);

        ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);
        run(&f, "one", NULL, NULL, "");
        f.db = database_free(f.db);

        ASSERT_EQ(sqlite3_open(f.path, &raw), SQLITE_OK);
        ASSERT_EQ(sqlite3_prepare_v2(raw, "SELECT content FROM messages UNION ALL "
                                     "SELECT text FROM conversation_messages", -1, &s, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        ASSERT_STREQ((const char*) sqlite3_column_text(s, 0), "hi");
        ASSERT_EQ(sqlite3_finalize(s), SQLITE_OK);
        ASSERT_EQ(sqlite3_close(raw), SQLITE_OK);
}

TEST(newer_schema_is_refused) {
        _fixture_ Fixture f = fixture_new(true);

        ASSERT_OK(database_exec(f.db, "PRAGMA user_version=99"));
        f.db = database_free(f.db);
        ASSERT_EQ(database_open(&f.db, f.path, NULL), -EPROTONOSUPPORT);
}

static void assert_set_aside(Fixture *f, const char *aside) {
        _cleanup_free_ char *prefix = strjoin(f->path, ".corrupt-");

        ASSERT_NOT_NULL(startswith(aside, prefix));
        ASSERT_OK(access(aside, F_OK));
        (void) submit_ok(f, "works-again", NULL);
}

TEST(foreign_file_is_set_aside) {
        _fixture_ Fixture f = fixture_new(false);
        _cleanup_free_ char *aside = NULL, *content = NULL;
        char junk[4096];

        memset(junk, 'x', sizeof(junk));
        ASSERT_OK(file_write_atomic(f.path, junk, sizeof(junk), 0600));
        ASSERT_EQ(database_open(&f.db, f.path, NULL), -EUCLEAN);
        ASSERT_EQ(database_open(&f.db, f.path, &aside), 1);
        assert_set_aside(&f, aside);
        ASSERT_OK(file_read(aside, sizeof(junk), &content, NULL));
        ASSERT_EQ(content[4095], 'x');
}

/* A page in the middle is overwritten behind the back of an opener that is then killed. */
TEST(damage_after_a_crash_is_found) {
        _fixture_ Fixture f = fixture_new(true);
        _cleanup_free_ char *aside = NULL;
        _cleanup_close_ int fd = -EBADF;
        char junk[8192];
        pid_t pid;
        int status;

        for (unsigned i = 0; i < 200; i++) {
                char id[32];

                (void) snprintf(id, sizeof(id), "turn-%u", i);
                run(&f, id, NULL, NULL, "");
        }
        f.db = database_free(f.db);

        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                if (database_open(&f.db, f.path, NULL) < 0 || session_value_set(f.db, "a", "b") < 0)
                        _exit(1);
                _exit(0);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_EQ(status, 0);

        memset(junk, 0x5a, sizeof(junk));
        fd = open(f.path, O_WRONLY|O_CLOEXEC);
        ASSERT_TRUE(fd >= 0);
        ASSERT_EQ(pwrite(fd, junk, sizeof(junk), 8192), sizeof(junk));

        ASSERT_EQ(database_open(&f.db, f.path, &aside), 1);
        assert_set_aside(&f, aside);
}

/* The same with nobody killed: a clean close after the damage was met must not make it look sound again. */
TEST(damage_that_was_met_is_remembered) {
        _fixture_ Fixture f = fixture_new(true);
        _cleanup_free_ char *aside = NULL, *mark = strjoin(f.path, "-damaged");
        ConversationMessage *m;
        size_t n;

        run(&f, "one", NULL, NULL, "");
        table_damage(f.db, "conversation_messages");
        reopen(&f);
        ASSERT_EQ(conversation_list(f.db, "", 0, 10, 0, &m, &n, NULL), -EUCLEAN);
        f.db = database_free(f.db);

        ASSERT_EQ(database_open(&f.db, f.path, NULL), -EUCLEAN);
        ASSERT_EQ(database_open(&f.db, f.path, &aside), 1);
        assert_set_aside(&f, aside);
        ASSERT_TRUE(access(mark, F_OK) < 0);
        reopen(&f);
}

/* A mark beside a file that is sound after all goes away. */
TEST(damage_that_is_none) {
        _fixture_ Fixture f = fixture_new(true);
        _cleanup_free_ char *mark = strjoin(f.path, "-damaged");

        run(&f, "one", NULL, NULL, "");
        ASSERT_OK(file_write_atomic(mark, "", 0, 0600));
        reopen(&f);
        assert_conversation(&f, "", "u:one a:answer");
        ASSERT_TRUE(access(mark, F_OK) < 0);
}

TEST(unwritable_files_are_refused) {
        _fixture_ Fixture f = fixture_new(true);
        _cleanup_free_ char *aside = NULL, *link = NULL;

        link = strjoin(f.directory, "/link.db");
        ASSERT_OK(symlink(f.path, link));
        f.db = database_free(f.db);
        ASSERT_EQ(database_open(&f.db, link, &aside), -ELOOP);

        ASSERT_OK(chmod(f.directory, 0755));
        ASSERT_OK(chmod(f.path, 0444));
        if (geteuid() == 0)
                ASSERT_OK(seteuid(65534));
        ASSERT_EQ(database_open(&f.db, f.path, &aside), -EACCES);
        if (getuid() == 0)
                ASSERT_OK(seteuid(0));
        ASSERT_NULL(aside);
}

TEST(a_turn_ends_once) {
        _fixture_ Fixture f = fixture_new(true);
        _cleanup_(turn_row_freep) TurnRow *t = NULL;
        int64_t seq = submit_ok(&f, "one", NULL);

        ASSERT_OK(turn_store_start(f.db, seq, NOW));
        ASSERT_EQ(finish(&f, seq, TURN_COMPLETED, "first"), 0);
        ASSERT_EQ(finish(&f, seq, TURN_COMPLETED, "second"), 1);
        ASSERT_EQ(turn_store_start(f.db, seq, NOW), -ESTALE);
        assert_conversation(&f, "", "u:one a:first");

        ASSERT_EQ(turn_store_get(f.db, "one", &t), 1);
        ASSERT_EQ(t->status, TURN_COMPLETED);
        ASSERT_EQ(t->usage.input_tokens, 7);
        ASSERT_EQ(t->n_items, 1);
        ASSERT_STREQ(t->items[0].text, "first");
        ASSERT_STREQ(t->document, "{}");
        ASSERT_EQ(t->ended_usec, NOW + 1);
}

TEST(a_killed_transaction_leaves_nothing) {
        _fixture_ Fixture f = fixture_new(true);
        _cleanup_(turn_row_freep) TurnRow *t = NULL;
        int64_t seq = submit_ok(&f, "one", NULL);
        Transaction transaction = {};
        int status;
        pid_t pid;

        f.db = database_free(f.db);
        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                if (database_open(&f.db, f.path, NULL) < 0 || turn_store_start(f.db, seq, NOW) < 0 ||
                    database_begin(f.db, &transaction) < 0 ||
                    database_exec(f.db, "UPDATE session_turns SET status = 'completed'") < 0)
                        _exit(1);
                _exit(0);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_EQ(status, 0);

        ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);
        ASSERT_EQ(turn_store_get(f.db, "one", &t), 1);
        ASSERT_EQ(t->status, TURN_RUNNING);
        ASSERT_EQ(t->attempts, 1);
}

TEST(pending_turns_keep_their_order) {
        _fixture_ Fixture f = fixture_new(true);
        int64_t seq = submit_ok(&f, "one", NULL);
        TurnRow **rows;
        size_t n;

        (void) submit_ok(&f, "two", "x");
        (void) submit_ok(&f, "three", NULL);
        ASSERT_OK(turn_store_start(f.db, seq, NOW));
        ASSERT_EQ(turn_store_delete(f.db, "two"), 1);
        ASSERT_EQ(turn_store_delete(f.db, "two"), 0);
        reopen(&f);

        ASSERT_OK(turn_store_list_pending(f.db, &rows, &n));
        ASSERT_EQ(n, 2);
        ASSERT_STREQ(rows[0]->id, "one");
        ASSERT_EQ(rows[0]->status, TURN_RUNNING);
        ASSERT_STREQ(rows[0]->text, "");
        ASSERT_STREQ(rows[1]->id, "three");
        turn_rows_free(rows, n);
}

TEST(previous_goes_on_or_forks) {
        _fixture_ Fixture f = fixture_new(true);
        TurnRow *none = NULL;
        int64_t seq;

        run(&f, "one", NULL, NULL, "");
        run(&f, "two", NULL, "one", "");                /* the newest: same conversation */
        run(&f, "three", NULL, "one", "~three");        /* two came after one: a copy up to one */
        run(&f, "four", NULL, "three", "~three");
        assert_conversation(&f, "", "u:one a:answer u:two a:answer");
        assert_conversation(&f, "~three", "u:one a:answer u:three a:answer u:four a:answer");

        ASSERT_EQ(submit(&f, "five", NULL, "nobody", &none), -ENOENT);
        seq = submit_ok(&f, "six", NULL);
        ASSERT_EQ(submit(&f, "seven", NULL, "six", &none), -EINPROGRESS);
        ASSERT_OK(turn_store_start(f.db, seq, NOW));
        ASSERT_EQ(submit(&f, "seven", NULL, "six", &none), -EINPROGRESS);
        run(&f, "eight", NULL, "two", "~eight");        /* six is still to come */
        ASSERT_EQ(finish(&f, seq, TURN_FAILED, NULL), 0);
        ASSERT_EQ(submit(&f, "nine", NULL, "six", &none), -ENOENT);
        run(&f, "ten", NULL, "two", "");                /* six left nothing behind */
        ASSERT_NULL(none);
}

/* An answer that was cut and begun again is kept with the turn, but the conversation goes on from the second one. */
TEST(replaced_items_are_not_remembered) {
        _fixture_ Fixture f = fixture_new(true);
        TurnItem items[] = {
                { .item = (char*) "m0", .text = (char*) "hal", .complete = false },
                { .item = (char*) "m1", .text = (char*) "half", .complete = false },
        };
        int64_t seq = submit_ok(&f, "one", "c");

        ASSERT_EQ(turn_store_finish(f.db, seq, &(TurnResult) { .status = TURN_INCOMPLETE, .reason = "deadline",
                                    .items = items, .n_items = 2, .remember = true, .context = "earlier",
                                    .now_usec = NOW }), 0);
        assert_conversation(&f, "c", "u:one a:half");
        assert_conversation(&f, "", "");
}

TEST(messages_are_listed_in_pages) {
        _fixture_ Fixture f = fixture_new(true);
        static const struct {
                size_t limit, max_bytes;
                int64_t before;
                size_t n;
                bool more;
                const char *first;
        } t[] = {
                { 10, 0, 0, 6, false, "one" },
                { 2, 0, 0, 2, true, "three" },
                { 2, 0, 5, 2, true, "two" },
                { 10, 0, 3, 2, false, "one" },
                { 10, 12, 0, 2, true, "three" },
                { 10, 1, 0, 1, true, "answer" },
                { 10, 0, 1, 0, false, NULL },
        };

        run(&f, "one", NULL, NULL, "");
        run(&f, "two", NULL, NULL, "");
        run(&f, "three", NULL, NULL, "");
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                ConversationMessage *m;
                bool more;
                size_t n;

                ASSERT_OK(conversation_list(f.db, "", t[i].before, t[i].limit, t[i].max_bytes, &m, &n, &more));
                ASSERT_EQ(n, t[i].n);
                ASSERT_EQ(more, t[i].more);
                if (n > 0)
                        ASSERT_STREQ(m[0].text, t[i].first);
                conversation_messages_free(m, n);
        }
}

static int count(Fixture *f, const char *sql) {
        sqlite3_stmt *s;
        int n;

        ASSERT_EQ(sqlite3_prepare_v2(database_handle(f->db), sql, -1, &s, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        n = sqlite3_column_int(s, 0);
        (void) sqlite3_finalize(s);
        return n;
}

TEST(retention) {
        _fixture_ Fixture f = fixture_new(true);
        Retention retention = { .turns_usec = 30 * DAY, .turns_max = 2, .unstored_usec = DAY, .messages_usec = 0 };
        TurnRow *unstored = NULL;

        run(&f, "one", NULL, NULL, "");
        run(&f, "two", NULL, NULL, "");
        run(&f, "three", NULL, NULL, "");
        (void) submit_ok(&f, "waiting", NULL);
        ASSERT_EQ(turn_store_submit(f.db, &(TurnSubmission) { .id = "u", .text = "u", .now_usec = NOW },
                                    &unstored), 0);
        ASSERT_EQ(finish(&f, unstored->seq, TURN_FAILED, NULL), 0);
        (void) turn_row_free(unstored);

        ASSERT_EQ(retention_sweep(f.db, &retention, NOW + 2), 2);        /* too many: one and two */
        ASSERT_EQ(count(&f, "SELECT count(*) FROM session_turns"), 3);
        ASSERT_EQ(retention_sweep(f.db, &retention, NOW + 2 * DAY), 1);  /* the one not to be stored */
        ASSERT_EQ(retention_sweep(f.db, &retention, NOW + 31 * DAY), 1); /* too old: three; a waiting one never is */
        ASSERT_EQ(count(&f, "SELECT count(*) FROM session_turns"), 1);
        ASSERT_EQ(count(&f, "SELECT count(*) FROM session_turn_items"), 0);
        ASSERT_EQ(count(&f, "SELECT count(*) FROM conversation_messages"), 6);
        retention.messages_usec = 90 * DAY;
        ASSERT_EQ(retention_sweep(f.db, &retention, NOW + 91 * DAY), 6);
}

TEST(session_values) {
        _fixture_ Fixture f = fixture_new(true);
        _cleanup_free_ char *v = NULL;

        ASSERT_EQ(session_value_get(f.db, "working_dir", &v), 0);
        ASSERT_EQ(session_value_set(f.db, "working_dir", "/a"), 0);
        ASSERT_EQ(session_value_set(f.db, "working_dir", "/b"), 0);
        database_trim(f.db);
        ASSERT_EQ(session_value_get(f.db, "working_dir", &v), 1);
        ASSERT_STREQ(v, "/b");
        ASSERT_EQ(session_value_set(f.db, "working_dir", NULL), 0);
        ASSERT_EQ(session_value_get(f.db, "working_dir", &v), 0);
}

#define TEST_SUITE "store"
TEST_MAIN();
