/* SPDX-License-Identifier: MIT */

#include <sys/socket.h>

#include "bus-util.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"

TEST(agent_id_is_valid) {
        static const struct {
                const char *id;
                bool ok;
        } t[] = {
                { "rob", true }, { "helper-9a7c", true }, { "engineer_alice", true }, { "R2", true },
                { "", false }, { "-x", false }, { "_x", false }, { "../x", false }, { "a/b", false }, { "a b", false },
                { "a\n", false }, { "ünï", false },
                { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true },
                { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_EQ(agent_id_is_valid(t[i].id), t[i].ok);
        ASSERT_FALSE(agent_id_is_valid(NULL));
}

TEST(unit_name_escape) {
        static const struct {
                const char *plain, *escaped;
        } t[] = {
                { "engineer_alice", "engineer_alice" }, { "a-b", "a\\x2db" }, { "bot.é", "bot.\\xc3\\xa9" },
                { "x@y", "x\\x40y" }, { ".x", "\\x2ex" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *escaped = unit_name_escape(t[i].plain), *plain = NULL;

                ASSERT_STREQ(escaped, t[i].escaped);
                ASSERT_OK(unit_name_unescape(escaped, &plain));
                ASSERT_STREQ(plain, t[i].plain);
        }

        char *none = NULL;
        ASSERT_ERROR(unit_name_unescape("a\\x2", &none), EINVAL);
        ASSERT_ERROR(unit_name_unescape("a\\", &none), EINVAL);
        ASSERT_NULL(none);
}

TEST(utf8_repair) {
        static const struct {
                const char *before, *after;
        } t[] = {
                { "", "" }, { "grün €", "grün €" }, { "gr\xc3", "gr" }, { "\xe2\x82", "" }, { "\xf0\x9f\x90", "" },
                { "a\xe2\x82""b", "a?\?b" }, { "\xff", "?" }, { "\xc0\xaf/", "?\?/" }, { "\xed\xa0\x80.", "?\?\?." },
                { "'\xf0\x9f\x90' cut", "'?\?\?' cut" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *s = strdup(t[i].before);

                ASSERT_STREQ(utf8_repair(s), t[i].after);
                ASSERT_TRUE(utf8_is_valid(s, strlen(s)));
        }
}

TEST(utf8) {
        ASSERT_TRUE(utf8_is_valid("grüße €𝄞", strlen("grüße €𝄞")));
        ASSERT_FALSE(utf8_is_valid("\xc0\xaf", 2));
        ASSERT_FALSE(utf8_is_valid("\xed\xa0\x80", 3));
        ASSERT_FALSE(utf8_is_valid("\xf4\x90\x80\x80", 4));
        ASSERT_FALSE(utf8_is_valid("\xe2\x82", 2));
        /* Long ones, with what is no ASCII at every place. */
        for (size_t at = 0; at <= 32; at++) {
                char text[36];

                memset(text, 'x', sizeof(text));
                ASSERT_TRUE(utf8_is_valid(text, at));
                memcpy(text + at, "\xe2\x82\xac", 3);
                ASSERT_TRUE(utf8_is_valid(text, sizeof(text)));
                ASSERT_FALSE(utf8_is_valid(text, at + 2));
                text[at + 2] = 'x';
                ASSERT_FALSE(utf8_is_valid(text, sizeof(text)));
        }

        /* "a€" cut after each byte */
        ASSERT_EQ(utf8_complete_prefix("a\xe2\x82\xac", 1), 1);
        ASSERT_EQ(utf8_complete_prefix("a\xe2\x82\xac", 2), 1);
        ASSERT_EQ(utf8_complete_prefix("a\xe2\x82\xac", 3), 1);
        ASSERT_EQ(utf8_complete_prefix("a\xe2\x82\xac", 4), 4);
        ASSERT_EQ(utf8_complete_prefix("\xff\xff", 2), 2);
}

TEST(str_printable) {
        static const struct {
                const char *in, *out;
                size_t max;
        } t[] = {
                { "plain", "plain", 10 }, { "a\033[31mb", "a?[31mb", 20 }, { "x\xe2\x80\xaey", "x?y", 10 },
                { "\xc2\x9b" "1m", "?1m", 10 }, { "äöü", "äö…", 2 }, { "\xff", "?", 4 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *s = str_printable(t[i].in, t[i].max);
                ASSERT_STREQ(s, t[i].out);
        }
}

TEST(str_is_word) {
        static const struct { const char *s; bool is; } t[] = {
                { "yes", true }, { "Yes", true }, { " \n yEs\t", true }, { "", false }, { "ye", false }, { "yess", false },
                { "yes!", false }, { "y es", false }, { " ", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_EQ(str_is_word(t[i].s, "yes"), t[i].is);
}

TEST(parse_u64) {
        uint64_t v = 7;

        ASSERT_OK(parse_u64("18446744073709551615", &v));
        ASSERT_TRUE(v == UINT64_MAX);
        ASSERT_ERROR(parse_u64("18446744073709551616", &v), ERANGE);
        ASSERT_ERROR(parse_u64("", &v), EINVAL);
        ASSERT_ERROR(parse_u64("-1", &v), EINVAL);
        ASSERT_ERROR(parse_u64(" 1", &v), EINVAL);
        ASSERT_ERROR(parse_u64("0x1", &v), EINVAL);
}

TEST(strbuf) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_free_ char *s = NULL;

        ASSERT_OK(strbuf_puts(&b, "hello"));
        ASSERT_OK(strbuf_printf(&b, " %d", 42));
        strbuf_consume(&b, 2);
        ASSERT_STREQ(b.text, "llo 42");
        s = strbuf_take(&b);
        ASSERT_STREQ(s, "llo 42");
        ASSERT_EQ(b.size, 0);
        free(s);
        s = strbuf_take(&b);
        ASSERT_STREQ(s, "");
}

TEST(strbuf_trim) {
        _cleanup_(strbuf_done) StrBuf b = {};

        strbuf_trim(&b);
        ASSERT_NULL(b.text);
        ASSERT_OK(strbuf_puts(&b, "abc"));
        ASSERT_TRUE(b.allocated > 4);
        strbuf_trim(&b);
        ASSERT_EQ(b.allocated, 4U);
        ASSERT_STREQ(b.text, "abc");
        strbuf_trim(&b);
        ASSERT_OK(strbuf_puts(&b, "def"));
        ASSERT_STREQ(b.text, "abcdef");
        ASSERT_EQ(b.size, 6U);
}

#define TEST_SUITE "string-util"
static int read_back(sd_bus_message *m, const char **ret) {
        int r = sd_bus_message_seal(m, 1, 0);

        return r < 0 ? r : sd_bus_message_read(m, "s", ret);
}

/* Bytes from files and peers, and what "%.5s" leaves of them: all of it can be sent, and sd-bus itself judges. */
TEST(bus_texts_can_be_sent) {
        static const struct {
                const char *hostile, *text, *error;
        } t[] = {
                { "plain", "plain", "plain" },
                { "a\xff\xfe", "a\xef\xbf\xbd\xef\xbf\xbd", "a??" },
                { "abcd\xc3\xa9", "abcd\xc3\xa9", "abcd?" },
                { "ab\xf0\x9f\x98\x80", "ab\xf0\x9f\x98\x80", "ab???" },
                { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "???" },
                { "\xef\xbf\xbf", "\xef\xbf\xbd", "?" },
                { "\xef\xbf\xbe", "\xef\xbf\xbd", "?" },
                { "\xef\xb7\x90", "\xef\xbf\xbd", "?" },
                { "\xef\xb7\xb0", "\xef\xb7\xb0", "\xef\xb7\xb0" },
                { "\xf0\x9f\xbf\xbe", "\xef\xbf\xbd", "?" },
                { "\xf4\x8f\xbf\xbf", "\xef\xbf\xbd", "?" },
                { "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "????" },
                { "\n\t\x1b", "\n\t\x1b", "???" },
                { NULL, "", NULL },
        };
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int fds[2];

        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        ASSERT_OK(sd_bus_new(&bus));
        ASSERT_OK(sd_bus_set_fd(bus, fds[0], fds[0]));
        ASSERT_OK(sd_bus_start(bus));

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_bus_message_ sd_bus_message *call = NULL, *entry = NULL, *reply = NULL;
                _cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
                const char *back;

                ASSERT_OK(sd_bus_message_new_method_call(bus, &call, "a.b", "/", "a.b", "C"));
                ASSERT_OK(bus_append_text(call, t[i].hostile));
                ASSERT_OK(read_back(call, &back));
                ASSERT_STREQ(back, t[i].text);

                ASSERT_OK(sd_bus_message_new_method_call(bus, &entry, "a.b", "/", "a.b", "C"));
                ASSERT_OK(sd_bus_message_open_container(entry, 'a', "{sv}"));
                ASSERT_OK(bus_append_text_entry(entry, "Key", t[i].hostile));
                ASSERT_OK(sd_bus_message_close_container(entry));
                ASSERT_OK(sd_bus_message_seal(entry, 2, 0));
                ASSERT_OK(sd_bus_message_read(entry, "a{sv}", 1, &back, "s", NULL));
                ASSERT_STREQ(back, "Key");

                if (!t[i].error)
                        continue;
                ASSERT_ERROR(bus_error_setf(&e, "ai.puffo.Error", "'%.5s'", t[i].hostile), EIO);
                ASSERT_OK(sd_bus_message_new_method_error(call, &reply, &e));
                ASSERT_EQ(e.message[0], '\'');
                ASSERT_EQ(memcmp(e.message + 1, t[i].error, strlen(t[i].error)), 0);
                ASSERT_STREQ(e.message + 1 + strlen(t[i].error), "'");
        }
        safe_close(fds[1]);
}

/* The text of an error may come from anywhere, and be as long. */
TEST(bus_error_is_bounded) {
        _cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *text = malloc(100001);

        ASSERT_NOT_NULL(text);
        memset(text, 0xc3, 100000);
        text[100000] = 0;
        ASSERT_ERROR(bus_error_setf(&e, "ai.puffo.Error", "%s", text), EIO);
        ASSERT_TRUE(strlen(e.message) < 3000);
        ASSERT_TRUE(utf8_is_interchangeable(e.message, strlen(e.message)));
}

TEST_MAIN();
