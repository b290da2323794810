/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-codex-traffic"

#include "file-util.h"
#include "harness-fixture.h"

/* What the real program said and was told (tests/vectors/codex-traffic.jsonl and codex-exec-traffic.jsonl; what nobody
 * looks at is left out), is said again to the driver. Where it was told something, the driver must tell it the same,
 * but for the ids of its requests, and for what the recording did not ask. */

#define ID_MAX 64

typedef struct Replay {
        Stage stage;
        const char *ids[ID_MAX];        /* by the recorded ones: the driver's */
        bool turning;                   /* the driver has been given a turn already, so as to make it begin */
} Replay;

static json_object* told(Replay *p) {
        for (;;) {
                json_object *o = stage_hears_json(&p->stage);
                const char *method = json_get_string(o, "method"), *id = json_get_string(o, "id");
                _cleanup_free_ char *line = NULL;

                ASSERT_NOT_NULL(o);
                if (!streq_ptr(method, "account/read"))
                        return o;
                line = asprintf_new("{\"id\":\"%s\",\"result\":{\"account\":null,\"requiresOpenaiAuth\":false}}", id);
                (void) json_object_put(o);
                stage_says(&p->stage, line);
        }
}

static const char* text_of(json_object *params) {
        return json_get_string(json_object_array_get_idx(json_get(params, "input"), 0), "text");
}

/* The next turn's text, of what was told from there on. */
static const char* next_text(json_object *const *lines, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (streq(json_get_string(lines[i], "dir"), "in") &&
                    streq_ptr(json_get_string(json_get(lines[i], "msg"), "method"), "turn/start"))
                        return text_of(json_get(json_get(lines[i], "msg"), "params"));
        return "hello";
}

static void check_params(json_object *recorded, json_object *said) {
        static const char *const keys[] = { "threadId", "turnId", "input", "excludeTurns" };

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (json_get(recorded, keys[i]))
                        ASSERT_STREQ(json_text(json_get(said, keys[i]), NULL),
                                     json_text(json_get(recorded, keys[i]), NULL));
}

static void tell(Replay *p, json_object *message, json_object *const *rest, size_t n_rest) {
        const char *method = json_get_string(message, "method");
        json_object *params = json_get(message, "params");
        int64_t id = json_get_int(message, "id", -1);
        _cleanup_json_ json_object *o = NULL;
        Stage *s = &p->stage;

        if (!method) {
                const char *decision = json_get_string(json_get(message, "result"), "decision") ?:
                                       strempty(json_get_string(json_get(message, "result"), "action"));
                bool allow = streq(decision, "accept");

                /* Words that the driver has no use for are said in its place. */
                if (s->ask) /* of Puffo's own tools nobody is asked */
                        ASSERT_OK(harness_answer(s->harness, s->ask, allow, NULL, NULL));
                o = told(p);
                ASSERT_EQ(json_get_int(o, "id", -1), id);
                if (allow || streq(decision, "decline"))
                        ASSERT_STREQ(json_text(o, NULL), json_text(message, NULL));
                return;
        }
        if (streq(method, "thread/compact/start") || streq(method, "thread/turns/list") ||
            streq(method, "thread/read") || startswith(method, "thread/name") || streq(method, "thread/list") ||
            streq(method, "thread/unsubscribe"))
                return;
        if (streq(method, "turn/interrupt")) {
                if (!harness_in_turn(s->harness))
                        return;
                ASSERT_OK(harness_interrupt(s->harness));
        } else if (!p->turning) {
                ASSERT_OK(harness_turn(s->harness, next_text(rest, n_rest)));
                p->turning = true;
        }
        if (streq(method, "turn/start"))
                p->turning = false;
        o = told(p);
        ASSERT_STREQ(json_get_string(o, "method"), method);
        check_params(params, json_get(o, "params"));
        if (id >= 0) {
                ASSERT_TRUE(id < ID_MAX);
                p->ids[id] = json_object_get_string(json_get(o, "id"));
                p->ids[id] = strdup(p->ids[id]);
                ASSERT_NOT_NULL(p->ids[id]);
        }
}

static void say(Replay *p, json_object *message) {
        int64_t id = json_get_int(message, "id", -1);

        if (json_get(message, "_exit")) {
                stage_exits(&p->stage);
                return;
        }
        if (!json_get_string(message, "method") && id >= 0) {
                if (id >= ID_MAX || !p->ids[id])
                        return;
                ASSERT_OK(json_put_string(message, "id", p->ids[id]));
        }
        stage_says(&p->stage, json_text(message, NULL));
}

static json_object** load(const char *path, const char *scenario, size_t *ret_n) {
        _cleanup_free_ char *text = NULL;
        json_object **lines = NULL;
        size_t n = 0;

        ASSERT_OK(file_read(path, MIB(8), &text, NULL));
        for (char *line = text, *end; *line; line = end + 1) {
                json_object *o = NULL;

                end = strchr(line, '\n');
                ASSERT_NOT_NULL(end);
                ASSERT_OK(json_parse(line, (size_t) (end - line), &o));
                if (!streq(json_get_string(o, "case"), scenario)) {
                        (void) json_object_put(o);
                        continue;
                }
                lines = reallocarray(lines, n + 1, sizeof(json_object*));
                ASSERT_NOT_NULL(lines);
                lines[n++] = o;
        }
        ASSERT_TRUE(n > 0);
        *ret_n = n;
        return lines;
}

static void unload(json_object **lines, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) json_object_put(lines[i]);
        free(lines);
}

typedef struct Scenario {
        const char *name, *mode, *resume, *record;
        uint64_t input, output;         /* of the last turn */
        unsigned n_tools, n_asks;
} Scenario;

static void replay(const Scenario *t) {
        HarnessSetup setup = stage_setup(HARNESS_CODEX);
        _cleanup_free_ json_object **lines = NULL;
        Replay p = {};
        size_t n;

        setup.permission_mode = t->mode ?: "bypassPermissions";
        setup.session_id = t->resume;
        stage_begin(&p.stage, &setup);
        p.stage.texts_only = true;
        lines = load(TRAFFIC, t->name, &n);
        for (size_t i = 0; i < n; i++) {
                json_object *message = json_get(lines[i], "msg");

                if (streq(json_get_string(lines[i], "dir"), "in"))
                        tell(&p, message, (json_object *const*) lines + i, n - i);
                else
                        say(&p, message);
        }
        ASSERT_FALSE(p.stage.failed);
        ASSERT_RECORD(&p.stage, t->record);
        ASSERT_EQ(p.stage.result.usage.input_tokens, t->input);
        ASSERT_EQ(p.stage.result.usage.output_tokens, t->output);
        ASSERT_EQ(p.stage.n_tools, t->n_tools);
        ASSERT_EQ(p.stage.n_asks, t->n_asks);
        for (size_t i = 0; i < ID_MAX; i++)
                free((char*) p.ids[i]);
        stage_end(&p.stage);
        for (size_t i = 0; i < n; i++)
                (void) json_object_put(lines[i]);
}

TEST(app_server) {
        static const Scenario t[] = {
                { "basic", NULL, NULL, "Hello from the app server.\ndone\nSecond turn.\ndone\nTool finished.\n"
                  "done\n", 22, 4, 1, 0 },
                { "resume", NULL, "01a1fbe9-55bc-77c0-ac19-c78609dff468", "Resumed.\ndone\n", 11, 2, 0, 0 },
                { "approvals", "default", NULL, "Tool finished.\ndone\nTool finished.\ndone\nTool finished.\ndone\n"
                  "interrupted\nTool finished.\ndone\nTool finished.\ndone\nTool finished.\ndone\n", 22, 4, 7, 7 },
                { "interrupt", NULL, NULL, "interrupted\ninterrupted\n", 11, 1, 1, 0 },
                { "failures", NULL, NULL, "error\nauth\ntransient\ntransient\nRecovered in transcript.\ndone\n"
                  "transient\ntransient\nlimit\nerror\nHalf\nerror\nalpha beta gamma epsilon\ndone\ntransient\n"
                  "transient\ntransient\nMinimal events.\ndone\ntoo-long\nStill usable after failures.\ndone\n", 22, 31, 0, 0 },
                { "mcp-elicitation", "default", NULL, "Tool finished.\ndone\n", 22, 4, 1, 0 },
                { "unreachable", NULL, NULL, "interrupted\n", 0, 0, 0, 0 },
                { "compaction", NULL, NULL, "Before.\ndone\nAfter.\ndone\n", 11, 1, 0, 0 },
                { "sigkill-in-flight", NULL, NULL, "First.\ndone\ngone\n", 0, 0, 0, 0 },
                { "writer-lock-b", NULL, "01a1fbea-0168-7882-ad2a-3e93f81a3248", "gone\n", 0, 0, 0, 0 },
                { "resume-empty-b", NULL, "01a1fbea-0306-78f2-b9fd-f9f7157f635f", "lost-session\n", 0, 0, 0, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                print_message("%s\n", t[i].name);
                replay(t + i);
        }
}

static void replay_exec(const Scenario *t) {
        HarnessSetup setup = stage_setup(HARNESS_CODEX_EXEC);
        json_object **lines;
        Stage s;
        size_t n;

        setup.permission_mode = "bypassPermissions";
        setup.session_id = t->resume;
        stage_begin(&s, &setup);
        s.texts_only = true;
        lines = load(EXEC_TRAFFIC, t->name, &n);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        for (size_t i = 0; i < n; i++) {
                json_object *message = json_get(lines[i], "msg");

                if (!streq(json_get_string(lines[i], "dir"), "out"))
                        continue;
                if (json_get(message, "exit_code")) {
                        stage_complains(&s, strempty(json_get_string(message, "stderr")));
                        stage_exits(&s);
                } else
                        stage_says(&s, json_text(message, NULL));
        }
        ASSERT_TRUE(s.exited);
        ASSERT_FALSE(s.failed);
        ASSERT_RECORD(&s, t->record);
        ASSERT_EQ(s.result.usage.input_tokens, t->input);
        ASSERT_EQ(s.result.usage.output_tokens, t->output);
        ASSERT_EQ(s.n_tools, t->n_tools);
        /* With those of the turns before, where there were some. */
        ASSERT_EQ(s.result.usage_is_total, t->input > 0);
        stage_end(&s);
        unload(lines, n);
}

TEST(exec) {
        static const Scenario t[] = {
                { "plain", NULL, NULL, "Good morning.\ndone\n", 11, 3, 0, 0 },
                { "resume", NULL, "01a1fbea-d21b-7483-a3b0-36527c00d28f", "Still here.\ndone\n", 22, 5, 0, 0 },
                { "resume-unknown", NULL, "01a1fbd8-0000-7b02-a297-43e1f331a224", "lost-session\n", 0, 0, 0, 0 },
                { "tool", NULL, NULL, "Tool finished.\ndone\n", 22, 4, 1, 0 },
                { "apply-patch", NULL, NULL, "Tool finished.\ndone\n", 22, 4, 1, 0 },
                { "mcp-approve", NULL, NULL, "Tool finished.\ndone\n", 22, 4, 1, 0 },
                { "http-400", NULL, NULL, "error\n", 0, 0, 0, 0 },
                { "http-401", NULL, NULL, "auth\n", 0, 0, 0, 0 },
                { "http-429", NULL, NULL, "transient\n", 0, 0, 0, 0 },
                { "http-500", NULL, NULL, "transient\n", 0, 0, 0, 0 },
                { "failed", NULL, NULL, "transient\n", 0, 0, 0, 0 },
                { "failed-ctx", NULL, NULL, "too-long\n", 0, 0, 0, 0 },
                { "failed-rate", NULL, NULL, "transient\n", 0, 0, 0, 0 },
                { "incomplete", NULL, NULL, "Half an answer\nerror\n", 0, 0, 0, 0 },
                { "drop", NULL, NULL, "transient\n", 0, 0, 0, 0 },
                { "sigterm", NULL, NULL, "gone\n", 0, 0, 0, 0 },
                { "bad-toml", NULL, NULL, "unfit\n", 0, 0, 0, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                print_message("%s\n", t[i].name);
                replay_exec(t + i);
        }
}

TEST_MAIN();
