/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "ctl-stream.h"
#include "ctl.h"

/* Conversations with an agent: what "puffoctl agent chat" and "agent-proxy connect" share. */

#define EXIT_INTERRUPTED 130

typedef struct Chat {
        Ctl *c;
        const char *agent, *conversation;       /* borrowed; conversation NULL: the main one */
        const char *source;                     /* for the agent's log */
        sd_event *event;
        int signal_fd;
} Chat;

/* Blocks SIGINT from now on. */
int chat_begin(Chat *chat);
void chat_end(Chat *chat);

/* One turn: submits it under an id of its own, shows the answer as it comes, repeats itself when the session or the
 * daemon is lost on the way. Ctrl-C interrupts the turn, a second one gives up waiting. What went wrong with the turn
 * is on stderr as "error: …". 1: it came to an end, 2: because it was interrupted; 0: it failed; -EINTR: nobody waits
 * for it any more; -ENOTCONN: there is no daemon (reported). */
int chat_turn(Chat *chat, const char *text);

/* Reads lines and has a turn for each, until there are none or somebody says /exit or /quit. Exit status. */
int chat_loop(Chat *chat);
