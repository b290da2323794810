/* SPDX-License-Identifier: MIT */

/* How messages.db is opened, and what goes from it in time. */

#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "approval-store.h"
#include "backup.h"
#include "conversation.h"
#include "disown.h"
#include "dispatch-store.h"
#include "event-util.h"
#include "file-util.h"
#include "log.h"
#include "outbox-store.h"
#include "session-internal.h"
#include "turn-files.h"

#define TURNS_KEEP_USEC (30 * DAY_USEC)
#define TURNS_KEEP_MAX 10000
/* The keys of what was sent keep a turn that begins again from sending it again; that is long over then. */
#define OUTBOX_KEEP_MS ((int64_t) 7 * 86400 * 1000)
#define UNSTORED_KEEP_USEC (10 * 60 * USEC_PER_SEC)
/* From this size on the start may take longer than a unit is normally given. */
#define LARGE_DATABASE ((off_t) MIB(256))
#define CHECK_TIMEOUT_USEC (15 * 60 * USEC_PER_SEC)

static int open_database(Session *s, Database **ret) {
        _cleanup_free_ char *aside = NULL;
        struct stat st;
        int r;

        /* A check reads all of it, from a cold disk maybe, and one that is killed over it begins again from the
         * start. */
        if (stat(s->database_path, &st) >= 0 && st.st_size > LARGE_DATABASE)
                (void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, CHECK_TIMEOUT_USEC);
        r = database_open(ret, s->database_path, &aside);
        if (r > 0)
                log_error("'%s' was damaged. It is kept as '%s', and the agent goes on with an empty one: its queue "
                          "and conversations are gone until somebody repairs that file (sqlite3's .recover).",
                          s->database_path, aside);
        backup_clean(s->database_path);
        return r;
}

static int disown_copied(Session *s, Database *db) {
        _cleanup_free_ char *mark = path_join(s->directory, AGENT_MESSAGES_COPIED);
        int r;

        if (!mark)
                return -ENOMEM;
        if (access(mark, F_OK) < 0)
                return errno == ENOENT ? 0 : -errno;
        r = database_disown(database_handle(db));
        if (r < 0)
                return r;
        return unlink(mark) < 0 ? -errno : 0;
}

int session_database_open(Session *s, Database **ret) {
        _cleanup_(database_freep) Database *db = NULL;
        int r;

        r = open_database(s, &db);
        if (r >= 0)
                r = disown_copied(s, db);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(db);
        return 0;
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata);

/* What came from the chat service and went there. n_dropped: so far; the sum. */
static int sweep_messages(Session *s, int64_t now_ms, int n_dropped) {
        int64_t keep_ms = (int64_t) (s->retention_usec / USEC_PER_MSEC);
        int n = approval_store_sweep(s->db, now_ms - OUTBOX_KEEP_MS);

        n_dropped += MAX(n, 0);
        if (n >= 0)
                n = outbox_store_sweep(s->db, now_ms - OUTBOX_KEEP_MS);
        if (n < 0 || keep_ms == 0)
                return n < 0 ? n : n_dropped + n;
        n_dropped += n;
        n = message_store_sweep(s->db, (unsigned) (s->retention_usec / DAY_USEC), now_ms);
        if (n < 0)
                return n;
        n_dropped += n;
        n = dispatch_store_sweep(s->db, now_ms - keep_ms);
        return n < 0 ? n : n_dropped + n;
}

int session_note_files(Session *s, const char *turn) {
        return turn_store_note_files(s->db, turn);
}

void session_sweep_files(Session *s) {
        _cleanup_(strv_freep) char **left = NULL;
        _cleanup_free_ char *workspace = NULL;
        int r;

        r = turn_store_list_left_files(s->db, 1, &left);
        if (r < 0 || !left) {
                if (r < 0)
                        (void) log_warning_errno(r, "Failed to look for files of turns that are gone: %m");
                return;
        }
        r = session_workspace(s, &workspace);
        if (r >= 0)
                r = turn_files_sweep(s->db, workspace);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to remove the files of turns that are gone: %m");
}

/* Also once a day of its own accord: what is to be gone after a time is gone from an agent that nobody talks to as well.
 * The hour of slack lets it fall together with something else that wakes the machine. */
void session_sweep(Session *s) {
        uint64_t now = now_realtime_usec();
        int r;

        if (s->swept_usec > 0 && now - s->swept_usec < s->sweep_usec)
                return;
        s->swept_usec = now;
        r = event_arm_timer(s->event, &s->sweep, s->sweep_usec, s->sweep_usec / 24, on_sweep, s);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
        r = retention_sweep(s->db, &(Retention) {
                .turns_usec = TURNS_KEEP_USEC, .turns_max = TURNS_KEEP_MAX, .unstored_usec = UNSTORED_KEEP_USEC,
                .messages_usec = s->retention_usec,
        }, now);
        if (r >= 0)
                r = sweep_messages(s, (int64_t) (now / USEC_PER_MSEC), r);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to drop old turns from '%s', ignoring: %m", s->database_path);
        else if (r > 0)
                log_info("Dropped %d old turns and messages.", r);
        if (r == -EUCLEAN)
                session_broken(s, r);
        else
                session_sweep_files(s);
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *userdata) {
        Session *s = userdata;

        s->swept_usec = 0;      /* the other clock may say that it is not yet time */
        session_sweep(s);
        session_update(s);      /* gives the memory back */
        return 0;
}
