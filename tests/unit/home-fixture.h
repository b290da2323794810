/* SPDX-License-Identifier: MIT */
#pragma once

/* For the tests of the room daemon/home: a home of its own for each test, gone after it. */

#include <stdio.h>
#include <sys/stat.h>

#include "agent-home.h"
#include "file-util.h"
#include "paths.h"
#include "string-util.h"
#include "tests.h"

typedef struct Fixture {
        char *root;
        HomePaths *paths;
} Fixture;

_unused_ static void fixture_done(Fixture *f) {
        home_paths_free(f->paths);
        ASSERT_OK(directory_remove(f->root));
        free(f->root);
}

_unused_ static Fixture fixture_new(void) {
        Fixture f = { .root = strdup("/tmp/puffo-test-XXXXXX") };
        _cleanup_free_ char *home = NULL, *proxy = NULL;

        ASSERT_NOT_NULL(mkdtemp(f.root));
        home = path_join(f.root, "home");
        proxy = path_join(f.root, "proxy");
        ASSERT_EQ(setenv("PUFFO_AGENT_HOME", home, 1), 0);
        ASSERT_EQ(setenv("AGENT_PROXY_HOME", proxy, 1), 0);
        ASSERT_OK(home_paths_new(&f.paths, SCOPE_USER));
        ASSERT_OK(home_paths_make(f.paths));
        return f;
}

#define FIXTURE(name) _cleanup_(fixture_done) Fixture name = fixture_new()

_unused_ static void put_file(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = path_join(directory, name), *parent = strdup(path);

        *strrchr(parent, '/') = 0;
        ASSERT_OK(directory_make(parent, 0700));
        ASSERT_OK(file_write_atomic(path, text, strlen(text), 0600));
}

/* NULL when it is not there. */
_unused_ static char* get_file(const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);
        char *text = NULL;
        int r = file_read(path, MIB(1), &text, NULL);

        if (r != -ENOENT)
                ASSERT_OK(r);
        return text;
}

_unused_ static bool is_there(const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);

        return access(path, F_OK) >= 0;
}

_unused_ static unsigned get_mode(const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);
        struct stat st;

        ASSERT_EQ(stat(path, &st), 0);
        return st.st_mode & 07777;
}

/* As puffod does it, but at once. */
_unused_ static int home_delete(const HomePaths *p, const AgentHome *h) {
        _cleanup_(strv_freep) char **trees = NULL;
        int r = agent_home_hide(p, h, &trees);

        for (char **t = trees; t && *t && r >= 0; t++)
                r = directory_remove(*t);
        return r;
}
