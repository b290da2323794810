/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "batches"

#include <stdio.h>
#include <sys/stat.h>

#include "batches.h"
#include "fake-server.h"
#include "file-util.h"
#include "intake.h"
#include "outbox-store.h"

/* From the message store to turns and back: the queue of turns and the database are real, the model is the test, names
 * are asked of a server that is none, and the outbox stores its rows and sends nothing. */

#define OWN_SLUG "helper-9a7c"

typedef struct World {
        char path[64];
        sd_event *event;
        Database *db;
        TurnQueue *queue;
        Directory *directory;
        Batches *batches;
        SignedDocument *document;
        Turn *running;
        StrBuf texts;                   /* of all turns, one after the other */
        char *text;                     /* of the one that has begun last */
        size_t longest;
        unsigned n_started, n_messages;
        char *error;                    /* what was told of the last end; NULL: it was well */
        bool mute;
} World;

static World *world;

int outbox_add(Outbox *o, const OutgoingMessage *m, int64_t *ret_id) {
        int64_t id;

        return outbox_store_add(world->db, &(OutboxRow) {
                .key = (char*) m->key, .channel_id = (char*) m->channel_id, .space_id = (char*) m->space_id,
                .recipient_slug = (char*) m->recipient_slug, .thread_root_id = (char*) m->thread_root_id,
                .content_type = (char*) CONTENT_TYPE_TEXT, .content = (char*) m->content, .turn = (char*) m->turn,
        }, 1, ret_id ?: &id);
}

static int driver_start(Turn *t, TurnRow *row, void *userdata) {
        World *w = userdata;

        w->running = t;
        w->n_started++;
        ASSERT_OK(free_and_strdup(&w->text, row->text));
        ASSERT_OK(strbuf_puts(&w->texts, row->text));
        w->longest = MAX(w->longest, strlen(row->text));
        (void) turn_row_free(row);
        batches_begun(w->batches, t);
        return 0;
}

static void driver_cancel(Turn *t, void *userdata) {
        ((World*) userdata)->running = NULL;
}

static void driver_ending(Turn *t, TurnResult *result, void *userdata) {
        batches_ending(((World*) userdata)->batches, t, result);
}

static int driver_also(Database *db, const char *id, const TurnResult *result, void *userdata) {
        return batches_also(((World*) userdata)->batches, db, id, result);
}

static void driver_ended(Turn *t, const TurnResult *result, void *userdata) {
        batches_ended(((World*) userdata)->batches, t, result);
}

static bool driver_offer(uint64_t waiting_since_usec, void *userdata) {
        return batches_offer(((World*) userdata)->batches, waiting_since_usec);
}

static void on_ended(const char *turn, const DispatchRow *rows, size_t n, const char *error, void *userdata) {
        ASSERT_OK(free_and_strdup(&((World*) userdata)->error, error));
}

static void world_begin(World *w) {
        _cleanup_free_ char *file = NULL, *workspace = NULL;

        *w = (World) { .path = "/tmp/test-batches-XXXXXX" };
        world = w;
        ASSERT_NOT_NULL(mkdtemp(w->path));
        file = path_join(w->path, "messages.db");
        workspace = path_join(w->path, "workspace");
        ASSERT_OK(mkdir(workspace, 0700));
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(database_open(&w->db, file, NULL));
        ASSERT_OK(signed_document_new(&w->document));
        ASSERT_OK(directory_new(&w->directory, w->event, FAKE_CLIENT, w->db));
        ASSERT_OK(turn_queue_new(&w->queue, w->event, w->db, &(TurnDriver) {
                .start = driver_start, .cancel = driver_cancel, .ending = driver_ending, .also = driver_also,
                .ended = driver_ended, .offer = driver_offer, .patient_source = BATCHES_SOURCE, .userdata = w,
        }));
        ASSERT_OK(batches_new(&w->batches, &(BatchesSpec) {
                .event = w->event, .db = w->db, .queue = w->queue,
                .preparation = {
                        .event = w->event, .db = w->db, .client = FAKE_CLIENT, .directory = w->directory,
                        .workspace = workspace, .own_slug = OWN_SLUG,
                },
                .on_ended = on_ended, .userdata = w,
        }));
        ASSERT_OK(batches_configure(w->batches, "olga-0001", 0));
        batches_start(w->batches);
        ASSERT_OK(turn_queue_load(w->queue));
        turn_queue_set_enabled(w->queue, true);
}

static void world_end(World *w) {
        w->batches = batches_free(w->batches);
        turn_queue_free(w->queue);
        directory_free(w->directory);
        signed_document_free(w->document);
        database_free(w->db);
        sd_event_unref(w->event);
        ASSERT_OK(directory_remove(w->path));
        strbuf_done(&w->texts);
        free(w->text);
        free(w->error);
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void take(World *w, const Message *template) {
        _cleanup_free_ char *nonce = strjoin("nonce-", template->envelope_id);
        Message m = *template;

        m.sender_slug = "bo-17fe";
        m.message_nonce = nonce;
        m.encrypted = true;
        if (m.sent_at == 0)
                m.sent_at = 1000 + w->n_messages++;
        ASSERT_EQ(intake_message(w->db, NULL, &m, &(IntakePolicy) { .own_slug = OWN_SLUG, .on_dm = true, .on_mention = true, .on_all = true }, NULL,
           now_realtime_ms()), INTAKE_QUEUED);
}

/* root NULL: it begins a thread. */
static void say_content(World *w, const char *id, const char *root, const char *type, const SignedValue *content) {
        take(w, &(Message) { .kind = ENVELOPE_DM, .envelope_id = id, .recipient_slug = OWN_SLUG, .thread_root_id = root,
                             .content_type = type, .content = content });
}

static void say_in_channel(World *w, const char *id, const char *root, const char *text) {
        take(w, &(Message) { .kind = ENVELOPE_CHANNEL, .envelope_id = id, .space_id = "sp_1", .channel_id = "ch_1",
                             .thread_root_id = root, .content_type = CONTENT_TYPE_TEXT,
                             .content = signed_string(w->document, text) });
}

static void say(World *w, const char *id, const char *root, const char *text) {
        say_content(w, id, root, CONTENT_TYPE_TEXT, signed_string(w->document, text));
}

/* The loop runs until a turn is with the model; names are not to be had. False: none begins. */
static bool begin(World *w) {
        for (unsigned i = 0; i < 20 && !w->running; i++) {
                fake_run(w->event);
                while (*fake_next()) {
                        fake_answer(fake_next(), 0, NULL);
                        fake_run(w->event);
                }
                if (!w->running && !fake_pass(w->event))
                        break;
        }
        return w->running;
}

static void fail_with(World *w, const char *kind) {
        Turn *t = TAKE_PTR(w->running);

        ASSERT_NOT_NULL(t);
        turn_queue_end(w->queue, t, &(TurnResult) { .status = TURN_FAILED, .error_code = "server_error",
                                                    .error_kind = kind, .error_message = "x" });
        fake_run(w->event);
}

static void end(World *w, TurnStatus status, const char *reason) {
        Turn *t = TAKE_PTR(w->running);

        ASSERT_NOT_NULL(t);
        turn_queue_end(w->queue, t, &(TurnResult) { .status = status, .reason = reason });
        fake_run(w->event);
}

static void end_with(World *w, const char *answer) {
        ASSERT_OK(turn_message_begin(w->running));
        ASSERT_OK(turn_message_delta(w->running, answer, strlen(answer)));
        end(w, TURN_COMPLETED, NULL);
}

static int64_t count(World *w, const char *sql) {
        sqlite3_stmt *s;
        int64_t n;

        ASSERT_OK(database_flush(w->db));
        ASSERT_EQ(sqlite3_prepare_v2(database_handle(w->db), sql, -1, &s, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        n = sqlite3_column_int64(s, 0);
        ASSERT_EQ(sqlite3_finalize(s), SQLITE_OK);
        return n;
}

static unsigned occurrences(const char *text, const char *of) {
        unsigned n = 0;

        for (; (text = strstr(text, of)); text += strlen(of))
                n++;
        return n;
}

#define FILE(name) "{\"blob_id\":\"blob_" name "\",\"filename\":\"" name ".md\",\"mime_type\":\"text/plain\"," \
        "\"size\":1,\"key\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\",\"nonce\":\"AAAAAAAAAAAAAAAA\"}"

/* Several messages of one batch have files, which are fetched one after the other. */
TEST(files_of_several_messages) {
        static const struct { const char *id, *content; } t[] = {
                { "msg_1", "{\"text\":\"one\",\"attachments\":[" FILE("a") "," FILE("b") "]}" },
                { "msg_2", "{\"text\":\"two\",\"attachments\":[" FILE("c") "]}" },
                { "msg_3", "{\"text\":\"three\",\"attachments\":[7]}" },
        };
        WORLD(w);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;

                ASSERT_OK(signed_document_parse(&d, t[i].content, strlen(t[i].content)));
                say_content(&w, t[i].id, i > 0 ? "msg_1" : NULL, CONTENT_TYPE_ATTACHMENTS, signed_document_root(d));
        }
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        ASSERT_EQ(occurrences(w.text, "- attachments:\n"), 3);
        ASSERT_NOT_NULL(strstr(w.text, "- attachments:\n  - (not saved: a.md: the server could not be reached)\n"
                                       "  - (not saved: b.md: the server could not be reached)\n- message: one"));
        ASSERT_NOT_NULL(strstr(w.text, "- attachments:\n  - (not saved: c.md: the server could not be reached)\n"
                                       "- message: two"));
        ASSERT_NOT_NULL(strstr(w.text, "- attachments:\n  - (not saved: attachment: the message does not say properly "
                                       "what and where it is)\n- message: three"));
        end_with(&w, "seen");
}

/* However many there are in a thread: the model is shown each, once, oldest first. */
TEST(every_message_is_shown) {
        char id[32], text[32];
        WORLD(w);

        for (unsigned i = 0; i < 200; i++) {
                (void) snprintf(id, sizeof(id), "msg_%03u", i);
                (void) snprintf(text, sizeof(text), "this is number %03u", i);
                say(&w, id, "msg_000", text);
        }
        batches_poke(w.batches);
        while (begin(&w))
                end_with(&w, "seen");

        ASSERT_EQ(w.n_started, 4);
        for (unsigned i = 0, at = 0; i < 200; i++) {
                (void) snprintf(text, sizeof(text), "this is number %03u", i);
                ASSERT_EQ(occurrences(w.texts.text, text), 1);
                ASSERT_TRUE(strstr(w.texts.text + at, text));
                at = (unsigned) (strstr(w.texts.text, text) - w.texts.text);
        }
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM dispatch_state WHERE state = 'done'"), 200);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox"), 4);
}

/* Fifty long ones would be more than a model can read: the turn would fail, and all of them with it. */
TEST(long_messages_are_fewer_at_a_time) {
        char *text = malloc(15001), id[32];
        WORLD(w);

        ASSERT_NOT_NULL(text);
        memset(text, 'x', 15000);
        text[15000] = 0;
        for (unsigned i = 0; i < 20; i++) {
                (void) snprintf(id, sizeof(id), "msg_%03u", i);
                say(&w, id, "msg_000", text);
        }
        batches_poke(w.batches);
        while (begin(&w))
                end_with(&w, "seen");
        free(text);
        ASSERT_EQ(occurrences(w.texts.text, "- message: xxx"), 20);
        ASSERT_TRUE(w.longest < KIB(128) + KIB(8));
        ASSERT_TRUE(w.n_started <= 4);
}

static void exec(World *w, const char *sql) {
        ASSERT_OK(database_flush(w->db));
        ASSERT_OK(database_exec(w->db, sql));
}

/* A disk that is full stays so for a while: asking it again and again at once helps nobody. */
TEST(what_cannot_be_stored_waits) {
        _cleanup_free_ char *limit = NULL;
        char text[12001];
        uint64_t since;
        WORLD(w);

        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = 0;
        say(&w, "msg_1", NULL, text);
        limit = asprintf_new("PRAGMA max_page_count = %" PRId64, count(&w, "PRAGMA page_count"));
        exec(&w, limit);

        since = fake.now_usec;
        batches_poke(w.batches);
        ASSERT_FALSE(begin(&w));
        ASSERT_TRUE(fake.now_usec - since >= 50 * USEC_PER_SEC);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM dispatch_state WHERE state = 'queued'"), 1);

        exec(&w, "PRAGMA max_page_count = 1000000");
        ASSERT_TRUE(begin(&w));
        end_with(&w, "seen");
        ASSERT_EQ(w.n_started, 1);
}

/* §11.3: a model that makes no progress has failed, whatever it had said until then. */
TEST(no_progress_is_a_failure) {
        WORLD(w);

        say(&w, "msg_1", NULL, "hello");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        ASSERT_OK(turn_message_begin(w.running));
        ASSERT_OK(turn_message_delta(w.running, "Half a ", 7));
        end(&w, TURN_INCOMPLETE, "deadline");
        ASSERT_STREQ(w.error, "deadline");
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM dispatch_state WHERE state = 'failed'"), 1);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox"), 1);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox WHERE content LIKE '%problem on my side (deadline)%' "
                        "AND thread_root_id = 'msg_1' AND recipient_slug = 'bo-17fe'"), 1);

        /* What is only too long is an answer. */
        say(&w, "msg_2", NULL, "and now?");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        ASSERT_OK(turn_message_begin(w.running));
        ASSERT_OK(turn_message_delta(w.running, "Long", 4));
        end(&w, TURN_INCOMPLETE, "length");
        ASSERT_NULL(w.error);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox WHERE content = '\"Long\"'"), 1);
}

static int64_t cursor(World *w, const char *root) {
        int64_t at;

        ASSERT_OK(message_store_cursor(w->db, root, &at));
        return at;
}

/* §19 item 4: one wait for each batch, only where several agents might answer, and never for somebody else. */
TEST(a_wait_where_others_might_answer) {
        char id[32], more[32];
        uint64_t longest = 0;
        WORLD(w);

        ASSERT_OK(batches_configure(w.batches, "", 1500 * USEC_PER_MSEC));
        say(&w, "msg_dm", NULL, "directly");
        say_in_channel(&w, "msg_mention", NULL, "@" OWN_SLUG " hello");
        batches_poke(w.batches);
        for (unsigned i = 0; i < 2; i++) {
                fake_run(w.event);
                ASSERT_EQ(fake.last_delay_usec, 0);
                ASSERT_TRUE(begin(&w));
                end_with(&w, "seen");
        }
        for (unsigned i = 0; i < 40; i++) {
                unsigned n_timers = fake.n_timers;

                (void) snprintf(id, sizeof(id), "msg_%u", i);
                say_in_channel(&w, id, NULL, "anybody?");
                batches_poke(w.batches);
                fake_run(w.event);
                ASSERT_EQ(fake.n_timers, n_timers + 1);
                ASSERT_TRUE(fake.last_delay_usec <= 1500 * USEC_PER_MSEC);
                longest = MAX(longest, fake.last_delay_usec);
                /* What comes meanwhile is part of it and waits no second time. */
                (void) snprintf(more, sizeof(more), "msg_%u_more", i);
                say_in_channel(&w, more, id, "me, too");
                batches_poke(w.batches);
                fake_run(w.event);
                ASSERT_EQ(fake.n_timers, n_timers + 1);
                ASSERT_TRUE(begin(&w));
                ASSERT_EQ(occurrences(w.text, "- message: "), 2);
                end_with(&w, "seen");
                ASSERT_FALSE(begin(&w));
        }
        ASSERT_TRUE(longest > 500 * USEC_PER_MSEC);

        /* Somebody at the terminal is not kept waiting by it. */
        say_in_channel(&w, "msg_last", NULL, "anybody?");
        batches_poke(w.batches);
        fake_run(w.event);
        ASSERT_NULL(w.running);
        ASSERT_OK(turn_queue_submit(w.queue, &(TurnSubmission) {
                .id = "local", .text = "by terminal", .store = true, .now_usec = now_realtime_usec(),
        }, true, -EBADF));
        fake_run(w.event);
        ASSERT_NOT_NULL(w.running);
        ASSERT_STREQ(w.text, "by terminal");
        end(&w, TURN_COMPLETED, NULL);
        ASSERT_TRUE(begin(&w));
        ASSERT_NOT_NULL(strstr(w.text, "- post_id: msg_last\n"));
        end_with(&w, "seen");
}

/* §19 items 5 and 16, §11.3. */
TEST(what_a_failure_leaves_behind) {
        int64_t now = now_realtime_ms();
        WORLD(w);

        /* The provider has no time: the cursor stays, nothing is said, and a later success moves past it. */
        say(&w, "msg_1", NULL, "one");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        fail_with(&w, "rate-limit");
        ASSERT_STREQ(w.error, "rate-limit");
        ASSERT_EQ(cursor(&w, "msg_1"), 0);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox"), 0);
        ASSERT_FALSE(begin(&w));
        say(&w, "msg_2", "msg_1", "two");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        ASSERT_EQ(occurrences(w.text, "- message: "), 1);
        end_with(&w, "seen");
        ASSERT_EQ(cursor(&w, "msg_1"), 1001);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox"), 1);

        /* What fails for good is said once an hour in a thread. */
        for (unsigned i = 0; i < 2; i++) {
                say(&w, i == 0 ? "msg_3" : "msg_4", "msg_3", "three");
                batches_poke(w.batches);
                ASSERT_TRUE(begin(&w));
                fail_with(&w, "invalid-request");
        }
        ASSERT_TRUE(cursor(&w, "msg_3") > 0);
        ASSERT_TRUE(count(&w, "SELECT COUNT(*) FROM outbox WHERE key LIKE 'notice/msg_3/%'") <=
                    (now / 3600000 == now_realtime_ms() / 3600000 ? 1 : 2));

        /* A clock that is a century ahead mutes nobody. */
        take(&w, &(Message) { .kind = ENVELOPE_DM, .envelope_id = "msg_5", .recipient_slug = OWN_SLUG,
                              .content_type = CONTENT_TYPE_TEXT, .content = signed_string(w.document, "ahead"),
                              .sent_at = INT64_C(4102444800000) });
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        end_with(&w, "seen");
        ASSERT_TRUE(cursor(&w, "msg_5") >= now && cursor(&w, "msg_5") <= now_realtime_ms() + 600000);
        say(&w, "msg_6", "msg_5", "behind");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        ASSERT_NOT_NULL(strstr(w.text, "- message: behind"));
        end_with(&w, "seen");
}

/* §11.3: while the key is refused messages wait, the operator is told once a day, and all goes on with a key. */
TEST(a_key_that_is_refused) {
        WORLD(w);

        say(&w, "msg_1", NULL, "one");
        say(&w, "msg_2", NULL, "two");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        fail_with(&w, "auth");
        ASSERT_STREQ(w.error, "auth");
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM dispatch_state WHERE state = 'queued' AND attempts = 0"), 2);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox WHERE recipient_slug = 'olga-0001'"), 1);
        ASSERT_EQ(cursor(&w, "msg_1"), 0);
        fake_run(w.event);
        ASSERT_NULL(w.running);

        /* Half an hour later it is tried. */
        ASSERT_TRUE(begin(&w));
        ASSERT_EQ(fake.last_delay_usec, 0);
        fail_with(&w, "auth");
        ASSERT_TRUE(count(&w, "SELECT COUNT(*) FROM outbox WHERE recipient_slug = 'olga-0001'") <= 2);
        batches_resume(w.batches);
        for (unsigned i = 0; i < 2; i++) {
                ASSERT_TRUE(begin(&w));
                end_with(&w, "seen");
        }
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox WHERE recipient_slug = 'bo-17fe'"), 2);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM dispatch_state WHERE state = 'done'"), 2);
}

/* §11.2 */
TEST(where_answers_go) {
        WORLD(w);

        say_in_channel(&w, "msg_1", NULL, "@" OWN_SLUG " here");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        end_with(&w, "in the channel");
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox WHERE channel_id = 'ch_1' AND space_id = 'sp_1' AND "
                        "thread_root_id = 'msg_1' AND recipient_slug = ''"), 1);

        say(&w, "msg_2", NULL, "and here");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        end_with(&w, "no, [SILENT] that is");
        say(&w, "msg_3", NULL, "and here");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        w.running->n_answers = 1;
        end_with(&w, "I have sent it");
        say(&w, "msg_4", NULL, "and here");
        batches_poke(w.batches);
        ASSERT_TRUE(begin(&w));
        end(&w, TURN_CANCELLED, "interrupted");
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM outbox"), 1);
        ASSERT_EQ(count(&w, "SELECT COUNT(*) FROM dispatch_state WHERE state = 'done'"), 4);
}

TEST_MAIN();
