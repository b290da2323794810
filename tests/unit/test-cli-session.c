/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>

#include "audit-log.h"
#include "cli-fixture.h"

#define CLAUDE "claude-code"
#define LOG ".puffo-agent/audit.log"

static int load(const Agent *a, const char *harness, char **ret) {
        *ret = mfree(*ret);
        return cli_session_load(a->home, harness, ret);
}

TEST(saved_and_loaded) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *id = NULL, *before = NULL, *after = NULL, *text = NULL;

        ASSERT_EQ(load(&a, CLAUDE, &id), 0);
        ASSERT_NULL(id);
        ASSERT_OK(cli_session_save(a.home, CLAUDE, "opus", "0b6c-1"));
        ASSERT_EQ(load(&a, CLAUDE, &id), 1);
        ASSERT_STREQ(id, "0b6c-1");
        ASSERT_EQ(get_mode(a.home->directory, "cli_session.json"), 0600);
        text = get_file(a.home->directory, "cli_session.json");
        ASSERT_NOT_NULL(strstr(text, "\"harness\":\"claude-code\",\"model\":\"opus\""));
        ASSERT_NOT_NULL(strstr(text, "\"updated_at\":"));

        before = tree_picture(a.home->directory);
        ASSERT_OK(cli_session_save(a.home, CLAUDE, "opus", "0b6c-1"));
        after = tree_picture(a.home->directory);
        ASSERT_STREQ(before, after);

        /* Another harness starts afresh, and does not bring the first one's back. */
        ASSERT_EQ(load(&a, "gemini-cli", &id), 0);
        ASSERT_OK(cli_session_save(a.home, "gemini-cli", "", ""));
        ASSERT_EQ(load(&a, "gemini-cli", &id), 1);
        ASSERT_STREQ(id, "");
        ASSERT_EQ(load(&a, CLAUDE, &id), 0);

        ASSERT_OK(cli_session_save(a.home, "gemini-cli", NULL, NULL));
        ASSERT_EQ(load(&a, "gemini-cli", &id), 0);
        ASSERT_OK(cli_session_save(a.home, "gemini-cli", NULL, NULL));
        ASSERT_FALSE(is_there(a.home->directory, "cli_session.json"));
}

TEST(first_turn_is_remembered) {
        AGENT(a, "hermes");
        _cleanup_json_ json_object *o = NULL;

        put_file(a.home->directory, "cli_session.json",
                 "{\"harness\": \"hermes\", \"session_id\": \"\", \"first_turn_at\": 1700000000}\n");
        ASSERT_OK(cli_session_save(a.home, "hermes", "m", "abc"));
        o = get_json(a.home->directory, "cli_session.json");
        ASSERT_EQ(json_get_int(o, "first_turn_at", 0), 1700000000);
        ASSERT_STREQ(json_get_string(o, "session_id"), "abc");
}

TEST(what_others_have_written) {
        static const struct { const char *text, *harness; int r; const char *id; } t[] = {
                { "{\"session_id\": \" 0b6c\\n\", \"updated_at\": 1}", CLAUDE, 1, "0b6c" },
                { "{\"session_id\": \"0b6c\", \"updated_at\": 1}", "hermes", 0, NULL },
                { "{\"harness\": \"hermes\", \"session_id\": \"x\"}", CLAUDE, 0, NULL },
                { "{\"harness\": \"hermes\", \"session_id\": \"x\"}", "hermes", 1, "x" },
                { "{\"harness\": \"hermes\", \"session_id\": \"--bad\"}", "hermes", 1, "" },
                { "{\"harness\": 7, \"session_id\": \"x\"}", CLAUDE, 0, NULL },
                { "{\"session_id\": \"--dangerously-skip-permissions\"}", CLAUDE, 0, NULL },
                { "{\"session_id\": \"a b\"}", CLAUDE, 0, NULL },
                { "{\"session_id\": \"\"}", CLAUDE, 0, NULL },
                { "{\"session_id\": 7}", CLAUDE, 0, NULL },
                { "{", CLAUDE, 0, NULL },
                { "", CLAUDE, 0, NULL },
                { "[]", CLAUDE, 0, NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                AGENT(a, CLAUDE);
                _cleanup_free_ char *id = NULL;

                put_file(a.home->directory, "cli_session.json", t[i].text);
                ASSERT_EQ(load(&a, t[i].harness, &id), t[i].r);
                ASSERT_TRUE(streq_ptr(id, t[i].id));
        }
}

TEST(ids_that_no_cli_makes) {
        static const char *const bad[] = { "", "-x", "a b", "a/b", ".", "ä" };
        AGENT(a, CLAUDE);

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ASSERT_ERROR(cli_session_save(a.home, CLAUDE, "", bad[i]), EINVAL);
        ASSERT_FALSE(is_there(a.home->directory, "cli_session.json"));
}

/* ---- the audit log ---- */

TEST(audit_lines) {
        AGENT(a, CLAUDE);
        _cleanup_json_ json_object *fields = json_object_new_object(), *first = NULL, *second = NULL;
        json_object *input = json_object_new_object(), *list = json_object_new_array();
        _cleanup_free_ char *text = NULL, *umlauts = calloc(1, 2 * 2500 + 1);
        const char *line;

        for (unsigned i = 0; i < 2500; i++)
                memcpy(umlauts + 2 * i, "ä", 2);
        ASSERT_OK(json_put_string(fields, "name", "Bash"));
        ASSERT_EQ(json_object_array_add(list, json_object_new_string(umlauts)), 0);
        ASSERT_EQ(json_object_array_add(list, NULL), 0);
        ASSERT_OK(json_put(input, "list", list));
        ASSERT_OK(json_put_int(input, "n", 7));
        ASSERT_OK(json_put(fields, "input", input));
        ASSERT_OK(audit_log_append(a.home, AUDIT_TOOL, fields));
        ASSERT_EQ(strlen(json_object_get_string(json_object_array_get_idx(list, 0))), 5000);
        ASSERT_OK(audit_log_append(a.home, AUDIT_SESSION_START, NULL));

        ASSERT_EQ(get_mode(a.home->workspace, LOG), 0600);
        text = get_file(a.home->workspace, LOG);
        line = strchr(text, '\n');
        ASSERT_OK(json_parse(text, (size_t) (line - text), &first));
        ASSERT_STREQ(json_get_string(first, "event"), "tool");
        ASSERT_STREQ(json_get_string(first, "agent"), "bot");
        ASSERT_EQ(strlen(json_get_string(first, "ts")), strlen("2026-01-01T00:00:00+00:00"));
        ASSERT_TRUE(endswith(json_get_string(first, "ts"), "+00:00"));
        list = json_get(json_get(first, "input"), "list");
        ASSERT_EQ(json_object_get_string_len(json_object_array_get_idx(list, 0)), 4000 + 15);
        ASSERT_TRUE(endswith(json_object_get_string(json_object_array_get_idx(list, 0)), "ä... (truncated)"));
        ASSERT_EQ(json_get_int(json_get(first, "input"), "n", 0), 7);
        ASSERT_NOT_NULL(strstr(text, "ä"));
        ASSERT_OK(json_parse(line + 1, strlen(line + 1), &second));
        ASSERT_STREQ(json_get_string(second, "event"), "session.start");
}

TEST(audit_is_bounded) {
        AGENT(a, CLAUDE);
        _cleanup_json_ json_object *fields = json_object_new_object();
        _cleanup_free_ char *text = NULL, *path = path_join(a.home->workspace, LOG), *small = NULL;
        struct stat st;

        for (unsigned i = 0; i < 20000; i++) {
                char key[32];

                (void) snprintf(key, sizeof(key), "%u", i);
                ASSERT_OK(json_put_string(fields, key, "0123456789"));
        }
        ASSERT_OK(audit_log_append(a.home, AUDIT_TOOL, fields));
        text = get_file(a.home->workspace, LOG);
        ASSERT_TRUE(endswith(text, "\"event\":\"tool\",\"truncated\":true}\n"));

        ASSERT_EQ(truncate(path, MIB(16) + 1), 0);
        ASSERT_OK(audit_log_append(a.home, AUDIT_TURN_END, NULL));
        small = get_file(a.home->workspace, LOG);
        ASSERT_TRUE(strlen(small) < 200);
        free(path);
        path = path_join(a.home->workspace, LOG ".1");
        ASSERT_EQ(stat(path, &st), 0);
        ASSERT_EQ(st.st_size, MIB(16) + 1);
}

TEST(audit_is_not_led_astray) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *victim = path_join(f.root, "victim"), *log = path_join(a.home->workspace, LOG),
                            *directory = path_join(a.home->workspace, ".puffo-agent"), *text = NULL;
        struct stat st;

        put_file(f.root, "victim", "precious");
        put_file(directory, "x", "");
        make_link(victim, directory, "audit.log");
        ASSERT_OK(audit_log_append(a.home, AUDIT_TURN_INPUT, NULL));
        ASSERT_EQ(unlink(log), 0);
        ASSERT_EQ(link(victim, log), 0);
        ASSERT_OK(audit_log_append(a.home, AUDIT_TURN_INPUT, NULL));
        ASSERT_EQ(unlink(log), 0);
        ASSERT_EQ(mkfifo(log, 0600), 0);
        ASSERT_OK(audit_log_append(a.home, AUDIT_TURN_INPUT, NULL));
        ASSERT_EQ(unlink(log), 0);
        ASSERT_EQ(mkdir(log, 0700), 0);
        ASSERT_OK(audit_log_append(a.home, AUDIT_TURN_INPUT, NULL));
        ASSERT_EQ(lstat(log, &st), 0);
        ASSERT_TRUE(S_ISREG(st.st_mode) && st.st_size > 0);

        ASSERT_OK(directory_remove(directory));
        ASSERT_EQ(symlink(f.root, directory), 0);
        ASSERT_OK(audit_log_append(a.home, AUDIT_TURN_INPUT, NULL));
        ASSERT_FALSE(is_there(f.root, "audit.log"));
        text = get_file(f.root, "victim");
        ASSERT_STREQ(text, "precious");
}

#define TEST_SUITE "cli-session"
TEST_MAIN();
