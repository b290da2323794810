/* SPDX-License-Identifier: MIT */
#pragma once

#include <fcntl.h>

#include "database.h"
#include "string-util.h"
#include "tests.h"

/* Overwrites the first page of a table, after everything has gone to the file. */
static inline void table_damage(Database *db, const char *table) {
        _cleanup_free_ char *sql = strjoin("SELECT rootpage FROM sqlite_schema WHERE name = '", table, "'");
        _cleanup_close_ int fd = -EBADF;
        sqlite3_stmt *s;
        char junk[4096];
        off_t page;

        ASSERT_OK(database_checkpoint(db));
        ASSERT_EQ(sqlite3_prepare_v2(database_handle(db), sql, -1, &s, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        page = sqlite3_column_int(s, 0);
        ASSERT_EQ(sqlite3_finalize(s), SQLITE_OK);
        memset(junk, 0x5a, sizeof(junk));
        fd = open(database_path(db), O_WRONLY|O_CLOEXEC);
        ASSERT_TRUE(fd >= 0);
        ASSERT_EQ(pwrite(fd, junk, sizeof(junk), (page - 1) * (off_t) sizeof(junk)), sizeof(junk));
}
