/* SPDX-License-Identifier: MIT */
#pragma once

/* A session with a model that says what the script says, and a puffod of one page. */

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

static void credential_write(Fixture *f, const char *json) {
        _cleanup_free_ char *path = path_join(f->directory, "session");

        ASSERT_OK(file_write_atomic(path, json, strlen(json), 0600));
        ASSERT_OK(setenv("CREDENTIALS_DIRECTORY", f->directory, 1));
}
