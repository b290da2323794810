/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include "backup.h"
#include "disown.h"
#include "string-util.h"

#define PAGES_PER_STEP 128
#define BYTES_PER_STEP KIB(256)

struct Backup {
        sd_event_source *step;          /* defer, or writability of a pipe */
        sd_event *event;                /* borrowed */
        char *path;                     /* of the copy beside the database; NULL once it is unlinked */
        sqlite3 *copy;
        sqlite3_backup *backup;
        int file, destination;
        void (*done)(Backup *b, int error, void *userdata);
        void *userdata;
};

static void copy_close(Backup *b) {
        if (b->backup)
                (void) sqlite3_backup_finish(TAKE_PTR(b->backup));
        if (b->copy)
                (void) sqlite3_close(TAKE_PTR(b->copy));
}

Backup* backup_free(Backup *b) {
        if (!b)
                return NULL;

        (void) sd_event_source_disable_unref(b->step);
        copy_close(b);
        if (b->path)
                (void) unlink(b->path);
        free(b->path);
        (void) safe_close(b->file);
        (void) safe_close(b->destination);
        return mfree(b);
}

static int backup_end(Backup *b, int error) {
        b->step = sd_event_source_disable_unref(b->step);
        b->done(b, error, b->userdata);
        return 0;
}

static int on_writable(sd_event_source *s, int fd, uint32_t revents, void *userdata);

static int wait_writable(Backup *b) {
        b->step = sd_event_source_disable_unref(b->step);
        return sd_event_add_io(b->event, &b->step, b->destination, EPOLLOUT, on_writable, b);
}

/* Regular files are always writable and epoll refuses them: those go on from the loop at once. */
static int send_step(Backup *b) {
        ssize_t n = sendfile(b->destination, b->file, NULL, BYTES_PER_STEP);

        if (n == 0)
                return backup_end(b, 0);
        if (n < 0 && errno == EAGAIN) {
                int r = wait_writable(b);
                return r < 0 ? backup_end(b, r) : 0;
        }
        if (n < 0 && errno != EINTR)
                return backup_end(b, -errno);
        return 0;
}

static int on_writable(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        return send_step(userdata);
}

/* The copy is complete: the name is not needed any more, only the bytes. */
static int copy_done(Backup *b) {
        int r;

        (void) sqlite3_backup_finish(TAKE_PTR(b->backup));
        r = database_disown(b->copy);
        if (r < 0)
                return r;
        copy_close(b);
        b->file = open(b->path, O_RDONLY|O_CLOEXEC|O_NOFOLLOW);
        if (b->file < 0)
                return -errno;
        (void) unlink(b->path);
        b->path = mfree(b->path);
        return 0;
}

static int on_step(sd_event_source *s, void *userdata) {
        Backup *b = userdata;
        int code, r;

        if (b->file >= 0)
                return send_step(b);

        code = sqlite3_backup_step(b->backup, PAGES_PER_STEP);
        if (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED)
                return 0;
        r = code == SQLITE_DONE ? copy_done(b) : database_error(code);
        return r < 0 ? backup_end(b, r) : 0;
}

static int copy_open(Backup *b, Database *db) {
        int fd, r;

        b->path = strjoin(database_path(db), ".backup-XXXXXX");
        if (!b->path)
                return -ENOMEM;
        fd = mkostemp(b->path, O_CLOEXEC);
        if (fd < 0) {
                r = -errno;
                b->path = mfree(b->path);
                return r;
        }
        (void) safe_close(fd);
        r = database_error(sqlite3_open_v2(b->path, &b->copy, SQLITE_OPEN_READWRITE, NULL));
        /* Nobody takes up a copy that was cut short: it needs no journal, and no disk has to be waited for. */
        if (r >= 0)
                r = database_error(sqlite3_exec(b->copy, "PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF", NULL, NULL,
                                                NULL));
        if (r < 0)
                return r;
        b->backup = sqlite3_backup_init(b->copy, "main", database_handle(db), "main");
        return b->backup ? 0 : database_error(sqlite3_errcode(b->copy));
}

int backup_new(Backup **ret, sd_event *event, Database *db, int destination,
               void (*done)(Backup *b, int error, void *userdata), void *userdata) {
        _cleanup_close_ int fd = destination;
        _cleanup_(backup_freep) Backup *b = NULL;
        struct stat st;
        int flags, r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
                return -EINVAL;
        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;

        b = new0(Backup, 1);
        if (!b)
                return -ENOMEM;
        b->file = -EBADF;
        b->destination = TAKE_FD(fd);
        b->event = event;
        b->done = done;
        b->userdata = userdata;
        r = copy_open(b, db);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &b->step, on_step, b);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->step, SD_EVENT_ON);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(b);
        return 0;
}

void backup_clean(const char *database_path) {
        _cleanup_free_ char *pattern = strjoin(database_path, ".backup-*");
        glob_t found = {};

        /* A path with glob characters in it may match nothing; then a leftover stays, which harms nobody. */
        if (!pattern || glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
                return;
        for (size_t i = 0; i < found.gl_pathc; i++)
                (void) unlink(found.gl_pathv[i]);
        globfree(&found);
}
