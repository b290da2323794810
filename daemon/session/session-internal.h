/* SPDX-License-Identifier: MIT */
#pragma once

#include "ask-hook.h"
#include "chat-service.h"
#include "distress.h"
#include "hands.h"
#include "runtime-file.h"
#include "session.h"
#include "unit-calls.h"

/* What the files of session.h share: session.c, what it does; session-database.c, how long it keeps what it knows;
 * session-status.c, what it tells of itself. */

#define DAY_USEC (86400 * USEC_PER_SEC)

struct Session {
        sd_event *event;                        /* borrowed */
        char *id, *directory, *database_path, *runtime_path;

        Database *db;                           /* NULL while it cannot be opened */
        TurnQueue *queue;                       /* exists with db */
        Budget *budget;                         /* exists with db */
        Chat *chat;                             /* exists with db */
        Hands *hands;                           /* exists with db */
        UnitCalls *unit_calls;
        Outlet *outlet;                         /* NULL until a CLI needs it */
        bool by_hands;                          /* the running turn is answered by the CLI */
        ChatService *service;                   /* exists with db */
        Approvals *approvals;                   /* exists with db */
        AskHook *ask_hook;
        Distress *distress;                     /* exists without db, when there is somebody to be told */
        ManagerLink *link;
        ChatSpec chat_spec;
        HandsSpec hands_spec;

        SessionState state;
        AgentConfig *agent;                     /* the last that was valid, or NULL */
        char *fault;                            /* why no turn can be taken, or NULL */
        char *lacking;                          /* as SessionConfig's */
        char *kind, *harness, *provider, *configured_model;    /* as it was read last; NULL: never */
        bool preparing;                         /* its CLI, before a turn */
        char *unready;                          /* why that was of no use, or NULL */
        uint64_t prepare_pause_usec;            /* before it is tried again */
        void (*on_prepared)(const char *fault, void *userdata);        /* SessionBus, or NULL */
        void *on_prepared_userdata;
        char *waiting;                          /* what the running turn waits for, or NULL */
        char *status_text, *working_directory;
        char *model;                            /* that the agent has asked for; NULL or "": the configured one */
        ChatHealth health;
        bool main_only;                         /* its CLI knows one conversation */
        bool loaded;                            /* the queue */
        bool stopping;
        bool leaving, left;                     /* the chat service, when no turn runs any more */
        bool drained;                           /* readers have had their time */

        size_t queue_limit;
        uint64_t started_usec, turn_grace_usec, retention_usec, sweep_usec, swept_usec, open_pause_usec;
        bool trimmed;                           /* the short pause after the last turn is over */
        int note_day;                           /* of the year; a day's note is made once */
        RuntimeFile written;                    /* what runtime.json holds; its strings: constants, written_error */
        char *written_error;
        sd_event_source *update, *watch, *trim, *stop_timer, *drain_timer, *reopen, *sweep, *prepare;
};

/* --- session-database.c --- */

/* One that is damaged is set aside; in one that was copied from another agent what that one still has to do ends. */
int session_database_open(Session *s, Database **ret);
/* Drops what is too old, when it is time for that, and sees to it that there is a next time. */
void session_sweep(Session *s);

/* --- session-prepare.c --- */

/* Of HandsSpec. */
void session_hands_prepared(const char *fault, void *userdata);
/* The configuration has been read: what could not be made ready by an earlier one is tried again. */
void session_prepare_configured(Session *s, const SessionConfig *c);

/* --- session-status.c --- */

/* Something that is shown has changed: told soon, once for all that changes until then. */
void session_update(Session *s);
/* sd_event_handler_t of that. */
int session_on_update(sd_event_source *source, void *userdata);
/* Tells it now, and does what follows from it. */
void session_refresh(Session *s);
/* runtime.json, with that status. */
void session_runtime_write(Session *s, const char *status);
/* A stop goes on: waits for what is still to be waited for, or ends the loop. */
void session_stop_go_on(Session *s);
