/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "session-storage"

/* Copies of an agent, what goes with time, and a database that is damaged or large. */

#include "database-damage.h"
#include "session-world.h"

TEST(backup) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        _cleanup_free_ char *path = path_join(f->directory, "copy.db");
        sd_bus_message *m;
        Database *copy;
        TurnRow *row;
        int fd;

        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=hi/completed completed");
        fd = open(path, O_CREAT|O_WRONLY|O_CLOEXEC, 0600);
        ASSERT_TRUE(fd >= 0);
        m = message_new(f, "BackupMessages");
        ASSERT_OK(sd_bus_message_append(m, "h", fd));
        (void) close(fd);
        ASSERT_NULL(call(f, m));
        ASSERT_EQ(database_open(&copy, path, NULL), 0);
        ASSERT_EQ(turn_store_get(copy, "one", &row), 1);
        ASSERT_STREQ(row->items[0].text, "hi");
        (void) turn_row_free(row);
        (void) database_free(copy);
}

/* What is under way stays the business of the original. */
TEST(backup_of_a_busy_agent) {
        static const Step steps[] = { { .silent = true } };
        static const struct { const char *id; TurnStatus original, copied; } t[] = {
                { "one", TURN_RUNNING, TURN_FAILED }, { "two", TURN_QUEUED, TURN_FAILED },
        };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        _cleanup_free_ char *path = path_join(f->directory, "copy.db");
        int readers[] = { submit(f, "one", "hi"), submit(f, "two", "ho") }, fd;
        sd_bus_message *m;
        Database *copy;

        WAIT(f, n_calls == 1);
        fd = open(path, O_CREAT|O_WRONLY|O_CLOEXEC, 0600);
        ASSERT_TRUE(fd >= 0);
        m = message_new(f, "BackupMessages");
        ASSERT_OK(sd_bus_message_append(m, "h", fd));
        (void) close(fd);
        ASSERT_NULL(call(f, m));
        ASSERT_EQ(database_open(&copy, path, NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                TurnRow *row;

                ASSERT_EQ(turn_store_get(copy, t[i].id, &row), 1);
                ASSERT_EQ(row->status, t[i].copied);
                ASSERT_TRUE(row->ended_usec > 0);
                (void) turn_row_free(row);
                ASSERT_EQ(turn_store_get(session_database(f->session), t[i].id, &row), 1);
                ASSERT_EQ(row->status, t[i].original);
                (void) turn_row_free(row);
                (void) close(readers[i]);
        }
        (void) database_free(copy);
}

/* An agent that was not running is copied file by file, with what a kill left in the queue. */
TEST(import_of_a_busy_agent) {
        static const Step steps[] = { { .silent = true }, { .deltas = { "a" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        _cleanup_free_ char *mark = path_join(f->directory, AGENT_MESSAGES_COPIED);
        int readers[] = { submit(f, "one", "hi"), submit(f, "two", "ho") };

        WAIT(f, n_calls == 1);
        f->session = session_free(f->session);
        puffod_disconnect(f);
        ASSERT_OK(file_write_atomic(mark, "", 0, 0600));
        session_open(f);
        ASSERT_TRUE(access(mark, F_OK) < 0);
        WAIT(f, f->n_registered == 2);
        assert_turn(f, "one", "failed", "");
        assert_turn(f, "two", "failed", "");
        assert_stream(f, submit(f, "three", "hi"), "queued started message_done=a/completed completed");
        for (size_t i = 0; i < ELEMENTSOF(readers); i++)
                (void) close(readers[i]);
}

static bool is_stored(Fixture *f, const char *id) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        return ASSERT_OK(turn_store_get(session_database(f->session), id, &row)) > 0;
}

/* Nobody talks to this agent, and nobody restarts it. */
TEST(old_turns_go_without_a_new_one) {
        static const char *const ids[] = { "one", "two" };
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);

        f->session = session_free(f->session);
        puffod_disconnect(f);
        f->sweep_usec = 50 * USEC_PER_MSEC;
        session_open(f);
        WAIT(f, f->n_registered == 2);
        for (unsigned i = 0; i < ELEMENTSOF(ids); i++) {
                assert_stream(f, submit(f, ids[i], "hi"), "queued started message_done=hi/completed completed");
                ASSERT_OK(database_exec(session_database(f->session), "UPDATE session_turns SET ended_usec = 1"));
                WAIT(f, !is_stored(f, ids[i]));
        }
}

/* The same through a pipe, whose reader takes its time. */
TEST(backup_through_a_pipe) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        sd_bus_message *m = message_new(f, "BackupMessages");
        _cleanup_free_ char *content = NULL;
        int fds[2];

        ASSERT_OK(pipe2(fds, O_CLOEXEC|O_NONBLOCK));
        ASSERT_OK(fcntl(fds[1], F_SETPIPE_SZ, 4096));
        ASSERT_OK(sd_bus_message_append(m, "h", fds[1]));
        (void) close(fds[1]);
        f->answered = false;
        ASSERT_OK(sd_bus_call_async(f->bus, NULL, m, on_reply, f, 0));
        (void) sd_bus_message_unref(m);
        content = stream_read(f, fds[0]);
        ASSERT_NOT_NULL(startswith(content, "SQLite format 3"));
        WAIT(f, f->answered);
        ASSERT_NULL(sd_bus_message_get_error(f->reply));
}

TEST(a_database_that_cannot_be_opened) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        _cleanup_free_ char *path = path_join(f->directory, "messages.db");
        int reader;

        f->session = session_free(f->session);
        puffod_disconnect(f);
        ASSERT_OK(unlink(path));
        ASSERT_OK(mkdir(path, 0700));
        session_open(f);
        WAIT(f, f->n_registered == 2 && streq(f->status, "failed"));
        ASSERT_NOT_NULL(strstr(f->status_text, "messages.db"));
        ASSERT_STREQ(submit_with(f, "one", "hi", NULL, NULL, &reader), PUFFO_ERROR_NOT_READY);
        ASSERT_OK(rmdir(path));
        ASSERT_NULL(call(f, message_new(f, "Reload")));
        WAIT(f, streq(f->status, "ready"));
        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=hi/completed completed");
}

/* Damage that no opener sees: the turn that meets it ends, and the next process begins with an empty file instead of
 * failing turn after turn. */
TEST(damage_that_a_turn_meets) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        _cleanup_free_ char *path = path_join(f->directory, "messages.db");
        Database *db;
        int reader;

        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=hi/completed completed");
        f->session = session_free(f->session);
        puffod_stop(f);
        ASSERT_EQ(database_open(&db, path, NULL), 0);
        table_damage(db, "conversation_messages");
        (void) database_free(db);
        /* Without retention nothing but a turn looks at messages. */
        credential_write(f, "{\"provider\":\"echo\",\"retention_days\":0}");
        for (unsigned i = 0; i < 2; i++) {
                (void) sd_event_unref(f->event);
                ASSERT_OK(sd_event_new(&f->event));
                puffod_start(f);
                f->n_reports = 0;
                session_open(f);
                WAIT(f, f->n_reports > 0 && f->bus);
                if (i > 0)
                        break;
                reader = submit(f, "two", "hi");
                ASSERT_EQ(sd_event_loop(f->event), EXIT_FAILURE);
                assert_stream(f, reader, "queued started failed=server_error/storage");
                f->session = session_free(f->session);
                puffod_stop(f);
        }
        assert_stream(f, submit(f, "three", "hi"), "queued started message_done=hi/completed completed");
}

/* A start that has to check a large file tells the service manager so, and only such a one. */
TEST(large_databases_have_time) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        _cleanup_free_ char *path = path_join(f->directory, "messages.db"), *socket_path = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char said[4096];

        socket_path = path_join(f->directory, "notify");
        (void) strncpy(address.sun_path, socket_path, sizeof(address.sun_path) - 1);
        fd = socket(AF_UNIX, SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);
        ASSERT_TRUE(fd >= 0);
        ASSERT_OK(bind(fd, (struct sockaddr*) &address, sizeof(address)));
        for (unsigned large = 0; large < 2; large++) {
                bool extended = false;
                ssize_t n;

                f->session = session_free(f->session);
                puffod_disconnect(f);
                if (large)
                        ASSERT_OK(truncate(path, (off_t) MIB(300)));
                f->n_reports = 0;
                ASSERT_OK(setenv("NOTIFY_SOCKET", socket_path, 1));
                session_open(f);
                WAIT(f, f->n_reports > 0 && f->bus);
                ASSERT_OK(unsetenv("NOTIFY_SOCKET"));
                while ((n = recv(fd, said, sizeof(said) - 1, 0)) > 0) {
                        said[n] = 0;
                        extended = extended || startswith(said, "EXTEND_TIMEOUT_USEC=900000000");
                }
                ASSERT_EQ(extended, large == 1);
                ASSERT_STREQ(f->status, "ready");
        }
}

TEST_MAIN();
