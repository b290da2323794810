/* SPDX-License-Identifier: MIT */

#include "envelope.h"
#include "item-id.h"
#include "pending-reader.h"
#include "tests.h"

static int collect(const char *text, size_t size, void *userdata) {
        StrBuf *b = userdata;

        ASSERT_OK(strbuf_append(b, text, size));
        return strbuf_puts(b, "|");
}

static int collect_too_large(const char *envelope_id, size_t size, void *userdata) {
        return strbuf_printf(userdata, "too large: %s, %zu|", envelope_id ?: "nobody", size);
}

static int read_in_pieces(const char *text, size_t piece, StrBuf *items) {
        _cleanup_(pending_reader_freep) PendingReader *p = NULL;
        size_t size = strlen(text);
        int r = 0;

        ASSERT_OK(pending_reader_new(&p, 64, &(PendingHandlers) { collect, collect_too_large, items }));
        for (size_t i = 0; i < size && r >= 0; i += piece)
                r = pending_reader_feed(p, text + i, MIN(piece, size - i));
        return r < 0 ? r : pending_reader_finish(p);
}

#define LONG "0123456789012345678901234567890123456789012345678901234567890123456789012345678"

TEST(answers) {
        static const struct {
                const char *text;
                int result;
                const char *items;
        } t[] = {
                { "{\"messages\":[]}", 0, "" },
                { " { \"messages\" : [ ] } \n", 0, "" },
                { "{\"messages\":[{\"a\":1},{\"b\":[2,{}]}]}", 0, "{\"a\":1}|{\"b\":[2,{}]}|" },
                { "{\"messages\":[1,\"x\",null , true]}", 0, "1|\"x\"|null|true|" },
                { "{\"n\":5,\"messages\":[{}],\"has_more\":false}", 0, "{}|" },
                { "{\"o\":{\"messages\":[7]},\"l\":[{\"}\":\"]\"}],\"messages\":[{}]}", 0, "{}|" },
                /* Brackets, quotes and escapes inside of strings. */
                { "{\"messages\":[{\"t\":\"]}\\\"[{\\\\\"},{\"\\\"\":0}]}", 0,
                  "{\"t\":\"]}\\\"[{\\\\\"}|{\"\\\"\":0}|" },
                { "{\"a\\\"messages\":[1],\"messages\":[2]}", 0, "2|" },

                { "", -EBADMSG, "" },
                { "<!doctype html><html></html>", -EBADMSG, "" },
                { "[]", -EBADMSG, "" },
                { "{}", -EBADMSG, "" },
                { "{\"messages\":null}", -EBADMSG, "" },
                { "{\"messages\":{}}", -EBADMSG, "" },
                { "{\"messages\":[{}", -EBADMSG, "{}|" },
                { "{\"messages\":[{}]", -EBADMSG, "{}|" },
                { "{\"messages\":[{}],", -EBADMSG, "{}|" },
                { "{\"messages\":[{}],}", -EBADMSG, "{}|" },
                { "{\"messages\":[{},]}", -EBADMSG, "{}|" },
                { "{\"messages\":[{} {}]}", -EBADMSG, "{}|" },
                { "{\"messages\":[,{}]}", -EBADMSG, "" },
                { "{\"messages\":[}]}", -EBADMSG, "" },
                { "{\"messages\"[]}", -EBADMSG, "" },
                { "{messages:[]}", -EBADMSG, "" },
                { "{\"a\":,\"messages\":[]}", -EBADMSG, "" },
                { "{\"messages\":[]}x", -EBADMSG, "" },
                { "{\"messages\":[{\"t\":\"cut", -EBADMSG, "" },
                { "{\"k0123456789012345678901234567890123456789012345678901234567890123\":1,\"messages\":[]}", -E2BIG,
                  "" },

                /* One that is too large does not keep those behind it from coming. */
                { "{\"messages\":[1,\"0123456789012345678901234567890123456789012345678901234567890123\",{}]}", 0,
                  "1|too large: nobody, 66|{}|" },
                { "{\"messages\":[[0123456789012345678901234567890,[{\"]\":1234567890123456789012345678901}]],2]}", 0,
                  "too large: nobody, 73|2|" },
                { "{\"messages\":[00000000000000000000000000000000000000000000000000000000000000000 ,3]}", 0,
                  "too large: nobody, 65|3|" },
                /* … and is known by its id, wherever in it that is. */
                { "{\"messages\":[{\"seq\":1,\"envelope\":{\"envelope_id\":\"msg_1\",\"pad\":\"" LONG "\"}},2]}", 0,
                  "too large: msg_1, 132|2|" },
                { "{\"messages\":[{\"envelope\":{\"pad\":[{\"envelope_id\":\"no\"},\"" LONG "\"],\"x\":{},"
                  "\"envelope_id\" : \"msg_\\u0032\\\\\"},\"envelope_id\":\"no\"}]}", 0,
                  "too large: msg_2\\, 182|" },
                { "{\"messages\":[{\"envelope_id\":\"msg_3\",\"x\":{\"envelope_id\":\"no\"},"
                  "\"pad\":\"" LONG "\"}]}", 0,
                  "too large: msg_3, 136|" },
                { "{\"messages\":[{\"envelope_id\":\"no\",\"pad\":\"" LONG "\",\"envelope_id\":\"msg_4\"}]}", 0,
                  "too large: msg_4, 130|" },
                { "{\"messages\":[{\"envelope\":{\"envelope_id\":\"no\",\"pad\":\"" LONG "\",\"envelope_id\":7}}]}", 0,
                  "too large: nobody, 137|" },
                { "{\"messages\":[{\"envelope_id\":\"no\",\"pad\":\"" LONG "\",\"envelope\":null}]}", 0,
                  "too large: nobody, 124|" },
                { "{\"messages\":[{\"envelope_id\":\"\\ud800\",\"pad\":\"" LONG "\"}]}", 0,
                  "too large: nobody, 112|" },
                { "{\"messages\":[[\"envelope_id\",\"no\",\"" LONG "\"]]}", 0, "too large: nobody, 102|" },
                { "{\"messages\":[{\"pad\":\"" LONG "\",\"envelope\":[\"envelope_id\",\"no\"]}]}", 0,
                  "too large: nobody, 121|" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                for (size_t piece = 1; piece < 40; piece += 3) {
                        _cleanup_(strbuf_done) StrBuf items = {};
                        int r = read_in_pieces(t[i].text, piece, &items);

                        if (r != t[i].result || !streq(strempty(items.text), t[i].items))
                                fail_msg("'%s' by %zu gives %i with '%s'", t[i].text, piece, r, strempty(items.text));
                }
}

static int refuse(const char *text_or_id, size_t size, void *userdata) {
        return -ECANCELED;
}

TEST(reader_of_items_may_stop) {
        _cleanup_(pending_reader_freep) PendingReader *p = NULL;
        static const char text[] = "{\"messages\":[{}]}";

        ASSERT_OK(pending_reader_new(&p, 64, &(PendingHandlers) { refuse, refuse, NULL }));
        ASSERT_ERROR(pending_reader_feed(p, text, strlen(text)), ECANCELED);
}

TEST(id_that_is_too_long_is_none) {
        _cleanup_(item_id_done) ItemId f = {};
        _cleanup_(strbuf_done) StrBuf text = {};
        _cleanup_free_ char *id = NULL;

        ASSERT_OK(strbuf_puts(&text, "{\"envelope_id\":\""));
        for (unsigned i = 0; i <= ENVELOPE_ID_MAX; i++)
                ASSERT_OK(strbuf_puts(&text, "\\u0061"));
        ASSERT_OK(strbuf_puts(&text, "\"}"));
        ASSERT_OK(item_id_feed(&f, text.text, text.size));
        ASSERT_OK(item_id_finish(&f, &id));
        ASSERT_NULL(id);
}

#define TEST_SUITE "pending-reader"
TEST_MAIN();
