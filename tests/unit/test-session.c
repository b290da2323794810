/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "session.h"
#include "database-damage.h"
#include "tests.h"

/* ---- a model that says what the script says ---- */

typedef struct Step {
        const char *deltas[4];
        ModelErrorKind error;
        ModelStop stop;
        bool silent;                    /* never answers */
        uint64_t retry_after_usec;      /* 0: not given */
} Step;

struct ModelCall {
        sd_event_source *source;
        void (*on_delta)(ModelCall *c, const char *text, size_t size, void *userdata);
        void (*on_done)(ModelCall *c, const ModelResult *r, void *userdata);
        void *userdata;
        const Step *step;
};

static const Step *script;
static sd_event *script_event;
static unsigned n_calls;
static char *last_prompt;       /* what the last call was given */

static int call_on_play(sd_event_source *s, void *userdata) {
        ModelCall *c = userdata;

        if (c->step->silent)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(c->step->deltas) && c->step->deltas[i]; i++)
                c->on_delta(c, c->step->deltas[i], strlen(c->step->deltas[i]), c->userdata);
        c->on_done(c, &(ModelResult) {
                .error = c->step->error, .stop = c->step->stop, .text = "", .message = "secret of the provider",
                .retry_after_usec = c->step->retry_after_usec ?: USEC_INFINITY,
                .usage = { .input_tokens = 10, .output_tokens = 1 },
        }, c->userdata);
        return 0;
}

static int fake_call_start(ModelClient *client, const ModelCallSpec *spec, ModelCall **ret) {
        ModelCall *c = new0(ModelCall, 1);
        StrBuf b = {};

        ASSERT_NOT_NULL(c);
        c->on_delta = spec->on_delta;
        c->on_done = spec->on_done;
        c->userdata = spec->userdata;
        c->step = script + n_calls++;
        for (size_t i = 0; i < spec->n_messages; i++)
                ASSERT_OK(strbuf_printf(&b, "%s%s:%s", i > 0 ? " " : "",
                                        spec->messages[i].role == MODEL_ROLE_USER ? "u" : "a",
                                        spec->messages[i].text));
        free(last_prompt);
        last_prompt = strbuf_take(&b);
        ASSERT_OK(sd_event_add_defer(script_event, &c->source, call_on_play, c));
        *ret = c;
        return 0;
}

static ModelCall* fake_call_free(ModelCall *c) {
        if (c)
                (void) sd_event_source_disable_unref(c->source);
        return mfree(c);
}

static int fake_client_new(ModelClient **ret, sd_event *event, const char *program) {
        script_event = event;
        *ret = NULL;
        return 0;
}

static ModelClient* fake_client_free(ModelClient *c) {
        return NULL;
}

static void fake_rest(ModelClient *c) {
}

static const ModelBackend fake_backend = {
        .client_new = fake_client_new, .client_free = fake_client_free, .call_start = fake_call_start,
        .call_free = fake_call_free, .rest = fake_rest,
};

static int real_client_new(ModelClient **ret, sd_event *event, const char *program) {
        return model_client_new(ret, event, MODEL_PROGRAM);
}

static const ModelBackend real_backend = {
        .client_new = real_client_new, .client_free = model_client_free, .call_start = model_client_call_start,
        .call_free = model_client_call_free, .rest = model_client_rest,
};

/* ---- a puffod of one page ---- */

typedef struct Fixture {
        char *directory, *socket;
        sd_event *event;
        int listen_fd;
        sd_event_source *accept;
        sd_bus *bus;
        Session *session;
        const ModelBackend *backend;
        uint64_t sweep_usec;
        unsigned n_registered, n_reports;
        char *status, *status_text, *health, *working_directory;
        sd_bus_message *reply;          /* of the last call */
        bool answered;
} Fixture;

static int on_register(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Fixture *f = userdata;

        f->n_registered++;
        return sd_bus_reply_method_return(m, "s", "alice");
}

static int on_report(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Fixture *f = userdata;
        const char *name, *value;

        f->n_reports++;
        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "{sv}"));
        while (ASSERT_OK(sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                char **field;

                ASSERT_OK(sd_bus_message_read(m, "s", &name));
                field = streq(name, "Status") ? &f->status : streq(name, "StatusText") ? &f->status_text :
                        streq(name, "Health") ? &f->health :
                        streq(name, "WorkingDirectory") ? &f->working_directory : NULL;
                if (field) {
                        ASSERT_OK(sd_bus_message_read(m, "v", "s", &value));
                        ASSERT_OK(free_and_strdup(field, value));
                } else
                        ASSERT_OK(sd_bus_message_skip(m, "v"));
                ASSERT_OK(sd_bus_message_exit_container(m));
        }
        return sd_bus_reply_method_return(m, NULL);
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Register", NULL, "s", on_register, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Report", "a{sv}", NULL, on_report, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END
};

static int on_accept(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Fixture *f = userdata;
        sd_id128_t id;
        int peer;

        peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC|SOCK_NONBLOCK);
        ASSERT_TRUE(peer >= 0);
        ASSERT_NULL(f->bus);
        ASSERT_OK(sd_id128_randomize(&id));
        ASSERT_OK(sd_bus_new(&f->bus));
        ASSERT_OK(sd_bus_set_fd(f->bus, peer, peer));
        ASSERT_OK(sd_bus_set_server(f->bus, 1, id));
        ASSERT_OK(sd_bus_negotiate_fds(f->bus, 1));
        ASSERT_OK(sd_bus_start(f->bus));
        ASSERT_OK(sd_bus_add_object_vtable(f->bus, NULL, PUFFO_PRIVATE_MANAGER_PATH, PUFFO_PRIVATE_MANAGER_INTERFACE,
                                           manager_vtable, f));
        ASSERT_OK(sd_bus_attach_event(f->bus, f->event, 0));
        return 0;
}

static void puffod_start(Fixture *f) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void) strncpy(address.sun_path, f->socket, sizeof(address.sun_path) - 1);
        (void) unlink(f->socket);
        f->listen_fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);
        ASSERT_TRUE(f->listen_fd >= 0);
        ASSERT_OK(bind(f->listen_fd, (struct sockaddr*) &address, sizeof(address)));
        ASSERT_OK(listen(f->listen_fd, 16));
        ASSERT_OK(sd_event_add_io(f->event, &f->accept, f->listen_fd, POLLIN, on_accept, f));
}

static void puffod_disconnect(Fixture *f) {
        f->bus = sd_bus_close_unref(f->bus);
}

static void puffod_stop(Fixture *f) {
        puffod_disconnect(f);
        f->accept = sd_event_source_disable_unref(f->accept);
        f->listen_fd = safe_close(f->listen_fd);
}

static void config_write(Fixture *f, const char *text) {
        _cleanup_free_ char *path = path_join(f->directory, "agent.yml");

        ASSERT_OK(file_write_atomic(path, text, strlen(text), 0600));
}

static void session_open(Fixture *f) {
        ASSERT_OK(session_new(&f->session, &(SessionSpec) {
                .event = f->event, .id = "alice", .directory = f->directory, .backend = f->backend,
                .socket = f->socket, .retry_min_usec = 1, .retry_max_usec = 2,
                .sweep_usec = f->sweep_usec,
        }));
}

/* Runs the loop until the condition holds. */
#define WAIT(f, condition) \
        do { \
                while (!(condition)) \
                        ASSERT_TRUE(ASSERT_OK(sd_event_run((f)->event, 10 * USEC_PER_SEC)) > 0); \
        } while (false)

#define ECHO_AGENT "runtime:\n  kind: chat-local\n  provider: echo\n"

static Fixture* fixture_new(const ModelBackend *backend, const Step *steps) {
        Fixture *f = new0(Fixture, 1);
        char template[] = "/tmp/puffo-test-session-XXXXXX";
        sigset_t mask;

        ASSERT_NOT_NULL(f);
        ASSERT_NOT_NULL(mkdtemp(template));
        ASSERT_OK(unsetenv("CREDENTIALS_DIRECTORY"));
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        script = steps;
        n_calls = 0;
        f->backend = backend;
        f->directory = strdup(template);
        f->socket = strjoin(template, "/private");
        f->status = strdup("");
        f->health = strdup("");
        f->working_directory = strdup("");
        f->listen_fd = -EBADF;
        ASSERT_OK(sd_event_new(&f->event));
        config_write(f, ECHO_AGENT);
        puffod_start(f);
        session_open(f);
        WAIT(f, f->n_reports > 0 && f->bus);
        return f;
}

static void fixture_free(Fixture **p) {
        Fixture *f = *p;

        (void) sd_bus_message_unref(f->reply);
        (void) session_free(f->session);
        puffod_stop(f);
        (void) sd_event_unref(f->event);
        (void) directory_remove(f->directory);
        last_prompt = mfree(last_prompt);
        free(f->working_directory);
        free(f->health);
        free(f->status_text);
        free(f->status);
        free(f->socket);
        free(f->directory);
        free(f);
}
#define _fixture_ _cleanup_(fixture_free)

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Fixture *f = userdata;

        f->reply = sd_bus_message_ref(m);
        f->answered = true;
        return 0;
}

/* Sends m and waits; the name of the error, or NULL. */
static const char* call(Fixture *f, sd_bus_message *m) {
        _cleanup_bus_message_ sd_bus_message *owned = m;
        const sd_bus_error *e;

        f->reply = sd_bus_message_unref(f->reply);
        f->answered = false;
        ASSERT_OK(sd_bus_call_async(f->bus, NULL, m, on_reply, f, 0));
        WAIT(f, f->answered);
        e = sd_bus_message_get_error(f->reply);
        return e ? e->name : NULL;
}

static sd_bus_message* message_new(Fixture *f, const char *method) {
        sd_bus_message *m = NULL;

        ASSERT_OK(sd_bus_message_new_method_call(f->bus, &m, NULL, PUFFO_PRIVATE_SESSION_PATH,
                                                 PUFFO_PRIVATE_SESSION_INTERFACE, method));
        return m;
}

/* member: an additional one with a string, or NULL. */
static const char* submit_with(Fixture *f, const char *id, const char *text, const char *member, const char *value,
                               int *ret_reader) {
        sd_bus_message *m = message_new(f, "Submit");
        const char *error;
        int fds[2];

        ASSERT_OK(pipe2(fds, O_CLOEXEC|O_NONBLOCK));
        ASSERT_OK(sd_bus_message_append(m, "s", id));
        ASSERT_OK(sd_bus_message_open_container(m, 'a', "{sv}"));
        ASSERT_OK(sd_bus_message_append(m, "{sv}", "Text", "s", text));
        if (member)
                ASSERT_OK(sd_bus_message_append(m, "{sv}", member, "s", value));
        ASSERT_OK(sd_bus_message_close_container(m));
        ASSERT_OK(sd_bus_message_append(m, "h", fds[1]));
        (void) close(fds[1]);
        error = call(f, m);
        if (error)
                (void) close(fds[0]);
        else
                *ret_reader = fds[0];
        return error;
}

static int submit(Fixture *f, const char *id, const char *text) {
        int reader;

        ASSERT_NULL(submit_with(f, id, text, NULL, NULL, &reader));
        return reader;
}

/* The whole stream, without the numbers; closes it. */
static char* stream_read(Fixture *f, int fd) {
        char buffer[4096];
        StrBuf b = {};

        for (;;) {
                ssize_t n = read(fd, buffer, sizeof(buffer));

                if (n == 0)
                        break;
                if (n > 0)
                        ASSERT_OK(strbuf_append(&b, buffer, (size_t) n));
                else {
                        ASSERT_EQ(errno, EAGAIN);
                        ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
                }
        }
        (void) close(fd);
        return strbuf_take(&b);
}

/* Types in order; texts of finished messages; the reason or error kind of the end. */
static void assert_stream(Fixture *f, int fd, const char *expected) {
        _cleanup_free_ char *text = stream_read(f, fd);
        StrBuf b = {};

        for (char *line = text, *next; *line; line = next) {
                _cleanup_json_ json_object *o = NULL;
                const char *type;

                next = strchr(line, '\n') + 1;
                ASSERT_OK(json_parse(line, (size_t) (next - line), &o));
                type = json_get_string(o, "type");
                if (streq(type, "delta") || streq(type, "message_started"))
                        continue;
                ASSERT_OK(strbuf_printf(&b, "%s%s", b.size > 0 ? " " : "", type));
                if (streq(type, "message_done"))
                        ASSERT_OK(strbuf_printf(&b, "=%s/%s", json_get_string(o, "text"),
                                                json_get_string(o, "status")));
                if (streq(type, "incomplete"))
                        ASSERT_OK(strbuf_printf(&b, "=%s", json_get_string(o, "reason")));
                if (streq(type, "failed")) {
                        ASSERT_NULL(strstr(line, "secret"));
                        ASSERT_OK(strbuf_printf(&b, "=%s/%s", json_get_string(json_get(o, "error"), "code"),
                                                json_get_string(json_get(o, "error"), "kind")));
                }
        }
        ASSERT_STREQ(strempty(b.text), expected);
        strbuf_done(&b);
}

TEST(echo_over_the_bus) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        const char *id, *role, *text, *turn;
        sd_bus_message *m;
        uint64_t at;
        int more;

        ASSERT_STREQ(f->status, "ready");
        assert_stream(f, submit(f, "one", "hello there"),
                      "queued started message_done=hello there/completed completed");

        m = message_new(f, "ListMessages");
        ASSERT_OK(sd_bus_message_append(m, "ssu", "", "", 10));
        ASSERT_NULL(call(f, m));
        ASSERT_OK(sd_bus_message_enter_container(f->reply, 'a', "(sssts)"));
        ASSERT_EQ(sd_bus_message_read(f->reply, "(sssts)", &id, &role, &text, &at, &turn), 1);
        ASSERT_STREQ(role, "user");
        ASSERT_STREQ(turn, "one");
        ASSERT_EQ(sd_bus_message_read(f->reply, "(sssts)", &id, &role, &text, &at, &turn), 1);
        ASSERT_STREQ(role, "assistant");
        ASSERT_STREQ(text, "hello there");
        ASSERT_OK(sd_bus_message_exit_container(f->reply));
        ASSERT_OK(sd_bus_message_read(f->reply, "b", &more));
        ASSERT_FALSE(more);
        /* echo proves nothing about a key */
        WAIT(f, streq(f->status, "ready") && streq(f->health, "unknown"));
}

static void assert_turn(Fixture *f, const char *id, const char *expected_status, const char *expected_document) {
        sd_bus_message *m = message_new(f, "GetTurn");
        unsigned found = 0;

        ASSERT_OK(sd_bus_message_append(m, "s", id));
        ASSERT_NULL(call(f, m));
        ASSERT_OK(sd_bus_message_enter_container(f->reply, 'a', "{sv}"));
        while (ASSERT_OK(sd_bus_message_enter_container(f->reply, 'e', "sv")) > 0) {
                const char *name, *value;

                ASSERT_OK(sd_bus_message_read(f->reply, "s", &name));
                if (streq(name, "Status") || streq(name, "Document")) {
                        ASSERT_OK(sd_bus_message_read(f->reply, "v", "s", &value));
                        ASSERT_STREQ(value, streq(name, "Status") ? expected_status : expected_document);
                        found++;
                } else
                        ASSERT_OK(sd_bus_message_skip(f->reply, "v"));
                ASSERT_OK(sd_bus_message_exit_container(f->reply));
        }
        ASSERT_EQ(found, 2);
}

TEST(get_and_delete) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        sd_bus_message *m;
        int reader;

        ASSERT_NULL(submit_with(f, "one", "x", "Document", "{\"a\":1}", &reader));
        assert_stream(f, reader, "queued started message_done=x/completed completed");
        assert_turn(f, "one", "completed", "{\"a\":1}");
        m = message_new(f, "DeleteTurn");
        ASSERT_OK(sd_bus_message_append(m, "s", "one"));
        ASSERT_NULL(call(f, m));
        m = message_new(f, "GetTurn");
        ASSERT_OK(sd_bus_message_append(m, "s", "one"));
        ASSERT_STREQ(call(f, m), PUFFO_ERROR_NO_SUCH_TURN);
}

TEST(bad_submissions) {
        _fixture_ Fixture *f = fixture_new(&fake_backend, NULL);
        static const struct { const char *id, *text, *member, *value, *error; } t[] = {
                { "../x", "hi", NULL, NULL, PUFFO_ERROR_INVALID_ARGUMENT },
                { "", "hi", NULL, NULL, PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "", NULL, NULL, PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "hi", "Nonsense", "x", PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "hi", "Store", "x", PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "hi", "Conversation", "~fork", PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "hi", "Previous", "nobody", PUFFO_ERROR_NO_SUCH_TURN },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                int reader;

                ASSERT_STREQ(submit_with(f, t[i].id, t[i].text, t[i].member, t[i].value, &reader), t[i].error);
        }
        ASSERT_EQ(n_calls, 0);
}

TEST(outcomes_of_calls) {
        static const struct { Step steps[6]; const char *events, *health; unsigned n_calls; } t[] = {
                { { { .deltas = { "a", "b" } } }, "message_done=ab/completed completed", "unknown", 1 },
                { { {} }, "message_done=/completed completed", "unknown", 1 },
                { { { .deltas = { "a" }, .stop = MODEL_STOP_LENGTH } }, "message_done=a/incomplete incomplete=length",
                  "unknown", 1 },
                { { { .stop = MODEL_STOP_REFUSAL } }, "failed=invalid_prompt/refusal", "unknown", 1 },
                { { { .error = MODEL_ERROR_AUTH } }, "failed=server_error/auth", "auth_failed", 1 },
                { { { .error = MODEL_ERROR_BILLING } }, "failed=rate_limit_exceeded/billing", "unknown", 1 },
                /* transient: tried again before anything was said … */
                { { { .error = MODEL_ERROR_OVERLOADED }, { .error = MODEL_ERROR_CONNECT }, { .deltas = { "a" } } },
                  "message_done=a/completed completed", "unknown", 3 },
                { { { .error = MODEL_ERROR_RATE_LIMIT }, { .error = MODEL_ERROR_RATE_LIMIT },
                    { .error = MODEL_ERROR_RATE_LIMIT }, { .error = MODEL_ERROR_RATE_LIMIT } },
                  "failed=rate_limit_exceeded/rate-limit", "unknown", 4 },
                /* … but not when the wait is too long */
                { { { .error = MODEL_ERROR_RATE_LIMIT, .retry_after_usec = 3600 * USEC_PER_SEC } },
                  "failed=rate_limit_exceeded/rate-limit", "unknown", 1 },
                /* a stream that breaks off is begun anew, once */
                { { { .deltas = { "ha" }, .error = MODEL_ERROR_CUT }, { .deltas = { "half", "full" } } },
                  "message_done=ha/incomplete message_done=halffull/completed completed", "unknown", 2 },
                { { { .deltas = { "ha" }, .error = MODEL_ERROR_CUT },
                    { .deltas = { "h" }, .error = MODEL_ERROR_CUT } },
                  "message_done=ha/incomplete message_done=h/incomplete failed=server_error/cut", "unknown", 2 },
                { { { .error = MODEL_ERROR_CONTEXT_LENGTH }, { .deltas = { "a" } } },
                  "message_done=a/completed completed", "unknown", 2 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _fixture_ Fixture *f = fixture_new(&fake_backend, t[i].steps);
                _cleanup_free_ char *expected = strjoin("queued started ", t[i].events);

                assert_stream(f, submit(f, "one", "hi"), expected);
                ASSERT_EQ(n_calls, t[i].n_calls);
                WAIT(f, streq(f->status, "ready") && streq(f->health, t[i].health));
        }
}

static void credential_write(Fixture *f, const char *json) {
        _cleanup_free_ char *path = path_join(f->directory, "session");

        ASSERT_OK(file_write_atomic(path, json, strlen(json), 0600));
        ASSERT_OK(setenv("CREDENTIALS_DIRECTORY", f->directory, 1));
}

TEST(silence_is_a_deadline) {
        static const Step steps[] = { { .silent = true } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);

        credential_write(f, "{\"provider\":\"echo\",\"task_timeout_usec\":1000}");
        assert_stream(f, submit(f, "one", "hi"), "queued started incomplete=deadline");
        assert_turn(f, "one", "incomplete", "");
}

TEST(a_key_that_works_is_healthy) {
        static const Step steps[] = { { .deltas = { "a" } }, { .error = MODEL_ERROR_AUTH } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);

        credential_write(f, "{\"provider\":\"openai\",\"api_key\":\"k\"}");
        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=a/completed completed");
        WAIT(f, streq(f->health, "ok"));
        assert_stream(f, submit(f, "two", "hi"), "queued started failed=server_error/auth");
        WAIT(f, streq(f->health, "auth_failed"));
}

TEST(history_goes_to_the_model) {
        static const Step steps[] = { { .deltas = { "A" } }, { .error = MODEL_ERROR_BILLING }, { .deltas = { "B" } },
                                      { .deltas = { "C" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader;

        ASSERT_NULL(submit_with(f, "one", "a", "History", "user: before", &reader));
        assert_stream(f, reader, "queued started message_done=A/completed completed");
        ASSERT_STREQ(last_prompt, "u:user: before\n\na");
        assert_stream(f, submit(f, "two", "lost"), "queued started failed=rate_limit_exceeded/billing");

        /* A turn that failed is no part of the conversation; the transcript is. */
        ASSERT_NULL(submit_with(f, "three", "b", "Instructions", "be brief", &reader));
        assert_stream(f, reader, "queued started message_done=B/completed completed");
        ASSERT_STREQ(last_prompt, "u:user: before\n\na a:A u:[instructions for this request]\nbe brief\n"
                                  "[end of instructions]\n\nb");

        ASSERT_NULL(submit_with(f, "four", "c", "Previous", "one", &reader));
        assert_stream(f, reader, "queued started message_done=C/completed completed");
        ASSERT_STREQ(last_prompt, "u:user: before\n\na a:A u:c");
}

/* Whose turns are answered by a CLI that is in one conversation: others are refused, and nothing is stored of them. */
TEST(one_conversation_only) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        sd_bus_message *m;
        int reader;

        config_write(f, "runtime:\n  kind: cli-local\n  harness: gemini-cli\n");
        ASSERT_NULL(call(f, message_new(f, "Reload")));
        ASSERT_STREQ(submit_with(f, "one", "x", "Conversation", "other", &reader), SD_BUS_ERROR_NOT_SUPPORTED);
        m = message_new(f, "GetTurn");
        ASSERT_OK(sd_bus_message_append(m, "s", "one"));
        ASSERT_STREQ(call(f, m), PUFFO_ERROR_NO_SUCH_TURN);
        config_write(f, ECHO_AGENT);
        ASSERT_NULL(call(f, message_new(f, "Reload")));
        ASSERT_NULL(submit_with(f, "two", "x", "Conversation", "other", &reader));
        (void) close(reader);
}

/* The agent is told where they are, now and later; people are shown their names. */
TEST(files_come_along) {
        static const Step steps[] = { { .deltas = { "A" } }, { .deltas = { "B" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        _cleanup_free_ char *expected = NULL, *text = NULL, *path = NULL;
        _cleanup_close_ int file = memfd_create("test", MFD_CLOEXEC);
        const char *id, *name;
        int fds[2], more;
        sd_bus_message *m;

        ASSERT_EQ(write(file, "data", 4), 4);
        ASSERT_OK(pipe2(fds, O_CLOEXEC|O_NONBLOCK));
        m = message_new(f, "Submit");
        ASSERT_OK(sd_bus_message_append(m, "s", "one"));
        ASSERT_OK(sd_bus_message_open_container(m, 'a', "{sv}"));
        ASSERT_OK(sd_bus_message_append(m, "{sv}", "Files", "a(sssh)", 1, "n.txt", "text/plain", "file", file));
        ASSERT_OK(sd_bus_message_close_container(m));
        ASSERT_OK(sd_bus_message_append(m, "h", fds[1]));
        safe_close(fds[1]);
        ASSERT_NULL(call(f, m));
        assert_stream(f, fds[0], "queued started message_done=A/completed completed");
        path = strjoin(f->directory, "/workspace/.puffo/inbox/one/n.txt");
        ASSERT_OK(file_read(path, 10, &text, NULL));
        ASSERT_STREQ(text, "data");
        expected = strjoin("u:[files that came with this]\n- ", path, " (text/plain, 4 bytes)");
        ASSERT_STREQ(last_prompt, expected);

        assert_stream(f, submit(f, "two", "b"), "queued started message_done=B/completed completed");
        ASSERT_TRUE(startswith(last_prompt, expected) && endswith(last_prompt, " a:A u:b"));

        m = message_new(f, "ListMessages");
        ASSERT_OK(sd_bus_message_append(m, "ssu", "", "", 10));
        ASSERT_NULL(call(f, m));
        ASSERT_OK(sd_bus_message_skip(f->reply, "a(sssts)"));
        ASSERT_OK(sd_bus_message_read(f->reply, "b", &more));
        ASSERT_EQ(sd_bus_message_read(f->reply, "a{sas}", 1, &id, 1, &name), 1);
        ASSERT_STREQ(name, "n.txt");
}

TEST(interrupt_over_the_bus) {
        static const Step steps[] = { { .silent = true } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader = submit(f, "one", "hi"), ended;
        sd_bus_message *m;

        WAIT(f, n_calls == 1);
        m = message_new(f, "Interrupt");
        ASSERT_OK(sd_bus_message_append(m, "s", ""));
        ASSERT_NULL(call(f, m));
        ASSERT_OK(sd_bus_message_read(f->reply, "b", &ended));
        ASSERT_TRUE(ended);
        assert_stream(f, reader, "queued started incomplete=interrupted");
        assert_turn(f, "one", "cancelled", "");
}

TEST(faults_stay_up_and_heal) {
        static const struct { const char *config, *text; } t[] = {
                { "runtime:\n  kind: cli-docker\n  harness: claude-code\n",
                  "runtime kind 'cli-docker' (harness 'claude-code') is not available in this version" },
                { "runtime:\n  kind: chat-local\n  provider: anthropic\n", "No API key for provider 'anthropic'" },
        };
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                int reader;

                config_write(f, t[i].config);           /* noticed by itself */
                WAIT(f, streq(f->status, "failed"));
                ASSERT_NOT_NULL(strstr(f->status_text, t[i].text));
                ASSERT_STREQ(submit_with(f, "one", "hi", NULL, NULL, &reader), PUFFO_ERROR_NOT_READY);
                config_write(f, ECHO_AGENT);
                ASSERT_NULL(call(f, message_new(f, "Reload")));
                WAIT(f, streq(f->status, "ready"));
        }
        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=hi/completed completed");
}

TEST(working_directory_is_kept) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        sd_bus_message *m = message_new(f, "SetWorkingDirectory");

        ASSERT_OK(sd_bus_message_append(m, "s", "relative"));
        ASSERT_STREQ(call(f, m), PUFFO_ERROR_INVALID_ARGUMENT);
        m = message_new(f, "SetWorkingDirectory");
        ASSERT_OK(sd_bus_message_append(m, "s", "/srv/work"));
        ASSERT_NULL(call(f, m));
        WAIT(f, streq(f->working_directory, "/srv/work"));
        f->session = session_free(f->session);
        puffod_disconnect(f);
        ASSERT_OK(free_and_strdup(&f->working_directory, ""));
        session_open(f);
        WAIT(f, streq(f->working_directory, "/srv/work"));
}

/* puffod goes away in the middle of a turn: the turn and its stream do not care, and the session comes back to it. */
TEST(turns_outlive_puffod) {
        static const Step steps[] = { { .error = MODEL_ERROR_CONNECT, .retry_after_usec = 1 }, { .deltas = { "a" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader = submit(f, "one", "hi");

        WAIT(f, n_calls == 1);
        puffod_stop(f);
        assert_stream(f, reader, "queued started message_done=a/completed completed");
        puffod_start(f);
        WAIT(f, f->n_registered == 2);
        assert_turn(f, "one", "completed", "");
}

TEST(stop_leaves_the_turn_to_the_next) {
        static const Step steps[] = { { .silent = true }, { .deltas = { "a" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader = submit(f, "one", "hi");

        WAIT(f, n_calls == 1);
        credential_write(f, "{\"provider\":\"echo\",\"turn_grace_usec\":0}");
        session_reload(f->session);
        session_stop(f->session);
        ASSERT_OK(sd_event_loop(f->event));
        f->session = session_free(f->session);
        assert_stream(f, reader, "queued started");
        puffod_stop(f);
        (void) sd_event_unref(f->event);

        ASSERT_OK(sd_event_new(&f->event));
        puffod_start(f);
        session_open(f);
        WAIT(f, f->n_registered == 2);
        reader = submit(f, "one", "hi");
        assert_stream(f, reader, "queued restarted started message_done=a/completed completed");
}

TEST(stop_waits_for_the_turn) {
        static const Step steps[] = { { .error = MODEL_ERROR_CONNECT }, { .deltas = { "a" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader = submit(f, "one", "hi"), other;

        WAIT(f, n_calls == 1);
        session_stop(f->session);
        ASSERT_STREQ(submit_with(f, "two", "hi", NULL, NULL, &other), PUFFO_ERROR_NOT_READY);
        ASSERT_OK(sd_event_loop(f->event));
        f->session = session_free(f->session);
        assert_stream(f, reader, "queued started message_done=a/completed completed");
        puffod_stop(f);
        (void) sd_event_unref(f->event);
        ASSERT_OK(sd_event_new(&f->event));
}

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

TEST(runtime_file) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        _cleanup_free_ char *path = path_join(f->directory, "runtime.json"), *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        size_t size;

        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=hi/completed completed");
        f->session = session_free(f->session);
        ASSERT_OK(file_read(path, 4096, &text, &size));
        ASSERT_OK(json_parse(text, size, &o));
        ASSERT_STREQ(json_get_string(o, "status"), "stopped");
        ASSERT_STREQ(json_get_string(o, "health"), "unknown");
        ASSERT_EQ(json_get_int(o, "msg_count", 0), 1);
        ASSERT_TRUE(json_get_int(o, "last_event_at", 0) > 0);
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

#define TEST_SUITE "session"
TEST_MAIN();
