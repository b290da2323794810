/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "ctl-table"

#include <locale.h>

#include "ctl-journal.h"
#include "ctl-table.h"
#include "ctl-text.h"
#include "event-util.h"
#include "tests.h"

static const Column columns[] = { { "name", "NAME" }, { "n", "N", true }, { "hidden" }, { "text", "TEXT" }, {} };

static Table* make_table(void) {
        Table *t;

        assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
        ASSERT_OK(table_new(&t, columns));
        ASSERT_OK(table_add_string(t, "rob"));
        ASSERT_OK(table_add_number(t, 7));
        ASSERT_OK(table_add_string(t, "x"));
        ASSERT_OK(table_add_string(t, "first"));
        ASSERT_OK(table_add_string(t, "日本"));
        ASSERT_OK(table_add_pid(t, 0));
        ASSERT_OK(table_add_string(t, NULL));
        ASSERT_OK(table_add_string(t, "é\033[31m\ttwo\nlines"));
        ASSERT_EQ(table_n_rows(t), 2);
        return t;
}

static char* print(const Table *t, TableStyle style, bool heading, size_t width) {
        char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);

        ASSERT_NOT_NULL(f);
        ASSERT_OK(table_print(t, f, style, heading, width));
        fclose(f);
        return text;
}

TEST(aligned_by_width_not_bytes) {
        _cleanup_(table_freep) Table *t = make_table();
        _cleanup_free_ char *text = print(t, TABLE_ALIGNED, true, 0);

        ASSERT_STREQ(text,
                     "NAME  N  TEXT\n"
                     "rob   7  first\n"
                     "日本  -  é?[31m?two?lines\n");
}

TEST(last_column_is_cut) {
        _cleanup_(table_freep) Table *t = make_table();
        _cleanup_free_ char *text = print(t, TABLE_ALIGNED, false, 13);

        ASSERT_STREQ(text,
                     "rob   7  fir…\n"
                     "日本  -  é?[…\n");
}

/* Escapes that stand for the same characters: what a program reads is unchanged. */
TEST(json_for_terminals) {
        static const struct { const char *json, *safe; } t[] = {
                { "{\"a\":\"plain é 日本 …\"}\n", "{\"a\":\"plain é 日本 …\"}\n" },
                { "\"\xc2\x9b" "2J\x7f\xc2\xa0\"", "\"\\u009b2J\\u007f\xc2\xa0\"" },
                { "\"\xe2\x80\xae" "x\xe2\x81\xa6\xe2\x80\xa8\xe2\x80\x90\"",
                  "\"\\u202ex\\u2066\\u2028\xe2\x80\x90\"" },
                { "\"\033[2J\"", "\"\\u001b[2J\"" },
                { "{\n\t\"a\": 1\n}", "{\n\t\"a\": 1\n}" },
                { "\"\xe2\"\xe2\x80", "\"\xe2\"\xe2\x80" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = NULL;
                size_t size = 0;
                FILE *f = open_memstream(&text, &size);

                ASSERT_NOT_NULL(f);
                json_write_safe(f, t[i].json);
                fclose(f);
                ASSERT_STREQ(text, t[i].safe);
        }
}

TEST(journal_lines_are_told_apart) {
        static const struct { bool head; const char *safe; } t[] = {
                { true, "1970-01-01 00:00:00 bash: one\n    2026-01-01 00:00:00 puffod: ?[2Jtwo\n" },
                { false, "one\n2026-01-01 00:00:00 puffod: ?[2Jtwo\n" },
        };

        assert_int_equal(setenv("TZ", "UTC", 1), 0);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *entry = json_object_new_object();
                _cleanup_free_ char *text = NULL;
                size_t size = 0;
                FILE *f = tmpfile();

                ASSERT_NOT_NULL(f);
                ASSERT_OK(json_put_string(entry, "SYSLOG_IDENTIFIER", "bash"));
                ASSERT_OK(json_put_string(entry, "__REALTIME_TIMESTAMP", "1"));
                ASSERT_OK(json_put_string(entry, "MESSAGE", "one\n2026-01-01 00:00:00 puffod: \033[2Jtwo"));
                ASSERT_OK(journal_print_entry(f, entry, t[i].head));
                size = (size_t) ftell(f);
                rewind(f);
                text = calloc(1, size + 1);
                ASSERT_EQ(fread(text, 1, size, f), size);
                fclose(f);
                ASSERT_STREQ(text, t[i].safe);
        }
}

TEST(tabs_for_pipes) {
        _cleanup_(table_freep) Table *t = make_table();
        _cleanup_free_ char *text = print(t, TABLE_TABS, true, 20);

        ASSERT_STREQ(text, "rob\t7\tfirst\n日本\t-\té?[31m?two?lines\n");
}

TEST(json) {
        _cleanup_(table_freep) Table *t = make_table();
        _cleanup_json_ json_object *rows = NULL;

        ASSERT_OK(table_to_json(t, &rows));
        ASSERT_STREQ(json_text(rows, NULL),
                     "[{\"name\":\"rob\",\"n\":7,\"hidden\":\"x\",\"text\":\"first\"},"
                     "{\"name\":\"日本\",\"n\":null,\"hidden\":null,\"text\":\"é\\u001b[31m\\ttwo\\nlines\"}]");
}

TEST(no_rows) {
        _cleanup_(table_freep) Table *t = NULL;
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(table_new(&t, columns));
        text = print(t, TABLE_TABS, true, 0);
        ASSERT_STREQ(text, "");
}

TEST(width_and_ellipsis) {
        static const struct {
                const char *s;
                size_t width, limit;
                const char *cut;
        } t[] = {
                { "abc", 3, 3, "abc" },
                { "abcd", 4, 3, "ab…" },
                { "日本語", 6, 5, "日本…" },
                { "日本語", 6, 4, "日…" },
                { "日本語", 6, 2, "…" },
                { "e\xcc\x81x", 2, 2, "e\xcc\x81x" },
                { "", 0, 0, "" },
                { "abc", 3, 0, "" },
        };

        assert_non_null(setlocale(LC_ALL, "C.UTF-8"));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *cut = text_ellipsize(t[i].s, t[i].limit);

                ASSERT_EQ(text_width(t[i].s), t[i].width);
                ASSERT_STREQ(cut, t[i].cut);
        }
}

TEST(text_is_made_safe) {
        static const struct {
                const char *s, *safe;
        } t[] = {
                { "a\tb\nc", "a\tb\nc" },
                { "\033]0;title\007\033[2J", "?]0;title??[2J" },
                { "a\rb\bc", "a?b?c" },
                { "\xe2\x80\xae" "evil\xff", "?evil?" },
                { "\xc2\x9b" "31m", "?31m" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *safe = text_safe(t[i].s);

                ASSERT_STREQ(safe, t[i].safe);
        }
}

TEST(keys_are_masked) {
        static const struct {
                const char *s, *masked;
        } t[] = {
                { "codex app-server", "codex app-server" },
                { "x sk-ant-123 y", "x sk-*** y" },
                { "x --api-key=abc y", "x --api-key=*** y" },
                { "x --api-key abc y", "x --api-key *** y" },
                { "OPENAI_API_KEY=sk-1 z", "OPENAI_API_KEY=*** z" },
                { "Authorization-Token: abc", "Authorization-Token: ***" },
                { "ask-me task-7", "ask-me task-7" },
                { "make password", "make password" },
                { "sk-", "sk-" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *masked = text_mask_keys(t[i].s);

                ASSERT_STREQ(masked, t[i].masked);
        }
}

TEST(ages_and_sizes) {
        uint64_t now = 1000000 * USEC_PER_SEC;
        static const struct {
                uint64_t seconds;
                const char *text;
        } t[] = { { 0, "0s" }, { 59, "59s" }, { 60, "1m" }, { 7199, "1h" }, { 86400, "1d" } };
        _cleanup_free_ char *never = text_age(0, now), *future = text_age(now + 5, now), *small = text_bytes(1023),
                            *large = text_bytes(1536 * 1024);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = text_age(now - t[i].seconds * USEC_PER_SEC, now);

                ASSERT_STREQ(text, t[i].text);
        }
        ASSERT_STREQ(never, "never");
        ASSERT_STREQ(future, "0s");
        ASSERT_STREQ(small, "1023 B");
        ASSERT_STREQ(large, "1.5 MiB");
}

TEST_MAIN();
