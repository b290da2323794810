/* SPDX-License-Identifier: MIT */

#include "reply.h"
#include "tests.h"

static void expect(const char *const *texts, size_t n, unsigned n_answers, ReplyRoute route, const char *reply) {
        _cleanup_free_ char *text = NULL;
        TurnItem items[4] = {};
        ReplyRoute got;

        for (size_t i = 0; i < n; i++)
                items[i] = (TurnItem) { .text = (char*) texts[i], .complete = true };
        ASSERT_EQ(reply_route(items, n, n_answers, &got, &text), 0);
        ASSERT_EQ(got, route);
        if (reply)
                ASSERT_STREQ(text, reply);
        else
                ASSERT_NULL(text);
}
#define EXPECT(n_answers, route, reply, ...) \
        expect((const char *const[]) { __VA_ARGS__ }, ELEMENTSOF(((const char *const[]) { __VA_ARGS__ })), n_answers, \
               route, reply)

/* message-pipeline §11.2, §19 item 8 */
static void test_routes(void **state) {
        EXPECT(1, REPLY_BY_TOOLS, NULL, "and here is what I did");
        EXPECT(1, REPLY_BY_TOOLS, NULL, "[SILENT]");
        EXPECT(0, REPLY_SILENT, NULL, "[SILENT]");
        EXPECT(0, REPLY_SILENT, NULL, "I think", "that this is [SILENT] enough");
        EXPECT(0, REPLY_POST, "[silent] is no marker", "[silent] is no marker");
        expect(NULL, 0, 0, REPLY_NOTHING, NULL);
        EXPECT(0, REPLY_NOTHING, NULL, "", " \n");
        EXPECT(0, REPLY_POST, "one", "  one\n");
        EXPECT(0, REPLY_POST, "one", "", "one", "\n");
        EXPECT(0, REPLY_POST, "- one\n- two\nlines", " one ", "", "two\nlines\n");
}

static void test_broken_off(void **state) {
        TurnItem items[] = { { .text = (char*) "Hel", .complete = false }, { .text = (char*) "Hello", .complete = true } };
        _cleanup_free_ char *text = NULL, *rest = NULL;
        ReplyRoute route;

        ASSERT_EQ(reply_route(items, 2, 0, &route, &text), 0);
        ASSERT_STREQ(text, "Hello");
        /* … but with nothing behind it, it is what there is. */
        ASSERT_EQ(reply_route(items, 1, 0, &route, &rest), 0);
        ASSERT_STREQ(rest, "Hel");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_routes),
                cmocka_unit_test(test_broken_off),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
