/* SPDX-License-Identifier: MIT */
#pragma once

#include "approvals.h"
#include "chat.h"
#include "cli-process.h"
#include "manager-link.h"
#include "scope.h"
#include "turn-queue.h"

/* One agent's mind: its queue, its conversation partner, and what it tells the world about both. */
typedef struct Session Session;

typedef enum SessionState {
        SESSION_STARTING,
        SESSION_READY,
        SESSION_BUSY,
        SESSION_WAITING_APPROVAL,
        SESSION_FAILED,         /* stays up and says why */
        _SESSION_STATE_MAX,
        _SESSION_STATE_INVALID = -EINVAL,
} SessionState;

const char* session_state_to_string(SessionState s);

typedef struct SessionSpec {
        sd_event *event;                /* borrowed */
        const char *id, *directory;     /* copied */
        const ModelBackend *backend;    /* ChatSpec */
        const CliBackend *cli_backend;  /* NULL: puffod starts the CLI */
        const char *socket;             /* of puffod, copied; NULL: none is looked for */
        uint64_t retry_min_usec, retry_max_usec;        /* ChatSpec */
        uint64_t sweep_usec;            /* between two looks for what is too old; 0: a day */
} SessionSpec;

/* Opens the database, takes over what is left of an earlier process and begins to work. Errors are logged. */
int session_new(Session **ret, const SessionSpec *spec);
Session* session_free(Session *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Session*, session_free);

/* Takes no more turns, lets the running one finish within its grace time, then ends the event loop. A turn that is not
 * done by then begins again with the next process. */
void session_stop(Session *s);
/* Configuration and files are read again; a session that has failed tries again. */
void session_reload(Session *s);

/* The clock has come to a new day: a role agent's note for it is made. */
void session_new_day(Session *s);

/* The database has answered -EUCLEAN: ends the event loop, so that the next process sets the file aside. */
void session_broken(Session *s, int error);

/* We are registered with puffod (again). */
void session_on_connected(Session *s, ManagerLink *link);

/* Everything below is for the bus. */
const char* session_id(Session *s);
TurnQueue* session_queue(Session *s);
Database* session_database(Session *s);
Approvals* session_approvals(Session *s);               /* NULL while there is no database */
sd_event* session_event(Session *s);
bool session_accepts(Session *s);
SessionState session_state(Session *s);
const char* session_status_text(Session *s);
const char* session_health(Session *s);
const char* session_working_directory(Session *s);
/* What answers its turns knows one conversation only. */
bool session_is_main_only(Session *s);
int session_workspace(Session *s, char **ret);          /* as configured now */
/* Before files of a turn are written, and when they may have lost their turn (turn-store.h). */
int session_note_files(Session *s, const char *turn);
void session_sweep_files(Session *s);
/* What answers its turns: ends with NULL, name and value by turns; as the properties of Agent are called. */
void session_runtime(Session *s, const char *ret[static 9]);
/* Has what answers its turns started and made ready within this time, where it is something that can be. 0: there is
 * nothing to wait for, *ret_fault then says what is wrong, or is NULL. > 0: on_prepared follows, once for all who have
 * asked by then. */
int session_prepare(Session *s, uint64_t timeout_usec, char **ret_fault);
/* Who is told; NULL: nobody any more. */
void session_on_prepared(Session *s, void (*on_prepared)(const char *fault, void *userdata), void *userdata);
int session_set_working_directory(Session *s, const char *path);        /* "": none */
