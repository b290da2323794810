/* SPDX-License-Identifier: MIT */

#include "file-util.h"
#include "real-names.h"
#include "string-util.h"
#include "tests.h"

static unsigned n_looks;
static int look_fails;

char* __wrap_realpath(const char *path, char *buffer);
char* __real_realpath(const char *path, char *buffer);

char* __wrap_realpath(const char *path, char *buffer) {
        n_looks++;
        if (look_fails == 0)
                return __real_realpath(path, buffer);
        errno = look_fails;
        return NULL;
}

TEST(each_name_is_looked_at_once) {
        char directory[] = "/tmp/puffo-test-XXXXXX";
        _cleanup_free_ char *link = NULL, *none = NULL, *all = NULL;
        _cleanup_(real_names_done) RealNames names = {};
        const char *real;

        ASSERT_NOT_NULL(mkdtemp(directory));
        all = __real_realpath("/usr", NULL);
        link = path_join(directory, "link");
        none = path_join(directory, "none");
        ASSERT_EQ(symlink("/usr", link), 0);
        n_looks = 0;

        for (unsigned i = 0; i < 3; i++) {
                ASSERT_OK(real_names_get(&names, link, &real));
                ASSERT_STREQ(real, all);
                ASSERT_OK(real_names_get(&names, none, &real));
                ASSERT_NULL(real);
                /* Whoever moves it now moves it too late for this request. */
                (void) unlink(link);
        }
        ASSERT_EQ(n_looks, 2U);
        ASSERT_OK(directory_remove(directory));
}

/* Nobody is let through because memory was short when it was to be seen where a place is. */
TEST(no_memory_is_no_answer) {
        _cleanup_(real_names_done) RealNames names = {};
        const char *real;

        look_fails = ENOMEM;
        ASSERT_ERROR(real_names_get(&names, "/usr", &real), ENOMEM);
        look_fails = EACCES;
        ASSERT_OK(real_names_get(&names, "/root/x", &real));
        ASSERT_NULL(real);
        look_fails = 0;
        ASSERT_OK(real_names_get(&names, "/usr", &real));
        ASSERT_NOT_NULL(real);
}

#define TEST_SUITE "real-names"
TEST_MAIN();
