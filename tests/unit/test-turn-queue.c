/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>

#include "file-util.h"
#include "event-util.h"
#include "json-util.h"
#include "tests.h"
#include "turn-queue.h"

#define STREAM_KEEP_USEC (600 * USEC_PER_SEC)

/* The clock of a test, and the timers for which a test cannot wait. */
static uint64_t clock_usec = 1000 * USEC_PER_SEC;
static unsigned n_timers;
static uint64_t timer_delay;
static sd_event_time_handler_t timer_callback;
static void *timer_userdata;

uint64_t __wrap_now_boottime_usec(void);
int __real_event_arm_timer(sd_event *event, sd_event_source **s, uint64_t delay, uint64_t accuracy,
                           sd_event_time_handler_t callback, void *userdata);
int __wrap_event_arm_timer(sd_event *event, sd_event_source **s, uint64_t delay, uint64_t accuracy,
                           sd_event_time_handler_t callback, void *userdata);

uint64_t __wrap_now_boottime_usec(void) {
        return clock_usec;
}

int __wrap_event_arm_timer(sd_event *event, sd_event_source **s, uint64_t delay, uint64_t accuracy,
                           sd_event_time_handler_t callback, void *userdata) {
        if (accuracy == 30 * USEC_PER_SEC) {
                n_timers += !*s;
                timer_delay = delay;
                timer_callback = callback;
                timer_userdata = userdata;
        }
        return __real_event_arm_timer(event, s, delay, accuracy, callback, userdata);
}

/* A driver whose turns end when the test says so. */
typedef struct Fixture {
        char *directory, *path;
        sd_event *event;
        Database *db;
        TurnQueue *queue;
        Turn *current;
        unsigned n_started, n_cancelled;
        char *last_text;
        unsigned n_offers, n_also, n_ended;
        uint64_t offered_since;
        bool hold;
        int also_error;
} Fixture;

static int driver_start(Turn *t, TurnRow *row, void *userdata) {
        Fixture *f = userdata;

        f->current = t;
        f->n_started++;
        free(f->last_text);
        f->last_text = strdup(row->text);
        (void) turn_row_free(row);
        return 0;
}

static void driver_cancel(Turn *t, void *userdata) {
        Fixture *f = userdata;

        ASSERT_TRUE(f->current == t);
        f->current = NULL;
        f->n_cancelled++;
}

static bool driver_offer(uint64_t waiting_since_usec, void *userdata) {
        Fixture *f = userdata;

        f->n_offers++;
        f->offered_since = waiting_since_usec;
        return f->hold;
}

static int driver_also(Database *db, const char *id, const TurnResult *result, void *userdata) {
        Fixture *f = userdata;

        f->n_also++;
        return f->also_error;
}

static void driver_ended(Turn *t, const TurnResult *result, void *userdata) {
        Fixture *f = userdata;

        f->n_ended++;
}

static void queue_open(Fixture *f) {
        ASSERT_EQ(database_open(&f->db, f->path, NULL), 0);
        ASSERT_OK(turn_queue_new(&f->queue, f->event, f->db, &(TurnDriver) {
                .start = driver_start, .cancel = driver_cancel, .offer = driver_offer, .also = driver_also,
                .ended = driver_ended, .patient_source = "patient", .userdata = f,
        }));
        ASSERT_OK(turn_queue_load(f->queue));
        turn_queue_set_enabled(f->queue, true);
}

static void queue_close(Fixture *f) {
        f->queue = turn_queue_free(f->queue);
        f->current = NULL;
        f->db = database_free(f->db);
}

static Fixture* fixture_new(void) {
        Fixture *f = new0(Fixture, 1);
        char template[] = "/tmp/puffo-test-queue-XXXXXX";

        ASSERT_NOT_NULL(f);
        ASSERT_NOT_NULL(mkdtemp(template));
        f->directory = strdup(template);
        f->path = strjoin(template, "/messages.db");
        ASSERT_OK(sd_event_new(&f->event));
        queue_open(f);
        return f;
}

static void fixture_free(Fixture **p) {
        Fixture *f = *p;

        queue_close(f);
        (void) sd_event_unref(f->event);
        (void) directory_remove(f->directory);
        free(f->last_text);
        free(f->directory);
        free(f->path);
        free(f);
}
#define _fixture_ _cleanup_(fixture_free)

static void settle(Fixture *f) {
        while (sd_event_run(f->event, 0) > 0)
                ;
}

static int submit_full(Fixture *f, const char *id, const char *previous, bool store, int *ret_reader) {
        int fds[2] = { -EBADF, -EBADF }, r;

        if (ret_reader)
                ASSERT_OK(pipe2(fds, O_CLOEXEC|O_NONBLOCK));
        r = turn_queue_submit(f->queue, &(TurnSubmission) {
                .id = id, .text = id, .previous = previous, .store = store, .now_usec = now_realtime_usec(),
        }, true, fds[1]);
        if (ret_reader && r < 0)
                (void) close(fds[0]);
        else if (ret_reader)
                *ret_reader = fds[0];
        return r;
}

static int submit(Fixture *f, const char *id) {
        return submit_full(f, id, NULL, true, NULL);
}

static void say(Fixture *f, const char *text) {
        if (!f->current->open_item)
                ASSERT_OK(turn_message_begin(f->current));
        ASSERT_OK(turn_message_delta(f->current, text, strlen(text)));
}

static void end(Fixture *f, TurnStatus status) {
        Turn *t = TAKE_PTR(f->current);

        ASSERT_NOT_NULL(t);
        turn_queue_end(f->queue, t, &(TurnResult) {
                .status = status, .error_code = status == TURN_FAILED ? "server_error" : NULL, .error_kind = "test",
        });
}

static TurnStatus stored_status(Fixture *f, const char *id) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        ASSERT_EQ(turn_store_get(f->db, id, &row), 1);
        return row->status;
}

/* The types of a stream's events, with the texts of finished messages; "|" when the stream has ended. Closes it. */
static char* events(int fd) {
        _cleanup_free_ char *text = calloc(1, 65536);
        StrBuf b = {};
        size_t size = 0;
        ssize_t n;
        int64_t seq = 0;

        while ((n = read(fd, text + size, 65535 - size)) > 0)
                size += (size_t) n;
        for (char *line = text, *next; *line; line = next) {
                _cleanup_json_ json_object *o = NULL;
                const char *type;

                next = strchr(line, '\n') + 1;
                ASSERT_OK(json_parse(line, (size_t) (next - line), &o));
                ASSERT_EQ(json_get_int(o, "seq", -1), seq++);
                type = json_get_string(o, "type");
                ASSERT_OK(strbuf_printf(&b, "%s%s", b.size > 0 ? " " : "", type));
                if (json_get_bool(o, "resumed", false))
                        ASSERT_OK(strbuf_puts(&b, "/resumed"));
                if (json_get_bool(o, "replayed", false))
                        ASSERT_OK(strbuf_puts(&b, "/replayed"));
                if (streq(type, "message_done"))
                        ASSERT_OK(strbuf_printf(&b, "=%s/%s", json_get_string(o, "text"),
                                                json_get_string(o, "status")));
                if (streq(type, "incomplete"))
                        ASSERT_OK(strbuf_printf(&b, "=%s", json_get_string(o, "reason")));
        }
        if (n == 0)
                ASSERT_OK(strbuf_puts(&b, "|"));
        (void) close(fd);
        return strbuf_take(&b);
}

static void assert_events(int fd, const char *expected) {
        _cleanup_free_ char *e = events(fd);

        ASSERT_STREQ(e, expected);
}

TEST(one_at_a_time_in_order) {
        _fixture_ Fixture *f = fixture_new();
        int reader;

        ASSERT_EQ(submit(f, "one"), 0);
        ASSERT_EQ(submit_full(f, "two", NULL, true, &reader), 0);
        settle(f);
        ASSERT_EQ(f->n_started, 1);
        ASSERT_STREQ(f->last_text, "one");
        ASSERT_EQ(turn_queue_length(f->queue), 1);
        ASSERT_EQ(stored_status(f, "two"), TURN_QUEUED);
        say(f, "1");
        end(f, TURN_COMPLETED);
        settle(f);
        ASSERT_STREQ(f->last_text, "two");
        ASSERT_EQ(stored_status(f, "two"), TURN_RUNNING);
        say(f, "a");
        say(f, "b");
        end(f, TURN_COMPLETED);
        settle(f);
        ASSERT_EQ(stored_status(f, "two"), TURN_COMPLETED);
        ASSERT_EQ(turn_queue_processed(f->queue), 2);
        assert_events(reader, "queued started message_started delta delta message_done=ab/completed completed|");
}

TEST(same_id_is_the_same_turn) {
        _fixture_ Fixture *f = fixture_new();
        int readers[3];

        ASSERT_EQ(submit_full(f, "one", NULL, true, readers + 0), 0);
        settle(f);
        ASSERT_EQ(submit_full(f, "one", NULL, true, readers + 1), 1);
        say(f, "x");
        end(f, TURN_COMPLETED);
        ASSERT_EQ(submit_full(f, "one", NULL, true, readers + 2), 1);
        settle(f);
        ASSERT_EQ(f->n_started, 1);
        for (size_t i = 0; i < ELEMENTSOF(readers); i++)
                assert_events(readers[i], "queued started message_started delta message_done=x/completed completed|");

        /* Also after a restart, when only the row is left. */
        queue_close(f);
        queue_open(f);
        ASSERT_EQ(turn_queue_open_stream(f->queue, "one", -EBADF), -ESTALE);
        ASSERT_EQ(submit_full(f, "one", NULL, true, readers), 1);
        settle(f);
        ASSERT_EQ(f->n_started, 1);
        assert_events(readers[0],
                      "queued/replayed started message_started delta message_done=x/completed completed|");
        ASSERT_EQ(turn_queue_open_stream(f->queue, "nobody", -EBADF), -ENOENT);
}

TEST(full_queue) {
        _fixture_ Fixture *f = fixture_new();
        char id[16];

        ASSERT_EQ(submit(f, "running"), 0);
        settle(f);
        for (unsigned i = 0; i < 32; i++) {
                (void) snprintf(id, sizeof(id), "t%u", i);
                ASSERT_EQ(submit(f, id), 0);
        }
        ASSERT_EQ(submit(f, "over"), -ENOBUFS);
        ASSERT_EQ(turn_queue_has_room(f->queue, "over", true), -ENOBUFS);
        ASSERT_EQ(turn_queue_has_room(f->queue, "over", false), -EAGAIN);
        ASSERT_EQ(turn_queue_has_room(f->queue, "t3", false), 0);
        ASSERT_EQ(submit(f, "t3"), 1);
        ASSERT_EQ(turn_queue_submit(f->queue, &(TurnSubmission) { .id = "x", .text = "x" }, false, -EBADF), -EAGAIN);
        ASSERT_EQ(turn_queue_interrupt(f->queue, "t0"), 1);
        ASSERT_EQ(turn_queue_has_room(f->queue, "over", true), 0);
        ASSERT_EQ(submit(f, "over"), 0);

        /* Who waits already is not turned away by a limit that has become lower. */
        turn_queue_set_limit(f->queue, 30);
        ASSERT_EQ(turn_queue_interrupt(f->queue, "t1"), 1);
        ASSERT_EQ(turn_queue_interrupt(f->queue, "t2"), 1);
        ASSERT_EQ(submit(f, "again"), -ENOBUFS);
        ASSERT_EQ(turn_queue_interrupt(f->queue, "t3"), 1);
        ASSERT_EQ(submit(f, "again"), 0);
        turn_queue_set_limit(f->queue, 31);
        ASSERT_EQ(submit(f, "more"), 0);
        ASSERT_EQ(submit(f, "too much"), -ENOBUFS);
}

TEST(previous) {
        _fixture_ Fixture *f = fixture_new();

        ASSERT_EQ(submit_full(f, "one", "nobody", true, NULL), -ENOENT);
        ASSERT_EQ(submit(f, "one"), 0);
        ASSERT_EQ(submit_full(f, "two", "one", true, NULL), -EINPROGRESS);
        settle(f);
        say(f, "x");
        end(f, TURN_COMPLETED);
        ASSERT_EQ(submit_full(f, "two", "one", true, NULL), 0);
        settle(f);
        ASSERT_STREQ(f->current->conversation, "");
        end(f, TURN_COMPLETED);
        ASSERT_EQ(submit_full(f, "three", "one", true, NULL), 0);
        settle(f);
        ASSERT_STREQ(f->current->conversation, "~three");
        end(f, TURN_COMPLETED);
}

TEST(interrupt) {
        _fixture_ Fixture *f = fixture_new();
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        int running, waiting;

        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 0);
        ASSERT_EQ(submit_full(f, "one", NULL, true, &running), 0);
        ASSERT_EQ(submit_full(f, "two", NULL, true, &waiting), 0);
        settle(f);
        say(f, "par");
        ASSERT_EQ(turn_queue_interrupt(f->queue, "two"), 1);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        ASSERT_EQ(f->n_cancelled, 1);
        settle(f);
        ASSERT_EQ(f->n_started, 1);
        ASSERT_EQ(turn_queue_interrupt(f->queue, "one"), 0);
        assert_events(running,
                      "queued started message_started delta message_done=par/incomplete incomplete=interrupted|");
        assert_events(waiting, "queued incomplete=interrupted|");

        ASSERT_EQ(turn_queue_get(f->queue, "one", &row), 1);
        ASSERT_EQ(row->status, TURN_CANCELLED);
        ASSERT_STREQ(row->items[0].text, "par");
        ASSERT_FALSE(row->items[0].complete);
}

TEST(delete_ends_and_forgets) {
        _fixture_ Fixture *f = fixture_new();
        TurnRow *row = NULL;

        ASSERT_EQ(submit(f, "one"), 0);
        settle(f);
        ASSERT_EQ(turn_queue_delete(f->queue, "one"), 1);
        ASSERT_EQ(f->n_cancelled, 1);
        ASSERT_EQ(turn_queue_get(f->queue, "one", &row), 0);
        ASSERT_EQ(turn_queue_open_stream(f->queue, "one", -EBADF), -ENOENT);
        ASSERT_EQ(turn_queue_delete(f->queue, "one"), 0);
        ASSERT_EQ(submit(f, "one"), 0);
}

TEST(not_to_be_stored) {
        _fixture_ Fixture *f = fixture_new();
        TurnRow *row = NULL;

        ASSERT_EQ(submit_full(f, "one", NULL, false, NULL), 0);
        settle(f);
        ASSERT_EQ(turn_queue_get(f->queue, "one", &row), 1);
        row = turn_row_free(row);
        say(f, "x");
        end(f, TURN_COMPLETED);
        ASSERT_EQ(turn_queue_get(f->queue, "one", &row), 0);
        ASSERT_EQ(submit_full(f, "two", "one", true, NULL), -ENOENT);
        ASSERT_EQ(submit(f, "one"), 1);         /* but still the same turn */
}

static void end_one(Fixture *f, const char *id, bool store) {
        ASSERT_EQ(submit_full(f, id, NULL, store, NULL), 0);
        settle(f);
        end(f, TURN_COMPLETED);
}

static bool row_is_there(Fixture *f, const char *id) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        return turn_store_get(f->db, id, &row) == 1;
}

/* However many have ended, one timer is enough; and each goes when its own time has come, not with the first one. */
TEST(streams_expire_one_by_one) {
        _fixture_ Fixture *f = fixture_new();

        n_timers = 0;
        end_one(f, "one", false);
        ASSERT_EQ(timer_delay, STREAM_KEEP_USEC);
        clock_usec += 60 * USEC_PER_SEC;
        end_one(f, "two", false);
        end_one(f, "three", true);
        ASSERT_EQ(n_timers, 1U);

        clock_usec += STREAM_KEEP_USEC - 60 * USEC_PER_SEC;
        ASSERT_OK(timer_callback(NULL, 0, timer_userdata));
        ASSERT_FALSE(row_is_there(f, "one"));
        ASSERT_TRUE(row_is_there(f, "two"));
        ASSERT_EQ(timer_delay, 60 * USEC_PER_SEC);

        clock_usec += 60 * USEC_PER_SEC;
        timer_delay = 0;
        ASSERT_OK(timer_callback(NULL, 0, timer_userdata));
        ASSERT_FALSE(row_is_there(f, "two"));
        ASSERT_TRUE(row_is_there(f, "three"));  /* its stream can be made anew at any time */
        ASSERT_EQ(timer_delay, 0U);             /* none is left, and none is awaited */
        end_one(f, "four", true);
        ASSERT_EQ(timer_delay, STREAM_KEEP_USEC);
        ASSERT_EQ(n_timers, 1U);
}

/* What has ended is read from the database; its stream, and nothing else of it, stays in memory. */
TEST(ended_turns_hold_their_stream_alone) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        _fixture_ Fixture *f = fixture_new();
        int reader = -EBADF;
        Turn *t;

        ASSERT_EQ(submit_full(f, "one", NULL, true, &reader), 0);
        settle(f);
        t = f->current;
        t->context = strdup("context");
        ASSERT_OK(strbuf_puts(&t->spoken, "said"));
        say(f, "x");
        end(f, TURN_COMPLETED);
        ASSERT_NULL(t->context);
        ASSERT_NULL(t->spoken.text);
        ASSERT_NULL(t->items);
        ASSERT_EQ(t->n_items, 0U);
        ASSERT_EQ(turn_queue_get(f->queue, "one", &row), 1);
        ASSERT_EQ(row->n_items, 1U);
        ASSERT_STREQ(row->items[0].text, "x");
        assert_events(reader, "queued started message_started delta message_done=x/completed completed|");
}

TEST(running_turns_show_what_is_there) {
        _fixture_ Fixture *f = fixture_new();
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        ASSERT_EQ(submit(f, "one"), 0);
        settle(f);
        say(f, "first");
        ASSERT_OK(turn_message_end(f->current, false));
        say(f, "sec");
        ASSERT_EQ(turn_queue_get(f->queue, "one", &row), 1);
        ASSERT_EQ(row->status, TURN_RUNNING);
        ASSERT_EQ(row->n_items, 1);
        ASSERT_STREQ(row->items[0].text, "first");
        end(f, TURN_COMPLETED);
}

/* Dies in a child at a chosen moment, without any goodbye. */
typedef enum Moment { DIE_QUEUED, DIE_RUNNING, DIE_TALKING, DIE_ENDED } Moment;

static void run_and_die(Fixture *f, const char *id, bool fresh, Moment moment) {
        int status;
        pid_t pid;

        queue_close(f);
        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                /* An epoll descriptor is not to be shared with the parent. */
                sd_event *event;

                if (sd_event_new(&event) < 0)
                        _exit(1);
                f->event = event;
                queue_open(f);
                if (fresh && submit(f, id) < 0)
                        _exit(1);
                if (moment == DIE_QUEUED)
                        _exit(0);
                settle(f);
                if (!f->current)
                        _exit(1);
                if (moment >= DIE_TALKING)
                        say(f, "lost");
                if (moment >= DIE_ENDED)
                        end(f, TURN_COMPLETED);
                _exit(0);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_EQ(status, 0);
        queue_open(f);
}

TEST(killed_at_each_step) {
        static const struct { Moment moment; bool runs; const char *events; } t[] = {
                { DIE_QUEUED, true, "queued started message_started delta message_done=x/completed completed|" },
                { DIE_RUNNING, true,
                  "queued/resumed restarted started message_started delta message_done=x/completed completed|" },
                { DIE_TALKING, true,
                  "queued/resumed restarted started message_started delta message_done=x/completed completed|" },
                { DIE_ENDED, false,
                  "queued/replayed started message_started delta message_done=lost/completed completed|" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _fixture_ Fixture *f = fixture_new();
                int reader;

                run_and_die(f, "one", true, t[i].moment);
                ASSERT_EQ(submit_full(f, "one", NULL, true, &reader), 1);
                settle(f);
                ASSERT_EQ(f->n_started, t[i].runs);
                if (t[i].runs) {
                        say(f, "x");
                        end(f, TURN_COMPLETED);
                }
                settle(f);
                assert_events(reader, t[i].events);
        }
}

TEST(cut_short_twice_is_given_up) {
        _fixture_ Fixture *f = fixture_new();
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        int reader;

        run_and_die(f, "one", true, DIE_TALKING);
        run_and_die(f, "one", false, DIE_TALKING);
        settle(f);
        ASSERT_EQ(f->n_started, 0);
        ASSERT_EQ(turn_queue_get(f->queue, "one", &row), 1);
        ASSERT_EQ(row->status, TURN_FAILED);
        ASSERT_STREQ(row->error_code, "server_error");
        ASSERT_STREQ(row->error_message, "agent process exited");
        ASSERT_EQ(submit_full(f, "one", NULL, true, &reader), 1);
        settle(f);
        assert_events(reader, "queued/replayed restarted started failed|");
}

/* The answer of a second attempt names its messages anew. */
TEST(items_of_a_second_attempt) {
        _fixture_ Fixture *f = fixture_new();

        run_and_die(f, "one", true, DIE_TALKING);
        settle(f);
        ASSERT_OK(turn_message_begin(f->current));
        ASSERT_STREQ(f->current->open_item, "one_2_0");
        end(f, TURN_COMPLETED);
}

TEST(abandoned_turns_run_again) {
        _fixture_ Fixture *f = fixture_new();
        int reader;

        ASSERT_EQ(submit_full(f, "one", NULL, true, &reader), 0);
        settle(f);
        turn_queue_set_enabled(f->queue, false);
        turn_queue_abandon(f->queue);
        ASSERT_EQ(f->n_cancelled, 1);
        ASSERT_EQ(stored_status(f, "one"), TURN_RUNNING);
        assert_events(reader, "queued started|");
        queue_close(f);
        queue_open(f);
        settle(f);
        ASSERT_EQ(f->n_started, 2);
        end(f, TURN_COMPLETED);
}

TEST(stale_turns_are_given_up) {
        _fixture_ Fixture *f = fixture_new();

        turn_queue_set_enabled(f->queue, false);
        ASSERT_EQ(submit(f, "one"), 0);
        ASSERT_OK(database_exec(f->db, "UPDATE session_turns SET created_usec = created_usec - 3 * 86400000000"));
        queue_close(f);
        queue_open(f);
        settle(f);
        ASSERT_EQ(f->n_started, 0);
        ASSERT_EQ(stored_status(f, "one"), TURN_FAILED);
}

/* An answer that cannot be stored is not given. */
static void assert_failed(Fixture *f, const char *id, const char *kind) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        ASSERT_EQ(turn_queue_get(f->queue, id, &row), 1);
        ASSERT_EQ(row->status, TURN_FAILED);
        ASSERT_STREQ(row->error_code, "server_error");
        ASSERT_STREQ(row->error_kind, kind);
        ASSERT_TRUE(row->ended_usec > 0);
}

TEST(failing_store) {
        _fixture_ Fixture *f = fixture_new();
        int reader;

        ASSERT_EQ(submit_full(f, "one", NULL, true, &reader), 0);
        settle(f);
        say(f, "x");
        ASSERT_OK(database_exec(f->db, "CREATE TRIGGER t BEFORE INSERT ON session_turn_items BEGIN "
                                       "SELECT RAISE(ABORT, 'no'); END"));
        end(f, TURN_COMPLETED);
        settle(f);
        assert_events(reader, "queued started message_started delta message_done=x/completed failed|");
        /* What could be stored is what was said. */
        ASSERT_EQ(stored_status(f, "one"), TURN_FAILED);
}

/* Somebody who was told of a failure asks again under another id: what he was told of must not run again. */
TEST(failing_store_that_recovers) {
        for (unsigned i = 0; i < 3; i++) {
                _fixture_ Fixture *f = fixture_new();
                int reader;

                ASSERT_EQ(submit_full(f, "one", NULL, true, &reader), 0);
                settle(f);
                say(f, "x");
                ASSERT_OK(database_exec(f->db, "CREATE TRIGGER t BEFORE UPDATE ON session_turns BEGIN "
                                               "SELECT RAISE(ABORT, 'no'); END"));
                end(f, TURN_COMPLETED);
                settle(f);
                assert_events(reader, "queued started message_started delta message_done=x/completed failed|");
                ASSERT_EQ(stored_status(f, "one"), TURN_RUNNING);
                assert_failed(f, "one", "storage");
                ASSERT_EQ(f->n_started, 1);

                ASSERT_OK(database_exec(f->db, "DROP TRIGGER t"));
                if (i == 0) {
                        ASSERT_EQ(submit(f, "two"), 0);
                        settle(f);
                        ASSERT_EQ(f->n_started, 2);
                        ASSERT_STREQ(f->last_text, "two");
                        end(f, TURN_COMPLETED);
                        ASSERT_EQ(stored_status(f, "one"), TURN_FAILED);
                }
                /* i == 1: nothing more happens before the process ends in good order. */
                if (i == 2)
                        ASSERT_EQ(turn_queue_delete(f->queue, "one"), 1);
                f->n_started = 0;
                queue_close(f);
                queue_open(f);
                settle(f);
                ASSERT_EQ(f->n_started, 0);
                if (i < 2)
                        ASSERT_EQ(stored_status(f, "one"), TURN_FAILED);
        }
}

static int submit_first(Fixture *f, const char *id) {
        return turn_queue_submit_first(f->queue, &(TurnSubmission) {
                .id = id, .text = id, .source = "patient", .store = true, .now_usec = now_realtime_usec(),
        });
}

/* Whoever has something better says so before a turn begins, and nothing begins until it is there. */
TEST(others_go_first) {
        _fixture_ Fixture *f = fixture_new();

        settle(f);
        ASSERT_EQ(f->n_offers, 1);
        ASSERT_EQ(f->offered_since, UINT64_MAX);
        f->hold = true;
        ASSERT_EQ(submit(f, "one"), 0);
        settle(f);
        ASSERT_EQ(f->n_offers, 2);
        ASSERT_TRUE(f->offered_since != UINT64_MAX);
        ASSERT_EQ(f->n_started, 0);

        ASSERT_EQ(submit_first(f, "first"), 0);
        settle(f);
        ASSERT_STREQ(f->last_text, "first");
        ASSERT_EQ(f->n_offers, 2);
        f->hold = false;
        end(f, TURN_COMPLETED);
        settle(f);
        ASSERT_STREQ(f->last_text, "one");
        end(f, TURN_COMPLETED);
        settle(f);
        ASSERT_EQ(f->offered_since, UINT64_MAX);
        turn_queue_poke(f->queue);
        settle(f);
        ASSERT_EQ(f->n_offers, 5);
        ASSERT_EQ(f->n_also, 2);
        ASSERT_EQ(f->n_ended, 2);
}

static int refuse(Database *db, const char *id, void *userdata) {
        return -ENOENT;
}

static void expect_no_turn(Fixture *f, const char *id) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        ASSERT_EQ(turn_store_get(f->db, id, &row), 0);
}

TEST(what_belongs_to_a_turn_is_true_with_it) {
        _fixture_ Fixture *f = fixture_new();

        ASSERT_EQ(turn_queue_submit_first(f->queue, &(TurnSubmission) {
                .id = "one", .text = "one", .store = true, .now_usec = 1, .also = refuse,
        }), -ENOENT);
        expect_no_turn(f, "one");
        ASSERT_EQ(turn_queue_length(f->queue), 0);

        /* An end whose other half fails has not come to be. */
        ASSERT_EQ(submit(f, "two"), 0);
        settle(f);
        f->also_error = -EIO;
        end(f, TURN_COMPLETED);
        ASSERT_EQ(stored_status(f, "two"), TURN_RUNNING);
        ASSERT_EQ(f->n_ended, 0);
        f->also_error = 0;
}

/* Nobody would ask again for a turn of this source. */
TEST(patient_turns_outlive_a_full_disk) {
        _fixture_ Fixture *f = fixture_new();

        ASSERT_EQ(submit_first(f, "one"), 0);
        ASSERT_EQ(submit(f, "two"), 0);
        settle(f);
        say(f, "x");
        ASSERT_OK(database_exec(f->db, "CREATE TRIGGER t BEFORE UPDATE ON session_turns BEGIN "
                                       "SELECT RAISE(ABORT, 'no'); END"));
        end(f, TURN_COMPLETED);
        settle(f);
        ASSERT_EQ(stored_status(f, "one"), TURN_RUNNING);
        ASSERT_EQ(f->n_ended, 0);
        ASSERT_EQ(f->n_started, 1);
        ASSERT_EQ(turn_queue_length(f->queue), 2);

        ASSERT_OK(database_exec(f->db, "DROP TRIGGER t"));
        queue_close(f);
        queue_open(f);
        settle(f);
        ASSERT_EQ(f->n_started, 2);
        ASSERT_STREQ(f->last_text, "one");
        say(f, "y");
        end(f, TURN_COMPLETED);
        ASSERT_EQ(stored_status(f, "one"), TURN_COMPLETED);
        ASSERT_EQ(f->n_ended, 1);
}

#define TEST_SUITE "turn-queue"
TEST_MAIN();
