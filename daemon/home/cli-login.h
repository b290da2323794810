/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-home.h"

/* The operator's logins with Claude (~/.claude/.credentials.json) and Codex (~/.codex/auth.json). Refresh tokens are
 * used up by who uses them, so that of Claude's only puffo-credentials does; an agent's CLI gets a view, a copy without
 * it, in its own home. */

typedef enum CliLoginState {
        CLI_LOGIN_MISSING,
        CLI_LOGIN_VALID,
        CLI_LOGIN_EXPIRED,
} CliLoginState;

typedef enum CliLoginLink {
        CLI_LOGIN_NO_OPERATOR,          /* he has none; what the agent has itself is left alone */
        CLI_LOGIN_FRESH,
        CLI_LOGIN_COPIED,
        _CLI_LOGIN_LINK_MAX,
} CliLoginLink;

typedef struct CliLogin {
        CliLoginState state;
        CliLoginLink link;
        uint64_t expires_usec;          /* CLOCK_REALTIME; USEC_INFINITY: it does not say */
} CliLogin;

/* Whether an agent's CLI works with the operator's login with Claude: Claude Code, and Hermes where Anthropic is its
 * provider, which looks for it in the same place (agent-runtime §13.2). */
bool cli_login_is_for(const AgentConfig *c);

/* A login file alone; a missing or unusable one is success. *ret_renewable, if not NULL: it has a refresh token. */
int cli_login_read(const char *path, CliLogin *ret, bool *ret_renewable);

/* Renews the agent's view when the operator's file is another than before, in place, so that a sandbox that runs sees
 * it. Cheap; before each turn. user_home NULL: there is no operator. */
int cli_login_sync(const AgentHome *h, const char *user_home, CliLogin *ret);
/* For an agent whose CLI works with a key by way of the outlet, where its use is counted: the view goes, and so does a
 * login of its own, which it may have written itself to get past that. An empty file is left, for a mount to cover, so
 * that it cannot be written again. > 0: there was a login. */
int cli_login_remove(const AgentHome *h);

/* The same for Codex. Nobody refreshes that login but the operator's own Codex. look: whether there is one, renewing
 * nothing. */
int codex_login_look(const AgentHome *h, const char *user_home, CliLogin *ret);
int codex_login_sync(const AgentHome *h, const char *user_home, CliLogin *ret);
int codex_login_remove(const AgentHome *h);
/* > 0: what he has logged in with is a key, which no agent gets to see: to be wiped. */
int codex_login_key(const char *user_home, char **ret);

/* When it is to be refreshed, CLOCK_REALTIME: five minutes before it expires, which may be in the past, and not sooner
 * than ten minutes after the last attempt (0: none). USEC_INFINITY: never, it is no view or does not expire. */
uint64_t cli_login_refresh_usec(const CliLogin *l, uint64_t attempt_usec);
#define CLI_LOGIN_REFRESH_BEFORE_USEC (300 * USEC_PER_SEC)

/* What there is to be told of a login file, but for the tokens in it. */
typedef struct CliLoginFile {
        char *path;
        char *problem;                  /* "not present", that there is none in it, or why nothing can be told of it;
                                         * NULL: it can */
        uint64_t modified_usec, expires_usec;   /* CLOCK_REALTIME; 0: it does not say */
        bool has_access_token, has_refresh_token;
        char **scopes;                  /* printable */
} CliLoginFile;
/* The operator's, and the agent's view of it or login of its own. -ENOMEM. */
int cli_login_look_operator(const char *user_home, CliLoginFile *ret);
int cli_login_look_agent(const AgentHome *h, CliLoginFile *ret);
/* The problem of a file which is of no use as the CLI works with a key. */
#define CLI_LOGIN_HAS_KEY "no login: the agent's CLI works with a key"
void cli_login_file_done(CliLoginFile *f);
