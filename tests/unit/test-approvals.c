/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "approvals"

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
static void restart(World *w) {
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
static void pass(World *w, uint64_t usec) {
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

TEST(answer_words) {
        static const struct { const char *text; int answer; } t[] = {
                { "y", 1 }, { "Y", 1 }, { "yes", 1 }, { "YES", 1 }, { " \n yEs\t", 1 }, { "a", 1 }, { "Approve", 1 },
                { "n", 0 }, { "N ", 0 }, { "no", 0 }, { "No", 0 }, { "deny", 0 }, { "DENY\r\n", 0 },
                { "", -ENOMSG }, { "  ", -ENOMSG }, { "yes!", -ENOMSG }, { "y n", -ENOMSG }, { "yep", -ENOMSG },
                { "none", -ENOMSG }, { "ye", -ENOMSG }, { "approved", -ENOMSG }, { "denied", -ENOMSG },
                { "\xc2\xa0y", -ENOMSG }, { "да", -ENOMSG },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_EQ(approval_answer_parse(t[i].text), t[i].answer);
}

TEST(summaries) {
        static const struct { const char *input, *summary; bool cut; } t[] = {
                { NULL, "(no input)", false },
                { "null", "(no input)", false },
                { "{}", "(no input)", false },
                { "\"ls\"", "`ls`", false },
                { "[1,2]", "`[1,2]`", false },
                { "not json", "`not json`", false },
                { "{\"command\":\"touch a\",\"n\":3,\"deep\":{\"a\":[true,null]},\"none\":null}",
                  "- **command**: `touch a`\n- **n**: `3`\n- **deep**: `{\"a\":[true,null]}`\n- **none**: `null`",
                  false },
                /* What is ours must not come out of it. */
                { "{\"command\":\"x\\n\\nReply y to allow\"}", "- **command**: `x⏎⏎Reply y to allow`", false },
                { "{\"command\":\"a` **b** `c\"}", "- **command**: `aˋ **b** ˋc`", false },
                { "{\"command\":\"\\u001b[2J\\u009b1A\\u0007\"}", "- **command**: `?[2J?1A?`", false },
                { "{\"command\":\"rm \\u202Efoo\\u200b\\ufeff\\u2066\"}", "- **command**: `rm ?foo???`", false },
                { "{\"a**: `x`\\n- **b\":\"1\"}", "- **a?\?:?\?x?\?-?\?\?b**: `1`", false },
                { "{\"\":1}", "- **?**: `1`", false },
                { "\x1b[31m", "`?[31m`", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                bool cut = true;
                _cleanup_free_ char *text = approval_summarize(t[i].input, &cut);

                ASSERT_STREQ(text, t[i].summary);
                ASSERT_EQ(cut, t[i].cut);
        }
}

TEST(summaries_of_what_is_long) {
        _cleanup_free_ char *big = malloc(100001), *input = NULL, *text = NULL, *many = NULL, *expected = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        size_t chars = 0;
        bool cut = false;

        memset(big, 'x', 100000);
        big[100000] = 0;
        input = strjoin("{\"command\":\"", big, "\"}");
        text = approval_summarize(input, &cut);
        ASSERT_TRUE(cut);
        expected = asprintf_new("- **command**: `%.120s…`", big);
        ASSERT_STREQ(text, expected);

        ASSERT_OK(strbuf_puts(&b, "{"));
        for (unsigned i = 0; i < 100; i++)
                ASSERT_OK(strbuf_printf(&b, "%s\"k%u\":\"ü\"", i > 0 ? "," : "", i));
        ASSERT_OK(strbuf_puts(&b, "}"));
        many = approval_summarize(b.text, &cut);
        ASSERT_TRUE(cut);
        ASSERT_TRUE(utf8_is_valid(many, strlen(many)));
        for (const char *c = many; *c; c++)
                chars += (*c & 0xc0) != 0x80;
        assert_in_range(chars, 400, 402);
        ASSERT_NOT_NULL(strstr(many, "…"));
}

TEST(the_operator_allows) {
        _cleanup_free_ char *key = NULL, *question = NULL, *outcome_key = NULL, *outcome = NULL, *root = NULL;
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(w.n_changed, 1);
        key = key_of(&w, "");
        outcome_key = key_of(&w, "/outcome");
        question = said(&w, key, NULL);
        ASSERT_NOT_NULL(strstr(question, "permission to use `Bash`:\n- **command**: `ls`\n"));
        ASSERT_NOT_NULL(strstr(question, "within 5 minutes"));
        ASSERT_NOT_NULL(strstr(question, strrchr(key, '/') + 1));
        seal(&w, "msg_q");

        ASSERT_EQ(reply(&w, "msg_a", "msg_q", " Yes\n"), 1);
        ASSERT_EQ(asker.n, 0);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
        ASSERT_TRUE(asker.allow);
        ASSERT_STREQ(asker.message, "");
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        ASSERT_EQ(w.n_changed, 2);
        ASSERT_EQ(w.n_answered, 1);
        outcome = said(&w, outcome_key, &root);
        ASSERT_STREQ(outcome, "Allowed.");
        ASSERT_STREQ(root, "msg_q");
}

TEST(the_operator_denies) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "n"), 1);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
        ASSERT_FALSE(asker.allow);
        ASSERT_EQ(asker.state, APPROVAL_DENIED);
        ASSERT_STREQ(asker.message, "Permission denied by " OPERATOR ".");
}

TEST(what_is_no_answer_goes_on) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "what for?"), 0);
        ASSERT_EQ(reply(&w, "msg_b", "msg_other", "y"), 0);
        ASSERT_EQ(reply(&w, "msg_c", "", "y"), 0);
        ASSERT_EQ(reply(&w, "msg_d", "msg_q", ""), 0);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 0);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
}

TEST(a_second_answer_changes_nothing) {
        _cleanup_free_ char *id = NULL, *key = NULL, *text = NULL;
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        id = strdup(approvals_open_id(w.approvals, 0));
        key = key_of(&w, "/late/msg_b");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "n"), 1);
        /* Before anything followed from the first, and after. */
        ASSERT_EQ(reply(&w, "msg_b", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
        ASSERT_FALSE(asker.allow);
        text = said(&w, key, NULL);
        ASSERT_STREQ(text, "This was already answered: it was denied by " OPERATOR ".");
        ASSERT_EQ(reply(&w, "msg_c", "msg_q", "y"), 1);
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, true, "rob", NULL, "t" }, &row), -EALREADY);
        ASSERT_EQ(row->state, APPROVAL_DENIED);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
        ASSERT_EQ(w.n_answered, 1);
}

TEST(the_bus_answers) {
        static const struct { bool allow; const char *reason, *message, *outcome; } t[] = {
                { true, NULL, "", "Allowed by rob." },
                { true, "fine", "", "Allowed by rob." },
                { false, NULL, "Permission denied by rob.", "Denied by rob." },
                { false, "not on\x1b[2J Fridays", "Permission denied by rob: not on?[2J Fridays", "Denied by rob." },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *id = NULL, *key = NULL, *text = NULL;
                ASKER(asker);
                WORLD(w);

                ask(&w, &asker, "ask-1");
                seal(&w, "msg_q");
                id = strdup(approvals_open_id(w.approvals, 0));
                key = key_of(&w, "/outcome");
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                        id, t[i].allow, "rob", t[i].reason, "token",
                }, NULL), 0);
                fake_run(w.event);
                ASSERT_EQ(asker.n, 1);
                ASSERT_EQ(asker.allow, t[i].allow);
                ASSERT_STREQ(asker.message, t[i].message);
                text = said(&w, key, NULL);
                ASSERT_STREQ(text, t[i].outcome);
                /* The same call, whose reply was lost. */
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, t[i].allow, "rob", NULL, "token" },
                                           NULL), 0);
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, t[i].allow, "rob", NULL, "other" },
                                           NULL), -EALREADY);
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, t[i].allow, "rob", NULL, NULL }, NULL),
                          -EALREADY);
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { "rob:none", true, "rob", NULL, "token" },
                                           NULL), -ENOENT);
                fake_run(w.event);
                ASSERT_EQ(asker.n, 1);
                ASSERT_EQ(w.n_answered, 1);
        }
}

TEST(time_denies) {
        _cleanup_free_ char *key = NULL, *text = NULL, *late_key = NULL, *late = NULL;
        ASKER(asker);
        WORLD(w);

        approvals_set_timeout(w.approvals, 42 * USEC_PER_SEC);
        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        key = key_of(&w, "/outcome");
        late_key = key_of(&w, "/late/msg_a");
        pass(&w, 41 * USEC_PER_SEC);
        ASSERT_EQ(asker.n, 0);
        pass(&w, 1 * USEC_PER_SEC);
        ASSERT_EQ(asker.n, 1);
        ASSERT_EQ(asker.state, APPROVAL_EXPIRED);
        ASSERT_FALSE(asker.allow);
        ASSERT_STREQ(asker.message, "Permission denied: nobody answered within 42 seconds.");
        text = said(&w, key, NULL);
        ASSERT_STREQ(text, "Denied, as nobody answered in time.");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        late = said(&w, late_key, NULL);
        ASSERT_STREQ(late, "This was already answered: it was denied, as nobody answered in time.");
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
}

/* The timer is late, the answer as well. */
TEST(an_answer_after_the_time_is_none) {
        ASKER(first);
        ASKER(second);
        WORLD(w);

        ask(&w, &first, "ask-1");
        seal(&w, "msg_q");
        fake.now_usec += 301 * USEC_PER_SEC;
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(first.state, APPROVAL_EXPIRED);

        ask(&w, &second, "ask-2");
        fake.now_usec += 301 * USEC_PER_SEC;
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL), -EALREADY);
        fake_run(w.event);
        ASSERT_EQ(second.state, APPROVAL_EXPIRED);
}

TEST(one_timer_for_all) {
        ASKER(first);
        ASKER(second);
        WORLD(w);

        approvals_set_timeout(w.approvals, 100 * USEC_PER_SEC);
        ask(&w, &first, "ask-1");
        approvals_set_timeout(w.approvals, 10 * USEC_PER_SEC);
        ask(&w, &second, "ask-2");
        pass(&w, 10 * USEC_PER_SEC);
        ASSERT_EQ(first.n, 0);
        ASSERT_EQ(second.n, 1);
        pass(&w, 90 * USEC_PER_SEC);
        ASSERT_EQ(first.n, 1);
        ASSERT_EQ(fake.n_sources, 1);
}

TEST(a_question_that_has_not_gone_out_is_taken_back) {
        _cleanup_free_ char *key = NULL, *text = NULL;
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        key = key_of(&w, "/outcome");
        ASSERT_EQ(count_messages(&w), 1);
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL), 0);
        ASSERT_EQ(count_messages(&w), 0);
        text = said(&w, key, NULL);
        ASSERT_NULL(text);
}

/* Also one that is just being sealed, or waits for another attempt; the next one goes on at once. */
TEST(a_question_on_its_way_is_taken_back) {
        for (unsigned failed = 0; failed < 2; failed++) {
                _cleanup_(identity_freep) Identity *me = new0(Identity, 1);
                _cleanup_free_ char *id = NULL;
                ASKER(first);
                ASKER(second);
                WORLD(w);

                me->slug = strdup("me-0003");
                fake.identity = me;
                ASSERT_OK(outbox_start(w.outbox));
                ask(&w, &first, "ask-1");
                ASSERT_TRUE(fake.wait.is_waiting);
                if (failed)
                        fake_subkey_is_ready(CALL_NETWORK);
                id = strdup(approvals_open_id(w.approvals, 0));
                ask(&w, &second, "ask-2");
                ASSERT_EQ(fake.wait.is_waiting, !failed);
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, true, "rob", NULL, "t" }, NULL), 0);
                ASSERT_FALSE(fake.wait.is_waiting);
                ASSERT_EQ(count_messages(&w), 1);
                fake_run(w.event);
                ASSERT_TRUE(first.allow);
                ASSERT_TRUE(fake.wait.is_waiting);
                ASSERT_EQ(second.n, 0);
                w.approvals = approvals_free(w.approvals);
                w.outbox = outbox_free(w.outbox);
                fake.identity = NULL;
        }
}

TEST(survives_a_restart) {
        _cleanup_free_ char *id = NULL;
        ApprovalRow **rows;
        size_t n;
        ASKER(before);
        ASKER(after);
        WORLD(w);

        ask(&w, &before, "ask-1");
        seal(&w, "msg_q");
        id = strdup(approvals_open_id(w.approvals, 0));
        before.wait = approval_wait_free(before.wait);
        fake.now_usec += 100 * USEC_PER_SEC;
        restart(&w);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_STREQ(approvals_open_id(w.approvals, 0), id);
        ASSERT_EQ(count_messages(&w), 1);

        ASSERT_OK(approvals_list_untold(w.approvals, "turn-1", &rows, &n));
        ASSERT_EQ(n, 1);
        ASSERT_STREQ(rows[0]->ask, "ask-1");
        ASSERT_OK(approvals_wait(w.approvals, rows[0]->id, on_done, &after, &after.wait));
        approval_rows_free(rows, n);
        ASSERT_ERROR(approvals_wait(w.approvals, "rob:none", on_done, NULL, &(ApprovalWait*) { NULL }), ENOENT);
        fake_run(w.event);
        ASSERT_EQ(after.n, 0);
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(after.n, 1);
        ASSERT_TRUE(after.allow);
        ASSERT_OK(approvals_list_untold(w.approvals, "turn-1", &rows, &n));
        approval_rows_free(rows, n);
        ASSERT_EQ(n, 0);
}

/* Answered, and then killed before the CLI had it. */
TEST(an_answer_is_told_after_a_restart) {
        ApprovalRow **rows;
        size_t n;
        ASKER(before);
        ASKER(after);
        ASKER(again);
        WORLD(w);

        before.result = -EPIPE;
        ask(&w, &before, "ask-1");
        seal(&w, "msg_q");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(before.n, 1);
        restart(&w);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        ASSERT_OK(approvals_list_untold(w.approvals, "turn-1", &rows, &n));
        approval_rows_free(rows, n);
        ASSERT_EQ(n, 1);
        /* The CLI asks once more, as it got no answer. */
        ask(&w, &after, "ask-1");
        ASSERT_EQ(after.n, 1);
        ASSERT_TRUE(after.allow);
        ask(&w, &again, "ask-1");
        ASSERT_EQ(again.n, 1);
        ASSERT_TRUE(again.allow);
        ASSERT_EQ(w.n_answered, 1);
        ASSERT_EQ(count_messages(&w), 2);
}

TEST(time_goes_on_over_a_restart) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        asker.wait = approval_wait_free(asker.wait);
        ASSERT_OK(database_exec(w.db, "UPDATE approvals SET created_at = created_at - 290000, "
                                      "expires_at = expires_at - 290000"));
        restart(&w);
        ask(&w, &asker, "ask-1");
        ASSERT_EQ(asker.n, 0);
        pass(&w, 11 * USEC_PER_SEC);
        ASSERT_EQ(asker.n, 1);
        ASSERT_EQ(asker.state, APPROVAL_EXPIRED);
}

/* Clocks may be set: nobody waits for years, and nobody is asked for an instant. */
TEST(a_clock_that_was_set_back_makes_nobody_wait) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        asker.wait = approval_wait_free(asker.wait);
        ASSERT_OK(database_exec(w.db, "UPDATE approvals SET created_at = created_at + 9000000, "
                                      "expires_at = expires_at + 9000000"));
        restart(&w);
        ask(&w, &asker, "ask-1");
        pass(&w, 300 * USEC_PER_SEC);
        ASSERT_EQ(asker.n, 1);
}

TEST(an_ask_is_for_one_call) {
        ASKER(first);
        ASKER(second);
        ASKER(third);
        WORLD(w);

        ask(&w, &first, "ask-1");
        ASSERT_ERROR(try_ask(&w, &second, "turn-1", "ask-1", "Bash", "{\"command\":\"rm\"}"), EBADMSG);
        ASSERT_ERROR(try_ask(&w, &second, "turn-1", "ask-1", "Write", LS), EBADMSG);
        ASSERT_NULL(second.wait);
        ASSERT_EQ(try_ask(&w, &third, "turn-2", "ask-1", "Write", LS), 0);
        ASSERT_EQ(approvals_n_open(w.approvals), 2);
}

/* Two who wait for the same are both told. */
TEST(the_same_ask_twice) {
        ASKER(first);
        ASKER(second);
        WORLD(w);

        ask(&w, &first, "ask-1");
        ask(&w, &second, "ask-1");
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(count_messages(&w), 1);
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL), 0);
        fake_run(w.event);
        ASSERT_EQ(first.n, 1);
        ASSERT_EQ(second.n, 1);
}

TEST(bad_requests) {
        static const struct { const char *turn, *ask, *tool, *input; } t[] = {
                { NULL, "a", "Bash", LS }, { "", "a", "Bash", LS }, { "t", NULL, "Bash", LS }, { "t", "", "Bash", LS },
                { "t", "a", NULL, LS }, { "t", "a", "", LS }, { "t", "a", "Bash", "{" },
                { "t", "a", "Bash", "{\"a\":\"\xff\"}" }, { "t", "\xff", "Bash", LS },
        };
        ASKER(asker);
        WORLD(w);

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_ERROR(try_ask(&w, &asker, t[i].turn, t[i].ask, t[i].tool, t[i].input), EINVAL);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        ASSERT_EQ(count_messages(&w), 0);
}

TEST(too_many_are_refused) {
        _cleanup_free_ Asker *askers = new0(Asker, APPROVALS_OPEN_MAX);
        ASKER(more);
        WORLD(w);

        for (unsigned i = 0; i < APPROVALS_OPEN_MAX; i++) {
                _cleanup_free_ char *name = asprintf_new("ask-%u", i);

                ask(&w, askers + i, name);
        }
        ASSERT_ERROR(try_ask(&w, &more, "turn-1", "one-more", "Bash", LS), ENOBUFS);
        ASSERT_EQ(approvals_n_open(w.approvals), APPROVALS_OPEN_MAX);
        for (unsigned i = 0; i < APPROVALS_OPEN_MAX; i++)
                asker_done(askers + i);
}

TEST(a_long_input_is_kept_until_it_was_told) {
        _cleanup_free_ char *big = malloc(200001), *input = NULL, *key = NULL, *text = NULL, *id = NULL;
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL, *told = NULL;
        ApprovalRow **rows;
        size_t n;
        ASKER(asker);
        ASKER(again);
        WORLD(w);

        for (size_t i = 0; i < 200000; i += 2)
                (void) memcpy(big + i, "ü", 2);
        big[200000] = 0;
        input = strjoin("{\"content\":\"", big, "\"}");
        ASSERT_EQ(try_ask(&w, &asker, "turn-1", "ask-1", "Write", input), 0);
        id = strdup(approvals_open_id(w.approvals, 0));
        ASSERT_EQ(approval_store_get(w.db, id, &row), 1);
        ASSERT_STREQ(row->input, input);
        ASSERT_EQ(row->input_size, (int64_t) strlen(input));
        ASSERT_OK(approvals_list(w.approvals, 0, &rows, &n));
        ASSERT_EQ(n, 1);
        assert_in_range(strlen(rows[0]->input), APPROVAL_INPUT_SHOWN, 2 * APPROVAL_INPUT_SHOWN);
        ASSERT_TRUE(utf8_is_valid(rows[0]->input, strlen(rows[0]->input)));
        approval_rows_free(rows, n);
        ASSERT_OK(approvals_list_untold(w.approvals, "turn-1", &rows, &n));
        ASSERT_EQ(n, 1);
        ASSERT_STREQ(rows[0]->input, input);
        approval_rows_free(rows, n);
        key = key_of(&w, "");
        text = said(&w, key, NULL);
        ASSERT_NOT_NULL(strstr(text, "- **content**: `ü"));
        ASSERT_NOT_NULL(strstr(text, "Not all of the input is shown"));
        ASSERT_EQ(try_ask(&w, &again, "turn-1", "ask-1", "Write", input), 0);
        big[199998] = 'x';
        big[199999] = 'x';
        free(input);
        input = strjoin("{\"content\":\"", big, "\"}");
        ASSERT_ERROR(try_ask(&w, &(Asker) {}, "turn-1", "ask-1", "Write", input), EBADMSG);

        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, true, "rob", NULL, "t" }, NULL), 0);
        fake_run(w.event);
        ASSERT_TRUE(asker.allow && again.allow);
        ASSERT_EQ(approval_store_get(w.db, id, &told), 1);
        ASSERT_TRUE(told->told);
        assert_in_range(strlen(told->input), APPROVAL_INPUT_SHOWN, 2 * APPROVAL_INPUT_SHOWN);
        ASSERT_STREQ(told->input_hash, row->input_hash);
}

TEST(what_is_too_long_is_refused) {
        _cleanup_free_ char *big = malloc(APPROVAL_INPUT_MAX + 2);
        ASKER(asker);
        WORLD(w);

        memset(big, 'x', APPROVAL_INPUT_MAX + 1);
        big[0] = big[APPROVAL_INPUT_MAX] = '"';
        big[APPROVAL_INPUT_MAX + 1] = 0;
        ASSERT_ERROR(try_ask(&w, &asker, "turn-1", "ask-1", "Write", big), E2BIG);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        big[APPROVAL_INPUT_MAX - 1] = '"';
        big[APPROVAL_INPUT_MAX] = 0;
        ASSERT_EQ(try_ask(&w, &asker, "turn-1", "ask-1", "Write", big), 0);
}

TEST(withdrawing) {
        _cleanup_free_ char *text = NULL, *key = NULL;
        ASKER(first);
        ASKER(second);
        ASKER(third);
        WORLD(w);

        ask(&w, &first, "ask-1");
        seal(&w, "msg_q");
        key = key_of(&w, "/outcome");
        ask(&w, &second, "ask-2");
        ASSERT_EQ(try_ask(&w, &third, "turn-2", "ask-1", "Bash", LS), 0);
        ASSERT_OK(approvals_withdraw(w.approvals, "turn-1", "ask-1"));
        fake_run(w.event);
        ASSERT_EQ(first.n, 1);
        ASSERT_EQ(first.state, APPROVAL_WITHDRAWN);
        ASSERT_FALSE(first.allow);
        text = said(&w, key, NULL);
        ASSERT_STREQ(text, "Withdrawn, as the answer was not needed any more.");
        ASSERT_EQ(second.n, 0);
        ASSERT_OK(approvals_withdraw(w.approvals, "turn-1", NULL));
        fake_run(w.event);
        ASSERT_EQ(second.n, 1);
        ASSERT_EQ(third.n, 0);
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(first.n, 1);
}

TEST(without_an_operator_only_the_bus_answers) {
        ASKER(asker);
        WORLD(w);

        ASSERT_OK(approvals_set_operator(w.approvals, w.outbox, ""));
        ask(&w, &asker, "ask-1");
        ASSERT_EQ(count_messages(&w), 0);
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 0);
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL), 0);
        fake_run(w.event);
        ASSERT_TRUE(asker.allow);
        ASSERT_EQ(count_messages(&w), 0);
}

/* The chat service comes up after the database, and may come up for the first time. */
TEST(an_operator_who_comes_later_is_asked) {
        ASKER(asker);
        WORLD(w);

        ASSERT_OK(approvals_set_operator(w.approvals, NULL, NULL));
        ask(&w, &asker, "ask-1");
        ASSERT_EQ(count_messages(&w), 0);
        for (unsigned i = 0; i < 2; i++)
                ASSERT_OK(approvals_set_operator(w.approvals, w.outbox, OPERATOR));
        ASSERT_EQ(count_messages(&w), 1);
        seal(&w, "msg_q");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_TRUE(asker.allow);
}

TEST(who_was_the_operator_is_it_no_more) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        ASSERT_OK(approvals_set_operator(w.approvals, w.outbox, "op-0002"));
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 0);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 0);
}

/* An answer whose message could not be stored was not given: it comes again with the message. */
TEST(an_answer_that_was_rolled_back_counts_for_nothing) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        {
                _cleanup_(transaction_rollbackp) Transaction t = {};

                ASSERT_OK(database_begin_lazy(w.db, &t));
                ASSERT_EQ(approvals_consume_answer(w.approvals, "msg_a", "msg_q", "y"), 1);
        }
        fake_run(w.event);
        ASSERT_EQ(asker.n, 0);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
}

TEST(damage_is_reported) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        ASSERT_OK(database_exec(w.db, "UPDATE approvals SET state = 'maybe'"));
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL) < 0, true);
        ASSERT_EQ(asker.n, 0);
        ASSERT_EQ(try_ask(&w, &(Asker) {}, "turn-1", "ask-1", "Bash", LS) < 0, true);
        assert_in_range(w.n_broken, 1, 9);
}

/* Nobody is left to be told when the process ends. */
TEST(freed_before_the_waits) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        w.approvals = approvals_free(w.approvals);
        ASSERT_EQ(asker.n, 0);
}

TEST_MAIN();
