/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "hands"

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
#include "hands-cause.h"
#include "json-util.h"
#include "run-store.h"
#include "step-store.h"
#include "string-util.h"
#include "tests.h"
#include "turn-queue.h"
#include "usage-store.h"

/* Hands with a scripted CLI, which is a process as the real one is. */

/* ---- the world outside, which a crash of the session does not touch ---- */

static struct {
        pid_t pid;                      /* 0: none runs */
        bool frozen, no_freezing, no_thawing;
        unsigned n_settled;
        unsigned n_starts, n_stops, n_freezes, n_thaws, n_failures;
        bool no_end, die_at_end;        /* of a double of this process that was made by fork() */
        int start_error;
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
} Fixture;

static int get_config(SessionConfig **ret, void *userdata) {
        int r = session_config_load(ret, "alice", world.directory, NULL);

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
                .retry_min_usec = 1, .retry_max_usec = 2, .get_config = get_config, .get_box = get_box,
                .get_outlet = get_outlet, .get_working_directory = get_working_directory, .on_end = on_end,
                .on_health = on_health, .on_waiting = on_waiting, .on_broken = on_broken, .userdata = f,
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

static void reload(Fixture *f) {
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
        (void) strcpy(world.directory, "/tmp/puffo-test-hands-XXXXXX");
        ASSERT_NOT_NULL(mkdtemp(world.directory));
        ASSERT_TRUE(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        ASSERT_OK(setenv("PUFFO_CLAUDE_BIN", SCRIPTED_CLI, 1));
        ASSERT_OK(setenv("PUFFO_HERMES_BIN", SCRIPTED_CLI, 1));
        ASSERT_OK(setenv("PUFFO_GEMINI_BIN", SCRIPTED_CLI, 1));
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

static bool has_died(Fixture *f) {
        return world.pid == 0;
}

/* Something of the answer has come. */
static bool is_talking(Fixture *f) {
        Turn *t = turn_queue_running(f->queue);

        return t && t->open_item && t->open_text.size > 0;
}

static bool is_frozen(Fixture *f) {
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

static char* file_text(const char *name) {
        _cleanup_free_ char *path = path_join(world.directory, name);
        char *text;

        ASSERT_OK(file_read(path, MIB(1), &text, NULL));
        return text;
}

static void assert_log(const char *expected) {
        _cleanup_free_ char *log = cli_log();

        ASSERT_STREQ(log, expected);
}

/* ---- */

TEST(two_turns_of_one_process) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        answer(f, "t1", "Hello", "completed You said: Hello");
        answer(f, "t2", "[[reply: One]] [[reply: Two]]", "completed One Two");
        assert_log("start|text Hello|text [[reply: One]] [[reply: Two]]");
        ASSERT_EQ(world.n_starts, 1);
        ASSERT_EQ(world.n_settled, 1);
        ASSERT_STREQ(world.description, "Claude Code of AI agent alice");
        ASSERT_EQ(f->health, CHAT_HEALTH_OK);
        ASSERT_EQ(turn_store_get(f->db, "t2", &row), 1);
        ASSERT_EQ(row->usage.input_tokens, 15);
        ASSERT_EQ(row->usage.cached_tokens, 3);
        ASSERT_EQ(row->usage.output_tokens, 5);
}

/* agent-home §5.10: a letter each for the events, and what is said in full. */
static char* audit_log(void) {
        _cleanup_free_ char *path = path_join(world.directory, "workspace/.puffo-agent/audit.log"), *log = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        char *state;

        ASSERT_OK(file_read(path, MIB(1), &log, NULL));
        for (char *line = strtok_r(log, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
                _cleanup_json_ json_object *o = NULL;
                const char *text;

                ASSERT_OK(json_parse(line, strlen(line), &o));
                ASSERT_STREQ(json_get_string(o, "agent"), "alice");
                text = json_get_string(o, "content") ?: json_get_string(o, "text") ?: json_get_string(o, "name");
                ASSERT_OK(strbuf_printf(&b, "%s%s%s%s", b.size > 0 ? "|" : "", json_get_string(o, "event"),
                                        text ? " " : "", strempty(text)));
                if (json_get(o, "reply_len"))
                        ASSERT_OK(strbuf_printf(&b, " %" PRIi64 " %" PRIi64, json_get_int(o, "reply_len", -1),
                                                json_get_int(o, "tool_calls", -1)));
        }
        return strbuf_take(&b);
}

TEST(audit) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        answer(f, "t1", "[[tool: Bash]] [[reply: Döne]]", "completed Döne");
        answer(f, "t2", "[[auth]]", "failed/auth");
        log = audit_log();
        ASSERT_STREQ(log, "session.start|turn.input [[tool: Bash]] [[reply: Döne]]|tool Bash|assistant.text Döne|"
                          "turn.end 4 1|turn.input [[auth]]|auth_error.detected|turn.end 0 0");
}

/* The CLI has a login of its own, so that only its word is known of what it uses. */
TEST(budget) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 30}\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        answer(f, "t2", "Hello", "completed You said: Hello");
        answer(f, "t3", "Never", "failed/budget");
        assert_log("start|text Hello|text Hello");
        fixture_crash(f);
        fixture_open(f);
        answer(f, "t4", "Never", "failed/budget");
        configure("limits: {tokens_per_hour: 1000}\n");
        answer(f, "t5", "Again", "completed You said: Again");
}

TEST(taken_over_in_the_middle_of_a_turn) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *go = path_join(world.directory, "go");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        ASSERT_OK(file_write_snapshot(go, "", 0, 0600));
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        assert_log("start|text [[wait]]");
        answer(f, "t2", "More", "completed You said: More");
        ASSERT_EQ(world.n_starts, 1);
}

/* It has ended its turn while nobody was there. */
TEST(taken_over_behind_a_turn) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *go = path_join(world.directory, "go");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        ASSERT_OK(file_write_snapshot(go, "", 0, 0600));
        (void) usleep(300000);
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        ASSERT_EQ(world.n_starts, 1);
}

TEST(taken_over_when_idle) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t1", "Hello", "completed You said: Hello");
        fixture_crash(f);
        fixture_open(f);
        answer(f, "t2", "Again", "completed You said: Again");
        assert_log("start|text Hello|text Again");
}

/* Both go: the conversation is taken up, and the turn is told to be finished. */
TEST(both_die) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *go = path_join(world.directory, "go"), *log = NULL;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        world_kill();
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (world.store[i].name)
                        fd_store_remove(world.store[i].name);
        ASSERT_OK(file_write_snapshot(go, "", 0, 0600));
        fixture_open(f);
        run_until(f, is_idle);
        log = cli_log();
        ASSERT_NOT_NULL(strstr(log, "|start+|text [puffo-agent system message] you were"));
        ASSERT_EQ(world.n_starts, 2);
}

/* The end of its process is known before its last words are read. */
TEST(says_farewell) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        (void) close(submit(f, "t1", "[[bye]]"));
        run_until(f, is_idle);
        ASSERT_EQ(turn_store_get(f->db, "t1", &row), 1);
        ASSERT_STREQ(turn_status_to_string(row->status), "completed");
        ASSERT_EQ(row->n_items, 25);
        ASSERT_EQ(world.n_starts, 1);
}

TEST(said_farewell_when_nobody_was_there) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *go = path_join(world.directory, "go"), *leave = path_join(world.directory, "leave");
        siginfo_t si;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        ASSERT_OK(file_write_snapshot(leave, "", 0, 0600));
        ASSERT_OK(file_write_snapshot(go, "", 0, 0600));
        ASSERT_OK(waitid(P_PID, (id_t) world.pid, &si, WEXITED | WNOWAIT));
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        ASSERT_EQ(world.n_starts, 1);
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(world.n_starts, 2);
}

TEST(the_cli_dies) {
        _fixture_ Fixture *f = fixture_new("");

        _cleanup_free_ char *log = NULL;

        /* It had taken the text in: that is in the conversation which the second one goes on with. */
        (void) close(submit(f, "t1", "[[die: 3]]"));
        run_until(f, is_idle);
        log = cli_log();
        ASSERT_NOT_NULL(strstr(log, "start|text [[die: 3]]|start+|text [puffo-agent system message] you were"));
        ASSERT_EQ(world.n_starts, 2);
}

TEST(the_cli_dies_behind_a_tool) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        (void) close(submit(f, "t1", "[[tool: Bash]] [[wait]]"));
        run_until(f, is_talking);
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, is_idle);
        ASSERT_EQ(turn_store_get(f->db, "t1", &row), 1);
        ASSERT_STREQ(row->error_kind, "harness-gone");
        ASSERT_STREQ(row->error_message, "The agent's CLI was ended by signal KILL.");
        ASSERT_EQ(world.n_starts, 1);
}

TEST(the_cli_is_out_of_memory) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        world.oom = "oom-kill";
        (void) close(submit(f, "t1", "[[tool: Bash]] [[wait]]"));
        run_until(f, is_talking);
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, is_idle);
        ASSERT_EQ(turn_store_get(f->db, "t1", &row), 1);
        ASSERT_STREQ(row->error_message,
                     "The agent's CLI was ended because it had reached its memory limit of 64 MiB.");
}

/* What puffo-sandbox says by its exit status. */
TEST(ends_of_the_sandbox) {
        static const struct { int status; const char *told; } t[] = {
                { 78, "this machine cannot give it the sandbox" }, { 79, "may only read was replaced while it ran" },
                { 80, "exit status 80" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                const CliEnd end = { .result = "exit-code", .code = CLD_EXITED, .status = t[i].status };
                _cleanup_free_ char *told = hands_cause_describe(&end);

                ASSERT_NOT_NULL(strstr(told, t[i].told));
        }
}

TEST(interrupted) {
        _fixture_ Fixture *f = fixture_new("");

        (void) close(submit(f, "t1", "[[hang]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        assert_turn(f, "t1", "cancelledinterrupted Half an ~");
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(world.n_starts, 1);
        ASSERT_EQ(world.n_stops, 0);
}

/* What says no more than that the CLI is there does not keep a turn alive. */
TEST(noise_is_no_progress) {
        _fixture_ Fixture *f = fixture_new("  task_timeout_seconds: 1\n");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        (void) close(submit(f, "t1", "[[noise]]"));
        run_until(f, is_idle);
        ASSERT_EQ(turn_store_get(f->db, "t1", &row), 1);
        ASSERT_EQ(row->status, TURN_INCOMPLETE);
        ASSERT_STREQ(row->reason, "deadline");
}

TEST(does_not_know_its_conversation) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *sessions = path_join(world.directory, "sessions");

        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_OK(directory_remove(sessions));
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, has_died);
        answer(f, "t2", "Again", "completed You said: Again");
        assert_log("start|text Hello|start+|start|text Again");
}

static void answer_in(Fixture *f, const char *id, const char *conversation, const char *previous, const char *text,
                      const char *expected) {
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

/* Each has a conversation of the CLI's own, which goes on when its turn comes. */
TEST(conversations) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        answer(f, "m1", "Main", "completed You said: Main");
        answer_in(f, "a1", "a", NULL, "One", "completed You said: One");
        answer_in(f, "b1", "b", NULL, "Two", "completed You said: Two");
        answer_in(f, "a2", "a", NULL, "Three", "completed You said: Three");
        answer_in(f, "a3", NULL, "a2", "Four", "completed You said: Four");
        answer(f, "m2", "Five", "completed You said: Five");
        assert_log("start|text Main|end|start|text One|end|start|text Two|end|start+|text Three|text Four|end|start+|"
                   "text Five");

        /* Gone on from an earlier turn: a new one, which is told what was said up to there, and no more. */
        answer_in(f, "f1", NULL, "a1", "[[reply: Six]]", "completed Six");
        log = file_text("log");
        ASSERT_NOT_NULL(strstr(log, "<prior_turns>\\n\\n[user]\\nOne\\n\\n[assistant]\\nYou said: One\\n\\n"
                                    "</prior_turns>\\n\\n[[reply: Six]]"));
        answer_in(f, "f2", NULL, "f1", "Seven", "completed You said: Seven");
        answer_in(f, "b2", "b", NULL, "Eight", "completed You said: Eight");
        log = mfree(log);
        log = cli_log();
        ASSERT_TRUE(endswith(log, "|text Seven|end|start+|text Eight"));
}

/* The next process of the session knows whose the CLI is that it finds. */
TEST(conversations_over_a_crash) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        answer(f, "m1", "Main", "completed You said: Main");
        answer_in(f, "a1", "a", NULL, "One", "completed You said: One");
        fixture_crash(f);
        fixture_open(f);
        answer_in(f, "a2", "a", NULL, "Two", "completed You said: Two");
        ASSERT_EQ(world.n_starts, 2);
        fixture_crash(f);
        fixture_open(f);
        answer(f, "m2", "Three", "completed You said: Three");
        answer_in(f, "a3", "a", NULL, "Four", "completed You said: Four");
        /* One that was found running and is of no use any more may have to be stopped: not all say farewell. */
        log = cli_log();
        for (char *end; (end = strstr(log, "|end")); )
                memmove(end, end + strlen("|end"), strlen(end + strlen("|end")) + 1);
        ASSERT_STREQ(log, "start|text Main|start|text One|text Two|start+|text Three|start+|text Four");
}

TEST(limits_and_logins) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        answer(f, "t1", "[[limit: 1]]", "completed You said: [puffo-agent system message] the last turn was interrupted "
                                        "by a limit of the model provider; continue with it now.");
        answer(f, "t2", "[[auth]]", "failed/auth");
        ASSERT_EQ(f->health, CHAT_HEALTH_AUTH_FAILED);
        answer(f, "t3", "Hello", "completed You said: Hello");
        ASSERT_EQ(f->health, CHAT_HEALTH_OK);
}

TEST(cannot_be_started) {
        _fixture_ Fixture *f = fixture_new("");

        world.n_failures = 1;
        world.start_error = -EACCES;
        answer(f, "t1", "Hello", "failed/not-ready");
        ASSERT_EQ(world.n_stops, 1);
        answer(f, "t2", "Hello", "completed You said: Hello");
}

TEST(is_not_installed) {
        _fixture_ Fixture *f = fixture_new("");

        ASSERT_OK(setenv("PUFFO_CLAUDE_BIN", "/nonexistent/claude", 1));
        ASSERT_OK(setenv("PATH", "/nonexistent", 1));
        answer(f, "t1", "Hello", "failed/not-ready");
        ASSERT_OK(setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1));
}

TEST(a_new_configuration) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t1", "Hello", "completed You said: Hello");
        configure("  model: another\n");
        answer(f, "t2", "Again", "completed You said: Again");
        assert_log("start|text Hello|end|start+|text Again");
        ASSERT_EQ(world.n_stops, 0);
}

TEST(sleeps) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0.05\n  stop_after_seconds: 0.6\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        run_until(f, is_frozen);
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_thaws, 1);
        ASSERT_EQ(world.n_starts, 1);
        run_until(f, has_died);
        ASSERT_EQ(world.n_stops, 1);
        answer(f, "t3", "Third", "completed You said: Third");
        ASSERT_EQ(world.n_starts, 2);
}

/* What comes while it is on its way out is for the next one. */
/* One that cannot be woken is ended, at once and after one try (puffod makes more of one), and there is another. */
TEST(does_not_wake) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0.05\n  stop_after_seconds: 600\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        run_until(f, is_frozen);
        world.no_thawing = true;
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_thaws, 1);
        ASSERT_EQ(world.n_stops, 1);
        ASSERT_EQ(world.n_starts, 2);
        assert_log("start|text Hello|start+|text Again");
}

TEST(asked_while_it_goes) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0\n  stop_after_seconds: 0.05\n");

        answer(f, "t1", "Hello [[linger]]", "completed You said: Hello [[linger]]");
        while (sd_event_run(f->event, 300 * USEC_PER_MSEC) > 0)
                ;
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_starts, 2);
}

/* Its question and the end of its turn have crossed. */
TEST(asks_when_its_turn_is_over) {
        _fixture_ Fixture *f = fixture_new("  permission_mode: default\n");

        (void) close(submit(f, "t1", "[[hang]] [[late]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(world.n_starts, 1);
}

/* Between two attempts it is at nothing: whoever takes it over gives it the turn anew. */
TEST(taken_over_between_attempts) {
        _fixture_ Fixture *f = fixture_new("");

        (void) close(submit(f, "t1", "[[limit: 1]]"));
        while (!f->waiting || !strstr(f->waiting, "next try"))
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
        fixture_crash(f);
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed You said: [[limit: 1]]");
}

/* Whoever takes it over does not know that it sleeps. */
TEST(taken_over_asleep) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0.05\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        run_until(f, is_frozen);
        fixture_crash(f);
        fixture_open(f);
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_thaws, 1);
        ASSERT_EQ(world.n_starts, 1);
        run_until(f, is_frozen);
}

/* What it is told while it has nothing to do counts at once. */
TEST(sleeps_by_a_new_rule) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t1", "Hello", "completed You said: Hello");
        configure("  freeze_after_seconds: 0\n  stop_after_seconds: 0.05\n");
        reload(f);
        run_until(f, has_died);
        assert_log("start|text Hello|end");
}

TEST(leave_is_refused_when_nobody_can_be_asked) {
        _fixture_ Fixture *f = fixture_new("  permission_mode: default\n");

        answer(f, "t1", "[[ask: Bash]]", "completed I was told: deny");
}

static void go(void) {
        _cleanup_free_ char *path = path_join(world.directory, "go");

        ASSERT_OK(file_write_snapshot(path, "", 0, 0600));
}

/* ---- what a run is, is what it was started as ---- */

TEST(taken_over_under_another_configuration) {
        static const char *const files[] = { GEMINI, HERMES, "runtime: [", "" };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _fixture_ Fixture *f = fixture_new("");

                (void) close(submit(f, "t1", "[[wait]]"));
                run_until(f, is_talking);
                fixture_crash(f);
                configure_as(files[i]);
                go();
                fixture_open(f);
                run_until(f, is_idle);
                assert_turn(f, "t1", "completed First second.");
                assert_log("start|text [[wait]]");
        }
}

/* Its conversation goes on when the old configuration comes back. */
TEST(anothers_conversation_stays_anothers) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        configure_as(HERMES);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        configure("");
        answer(f, "t2", "Hello", "completed You said: Hello");
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, has_died);
        answer(f, "t3", "Again", "completed You said: Again");
        log = cli_log();
        ASSERT_NOT_NULL(strstr(log, "start+|text Again"));
}

/* Nothing is known of it but its pipes. */
TEST(killed_while_it_starts) {
        for (unsigned i = 0; i < 2; i++) {
                _fixture_ Fixture *f = fixture_new("");

                if (i > 0) {
                        answer(f, "t0", "Before", "completed You said: Before");
                        ASSERT_OK(kill(world.pid, SIGKILL));
                        run_until(f, has_died);
                }
                (void) close(submit(f, "t1", "Hello"));
                while (world.n_starts == i)
                        ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
                fixture_crash(f);
                fixture_open(f);
                run_until(f, is_idle);
                assert_turn(f, "t1", "completed You said: Hello");
                ASSERT_EQ(world.n_starts, i + 2);
                ASSERT_EQ(world.n_stops, 1);
        }
}

/* The one before was ended while nobody was there: what is found then is not that. */
TEST(killed_while_another_one_starts) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t0", "Before", "completed You said: Before");
        fixture_crash(f);
        world_kill();
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (world.store[i].name)
                        fd_store_remove(world.store[i].name);
        fixture_open(f);
        (void) close(submit(f, "t1", "Hello"));
        while (world.n_starts == 1)
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
        fixture_crash(f);
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed You said: Hello");
        ASSERT_EQ(world.n_starts, 3);
}

/* It says nothing more, and does not end. */
TEST(found_without_an_output) {
        _fixture_ Fixture *f = fixture_new("");
        int fds[2];

        answer(f, "t0", "Before", "completed You said: Before");
        fixture_crash(f);
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (streq_ptr(world.store[i].name, "harness-out")) {
                        ASSERT_OK(pipe2(fds, O_CLOEXEC));
                        (void) close(fds[1]);
                        ASSERT_OK(dup3(fds[0], world.store[i].fd, O_CLOEXEC));
                        (void) close(fds[0]);
                }
        fixture_open(f);
        while (sd_event_run(f->event, 100 * USEC_PER_MSEC) > 0)
                ;
        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_EQ(world.n_starts, 2);
}

static bool has_run(Fixture *f) {
        _cleanup_(harness_run_freep) HarnessRun *run = NULL;

        return ASSERT_OK(run_store_get(f->db, &run)) > 0;
}

/* It was started for the turn, which it was not told yet. */
TEST(killed_before_the_text) {
        _fixture_ Fixture *f = fixture_new("");

        (void) close(submit(f, "t1", "Hello"));
        run_until(f, has_run);
        fixture_crash(f);
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed You said: Hello");
        assert_log("start|text Hello");
}

/* While nobody is there. */
static void alter(Fixture *f, const char *sql) {
        _cleanup_(database_freep) Database *db = NULL;

        ASSERT_EQ(database_open(&db, f->path, NULL), 0);
        ASSERT_OK(database_exec(db, sql));
        ASSERT_EQ(database_changes(db), 1);
}

static void forget_that_it_was_sent(Fixture *f) {
        alter(f, "UPDATE harness_runs SET sent = 'sending'");
}

/* The text is in the pipe, or the CLI at work at it; that this was so could not be noted any more. */
TEST(killed_behind_the_text) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        (void) close(submit(f, "t1", "[[tool: Bash]] [[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        forget_that_it_was_sent(f);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        answer(f, "t2", "More", "completed You said: More");
        log = cli_log();
        ASSERT_STREQ(log, "start|text [[tool: Bash]] [[wait]]|again|text More");
        ASSERT_EQ(world.n_starts, 1);
}

/* … and it has ended over it: the next one is told that it may know the text. */
TEST(killed_behind_the_text_and_the_cli_too) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        forget_that_it_was_sent(f);
        world_kill();
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (world.store[i].name)
                        fd_store_remove(world.store[i].name);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        log = cli_log();
        ASSERT_NOT_NULL(strstr(log, "|start+|text [puffo-agent system message] you were re"));
}

/* What its user has set for programs that go out to the network is for the CLI too, and nothing else is. */
TEST(proxies_and_certificates) {
        static const char *const lines[] = {
                "\"HTTPS_PROXY\": \"http://proxy.example:3128\"", "\"NODE_EXTRA_CA_CERTS\": \"/etc/ca.pem\"",
                "\"SSL_CERT_FILE\": \"/etc/ca.pem\"", "\"NO_PROXY\": \".example,127.0.0.1,localhost\"",
        };
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *path = path_join(world.directory, "log"), *log = NULL;

        ASSERT_OK(setenv("HTTPS_PROXY", "http://proxy.example:3128", 1) | setenv("NO_PROXY", ".example", 1) |
                  setenv("NODE_EXTRA_CA_CERTS", "/etc/ca.pem", 1) | setenv("SSL_CERT_FILE", "/etc/ca.pem", 1) |
                  setenv("MY_SECRET", "xyzzy", 1));
        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_OK(unsetenv("HTTPS_PROXY") | unsetenv("NO_PROXY") | unsetenv("NODE_EXTRA_CA_CERTS") |
                  unsetenv("SSL_CERT_FILE") | unsetenv("MY_SECRET"));
        ASSERT_OK(file_read(path, MIB(1), &log, NULL));
        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                ASSERT_NOT_NULL(strstr(log, lines[i]));
        ASSERT_NULL(strstr(log, "xyzzy"));
}

/* ---- one process per turn ---- */

TEST(per_turn_clis_are_taken_over) {
        static const char *const files[] = { GEMINI, HERMES, GEMINI, HERMES };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _fixture_ Fixture *f = fixture_new("");
                siginfo_t si;

                configure_as(files[i]);
                (void) close(submit(f, "t1", "[[wait]]"));
                /* Of Hermes nobody hears anything before its end. */
                if (streq(files[i], GEMINI))
                        run_until(f, is_talking);
                else
                        run_until(f, has_run);
                fixture_crash(f);
                go();
                /* Or it has ended when nobody was there. */
                if (i >= 2)
                        ASSERT_OK(waitid(P_PID, (id_t) world.pid, &si, WEXITED | WNOWAIT));
                fixture_open(f);
                run_until(f, is_idle);
                assert_turn(f, "t1", streq(files[i], GEMINI) ? "completed First second." : "completed First \nSecond.");
                assert_log("start|text [[wait]]");
                answer(f, "t2", "More", "completed You said: More");
                ASSERT_EQ(world.n_starts, 2);
        }
}

/* It is told a turn by its command line, and would answer the next one with that. */
TEST(cancelled_while_it_starts) {
        _fixture_ Fixture *f = fixture_new("");

        configure_as(HERMES);
        (void) close(submit(f, "t1", "[[reply: Wrong]]"));
        while (world.n_starts == 0)
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        answer(f, "t2", "Right", "completed You said: Right");
}

TEST(one_still_runs) {
        static const int errors[] = { -EBUSY, -EAGAIN };

        for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
                _fixture_ Fixture *f = fixture_new("");

                world.n_failures = 2;
                world.start_error = errors[i];
                answer(f, "t1", "Hello", "completed You said: Hello");
                ASSERT_EQ(world.n_starts, 3);
                ASSERT_EQ(world.n_stops, 2);
        }
}

/* ---- what it costs ---- */

static uint64_t tokens_used(Fixture *f) {
        TurnUsage u;

        ASSERT_OK(usage_store_sum(f->db, 0, &u));
        return u.input_tokens + u.output_tokens;
}

/* Of a turn that is cut short what is known counts: here what went into the reply that had begun. */
TEST(an_interrupted_turn_counts) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 1000}\n");

        (void) close(submit(f, "t1", "[[hang]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(tokens_used(f), 7 + 20);

        (void) close(submit(f, "t3", "[[hang]]"));
        run_until(f, is_talking);
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, is_idle);
        ASSERT_EQ(tokens_used(f), 7 + 20 + 7 + 20);
}

/* It was interrupted, and nobody was there to hear what it had used. */
TEST(an_interrupted_turn_counts_later) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 1000}\n");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        fixture_crash(f);
        go();
        fixture_open(f);
        while (tokens_used(f) == 0)
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 20 * USEC_PER_SEC)) > 0);
        ASSERT_EQ(tokens_used(f), 20);
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(tokens_used(f), 40);
}

/* Killed between what it has cost and the turn's end: its end is read again, and counts once. */
TEST(a_turn_counts_once) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 1000}\n");
        int status;
        pid_t pid;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        go();
        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                world.no_end = world.die_at_end = true;
                fixture_open(f);
                run_until(f, is_idle);
                _exit(1);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        alter(f, "UPDATE session_turns SET attempts = 1");
        fixture_open(f);
        ASSERT_EQ(tokens_used(f), 20);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        ASSERT_EQ(tokens_used(f), 20);
}

/* What goes through the outlet is counted there, also by whoever takes the CLI over. */
TEST(what_the_outlet_counts_counts_once) {
        _fixture_ Fixture *f = fixture_new("  api_key: sk-x\nlimits: {tokens_per_hour: 1000}\n");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        answer(f, "t2", "More", "completed You said: More");
        ASSERT_EQ(tokens_used(f), 0);
        ASSERT_EQ(world.n_starts, 1);
}

TEST_MAIN();
