/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-home.h"
#include "codex-settings.h"

/* What an agent is, as of now: its agent.yml, its directory, and what puffod passed as credential. Read anew for each
 * turn, so that no key stays in memory and every change counts from the next turn on. */
typedef struct SessionConfig {
        AgentHome *home;
        AgentConfig *agent;
        char *provider, *model, *base_url, *api_key;    /* "" when not set */
        uint64_t turn_grace_usec, task_timeout_usec;
        uint64_t retention_usec;                /* of conversations; 0: for ever */
        uint64_t dispatch_jitter_usec;
        size_t queue_limit;                     /* turns that wait */
        PriceList prices;                       /* the agent's, then daemon.yml's */
        char *verify_certs, *ca_file;           /* daemon.yml's wire block; "": the default */

        CodexSettings codex;                    /* of a role agent */
        char *lacking;          /* why a role agent that might work with Codex does without, or NULL */
        char *fault;            /* why no turn can be taken and what to do, or NULL */
        char *ignored;          /* what is wrong with the agent.yml in whose place last was taken, or NULL */
} SessionConfig;

/* A file that cannot be read or makes no sense is a fault, not an error; but when last is given, that stays in force.
 * -ENOMEM. */
int session_config_load(SessionConfig **ret, const char *id, const char *directory, const AgentConfig *last);
SessionConfig* session_config_free(SessionConfig *c);   /* wipes the key */
DEFINE_TRIVIAL_CLEANUP_FUNC(SessionConfig*, session_config_free);
