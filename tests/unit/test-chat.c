/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "chat.h"
#include "conversation.h"
#include "event-util.h"
#include "file-util.h"
#include "json-util.h"
#include "step-store.h"
#include "string-util.h"
#include "tests.h"
#include "turn-queue.h"

/* A chat with a scripted model and scripted tools; both answer from the loop. */

typedef struct Reply {
        const char *text;
        ModelToolCall calls[4];
        ModelErrorKind error;
        ModelStop stop;                 /* without calls */
        bool silent, tools_refused, call_cut;
        const char *opaque;
} Reply;

struct ModelCall {
        sd_event_source *source;
        ModelCallSpec spec;
};

struct ToolCall {
        sd_event_source *source;
        tool_done_t on_done;
        void *userdata;
        char *name, *arguments;
};

typedef struct Fixture {
        char *directory, *path;
        sd_event *event;
        Database *db;
        TurnQueue *queue;
        Chat *chat;
        Budget *budget;
        bool no_box;
} Fixture;

/* The world outside, which a crash does not touch. */
static sd_event *loop;
static const Reply *script;
static unsigned n_model_calls, n_resets;
static StrBuf prompts;                  /* each call: messages, and what it may call */
static StrBuf effects;                  /* what the tools have done: "key name arguments" lines */
static bool tool_is_silent;

static int model_on_play(sd_event_source *s, void *userdata) {
        ModelCall *c = userdata;
        const Reply *r = script + n_model_calls++;
        size_t n = 0;

        if (r->silent)
                return 0;
        if (r->text)
                c->spec.on_delta(c, r->text, strlen(r->text), c->spec.userdata);
        while (n < ELEMENTSOF(r->calls) && r->calls[n].id)
                n++;
        c->spec.on_done(c, &(ModelResult) {
                .error = r->error, .stop = n > 0 ? MODEL_STOP_TOOLS : r->stop, .text = "",
                .calls = n > 0 ? r->calls : NULL, .n_calls = n, .opaque = r->opaque,
                .retry_after_usec = USEC_INFINITY, .tools_refused = r->tools_refused,
                .call_cut = r->call_cut,
                .usage = { .input_tokens = 10, .output_tokens = 1 },
        }, c->spec.userdata);
        return 0;
}

static int model_start(ModelClient *client, const ModelCallSpec *spec, ModelCall **ret) {
        ModelCall *c = new0(ModelCall, 1);

        ASSERT_NOT_NULL(c);
        c->spec = *spec;
        for (size_t i = 0; i < spec->n_messages; i++) {
                const ModelMessage *m = spec->messages + i;

                ASSERT_OK(strbuf_printf(&prompts, "%s:%s", m->role == MODEL_ROLE_USER ? "u" : "a", strempty(m->text)));
                for (size_t k = 0; k < m->n_calls; k++)
                        ASSERT_OK(strbuf_printf(&prompts, "<%s %s %s%s>", m->calls[k].id, m->calls[k].name,
                                                m->calls[k].arguments, strempty(m->opaque)));
                for (size_t k = 0; k < m->n_results; k++)
                        ASSERT_OK(strbuf_printf(&prompts, "[%s %s%s]", m->results[k].id,
                                                m->results[k].is_error ? "!" : "", m->results[k].text));
                ASSERT_OK(strbuf_puts(&prompts, " "));
        }
        ASSERT_OK(strbuf_printf(&prompts, "%zu%s\n", spec->n_tools, spec->no_calls ? "-" : ""));
        ASSERT_OK(sd_event_add_defer(loop, &c->source, model_on_play, c));
        *ret = c;
        return 0;
}

static ModelCall* model_free(ModelCall *c) {
        if (c)
                (void) sd_event_source_disable_unref(c->source);
        return mfree(c);
}

static int client_new(ModelClient **ret, sd_event *event, const char *program) {
        *ret = NULL;
        return 0;
}

static ModelClient* client_free(ModelClient *c) {
        return NULL;
}

static void client_rest(ModelClient *c) {
}

static const ModelBackend backend = {
        .client_new = client_new, .client_free = client_free, .call_start = model_start, .call_free = model_free,
        .rest = client_rest,
};

static const Tool* list(const ToolBox *box, size_t *ret_n) {
        static const Tool tools[] = {
                { "send_message", "Sends.", "{\"type\":\"object\"}" }, { "look", "Looks.", "{\"type\":\"object\"}" },
        };

        *ret_n = ELEMENTSOF(tools);
        return tools;
}

static int tool_on_play(sd_event_source *s, void *userdata) {
        ToolCall *c = userdata;
        bool bad = strstr(c->arguments, "fail");
        _cleanup_free_ char *text = strjoin(bad ? "bad " : "ok ", c->name);

        c->on_done(c, &(ToolResult) { .is_error = bad, .text = text }, c->userdata);
        return 0;
}

/* As the outbox does it: what has been done under a key is not done again. */
static int tool_start(ToolBox *b, const char *name, json_object *arguments, const char *key, tool_done_t on_done,
                      void *userdata, ToolCall **ret) {
        ToolCall *c = new0(ToolCall, 1);
        _cleanup_free_ char *mark = strjoin(key, " ");
        size_t n;

        ASSERT_NOT_NULL(c);
        c->on_done = on_done;
        c->userdata = userdata;
        ASSERT_NOT_NULL(c->name = strdup(name));
        ASSERT_NOT_NULL(c->arguments = strdup(arguments ? strempty(json_text(arguments, &n)) : ""));
        if (!strstr(strempty(effects.text), mark))
                ASSERT_OK(strbuf_printf(&effects, "%s%s %s\n", mark, name, c->arguments));
        else
                n_resets++;
        if (!tool_is_silent)
                ASSERT_OK(sd_event_add_defer(loop, &c->source, tool_on_play, c));
        *ret = c;
        return 0;
}

static ToolCall* tool_free(ToolCall *c) {
        if (!c)
                return NULL;
        (void) sd_event_source_disable_unref(c->source);
        free(c->name);
        free(c->arguments);
        return mfree(c);
}

static bool is_answer(const char *name) {
        return streq(name, "send_message");
}

static const ChatTools tools = {
        .list = list, .call_start = tool_start, .call_free = tool_free, .is_answer = is_answer,
};

static ToolBox* get_box(void *userdata) {
        Fixture *f = userdata;

        return f->no_box ? NULL : (ToolBox*) f;
}

static int get_config(SessionConfig **ret, void *userdata) {
        Fixture *f = userdata;

        int r = session_config_load(ret, "alice", f->directory, NULL);

        return r < 0 ? r : MIN(budget_configure(f->budget, *ret), 0);
}

static void on_end(Turn *t, TurnResult *result, void *userdata) {
        turn_queue_end(((Fixture*) userdata)->queue, t, result);
}

static int driver_start(Turn *t, TurnRow *row, void *userdata) {
        return chat_start(((Fixture*) userdata)->chat, t, row);
}

static void driver_cancel(Turn *t, void *userdata) {
        chat_cancel(((Fixture*) userdata)->chat);
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
        ASSERT_OK(turn_queue_load(f->queue));
        ASSERT_OK(budget_new(&f->budget, &(BudgetSpec) { .db = f->db, .now = budget_now }));
        ASSERT_OK(chat_new(&f->chat, &(ChatSpec) {
                .event = f->event, .db = f->db, .budget = f->budget, .backend = &backend, .tools = &tools, .get_box = get_box,
                .retry_min_usec = 1, .retry_max_usec = 2, .get_config = get_config, .on_end = on_end, .userdata = f,
        }));
        turn_queue_set_enabled(f->queue, true);
}

/* All of it goes, as when the process is killed: nothing is ended, nothing more is written. */
static void fixture_crash(Fixture *f) {
        turn_queue_abandon(f->queue);
        f->chat = chat_free(f->chat);
        f->budget = budget_free(f->budget);
        f->queue = turn_queue_free(f->queue);
        f->db = database_free(f->db);
        f->event = sd_event_unref(f->event);
}

static Fixture* fixture_new(const Reply *replies, const char *runtime) {
        Fixture *f = new0(Fixture, 1);
        char template[] = "/tmp/puffo-test-chat-XXXXXX";
        _cleanup_free_ char *config = NULL, *yaml = NULL;

        ASSERT_NOT_NULL(f);
        ASSERT_NOT_NULL(mkdtemp(template));
        ASSERT_TRUE(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
        script = replies;
        n_model_calls = n_resets = 0;
        tool_is_silent = false;
        strbuf_done(&prompts);
        strbuf_done(&effects);
        f->directory = strdup(template);
        f->path = strjoin(template, "/messages.db");
        config = strjoin(template, "/agent.yml");
        yaml = strjoin("runtime:\n  kind: chat-local\n  provider: anthropic\n  api_key: k\n", runtime);
        ASSERT_OK(file_write_atomic(config, yaml, strlen(yaml), 0600));
        fixture_open(f);
        return f;
}

static void fixture_free(Fixture **p) {
        Fixture *f = *p;

        fixture_crash(f);
        (void) directory_remove(f->directory);
        free(f->directory);
        free(f->path);
        free(f);
        strbuf_done(&prompts);
        strbuf_done(&effects);
}
#define _fixture_ _cleanup_(fixture_free)

static int submit(Fixture *f, const char *id) {
        int fds[2];

        ASSERT_OK(pipe2(fds, O_CLOEXEC|O_NONBLOCK));
        ASSERT_OK(turn_queue_submit(f->queue, &(TurnSubmission) {
                .id = id, .text = id, .store = true, .now_usec = now_realtime_usec(),
        }, true, fds[1]));
        return fds[0];
}

static bool is_busy(Fixture *f) {
        return turn_queue_running(f->queue) || turn_queue_length(f->queue) > 0;
}

static void run(Fixture *f) {
        while (is_busy(f))
                if (ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) == 0)
                        fail_msg("Nothing happens any more");
}

/* Until the loop has nothing to do at once. */
static void settle(Fixture *f) {
        while (sd_event_run(f->event, 20 * USEC_PER_MSEC) > 0)
                ;
}

static void assert_turn(Fixture *f, const char *id, const char *expected) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        StrBuf b = {};

        ASSERT_EQ(turn_store_get(f->db, id, &row), 1);
        ASSERT_OK(strbuf_printf(&b, "%s%s%s%s", turn_status_to_string(row->status), row->reason,
                                *row->error_kind ? "/" : "", row->error_kind));
        for (size_t i = 0; i < row->n_items; i++)
                ASSERT_OK(strbuf_printf(&b, " %s%s", row->items[i].text, row->items[i].complete ? "" : "~"));
        ASSERT_STREQ(b.text, expected);
        strbuf_done(&b);
}

/* Tools and messages of a stream; closes it. */
static void assert_events(int fd, const char *expected) {
        _cleanup_free_ char *text = calloc(1, 65536);
        StrBuf b = {};
        size_t size = 0;
        ssize_t n;

        while ((n = read(fd, text + size, 65535 - size)) > 0)
                size += (size_t) n;
        for (char *line = text, *next; *line; line = next) {
                _cleanup_json_ json_object *o = NULL;
                const char *type;

                next = strchr(line, '\n') + 1;
                ASSERT_OK(json_parse(line, (size_t) (next - line), &o));
                type = json_get_string(o, "type");
                if (startswith(type, "tool_"))
                        ASSERT_OK(strbuf_printf(&b, "%c%s=%s%s ", type[5], json_get_string(o, "call"),
                                                json_get_string(o, "name"),
                                                json_get_bool(o, "failed", false) ? "!" : ""));
                if (streq(type, "message_done"))
                        ASSERT_OK(strbuf_printf(&b, "'%s' ", json_get_string(o, "text")));
        }
        (void) close(fd);
        ASSERT_STREQ(strempty(b.text), expected);
        strbuf_done(&b);
}

#define SAYS(key, text) { key, "send_message", "{\"text\":\"" text "\"}" }

TEST(several_steps) {
        static const Reply replies[] = {
                { .text = "One moment.", .calls = { { "c1", "look", "" }, SAYS("c2", "hi") }, .opaque = "{}" },
                { .calls = { SAYS("c1", "ho") } },
                { .text = "Done." },
                { .text = "Again." },
        };
        _fixture_ Fixture *f = fixture_new(replies, "");
        int fd = submit(f, "t1");

        run(f);
        assert_turn(f, "t1", "completed One moment. Done.");
        assert_events(fd, "'One moment.' s0/0=look e0/0=look s0/1=send_message e0/1=send_message s1/0=send_message "
                          "e1/0=send_message 'Done.' ");
        ASSERT_STREQ(effects.text, "t1/0/0 look \nt1/0/1 send_message {\"text\":\"hi\"}\n"
                                   "t1/1/0 send_message {\"text\":\"ho\"}\n");
        ASSERT_STREQ(prompts.text,
                     "u:t1 2\n"
                     "u:t1 a:One moment.<c1 look {}><c2 send_message {\"text\":\"hi\"}{}> u:[c1 ok look]"
                     "[c2 ok send_message] 2\n"
                     "u:t1 a:One moment.<c1 look {}><c2 send_message {\"text\":\"hi\"}{}> u:[c1 ok look]"
                     "[c2 ok send_message] a:<c1 send_message {\"text\":\"ho\"}> u:[c1 ok send_message] 2\n");

        /* Later turns know what was said, wherever it was, and nothing of the tools. */
        strbuf_done(&prompts);
        (void) close(submit(f, "t2"));
        run(f);
        ASSERT_STREQ(prompts.text, "u:t1 a:hi\n\nho a:One moment. a:Done. u:t2 2\n");
}

TEST(without_a_box) {
        static const Reply replies[] = { { .text = "Hi." } };
        _fixture_ Fixture *f = fixture_new(replies, "");

        f->no_box = true;
        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "completed Hi.");
        ASSERT_STREQ(prompts.text, "u:t1 0\n");
}

TEST(bad_calls_go_to_the_model) {
        static const Reply replies[] = {
                { .calls = { { "1", "look", "{nonsense" }, { "2", "install_skill", "{}" }, { "3", "look", " null " },
                             { "4", "send_message", "{\"text\":\"fail\"}" } } },
                { .text = "Sorry." },
        };
        _fixture_ Fixture *f = fixture_new(replies, "");
        int fd = submit(f, "t1");

        run(f);
        assert_turn(f, "t1", "completed Sorry.");
        ASSERT_STREQ(effects.text, "t1/0/2 look \nt1/0/3 send_message {\"text\":\"fail\"}\n");
        ASSERT_NOT_NULL(strstr(prompts.text, "[1 !The arguments are not valid JSON."));
        ASSERT_NOT_NULL(strstr(prompts.text, "[2 !There is no tool 'install_skill'.][3 ok look]"
                                             "[4 !bad send_message] 2\n"));
        assert_events(fd, "s0/0=look e0/0=look! s0/1=install_skill e0/1=install_skill! s0/2=look e0/2=look "
                          "s0/3=send_message e0/3=send_message! 'Sorry.' ");
}

/* What did not go out was not said. */
TEST(failed_answers) {
        static const Reply replies[] = {
                { .calls = { SAYS("1", "fail"), SAYS("2", "fine"), { "3", "send_message", "[]" } } },
                { .silent = true },
        };
        _fixture_ Fixture *f = fixture_new(replies, "");
        Turn *t;

        (void) close(submit(f, "t1"));
        settle(f);
        t = turn_queue_running(f->queue);
        ASSERT_EQ(t->n_answers, 2);
        ASSERT_EQ(t->n_answers_failed, 1);
        ASSERT_STREQ(t->spoken.text, "fine");
}

/* Each call uses 11 tokens. */
TEST(budget) {
        static const Reply replies[] = {
                { .text = "One." }, { .calls = { SAYS("1", "two") } }, { .text = "More." },
        };
        _fixture_ Fixture *f = fixture_new(replies, "limits: {tokens_per_hour: 20}\n"
                                                    "pricing: {claude-sonnet-4-6: {input: 100, output: 1000}}\n");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        _cleanup_free_ char *path = strjoin(f->directory, "/agent.yml");
        static const char more[] = "runtime: {provider: anthropic, api_key: k}\nlimits: {tokens_per_hour: 1000}\n";

        (void) close(submit(f, "t1"));
        (void) close(submit(f, "t2"));
        (void) close(submit(f, "t3"));
        run(f);
        assert_turn(f, "t1", "completed One.");
        /* What was allowed is done, and then there is no more. */
        assert_turn(f, "t2", "failed/budget");
        assert_turn(f, "t3", "failed/budget");
        ASSERT_EQ(n_model_calls, 2);
        ASSERT_NOT_NULL(strstr(strempty(effects.text), "two"));
        ASSERT_EQ(turn_store_get(f->db, "t2", &row), 1);
        ASSERT_STREQ(row->error_code, "rate_limit_exceeded");
        ASSERT_NOT_NULL(strstr(row->error_message, "limits.tokens_per_hour"));
        ASSERT_EQ(row->usage.cost_micro, 2000);

        /* It is not forgotten with the process, and a new limit holds at once. */
        fixture_crash(f);
        fixture_open(f);
        (void) close(submit(f, "t4"));
        run(f);
        assert_turn(f, "t4", "failed/budget");
        ASSERT_OK(file_write_atomic(path, more, strlen(more), 0600));
        (void) close(submit(f, "t5"));
        run(f);
        assert_turn(f, "t5", "completed More.");
}

TEST(steps_have_an_end) {
        static const Reply replies[] = {
                { .calls = { { "1", "look", "" } } }, { .calls = { { "2", "look", "" } } },
                { .text = "Enough.", .calls = { { "3", "look", "" } } },        /* although it was asked not to */
        };
        _fixture_ Fixture *f = fixture_new(replies, "  max_turns: 2\n");

        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "completed Enough.");
        ASSERT_EQ(n_model_calls, 3);
        ASSERT_STREQ(effects.text, "t1/0/0 look \nt1/1/0 look \n");
        ASSERT_NOT_NULL(strstr(prompts.text, "[2 ok look] u:[puffo-agent system message] this turn has used up its "
                                             "tool calls. Finish it now, without calling a tool. 2-\n"));
}

TEST(trouble_in_the_middle) {
        static const Reply replies[] = {
                { .error = MODEL_ERROR_OVERLOADED },
                { .calls = { SAYS("1", "a") } },
                { .error = MODEL_ERROR_OVERLOADED },
                { .error = MODEL_ERROR_RATE_LIMIT },
                { .error = MODEL_ERROR_CONNECT },
                { .text = "half", .error = MODEL_ERROR_CUT },
                { .text = "Next.", .calls = { SAYS("2", "b") } },
                { .stop = MODEL_STOP_OTHER },
                { .error = MODEL_ERROR_CONTEXT_LENGTH },
                { .text = "Done." },
        };
        _fixture_ Fixture *f = fixture_new(replies, "");

        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "completed half~ Next. Done.");
        ASSERT_EQ(n_model_calls, ELEMENTSOF(replies));
        ASSERT_STREQ(effects.text, "t1/0/0 send_message {\"text\":\"a\"}\nt1/1/0 send_message {\"text\":\"b\"}\n");
        ASSERT_EQ(n_resets, 0);
}

/* A call that does not fit into the output limit was not made: the model is told so, and makes it again. */
TEST(cut_calls_are_made_again) {
        static const Reply replies[] = {
                { .text = "I will wri", .stop = MODEL_STOP_LENGTH, .call_cut = true },
                { .text = "Writing.", .calls = { SAYS("1", "a") } },
                { .stop = MODEL_STOP_LENGTH, .call_cut = true },
                { .text = "Done." },
        };
        _fixture_ Fixture *f = fixture_new(replies, "");

        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "completed I will wri~ Writing. Done.");
        ASSERT_STREQ(effects.text, "t1/0/0 send_message {\"text\":\"a\"}\n");
        ASSERT_NOT_NULL(strstr(prompts.text, "u:t1 u:[puffo-agent system message] your last reply was cut off at the "
                                             "limit of its length"));
        ASSERT_NOT_NULL(strstr(prompts.text, "[1 ok send_message] u:[puffo-agent system message] your last reply"));
        /* Said once for each that was cut. */
        ASSERT_NOT_NULL(strstr(prompts.text, "[1 ok send_message] 2\n"));
}

/* … but not for ever, and then with a reason. */
TEST(calls_that_never_fit) {
        static const Reply cut[] = {
                { .text = "One.", .calls = { SAYS("1", "a") } },
                { .stop = MODEL_STOP_LENGTH, .call_cut = true }, { .stop = MODEL_STOP_LENGTH, .call_cut = true },
                { .stop = MODEL_STOP_LENGTH, .call_cut = true }, { .text = "never asked" },
        };
        _fixture_ Fixture *f = fixture_new(cut, "");

        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "failed/length One.");
        ASSERT_EQ(n_model_calls, 4);
}

TEST(trouble_for_good) {
        static const Reply replies[] = { { .calls = { SAYS("1", "a") } }, { .error = MODEL_ERROR_AUTH } };
        _fixture_ Fixture *f = fixture_new(replies, "");

        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "failed/auth");
}

/* The process is killed after each number of turns of the loop in which something happens, and the next one goes on:
 * however that falls, each tool has its effect once, and the answer is whole. */
TEST(killed_at_each_step) {
        static const Reply replies[] = {
                { .text = "One.", .calls = { SAYS("c1", "a"), SAYS("c2", "b") } },
                { .text = "Two.", .calls = { SAYS("c3", "c") } },
                { .text = "Three." },
        };
        bool whole = false;
        unsigned n_again = 0, n_same_key = 0;

        for (unsigned moment = 1; !whole; moment++) {
                _fixture_ Fixture *f = fixture_new(replies, "");
                StoredStep *steps;
                size_t n;

                (void) close(submit(f, "t1"));
                for (unsigned i = 0; i < moment && is_busy(f); i++)
                        ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
                whole = !is_busy(f);
                fixture_crash(f);
                fixture_open(f);

                /* The model goes on behind what is stored, and says what it would have. */
                ASSERT_OK(step_store_list(f->db, 1, &steps, &n));
                stored_steps_free(steps, n);
                n_model_calls = (unsigned) n;
                strbuf_done(&prompts);
                if (!whole) {
                        run(f);
                        n_again++;
                }
                assert_turn(f, "t1", "completed One. Two. Three.");
                ASSERT_STREQ(effects.text, "t1/0/0 send_message {\"text\":\"a\"}\n"
                                           "t1/0/1 send_message {\"text\":\"b\"}\n"
                                           "t1/1/0 send_message {\"text\":\"c\"}\n");
                ASSERT_TRUE(whole || strstr(prompts.text, "[c3 ok send_message]"));
                n_same_key += n_resets;

                strbuf_done(&prompts);
                script = &(Reply) { .text = "x" };
                n_model_calls = 0;
                (void) close(submit(f, "t2"));
                run(f);
                ASSERT_STREQ(prompts.text, "u:t1 a:a\n\nb\n\nc a:One. a:Two. a:Three. u:t2 2\n");
        }
        ASSERT_TRUE(n_again > 5 && n_same_key > 2);
}

/* What a reader saw before comes again under the same name. */
TEST(messages_keep_their_names) {
        static const Reply replies[] = {
                { .text = "One.", .calls = { SAYS("c1", "a") } }, { .silent = true }, { .text = "Two." },
        };
        _fixture_ Fixture *f = fixture_new(replies, "");
        _cleanup_free_ char *item = NULL;
        Turn *t;

        (void) close(submit(f, "t1"));
        settle(f);
        t = turn_queue_running(f->queue);
        ASSERT_EQ(t->n_items, 1);
        ASSERT_NOT_NULL(item = strdup(t->items[0].item));
        fixture_crash(f);
        n_model_calls = 1;
        fixture_open(f);
        settle(f);
        t = turn_queue_running(f->queue);
        ASSERT_EQ(t->n_items, 1);
        ASSERT_STREQ(t->items[0].item, item);
        ASSERT_EQ(t->n_answers, 1);
        ASSERT_STREQ(t->spoken.text, "a");
}

TEST(interrupt_and_new_box) {
        static const Reply replies[] = { { .calls = { { "c1", "look", "" } } }, { .text = "Seen." } };

        for (unsigned i = 0; i < 2; i++) {
                _fixture_ Fixture *f = fixture_new(replies, "");

                tool_is_silent = true;
                (void) close(submit(f, "t1"));
                settle(f);
                ASSERT_STREQ(effects.text, "t1/0/0 look \n");
                if (i == 0) {
                        ASSERT_EQ(turn_queue_interrupt(f->queue, "t1"), 1);
                        assert_turn(f, "t1", "cancelledinterrupted");
                        continue;
                }
                tool_is_silent = false;
                chat_drop_tools(f->chat);
                run(f);
                assert_turn(f, "t1", "completed Seen.");
                ASSERT_EQ(n_resets, 1);
        }
}

/* The box may go in the middle of a turn: what is to be called is told so, and the model ends the turn. */
TEST(box_goes) {
        static const Reply replies[] = {
                { .calls = { { "c1", "look", "" }, { "c2", "look", "" } } }, { .text = "Oh." },
        };
        _fixture_ Fixture *f = fixture_new(replies, "");

        tool_is_silent = true;
        (void) close(submit(f, "t1"));
        settle(f);
        f->no_box = true;
        chat_drop_tools(f->chat);
        run(f);
        assert_turn(f, "t1", "completed Oh.");
        ASSERT_NOT_NULL(strstr(prompts.text, "[c1 !The tools cannot be used at present"));
        ASSERT_NOT_NULL(strstr(prompts.text, "[c2 !The tools cannot be used at present"));
        ASSERT_TRUE(strstr(prompts.text, " 2-\n"));
}

/* A tool that does not come back is no progress; the clock does not begin anew with nothing. */
TEST(silent_tools) {
        static const Reply replies[] = { { .text = "Wait.", .calls = { { "c1", "look", "" } } } };
        _fixture_ Fixture *f = fixture_new(replies, "  task_timeout_seconds: 1\n");

        tool_is_silent = true;
        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "incompletedeadline Wait.");
}

/* Nothing is called whose step is not stored. */
TEST(failing_store) {
        static const Reply replies[] = { { .calls = { SAYS("c1", "a") } } };
        _fixture_ Fixture *f = fixture_new(replies, "");

        ASSERT_OK(database_exec(f->db, "CREATE TRIGGER full BEFORE INSERT ON turn_tool_calls BEGIN "
                                       "SELECT RAISE(FAIL, 'full'); END"));
        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "failed/storage");
        ASSERT_EQ(effects.size, 0);
}

/* A result that cannot be stored does not undo what was done. */
TEST(failing_results) {
        static const Reply replies[] = { { .calls = { SAYS("c1", "a") } }, { .text = "Done." } };
        _fixture_ Fixture *f = fixture_new(replies, "");

        ASSERT_OK(database_exec(f->db, "CREATE TRIGGER full BEFORE UPDATE ON turn_tool_calls BEGIN "
                                       "SELECT RAISE(FAIL, 'full'); END"));
        (void) close(submit(f, "t1"));
        run(f);
        assert_turn(f, "t1", "completed Done.");
        ASSERT_NOT_NULL(strstr(prompts.text, "[c1 ok send_message]"));
}

TEST(real_tools) {
        size_t n;
        const Tool *offered = chat_tools.list(NULL, &n);

        ASSERT_EQ(n, 11);
        for (size_t i = 0; i < n; i++) {
                _cleanup_json_ json_object *schema = NULL;

                ASSERT_OK(json_parse(offered[i].schema, strlen(offered[i].schema), &schema));
                ASSERT_STREQ(json_get_string(schema, "type"), "object");
        }
}

#define TEST_SUITE "chat"
TEST_MAIN();
