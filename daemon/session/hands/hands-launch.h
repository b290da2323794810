/* SPDX-License-Identifier: MIT */
#pragma once

#include "cli-home.h"
#include "cli-login.h"
#include "harness.h"
#include "session-config.h"

/* Below the agent's directory: the outlet's sockets. */
#define HANDS_MODEL_SOCKET "run/model.sock"
#define HANDS_PROXY_SOCKET "run/proxy.sock"

/* What a CLI is started with: its program, its home, what it may see. */
typedef struct HandsLaunch {
        HarnessKind kind;
        char *session_id;               /* the conversation that goes on, or NULL */
        char *conversation;             /* what clients call it; NULL: the main one */
        bool fresh;                     /* the CLI knows nothing of what was said in it, and has to be told */
        char *model, *token;            /* token: with which it calls that, by way of the outlet; NULL: none */
        char *turn;                     /* for which it is started, */
        const char *kick;               /* … and what it is told instead of its text (HANDS_…_LINE), or NULL */
        char **allowed_tools;           /* of sdk-local */
        char *permission_mode, *own_sandbox;    /* the latter of Codex */
        char *program, *path, *launch, *description, *directory;
        char *system;                   /* prompt, for those that are told it over their pipes */
        char *sockets[7];               /* pairs (CliStart) */
        bool has_tools, has_outlet, has_proxy;
        char **roots, **read_only, **read_write;
        char **certificates;            /* that the environment names, where it would not see them */
        char **extra;                   /* of the writable ones, what lies elsewhere than the CLI expects */
        CliHome home;
        CliLogin login;                 /* that it works with; none when it has an outlet */
        uint8_t hash[32];               /* when it differs from that of the running CLI, a new one is needed */
} HandsLaunch;
void hands_launch_done(HandsLaunch *l);
/* The CLI has it: what is in it, the token too, is not needed any more. */
void hands_launch_sent(HandsLaunch *l);

/* Of an agent of this configuration; < 0: none (kinds without a CLI, and those that this version has no driver
 * for). */
HarnessKind hands_kind(const AgentConfig *c);

/* Whether a CLI of this kind can be in more than one conversation; with the others all turns are in the main one. */
bool hands_has_conversations(HarnessKind k);

/* The login with which the agent's CLI works, its view renewed. An agent that has a key of its own has none. */
int hands_launch_login(const SessionConfig *config, CliLogin *ret);

/* Makes ready what the agent's home must hold, and everything but the launch itself. -ENOENT: the program is not
 * there, with *ret_fault = what to do. */
int hands_launch_prepare(HandsLaunch *ret, const SessionConfig *config, const char *working_directory, bool tools,
                         char **ret_fault);
/* launch: with the conversation and the token of l, and, for a CLI that lives for one turn, with its prompts and
 * options. */
int hands_launch_compose(HandsLaunch *l, const SessionConfig *config, const char *system, const char *prompt,
                         const HarnessOptions *options);
