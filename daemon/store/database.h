/* SPDX-License-Identifier: MIT */
#pragma once

#include <sqlite3.h>

#include "macro.h"

/* messages.db: one connection, one opener (the agent's session). Tables that are not ours are left alone; user_version
 * counts the schema of ours only (message-pipeline §7.1). */
typedef struct Database Database;

/* Opens or makes the file (0600), in WAL mode, with our tables brought up to date. After an unclean end, or
 * when somebody got -EUCLEAN from it, it is checked; a file that is damaged is moved to
 * "<path>.corrupt-<YYYYMMDD-HHMMSS>" (with its -wal and -shm), *ret_set_aside says where, and an empty one takes its
 * place: > 0 then, and the caller must say so loudly. ret_set_aside may be NULL: then a damaged file is -EUCLEAN.
 * -EPROTONOSUPPORT: made by a newer version. -EACCES, -EROFS, -ELOOP, -ENOSPC, -EBUSY, -EIO. */
int database_open(Database **ret, const char *path, char **ret_set_aside);
/* Closes; the last thing SQLite does then is to fold the WAL back in. */
Database* database_free(Database *db);
DEFINE_TRIVIAL_CLEANUP_FUNC(Database*, database_free);

/* Both borrowed. */
const char* database_path(Database *db);
sqlite3* database_handle(Database *db);

/* SQLite's result code as ours: ROW → 1, OK and DONE → 0, BUSY → -EBUSY, FULL → -ENOSPC, CORRUPT → -EUCLEAN, … */
int database_error(int code);

/* The statement of this text, which must be a literal: it is compiled once and kept by the text's address. Give it
 * back with _cleanup_(database_statement_releasep). */
int database_prepare(Database *db, const char *sql, sqlite3_stmt **ret);
void database_statement_releasep(sqlite3_stmt **s);     /* reset: no lock stays; clear: no secret stays */

/* One or more statements that give nothing back. Errors as database_error(). */
int database_exec(Database *db, const char *sql);
/* Rows changed by the last statement. */
int database_changes(Database *db);

/* A transaction that is rolled back when it leaves the scope without database_commit(). One that is begun within
 * another counts when that is committed. */
typedef struct Transaction {
        Database *db;
        bool inner;
} Transaction;
int database_begin(Database *db, Transaction *ret);
int database_commit(Transaction *t);
void transaction_rollbackp(Transaction *t);

/* A transaction whose commit is on disk only with the next database_flush(), for many in a row that nobody is told of
 * before. Whoever else writes flushes first. When that fails, all of them are undone. */
int database_begin_lazy(Database *db, Transaction *ret);
/* The same, but within a transaction it is nothing of its own: that one must be rolled back when this is not
 * committed. */
int database_begin_joined(Database *db, Transaction *ret);
int database_flush(Database *db);

/* NULL stays NULL. The text is not copied: it must be there until the statement is given back. */
int database_bind_text(sqlite3_stmt *s, int index, const char *text);
int database_bind_int(sqlite3_stmt *s, int index, int64_t v);

/* Text column as a copy; NULL stays NULL. */
int database_column_strdup(sqlite3_stmt *s, int column, char **ret);

/* Gives memory back while nothing is going on: compiled statements and cached pages. */
void database_trim(Database *db);
/* Folds the WAL into the file and empties it. */
int database_checkpoint(Database *db);
