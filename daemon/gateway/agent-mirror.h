/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* The agents as puffod shows them on the bus, kept up to date by its signals. */
typedef struct MirroredAgent {
        char *id, *path, *role, *name, *state, *status, *status_text, *workspace;
        char hash[9];           /* what ids of responses begin with, after "resp_" */
        uint64_t created_usec;
        uint64_t turn_usec;     /* when it was last seen to be done with its turns; 0: not by us */
        uint32_t pid;
        uid_t owner;
        bool stale;             /* something changed that signals do not tell */
} MirroredAgent;

typedef struct AgentMirror AgentMirror;
typedef struct AgentWaiter AgentWaiter;

/* Asks puffod for its agents (which starts it) as soon as the loop runs. The bus stays the caller's. */
int agent_mirror_new(AgentMirror **ret, sd_event *event, sd_bus *bus);
AgentMirror* agent_mirror_free(AgentMirror *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(AgentMirror*, agent_mirror_free);

/* The list is what puffod that runs now has said. False before the first answer and while it restarts. */
bool agent_mirror_is_loaded(AgentMirror *m);
size_t agent_mirror_size(AgentMirror *m);
/* Sorted: manager first, then by id. Borrowed until the loop runs again, like what the finders give. */
MirroredAgent* agent_mirror_get(AgentMirror *m, size_t i);
MirroredAgent* agent_mirror_find(AgentMirror *m, const char *id);
/* What a person may have meant: capitals are lowered when no agent is called exactly that (agent-proxy §3). */
MirroredAgent* agent_mirror_resolve(AgentMirror *m, const char *text);
MirroredAgent* agent_mirror_find_path(AgentMirror *m, const char *path);
/* By the first 8 digits after "resp_". */
MirroredAgent* agent_mirror_find_hash(AgentMirror *m, const char *hash);

/* Called, from the loop, after any change of the list or of what an agent shows. */
void agent_mirror_watch(AgentMirror *m, void (*changed)(void *userdata), void *userdata);
/* Anybody on the bus can send a signal to us alone, whatever we asked to be told of, and sd-bus knows of unique names
 * only: who sent it has to be looked at before a word of it is believed. */
bool agent_mirror_is_puffod(AgentMirror *m, sd_bus_message *message);

/* It takes turns: its state is ready or busy. */
bool mirrored_agent_is_ready(const MirroredAgent *a);

/* Calls back once, from the loop or at once, when the list is loaded or after 5 s without it. The callback may free
 * the waiter, which also is how to give up waiting. */
typedef void (*agent_waiter_t)(bool loaded, void *userdata);
int agent_mirror_wait(AgentMirror *m, AgentWaiter **ret, agent_waiter_t callback, void *userdata);
AgentWaiter* agent_waiter_free(AgentWaiter *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(AgentWaiter*, agent_waiter_free);
