/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* Small files in <workspace>/.puffo-agent through which an agent and its session talk around a turn (message-pipeline
 * §§10, 10.1). Everything there may be of the agent's own making: nothing leads out of the workspace. */

typedef struct TurnFlags {
        bool reload;                    /* the instructions are to be made anew: prompt_files_write() */
        bool refresh;                   /* what runs the model is to be started anew */
        char *model;                    /* from now on, until the session ends; "": the configured one; NULL: as before */
} TurnFlags;

void turn_flags_done(TurnFlags *f);

/* What has been asked for since the last time, and forgets it. With reload the other one is dropped. To be called
 * before each batch. > 0: something. Errors are for logging: *ret is valid with them, too. */
int turn_flags_take(const char *workspace, TurnFlags *ret);

typedef struct CurrentTurn {
        const char *channel_id;         /* "": a direct message */
        const char *root_id, *first_envelope;
        const char *peer_slug;          /* of a direct message, else "" */
        bool is_dm;
} CurrentTurn;

/* current_turn.json says during a turn what it answers. Both are worth a warning at most. A session that died may have
 * left one: to be removed at its start, too. */
int current_turn_write(const char *workspace, const CurrentTurn *t);
int current_turn_remove(const char *workspace);
