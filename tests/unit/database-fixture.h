/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"

/* An agent's database in a directory of its own, for the tests of what is kept in it. */
typedef struct Fixture {
        char *directory, *path;
        Database *db;
} Fixture;

static inline void fixture_done(Fixture *f) {
        (void) database_free(f->db);
        (void) directory_remove(f->directory);
        free(f->path);
        free(f->directory);
}
#define _fixture_ _cleanup_(fixture_done)

static inline Fixture fixture_new(void) {
        Fixture f = {};
        char template[] = "/tmp/puffo-test-database-XXXXXX";

        ASSERT_NOT_NULL(mkdtemp(template));
        f.directory = strdup(template);
        f.path = strjoin(template, "/messages.db");
        ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);
        return f;
}

static inline void fixture_reopen(Fixture *f) {
        f->db = database_free(f->db);
        ASSERT_EQ(database_open(&f->db, f->path, NULL), 0);
}
