/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <sys/stat.h>

#include "log.h"
#include "string-util.h"
#include "tests.h"

static bool goes_to_journal(const char *stream) {
        if (stream)
                ASSERT_EQ(setenv("JOURNAL_STREAM", stream, 1), 0);
        else
                ASSERT_EQ(unsetenv("JOURNAL_STREAM"), 0);
        log_open("test");
        return log_target_is_journal();
}

TEST(journal_only_when_stderr_is_its_stream) {
        _cleanup_free_ char *ours = NULL, *longer = NULL, *other = NULL;
        struct stat st;

        ASSERT_EQ(fstat(STDERR_FILENO, &st), 0);
        ours = asprintf_new("%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
        longer = strjoin(ours, "7");
        other = asprintf_new("%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino + 1);

        ASSERT_TRUE(goes_to_journal(ours));
        ASSERT_FALSE(goes_to_journal(other));
        ASSERT_FALSE(goes_to_journal(longer));
        ASSERT_FALSE(goes_to_journal(""));
        ASSERT_FALSE(goes_to_journal("8"));
        ASSERT_FALSE(goes_to_journal("nonsense"));
        /* A shell in a service, with its output somewhere else. */
        ASSERT_EQ(setenv("INVOCATION_ID", "0123456789abcdef0123456789abcdef", 1), 0);
        ASSERT_FALSE(goes_to_journal(NULL));
}

TEST(lines_that_somebody_else_counts) {
        LogLimit l = {}, other = {};

        ASSERT_TRUE(log_limit_passes(&l));
        for (unsigned i = 1; i <= 3; i++) {
                ASSERT_FALSE(log_limit_passes(&l));
                ASSERT_EQ(l.n_left_out, i);
        }
        ASSERT_TRUE(log_limit_passes(&other));
}

#define TEST_SUITE "log"
TEST_MAIN();
