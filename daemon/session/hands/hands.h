/* SPDX-License-Identifier: MIT */
#pragma once

#include "approvals.h"
#include "chat.h"
#include "cli-process.h"
#include "outlet.h"

/* Answers turns by way of a CLI that has tools of its own (kinds cli-local and sdk-local), one at a time. What Chat is
 * for direct calls of a model. The CLI goes on when this process does not: the next one takes it over, in the middle
 * of a turn as well. */
typedef struct Hands Hands;

typedef struct HandsSpec {
        sd_event *event;                /* borrowed */
        Database *db;                   /* borrowed */
        const CliBackend *backend;      /* borrowed */
        Budget *budget;                 /* borrowed; no turn is begun without; NULL: no limits */
        const char *directory;          /* the agent's, copied */
        /* Waits between attempts, instead of the built-in ones when max is not 0. */
        uint64_t retry_min_usec, retry_max_usec;

        /* As in ChatSpec. */
        int (*get_config)(SessionConfig **ret, void *userdata);
        ToolBox* (*get_box)(void *userdata);
        Approvals* (*get_approvals)(void *userdata);    /* may be NULL, and say NULL: nobody can be asked */
        /* Where the CLI's calls of a model and, in the profile strict, everything else goes; NULL: it failed. */
        Outlet* (*get_outlet)(void *userdata);
        const char* (*get_working_directory)(void *userdata);
        void (*on_end)(Turn *t, TurnResult *result, void *userdata);
        void (*on_health)(ChatHealth health, void *userdata);
        void (*on_waiting)(const char *text, void *userdata);
        /* hands_prepare() has come to its end: fault NULL: the CLI is ready, else why it cannot be. Also without
         * that, when a turn shows that it is ready. */
        void (*on_prepared)(const char *fault, void *userdata);
        void (*on_broken)(int error, void *userdata);
        void *userdata;
} HandsSpec;

/* Takes over a CLI that runs. */
int hands_new(Hands **ret, const HandsSpec *spec);
/* What runs goes on. */
Hands* hands_free(Hands *h);
DEFINE_TRIVIAL_CLEANUP_FUNC(Hands*, hands_free);

/* Takes row and config over, on failure too. config: as of now, for the first attempt. Does not call back itself. */
int hands_start(Hands *h, Turn *t, TurnRow *row, SessionConfig *config);
void hands_cancel(Hands *h);
/* Whether there is something to be made ready before a turn. */
bool hands_can_prepare(const SessionConfig *config);
/* Starts the CLI and makes it ready for a turn, within this time. 0: it is at work. > 0: on_prepared() follows, from
 * the loop; who calls again meanwhile waits for the same. */
int hands_prepare(Hands *h, uint64_t timeout_usec);
/* The configuration has changed: for how long a CLI sleeps before it goes, too. */
void hands_reload(Hands *h, const SessionConfig *config);
/* The agent's tools from now on; NULL: those of before are going. */
void hands_set_tools(Hands *h, ToolBox *tools);
/* There is a connection to puffod (again). */
void hands_connected(Hands *h);
/* The agent has no more use for a CLI, or another one: what runs is ended when the running turn is. */
void hands_drop(Hands *h);
/* One of the agent's tools was called by way of MCP and has ended. key: the call's, unique and for good. */
void hands_tool_called(Hands *h, const char *key, const char *name, const char *arguments, const ToolResult *result);
