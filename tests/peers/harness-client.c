/* SPDX-License-Identifier: MIT */

/* Runs a program as daemon/harness wants it and says what it does, one JSON object a line:
 *
 *     harness-client SETUP.json
 *
 * The setup has the members of HarnessSetup by their names ("kind" as a word), and "model_port". Lines on standard
 * input: {"turn": TEXT}, {"interrupt": true}, {"answer": ID, "allow": BOOL, "input": …, "message": TEXT},
 * {"mcp": ID, "message": {…} or null}, {"model": NAME}, {"close": true}, and {"adopt": ID}: as if this process were
 * killed, and another one took over that knows of a message with this id ("": of none). What puffo-sandbox does with a
 * launch is done here without a sandbox. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "event-util.h"
#include "file-util.h"
#include "harness.h"
#include "json-util.h"
#include "line-reader.h"
#include "string-util.h"

typedef struct Client {
        sd_event *event;
        Harness *harness;
        LineReader *commands;
        json_object *setup;
        const HarnessSetup *harness_setup;
        int fds[3];
        pid_t pid;
} Client;


static _Noreturn void die(const char *what, int error) {
        fprintf(stderr, "harness-client: %s: %s\n", what, strerror(abs(error)));
        exit(1);
}

static void check(const char *what, int r) {
        if (r < 0)
                die(what, r);
}

static void say(const char *event, json_object *o) {
        _cleanup_json_ json_object *owned = o ?: json_object_new_object();

        check("memory", json_put_string(owned, "event", event));
        printf("%s\n", json_text(owned, NULL));
        fflush(stdout);
}

static json_object* with(const char *key, const char *value) {
        json_object *o = json_object_new_object();

        check("memory", json_put_string(o, key, value));
        return o;
}

static int on_message_begin(Harness *h, const char *id, void *userdata) {
        say("message-begin", with("id", id));
        return 0;
}

static int on_text(Harness *h, const char *text, size_t size, void *userdata) {
        say("text", with("text", text));
        return 0;
}

static int on_message_end(Harness *h, const char *id, const char *text, void *userdata) {
        json_object *o = with("id", id);

        check("memory", json_put_string(o, "text", text));
        say("message-end", o);
        return 0;
}

static int on_message_cancel(Harness *h, const char *id, void *userdata) {
        say("message-cancel", with("id", id));
        return 0;
}

static int on_tool(Harness *h, const HarnessTool *t, void *userdata) {
        json_object *o = with("id", t->id);

        check("memory", json_put_string(o, "name", t->name));
        check("memory", json_put_string(o, "input", t->input));
        check("memory", json_put_string(o, "output", t->output));
        check("memory", json_put_string(o, "parent", t->parent));
        check("memory", json_put_bool(o, "is_error", t->is_error));
        say(t->phase == HARNESS_TOOL_STARTED ? "tool-started" : "tool-ended", o);
        return 0;
}

static int on_session(Harness *h, const char *id, void *userdata) {
        say("session", with("id", id));
        return 0;
}

static int on_ask(Harness *h, const HarnessAsk *a, void *userdata) {
        json_object *o = with("id", a->id);

        check("memory", json_put_string(o, "name", a->name));
        check("memory", json_put_string(o, "input", a->input));
        check("memory", json_put_string(o, "description", a->description));
        say("ask", o);
        return 0;
}

static void on_ask_withdrawn(Harness *h, const char *id, void *userdata) {
        say("ask-withdrawn", with("id", id));
}

static int on_mcp(Harness *h, const char *id, const char *message, void *userdata) {
        json_object *o = with("id", id);

        check("memory", json_put_string(o, "message", message));
        say("mcp", o);
        return 0;
}

static void on_sent(Harness *h, void *userdata) {
        say("sent", NULL);
}

static void on_warning(Harness *h, const char *text, void *userdata) {
        say("warning", with("text", text));
}

/* The double: while there is one, the program's input does not end. */
static void drop_input(Client *c) {
        if (c->fds[0] >= 0)
                (void) close(c->fds[0]);
        c->fds[0] = -EBADF;
}

static int on_end(Harness *h, const HarnessResult *result, void *userdata) {
        json_object *o = with("outcome", harness_outcome_to_string(result->outcome));

        check("memory", json_put_string(o, "message", result->message));
        check("memory", json_put_int(o, "http_status", result->http_status));
        check("memory", json_put_int(o, "input_tokens", (int64_t) result->usage.input_tokens));
        check("memory", json_put_int(o, "output_tokens", (int64_t) result->usage.output_tokens));
        check("memory", json_put_int(o, "cost_micros", result->cost_known ? (int64_t) result->cost_micros : -1));
        check("memory", json_put_int(o, "n_denied", (int64_t) result->n_denied));
        check("memory", json_put_bool(o, "started", result->started));
        if (harness_is_per_turn(harness_kind(h)))
                drop_input(userdata);
        say("end", o);
        return 0;
}

static void on_exit_(Harness *h, void *userdata) {
        Client *c = userdata;

        say("exit", NULL);
        (void) sd_event_exit(c->event, 0);
}

static void on_failure(Harness *h, int error, void *userdata) {
        die("reading", error);
}

static void client_start(Client *c, bool adopted) {
        int fds[3];

        for (size_t i = 0; i < 3; i++)
                fds[i] = fcntl(c->fds[i], F_DUPFD_CLOEXEC, 3);
        check("harness", harness_new(&c->harness, c->event, c->harness_setup, fds, adopted, &(HarnessHandler) {
                .on_message_begin = on_message_begin,
                .on_text = on_text,
                .on_message_end = on_message_end,
                .on_message_cancel = on_message_cancel,
                .on_tool = on_tool,
                .on_session = on_session,
                .on_ask = on_ask,
                .on_ask_withdrawn = on_ask_withdrawn,
                .on_mcp = on_mcp,
                .on_sent = on_sent,
                .on_warning = on_warning,
                .on_end = on_end,
                .on_exit = on_exit_,
                .on_failure = on_failure,
                .userdata = c,
        }));
}

static void client_close(Client *c) {
        drop_input(c);
        harness_close_input(c->harness);
}

static int on_command(LineReader *l, const char *line, size_t size, LineEnd end, void *userdata) {
        Client *c = userdata;
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = json_parse(line, size, &o);
        if (r < 0)
                die("command", r);
        if (json_get_string(o, "turn"))
                r = harness_turn(c->harness, json_get_string(o, "turn"));
        else if (json_get_bool(o, "interrupt", false))
                r = harness_interrupt(c->harness);
        else if (json_get_string(o, "answer")) {
                json_object *input = json_get(o, "input");

                r = harness_answer(c->harness, json_get_string(o, "answer"), json_get_bool(o, "allow", false),
                                   input ? json_text(input, NULL) : NULL, json_get_string(o, "message"));
        } else if (json_get_string(o, "mcp")) {
                json_object *message = json_get(o, "message");

                r = harness_mcp_reply(c->harness, json_get_string(o, "mcp"),
                                      message ? json_text(message, NULL) : NULL);
        } else if (json_get_string(o, "model"))
                r = harness_set_model(c->harness, json_get_string(o, "model"));
        else if (json_get_string(o, "adopt")) {
                const char *last = json_get_string(o, "adopt");
                bool in_turn = harness_in_turn(c->harness);

                c->harness = harness_free(c->harness);
                client_start(c, /* adopted= */ true);
                r = in_turn ? harness_turn_adopt(c->harness, *last ? last : NULL) : 0;
        } else if (json_get_bool(o, "close", false))
                client_close(c);
        if (r < 0)
                say("refused", with("error", strerror(-r)));
        return 0;
}

static void on_commands_end(LineReader *l, int error, void *userdata) {
        client_close(userdata);
}

/* Replaces {model_port}. */
static char* fill_in(Client *c, const char *value) {
        const char *port = strstr(value, "{model_port}");
        _cleanup_free_ char *head = NULL;

        if (!port)
                return strdup(value);
        head = memdup0(value, (size_t) (port - value));
        return asprintf_new("%s%" PRIi64 "%s", head, json_get_int(c->setup, "model_port", 0),
                            port + strlen("{model_port}"));
}

static _Noreturn void run(Client *c, const char *launch, const int fds[3]) {
        _cleanup_json_ json_object *o = NULL;
        json_object *list;
        char **argv = NULL, **env = NULL;

        (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
        check("launch", json_parse(launch, strlen(launch), &o));
        list = json_get(o, "argv");
        for (size_t i = 0; i < json_object_array_length(list); i++)
                check("memory", strv_extend(&argv, json_object_get_string(json_object_array_get_idx(list, i))));
        json_object_object_foreach(json_get(o, "env"), name, value) {
                _cleanup_free_ char *filled = fill_in(c, json_object_get_string(value)),
                                    *s = strjoin(name, "=", filled);

                check("memory", strv_extend(&env, s));
        }
        for (int i = 0; i < 3; i++)
                if (dup2(fds[i], i) < 0)
                        die("dup2", errno);
        if (chdir(json_get_string(o, "cwd")) < 0)
                die("chdir", errno);
        (void) signal(SIGPIPE, SIG_DFL);
        (void) execve(argv[0], argv, env);
        die(argv[0], errno);
}

static char** strings(json_object *o, const char *key) {
        json_object *list = json_get(o, key);
        char **l = NULL;

        for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++)
                check("memory", strv_extend(&l, json_object_get_string(json_object_array_get_idx(list, i))));
        return l;
}

int main(int argc, char *argv[]) {
        _cleanup_free_ char *text = NULL, *launch = NULL;
        _cleanup_(strv_freep) char **tools = NULL, **dirs = NULL;
        Client c = {};
        HarnessSetup s;
        int in[2], out[2], errors[2];

        if (argc != 2)
                die("usage", EINVAL);
        check("setup", file_read(argv[1], MIB(4), &text, NULL));
        check("setup", json_parse(text, strlen(text), &c.setup));
        tools = strings(c.setup, "allowed_tools");
        dirs = strings(c.setup, "extra_dirs");
        s = (HarnessSetup) {
                .kind = harness_kind_from_string(json_get_string(c.setup, "kind")),
                .program = json_get_string(c.setup, "program"),
                .home = json_get_string(c.setup, "home"),
                .workspace = json_get_string(c.setup, "workspace"),
                .working_directory = json_get_string(c.setup, "workspace"),
                .model = json_get_string(c.setup, "model"),
                .permission_mode = json_get_string(c.setup, "permission_mode"),
                .mcp_config = json_get_string(c.setup, "mcp_config"),
                .system_prompt = json_get_string(c.setup, "system_prompt"),
                .session_id = json_get_string(c.setup, "session_id"),
                .max_turns = (uint64_t) json_get_int(c.setup, "max_turns", 0),
                .allowed_tools = tools,
                .puffo_tools = json_get_bool(c.setup, "puffo_tools", false),
                .extra_dirs = dirs,
                .model_token = json_get_string(c.setup, "model_token"),
                .model_socket = "/run/puffo/model.sock",
                .prompt = json_get_string(c.setup, "prompt"),
                .environment = environ,
        };
        check("launch", harness_launch(&s, &launch));
        say("launch", with("launch", launch));

        (void) signal(SIGPIPE, SIG_IGN);
        check("loop", sd_event_default(&c.event));
        if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0)
                die("pipe", errno);
        c.pid = fork();
        if (c.pid < 0)
                die("fork", errno);
        if (c.pid == 0)
                run(&c, launch, (const int[3]) { in[0], out[1], errors[1] });
        (void) close(in[0]);
        (void) close(out[1]);
        (void) close(errors[1]);

        c.harness_setup = &s;
        memcpy(c.fds, (const int[3]) { in[1], out[0], errors[0] }, sizeof(c.fds));
        client_start(&c, /* adopted= */ false);
        check("commands", line_reader_new(&c.commands, c.event, dup(STDIN_FILENO), MIB(8), &(LineHandler) {
                .on_line = on_command,
                .on_end = on_commands_end,
                .userdata = &c,
        }));
        check("loop", sd_event_loop(c.event));

        line_reader_free(c.commands);
        harness_free(c.harness);
        sd_event_unref(c.event);
        (void) json_object_put(c.setup);
        return 0;
}
