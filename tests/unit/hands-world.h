/* SPDX-License-Identifier: MIT */
#pragma once

/* Hands with a scripted CLI, which is a process as the real one is. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "conversation.h"
#include "event-util.h"
#include "fd-store.h"
#include "file-util.h"
#include "hands.h"
#include "json-util.h"
#include "run-store.h"
#include "string-util.h"
#include "tests.h"
#include "turn-queue.h"

/* ---- the world outside, which a crash of the session does not touch ---- */

static struct {
        pid_t pid;                      /* 0: none runs */
        bool frozen, no_freezing, no_thawing;
        unsigned n_settled;
        unsigned n_starts, n_stops, n_freezes, n_thaws, n_failures;
        bool codex_exec;                /* Codex is driven so */
        bool no_end, die_at_end;        /* of a double of this process that was made by fork() */
        int start_error;
        uint64_t retry_usec;            /* 0: hardly any */
        int stillborn;                  /* how the CLI ends before it reads a word; < 0: it does not */
        char *description, *sockets;
        char directory[64];
        const char *oom;
        struct { char *name; int fd; } store[8];
} world;

int fd_store_settle(void) {
        world.n_settled++;
        return 0;
}

int fd_store_send(const char *name, int fd) {
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (!world.store[i].name) {
                        world.store[i].name = strdup(name);
                        world.store[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, 100);
                        return 0;
                }
        return -ENOBUFS;
}

int fd_store_add(const char *name, int fd) {
        return fd_store_send(name, fd);
}

void fd_store_remove(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (streq_ptr(world.store[i].name, name)) {
                        (void) close(world.store[i].fd);
                        world.store[i].name = mfree(world.store[i].name);
                        return;         /* name may have been the very one */
                }
}

int fd_store_take(const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (streq_ptr(world.store[i].name, name))
                        return fcntl(world.store[i].fd, F_DUPFD_CLOEXEC, 100);
        return -ENOENT;
}

struct CliCall {
        sd_event_source *source;
        void (*started)(int error, const char *text, const char *invocation, void *userdata);
        void (*waited)(int error, const CliEnd *end, void *userdata);
        void (*stopped)(int error, void *userdata);
        void (*frozen)(int error, bool frozen, void *userdata);
        bool freeze;
        void *userdata;
};

static sd_event *loop;

static CliCall* call_new(void *userdata) {
        CliCall *c = new0(CliCall, 1);

        ASSERT_NOT_NULL(c);
        c->userdata = userdata;
        return c;
}

static CliCall* call_free(CliCall *c) {
        if (!c)
                return NULL;
        (void) sd_event_source_disable_unref(c->source);
        return mfree(c);
}

static const char* invocation(void) {
        static char text[33];

        (void) snprintf(text, sizeof(text), "%032x", world.n_starts);
        return text;
}

static int on_start(sd_event_source *s, void *userdata) {
        CliCall *c = userdata;
        siginfo_t si;

        if (world.stillborn >= 0)
                ASSERT_OK(waitid(P_PID, (id_t) world.pid, &si, WEXITED | WNOWAIT));
        if (world.n_failures > 0) {
                world.n_failures--;
                c->started(world.start_error, "There is no such sandbox here.", NULL, c->userdata);
        } else
                c->started(0, NULL, invocation(), c->userdata);
        return 0;
}

static int cli_start(const CliStart *what, const int fds[static 3],
                     void (*done)(int error, const char *text, const char *invocation, void *userdata), void *userdata,
                     CliCall **ret, void *backend) {
        world.n_starts++;
        free(world.description);
        world.description = strdup(what->description);
        if (world.n_failures == 0) {
                ASSERT_EQ(world.pid, 0);
                world.pid = fork();
                if (world.pid == 0) {
                        if (world.stillborn >= 0)
                                _exit(world.stillborn);
                        for (int i = 0; i < 3; i++)
                                (void) dup2(fds[i], i);
                        (void) execlp("python3", "python3", "-B", SCRIPTED_CLI, world.directory, NULL);
                        _exit(127);
                }
        }
        *ret = call_new(userdata);
        (*ret)->started = done;
        return sd_event_add_defer(loop, &(*ret)->source, on_start, *ret);
}

static int on_child(sd_event_source *s, const siginfo_t *si, void *userdata) {
        CliEnd end = {
                .result = si->si_code == CLD_EXITED && si->si_status == 0 ? "success" :
                          si->si_code == CLD_EXITED ? "exit-code" : world.oom ?: "signal",
                .code = si->si_code, .status = si->si_status, .memory_max = MIB(64),
        };
        CliCall *c = userdata;

        world.pid = 0;
        c->waited(0, &end, c->userdata);
        return 0;
}

/* It ended long ago. */
static int on_unknown(sd_event_source *s, void *userdata) {
        CliCall *c = userdata;

        c->waited(0, &(CliEnd) { .result = "unknown", .memory_max = UINT64_MAX }, c->userdata);
        return 0;
}

static int cli_wait(const char *run, void (*done)(int error, const CliEnd *end, void *userdata),
                    void *userdata, CliCall **ret, void *backend) {
        *ret = call_new(userdata);
        (*ret)->waited = done;
        if (!streq(run, invocation()) || world.pid == 0)
                return sd_event_add_defer(loop, &(*ret)->source, on_unknown, *ret);
        if (world.no_end)
                return 0;
        return sd_event_add_child(loop, &(*ret)->source, world.pid, WEXITED, on_child, *ret);
}

static void world_kill(void) {
        if (world.pid == 0)
                return;
        (void) kill(world.pid, SIGKILL);
        (void) waitpid(world.pid, NULL, 0);
        world.pid = 0;
}

static int on_stop(sd_event_source *s, void *userdata) {
        CliCall *c = userdata;

        world_kill();
        c->stopped(0, c->userdata);
        return 0;
}

static int cli_stop(void (*done)(int error, void *userdata), void *userdata, CliCall **ret, void *backend) {
        world.n_stops++;
        *ret = call_new(userdata);
        (*ret)->stopped = done;
        return sd_event_add_defer(loop, &(*ret)->source, on_stop, *ret);
}

static int on_freeze(sd_event_source *s, void *userdata) {
        CliCall *c = userdata;

        if (c->freeze ? !world.no_freezing : !world.no_thawing)
                world.frozen = c->freeze;
        ASSERT_OK(kill(world.pid, world.frozen ? SIGSTOP : SIGCONT));
        c->frozen(0, world.frozen, c->userdata);
        return 0;
}

static int cli_freeze(bool freeze, void (*done)(int error, bool frozen, void *userdata), void *userdata, CliCall **ret,
                      void *backend) {
        world.n_freezes += freeze;
        world.n_thaws += !freeze;
        *ret = call_new(userdata);
        (*ret)->frozen = done;
        (*ret)->freeze = freeze;
        return sd_event_add_defer(loop, &(*ret)->source, on_freeze, *ret);
}

static const CliBackend backend = {
        .start = cli_start, .wait = cli_wait, .stop = cli_stop, .freeze = cli_freeze, .call_free = call_free,
};

/* ---- a session's worth of what hands need ---- */

typedef struct Fixture {
        char *path;
        sd_event *event;
        Database *db;
        TurnQueue *queue;
        Budget *budget;
        Hands *hands;
        Outlet *outlet;
        ChatHealth health;
        char *waiting;
        unsigned n_prepared;
        char *unready;                  /* as it was told last */
} Fixture;

static int get_config(SessionConfig **ret, void *userdata) {
        int r = session_config_load(ret, "alice", world.directory, NULL);

        if (r >= 0)
                (*ret)->codex.exec = world.codex_exec;
        return r < 0 ? r : MIN(budget_configure(((Fixture*) userdata)->budget, *ret), 0);
}

static ToolBox* get_box(void *userdata) {
        return NULL;
}

static const char* get_working_directory(void *userdata) {
        return "";
}

/* Nobody calls it: what it would count, nobody else is to. */
static Outlet* get_outlet(void *userdata) {
        Fixture *f = userdata;

        if (!f->outlet)
                ASSERT_OK(outlet_new(&f->outlet, &(OutletSpec) {
                        .event = f->event, .agent = "alice", .model_fd = -EBADF, .proxy_fd = -EBADF,
                        .get_config = get_config, .userdata = f,
                }));
        return f->outlet;
}

static void on_end(Turn *t, TurnResult *result, void *userdata) {
        if (world.die_at_end)
                (void) raise(SIGKILL);
        turn_queue_end(((Fixture*) userdata)->queue, t, result);
}

static void on_health(ChatHealth health, void *userdata) {
        ((Fixture*) userdata)->health = health;
}

static void on_waiting(const char *text, void *userdata) {
        ASSERT_OK(free_and_strdup(&((Fixture*) userdata)->waiting, text));
}

static void on_prepared(const char *fault, void *userdata) {
        Fixture *f = userdata;

        f->n_prepared++;
        ASSERT_OK(free_and_strdup(&f->unready, fault));
}

static void on_broken(int error, void *userdata) {
        fail_msg("The database is taken for damaged: %s", strerror(-error));
}

static int driver_start(Turn *t, TurnRow *row, void *userdata) {
        return hands_start(((Fixture*) userdata)->hands, t, row, NULL);
}

static void driver_cancel(Turn *t, void *userdata) {
        Fixture *f = userdata;

        if (f->hands)
                hands_cancel(f->hands);
}

/* The hour does not end in the middle of a test. */
static uint64_t budget_now(void) {
        return 1772663400 * USEC_PER_SEC;
}

static void fixture_open(Fixture *f) {
        ASSERT_OK(sd_event_new(&f->event));
        loop = f->event;
        ASSERT_EQ(database_open(&f->db, f->path, NULL), 0);
        ASSERT_OK(turn_queue_new(&f->queue, f->event, f->db, &(TurnDriver) {
                .start = driver_start, .cancel = driver_cancel, .userdata = f,
        }));
        ASSERT_OK(budget_new(&f->budget, &(BudgetSpec) { .db = f->db, .now = budget_now }));
        ASSERT_OK(hands_new(&f->hands, &(HandsSpec) {
                .event = f->event, .db = f->db, .budget = f->budget, .backend = &backend, .directory = world.directory,
                .retry_min_usec = world.retry_usec ?: 1, .retry_max_usec = world.retry_usec ?: 2, .get_config = get_config, .get_box = get_box,
                .get_outlet = get_outlet, .get_working_directory = get_working_directory, .on_end = on_end,
                .on_health = on_health, .on_waiting = on_waiting, .on_prepared = on_prepared, .on_broken = on_broken,
                .userdata = f,
        }));
        ASSERT_OK(turn_queue_load(f->queue));
        turn_queue_set_enabled(f->queue, true);
}

/* All of it goes, as when the process is killed. */
static void fixture_crash(Fixture *f) {
        f->hands = hands_free(f->hands);
        turn_queue_abandon(f->queue);
        f->outlet = outlet_free(f->outlet);
        f->budget = budget_free(f->budget);
        f->queue = turn_queue_free(f->queue);
        f->db = database_free(f->db);
        f->event = sd_event_unref(f->event);
}

static void configure_as(const char *yaml) {
        _cleanup_free_ char *path = strjoin(world.directory, "/agent.yml");

        ASSERT_OK(file_write_atomic(path, yaml, strlen(yaml), 0600));
}

static void configure(const char *runtime) {
        _cleanup_free_ char *yaml = strjoin("runtime:\n  kind: cli-local\n  harness: claude-code\n", runtime);

        configure_as(yaml);
}

#define HERMES "runtime:\n  kind: cli-local\n  harness: hermes\n"
#define GEMINI "runtime:\n  kind: cli-local\n  harness: gemini-cli\n  provider: google\n"

_unused_ static void reload(Fixture *f) {
        _cleanup_(session_config_freep) SessionConfig *c = NULL;

        ASSERT_OK(get_config(&c, f));
        hands_reload(f->hands, c);
}

static Fixture* fixture_new(const char *runtime) {
        Fixture *f = new0(Fixture, 1);
        _cleanup_free_ char *workspace = NULL;
        sigset_t mask;

        ASSERT_NOT_NULL(f);
        memset(&world, 0, sizeof(world));
        world.stillborn = -1;
        (void) strcpy(world.directory, "/tmp/puffo-test-hands-XXXXXX");
        ASSERT_NOT_NULL(mkdtemp(world.directory));
        ASSERT_TRUE(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        ASSERT_OK(setenv("PUFFO_CLAUDE_BIN", SCRIPTED_CLI, 1));
        ASSERT_OK(setenv("PUFFO_HERMES_BIN", SCRIPTED_CLI, 1));
        ASSERT_OK(setenv("PUFFO_GEMINI_BIN", SCRIPTED_CLI, 1));
        ASSERT_OK(setenv("PUFFO_CODEX_BIN", SCRIPTED_CLI, 1));
        f->path = path_join(world.directory, "messages.db");
        workspace = path_join(world.directory, "workspace");
        ASSERT_OK(mkdir(workspace, 0700));
        configure(runtime);
        fixture_open(f);
        return f;
}

static void fixture_free(Fixture **p) {
        Fixture *f = *p;

        fixture_crash(f);
        world_kill();
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (world.store[i].name) {
                        (void) close(world.store[i].fd);
                        free(world.store[i].name);
                }
        (void) directory_remove(world.directory);
        free(world.description);
        free(f->path);
        free(f->waiting);
        free(f->unready);
        free(f);
}
#define _fixture_ _cleanup_(fixture_free)

static int submit(Fixture *f, const char *id, const char *text) {
        int fds[2];

        ASSERT_OK(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
        ASSERT_OK(turn_queue_submit(f->queue, &(TurnSubmission) {
                .id = id, .text = text, .store = true, .now_usec = now_realtime_usec(),
        }, true, fds[1]));
        return fds[0];
}

static void run_until(Fixture *f, bool (*done)(Fixture *f)) {
        while (!done(f))
                if (ASSERT_OK(sd_event_run(f->event, 20 * USEC_PER_SEC)) == 0)
                        fail_msg("Nothing happens any more (%s)", strempty(f->waiting));
}

static bool is_idle(Fixture *f) {
        return !turn_queue_running(f->queue) && turn_queue_length(f->queue) == 0;
}

_unused_ static bool has_died(Fixture *f) {
        return world.pid == 0;
}

/* Something of the answer has come. */
_unused_ static bool is_talking(Fixture *f) {
        Turn *t = turn_queue_running(f->queue);

        return t && t->open_item && t->open_text.size > 0;
}

_unused_ static bool is_frozen(Fixture *f) {
        return world.frozen;
}

static void assert_turn(Fixture *f, const char *id, const char *expected) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};

        ASSERT_EQ(turn_store_get(f->db, id, &row), 1);
        ASSERT_OK(strbuf_printf(&b, "%s%s%s%s", turn_status_to_string(row->status), row->reason,
                                *row->error_kind ? "/" : "", row->error_kind));
        for (size_t i = 0; i < row->n_items; i++)
                ASSERT_OK(strbuf_printf(&b, " %s%s", row->items[i].text, row->items[i].complete ? "" : "~"));
        ASSERT_STREQ(b.text, expected);
}

/* Submits and answers. */
static void answer(Fixture *f, const char *id, const char *text, const char *expected) {
        (void) close(submit(f, id, text));
        run_until(f, is_idle);
        assert_turn(f, id, expected);
}

/* What the CLI has seen: the kinds of its log, a letter each, texts in full. */
static char* cli_log(void) {
        _cleanup_free_ char *path = path_join(world.directory, "log"), *log = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        char *state;

        if (file_read(path, MIB(1), &log, NULL) < 0)
                return strdup("");
        for (char *line = strtok_r(log, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
                _cleanup_json_ json_object *o = NULL;
                const char *kind;

                ASSERT_OK(json_parse(line, strlen(line), &o));
                kind = json_get_string(o, "kind");
                if (streq(kind, "control"))
                        continue;
                ASSERT_OK(strbuf_printf(&b, "%s%s%s", b.size > 0 ? "|" : "", kind,
                                        strstr(line, "--resume") ? "+" : ""));
                if (streq(kind, "text"))
                        ASSERT_OK(strbuf_printf(&b, " %.40s", json_get_string(o, "text")));
        }
        return strbuf_take(&b);
}

_unused_ static char* file_text(const char *name) {
        _cleanup_free_ char *path = path_join(world.directory, name);
        char *text;

        ASSERT_OK(file_read(path, MIB(1), &text, NULL));
        return text;
}

_unused_ static void assert_log(const char *expected) {
        _cleanup_free_ char *log = cli_log();

        ASSERT_STREQ(log, expected);
}

_unused_ static void answer_in(Fixture *f, const char *id, const char *conversation, const char *previous,
                               const char *text, const char *expected) {
        int fds[2];

        ASSERT_OK(pipe2(fds, O_CLOEXEC | O_NONBLOCK));
        ASSERT_OK(turn_queue_submit(f->queue, &(TurnSubmission) {
                .id = id, .text = text, .conversation = conversation, .previous = previous, .store = true,
                .now_usec = now_realtime_usec(),
        }, true, fds[1]));
        (void) close(fds[0]);
        run_until(f, is_idle);
        assert_turn(f, id, expected);
}

_unused_ static void go(void) {
        _cleanup_free_ char *path = path_join(world.directory, "go");

        ASSERT_OK(file_write_snapshot(path, "", 0, 0600));
}

/* While nobody is there. */
_unused_ static void alter(Fixture *f, const char *sql) {
        _cleanup_(database_freep) Database *db = NULL;

        ASSERT_EQ(database_open(&db, f->path, NULL), 0);
        ASSERT_OK(database_exec(db, sql));
        ASSERT_EQ(database_changes(db), 1);
}
