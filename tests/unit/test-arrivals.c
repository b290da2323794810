/* SPDX-License-Identifier: MIT */

#include "arrivals.h"
#include "captured-log.h"
#include "station.h"

static void add(Arrivals *a, const char *id, const char *thread, bool queued) {
        ASSERT_OK(arrivals_add(a, &(Message) { .envelope_id = id, .thread_root_id = thread, .sender_slug = "bo\n-1" },
                               queued));
}

static void assert_logged(Arrivals *a, const char *expected) {
        journal.size = 0;
        arrivals_log(a);
        ASSERT_OK(strbuf_puts(&journal, ""));
        ASSERT_STREQ(journal.size > 0 ? journal.text : "", expected);
}

TEST(one_by_itself) {
        _cleanup_(arrivals_freep) Arrivals *a = NULL;

        ASSERT_OK(arrivals_new(&a));
        assert_logged(a, "");
        add(a, "msg_1", NULL, true);
        assert_logged(a, "PUFFO_STATION=queued PUFFO_ENVELOPE=msg_1 PUFFO_THREAD=msg_1 "
                         "Received a message from 'bo?-1'.\n");
        assert_logged(a, "");
        add(a, "msg_2", "msg_1", false);
        assert_logged(a, "PUFFO_STATION=filtered PUFFO_ENVELOPE=msg_2 PUFFO_THREAD=msg_1 "
                         "Received a message from 'bo?-1', which is not for the model.\n");
        add(a, "msg_3", NULL, true);
        arrivals_clear(a);
        assert_logged(a, "");
}

TEST(many_together) {
        _cleanup_(arrivals_freep) Arrivals *a = NULL;

        ASSERT_OK(arrivals_new(&a));
        add(a, "msg_1", NULL, true);
        add(a, "msg_2", "msg_1", false);
        add(a, "msg_3", "msg_1", true);
        add(a, "msg_4", "msg_0", true);
        assert_logged(a, "PUFFO_STATION=queued PUFFO_ENVELOPE=msg_1 PUFFO_ENVELOPE=msg_3 PUFFO_ENVELOPE=msg_4 "
                         "PUFFO_THREAD=msg_1 PUFFO_THREAD=msg_0 Received 3 messages in 2 threads, all for the model.\n"
                         "PUFFO_STATION=filtered PUFFO_ENVELOPE=msg_2 PUFFO_THREAD=msg_1 "
                         "Received 1 message in 1 thread, none for the model.\n");
}

TEST(more_than_a_line_holds) {
        _cleanup_(arrivals_freep) Arrivals *a = NULL;
        const char *p;
        size_t n = 0;
        char id[32];

        ASSERT_OK(arrivals_new(&a));
        for (unsigned i = 0; i < 2 * STATION_ENVELOPES_MAX + 1; i++) {
                (void) snprintf(id, sizeof(id), "msg_%u", i);
                add(a, id, NULL, true);
        }
        journal.size = 0;
        arrivals_log(a);
        for (unsigned i = 0; i < 2 * STATION_ENVELOPES_MAX + 1; i++) {
                (void) snprintf(id, sizeof(id), "PUFFO_ENVELOPE=msg_%u ", i);
                ASSERT_NOT_NULL(strstr(journal.text, id));
        }
        for (p = journal.text; (p = strstr(p, "Received")); p++)
                n++;
        ASSERT_EQ(n, 3);
        ASSERT_NOT_NULL(strstr(journal.text, "Received 32 messages in 32 threads, all for the model."));
        strbuf_done(&journal);
}

#define TEST_SUITE "arrivals"
TEST_MAIN();
