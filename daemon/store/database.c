/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "database.h"
#include "schema.h"
#include "string-util.h"

#define STATEMENTS_MAX 160
#define BUSY_TIMEOUT_MSEC 5000

typedef struct Statement {
        const char *sql;        /* borrowed: a literal */
        sqlite3_stmt *compiled;
} Statement;

struct Database {
        sqlite3 *handle;
        char *path;
        Statement statements[STATEMENTS_MAX];
        size_t n_statements;
        unsigned depth;         /* transactions within each other */
        bool lazy;              /* the outermost one was begun by database_begin_lazy() and is not committed yet */
};

int database_error(int code) {
        switch (code & 0xff) {
        case SQLITE_ROW:
                return 1;
        case SQLITE_OK:
        case SQLITE_DONE:
                return 0;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return -EUCLEAN;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_READONLY:
                return -EROFS;
        case SQLITE_PERM:
        case SQLITE_AUTH:
        case SQLITE_CANTOPEN:
                return -EACCES;
        case SQLITE_CONSTRAINT:
                return -EEXIST;
        case SQLITE_TOOBIG:
                return -EFBIG;
        default:
                return -EIO;
        }
}

/* SQLite's defaults are for big databases and many threads; a session is small and has one. Must come before anything
 * else is asked of the library, and works only once. */
static void library_configure(void) {
        static bool done = false;

        if (done)
                return;
        done = true;
        (void) sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
        (void) sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
        (void) sqlite3_config(SQLITE_CONFIG_LOOKASIDE, 0, 0);
        (void) sqlite3_config(SQLITE_CONFIG_SMALL_MALLOC, 1);
}

/* A clean close leaves no trace of what was met in between, and most damage is in pages that no opener reads: so the
 * next one finds a file that tells it to look. */
static char* damage_mark(const char *path) {
        return strjoin(path, "-damaged");
}

static int handle_error(sqlite3 *handle, int code) {
        _cleanup_free_ char *mark = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r = database_error(code);

        if (r != -EUCLEAN)
                return r;
        mark = damage_mark(sqlite3_db_filename(handle, "main"));
        if (mark)
                fd = open(mark, O_WRONLY|O_CREAT|O_NOFOLLOW|O_CLOEXEC|O_NOCTTY|O_NONBLOCK, 0600);
        return r;
}

Database* database_free(Database *db) {
        if (!db)
                return NULL;

        (void) database_flush(db);
        for (size_t i = 0; i < db->n_statements; i++)
                (void) sqlite3_finalize(db->statements[i].compiled);
        (void) sqlite3_close(db->handle);
        free(db->path);
        return mfree(db);
}

const char* database_path(Database *db) {
        return db->path;
}

sqlite3* database_handle(Database *db) {
        return db->handle;
}

int database_exec(Database *db, const char *sql) {
        return handle_error(db->handle, sqlite3_exec(db->handle, sql, NULL, NULL, NULL));
}

int database_changes(Database *db) {
        return sqlite3_changes(db->handle);
}

int database_prepare(Database *db, const char *sql, sqlite3_stmt **ret) {
        Statement *s = NULL;
        int r;

        for (size_t i = 0; i < db->n_statements && !s; i++)
                if (db->statements[i].sql == sql)
                        s = db->statements + i;
        if (!s) {
                if (db->n_statements >= STATEMENTS_MAX)
                        return -ENOBUFS;
                s = db->statements + db->n_statements;
        }
        if (!s->compiled) {
                r = handle_error(db->handle, sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT,
                                                                &s->compiled, NULL));
                if (r < 0)
                        return r;
                s->sql = sql;
                if (s == db->statements + db->n_statements)
                        db->n_statements++;
        }

        /* A row that is written by itself counts when its statement is done. */
        if (db->lazy && db->depth == 0 && !sqlite3_stmt_readonly(s->compiled)) {
                r = database_flush(db);
                if (r < 0)
                        return r;
        }

        *ret = s->compiled;
        return 0;
}

void database_statement_releasep(sqlite3_stmt **s) {
        if (*s) {
                /* Says once more how the last step ended. */
                (void) handle_error(sqlite3_db_handle(*s), sqlite3_reset(*s));
                (void) sqlite3_clear_bindings(*s);
        }
}

/* What every message needs several times is compiled once. */
static int exec_kept(Database *db, const char *sql) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, sql, &s);

        return r < 0 ? r : handle_error(db->handle, sqlite3_step(s));
}

/* After some errors (disk full, I/O) SQLite has rolled everything back by itself. */
static bool transaction_is_lost(Database *db) {
        if (!sqlite3_get_autocommit(db->handle))
                return false;
        db->lazy = false;
        return true;
}

static int begin_within(Database *db, Transaction *ret) {
        int r = transaction_is_lost(db) ? -EIO : exec_kept(db, "SAVEPOINT inner");

        if (r < 0)
                return r;
        *ret = (Transaction) { .db = db, .inner = true };
        db->depth++;
        return 0;
}

static int begin_outermost(Database *db) {
        /* Immediate: a writer that starts as a reader can be refused in the middle. */
        return database_exec(db, "BEGIN IMMEDIATE");
}

int database_begin(Database *db, Transaction *ret) {
        int r;

        if (db->depth > 0)
                return begin_within(db, ret);
        r = database_flush(db);
        if (r >= 0)
                r = begin_outermost(db);
        if (r < 0)
                return r;
        *ret = (Transaction) { .db = db };
        db->depth++;
        return 0;
}

int database_begin_lazy(Database *db, Transaction *ret) {
        int r;

        if (!db->lazy && db->depth == 0) {
                r = begin_outermost(db);
                if (r < 0)
                        return r;
                db->lazy = true;
        }
        return begin_within(db, ret);
}

int database_begin_joined(Database *db, Transaction *ret) {
        if (db->depth == 0)
                return database_begin_lazy(db, ret);
        *ret = (Transaction) {};
        return 0;
}

int database_flush(Database *db) {
        int r;

        if (!db->lazy)
                return 0;
        assert(db->depth == 0);

        if (transaction_is_lost(db))
                return -EIO;
        r = database_exec(db, "COMMIT");
        if (r >= 0 || !transaction_is_lost(db)) {
                /* Whatever could not be committed shall not stand in the way of others. */
                if (r < 0)
                        (void) database_exec(db, "ROLLBACK");
                db->lazy = false;
        }
        return r;
}

int database_commit(Transaction *t) {
        int r;

        if (!t->db)
                return 0;
        r = t->inner && transaction_is_lost(t->db) ? -EIO :
                exec_kept(t->db, t->inner ? "RELEASE inner" : "COMMIT");

        if (r < 0)
                return r;
        t->db->depth--;
        t->db = NULL;
        return 0;
}

void transaction_rollbackp(Transaction *t) {
        if (!t->db)
                return;
        t->db->depth--;
        if (!transaction_is_lost(t->db))
                (void) database_exec(t->db, t->inner ? "ROLLBACK TO inner; RELEASE inner" : "ROLLBACK");
        t->db = NULL;
}

int database_bind_text(sqlite3_stmt *s, int index, const char *text) {
        return database_error(sqlite3_bind_text(s, index, text, -1, SQLITE_STATIC));
}

int database_bind_int(sqlite3_stmt *s, int index, int64_t v) {
        return database_error(sqlite3_bind_int64(s, index, v));
}

int database_column_strdup(sqlite3_stmt *s, int column, char **ret) {
        const void *text = sqlite3_column_text(s, column);
        char *copy;

        if (!text) {
                if (sqlite3_column_type(s, column) != SQLITE_NULL)
                        return -ENOMEM;
                *ret = NULL;
                return 0;
        }
        copy = memdup0(text, (size_t) sqlite3_column_bytes(s, column));
        if (!copy)
                return -ENOMEM;

        *ret = copy;
        return 0;
}

void database_trim(Database *db) {
        for (size_t i = 0; i < db->n_statements; i++) {
                (void) sqlite3_finalize(db->statements[i].compiled);
                db->statements[i] = (Statement) {};
        }
        db->n_statements = 0;
        (void) sqlite3_db_release_memory(db->handle);
}

int database_checkpoint(Database *db) {
        int r = database_flush(db);

        return r < 0 ? r : database_error(sqlite3_wal_checkpoint_v2(db->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL,
                                                                    NULL));
}

static int query_int(Database *db, const char *sql, int64_t *ret) {
        sqlite3_stmt *s = NULL;
        int r;

        r = database_error(sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL));
        if (r < 0)
                return r;
        r = database_error(sqlite3_step(s));
        if (r > 0)
                *ret = sqlite3_column_int64(s, 0);
        (void) sqlite3_finalize(s);
        return r < 0 ? r : r > 0 ? 0 : -EIO;
}

/* -EUCLEAN when the pages do not fit together, or (thorough) the indexes do not fit their tables. */
static int database_check(Database *db, bool thorough) {
        sqlite3_stmt *s = NULL;
        const char *verdict;
        int r;

        r = database_error(sqlite3_prepare_v2(db->handle,
                                              thorough ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)", -1,
                                              &s, NULL));
        if (r < 0)
                return r;
        r = database_error(sqlite3_step(s));
        if (r > 0) {
                verdict = (const char*) sqlite3_column_text(s, 0);
                r = verdict && streq(verdict, "ok") ? 0 : -EUCLEAN;
        }
        (void) sqlite3_finalize(s);
        return r;
}

static int database_migrate(Database *db) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        _cleanup_free_ char *pragma = NULL;
        int64_t version;
        int r;

        r = query_int(db, "PRAGMA user_version", &version);
        if (r < 0)
                return r;
        if (version == (int64_t) SCHEMA_VERSION)
                return 0;
        if (version < 0 || version > (int64_t) SCHEMA_VERSION)
                return -EPROTONOSUPPORT;

        r = database_begin(db, &t);
        if (r < 0)
                return r;
        r = database_exec(db, schema_original);
        if (r < 0)
                return r;
        for (size_t i = (size_t) version; i < SCHEMA_VERSION; i++) {
                r = database_exec(db, schema_steps[i]);
                if (r < 0)
                        return r;
        }
        pragma = asprintf_new("PRAGMA user_version=%zu", SCHEMA_VERSION);
        if (!pragma)
                return -ENOMEM;
        r = database_exec(db, pragma);
        if (r < 0)
                return r;
        return database_commit(&t);
}

/* SQLite would make the file with the umask's bits; its -wal and -shm take over the mode of the main file. */
static int file_prepare(const char *path) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        fd = open(path, O_RDWR|O_CREAT|O_NOFOLLOW|O_CLOEXEC|O_NOCTTY|O_NONBLOCK, 0600);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        if ((st.st_mode & 0077) != 0 && fchmod(fd, 0600) < 0)
                return -errno;
        return 0;
}

/* A clean close removes the WAL, so one with content means that the last opener was killed. */
static bool ended_unclean(const char *path) {
        _cleanup_free_ char *wal = strjoin(path, "-wal");
        struct stat st;

        return wal && stat(wal, &st) >= 0 && st.st_size > 0;
}

static int database_open_once(Database **ret, const char *path) {
        _cleanup_(database_freep) Database *db = NULL;
        _cleanup_free_ char *mark = damage_mark(path);
        bool unclean = ended_unclean(path), damaged;
        int r;

        if (!mark)
                return -ENOMEM;
        damaged = access(mark, F_OK) >= 0;
        r = file_prepare(path);
        if (r < 0)
                return r;

        db = new0(Database, 1);
        if (!db)
                return -ENOMEM;
        db->path = strdup(path);
        if (!db->path)
                return -ENOMEM;
        r = database_error(sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE, NULL));
        if (r < 0)
                return r;
        (void) sqlite3_extended_result_codes(db->handle, 1);
        r = database_error(sqlite3_busy_timeout(db->handle, BUSY_TIMEOUT_MSEC));
        if (r < 0)
                return r;
        if (sqlite3_db_readonly(db->handle, "main") == 1)
                return -EROFS;

        /* A message is found by ids that are random: of a backlog the leaves of three such trees are to stay in
         * memory, or each commit writes them again and again. database_trim() gives them back. FULL: what was promised
         * to a caller survives a power cut. */
        r = database_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-1536; "
                              "PRAGMA journal_size_limit=1048576; PRAGMA temp_store=FILE; PRAGMA trusted_schema=OFF; "
                              "PRAGMA cell_size_check=ON");
        if (r < 0)
                return r;
        if (unclean || damaged) {
                r = database_check(db, damaged);
                if (r < 0)
                        return r;
        }
        r = database_migrate(db);
        if (r < 0)
                return r;
        if (damaged && unlink(mark) < 0)
                return -errno;

        *ret = TAKE_PTR(db);
        return 0;
}

static int set_aside(const char *path, char **ret) {
        static const char *const suffixes[] = { "", "-wal", "-shm" };
        _cleanup_free_ char *target = NULL, *mark = damage_mark(path);
        char stamp[32];
        struct tm tm;
        time_t now = time(NULL);

        if (!localtime_r(&now, &tm) || strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm) == 0)
                return -EINVAL;
        for (unsigned i = 0; i < 100; i++) {
                free(target);
                target = i == 0 ? strjoin(path, ".corrupt-", stamp) : asprintf_new("%s.corrupt-%s-%u", path, stamp, i);
                if (!target)
                        return -ENOMEM;
                if (access(target, F_OK) < 0 && errno == ENOENT)
                        break;
        }

        /* The main file goes first: should we be killed in between, SQLite deletes a WAL that lies beside an empty
         * file. */
        for (size_t i = 0; i < ELEMENTSOF(suffixes); i++) {
                _cleanup_free_ char *from = strjoin(path, suffixes[i]), *to = strjoin(target, suffixes[i]);

                if (!from || !to)
                        return -ENOMEM;
                if (rename(from, to) < 0 && (i == 0 || errno != ENOENT))
                        return -errno;
        }
        if (mark)
                (void) unlink(mark);    /* one that stays costs a look at an empty file */

        *ret = TAKE_PTR(target);
        return 0;
}

int database_open(Database **ret, const char *path, char **ret_set_aside) {
        _cleanup_free_ char *aside = NULL;
        int r;

        library_configure();

        r = database_open_once(ret, path);
        if (r != -EUCLEAN || !ret_set_aside)
                return r;

        r = set_aside(path, &aside);
        if (r < 0)
                return r;
        r = database_open_once(ret, path);
        if (r < 0)
                return r;

        *ret_set_aside = TAKE_PTR(aside);
        return 1;
}
