/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-home.h"

/* What a coding CLI finds in its home (HOME is the agent's directory) and in the agent's workspace: its settings, MCP
 * servers, skills, login. All of it lies where models write, so nothing here follows a link, and what is not what it
 * should be is moved aside or replaced. The operator's own home is only read. */

typedef struct CliHomeSpec {
        const AgentHome *home;
        const AgentConfig *config;
        const char *harness;            /* "claude-code", "codex", "gemini-cli", "hermes" */
        const char *user_home;          /* the operator's real home, NULL: there is none (system mode) */
        const char *mcp_command;        /* path of puffo-mcp, NULL: the agent has no tools */
        const char *tool_socket;        /* as the CLI sees it */
        const char *working_directory;  /* "": none */
        bool no_login;                  /* it works with a key that it is given: what it has of its own does not count */
} CliHomeSpec;

typedef struct CliHome {
        char **read_write, **read_only; /* what the sandbox binds; every path is there */
        char *mcp_config;               /* for --mcp-config, NULL */
        char *codex_config;             /* for cli_home_start_codex(), NULL */
        char *notice;                   /* what the operator should know, a line each; NULL */
        /* Of everything that a running CLI does not notice by itself: when it differs, the CLI is started anew.
         * Neither its arguments and environment nor the memory, which it takes note of when it starts. Nor the login:
         * it looks at that file again by itself. */
        uint8_t hash[32];
} CliHome;

/* Makes, copies, checks. Writes nothing when nothing has changed. -EINVAL: unknown harness. */
int cli_home_prepare(CliHome *ret, const CliHomeSpec *spec);
void cli_home_done(CliHome *h);
/* Writes config.toml, which is not to be changed while a Codex is running. */
int cli_home_start_codex(const AgentHome *h, const CliHome *home);
/* What goes with a turn of "codex exec" as it takes it: the schema in a file (*ret_schema NULL: none), images by paths
 * without a comma. */
int cli_home_start_codex_turn(const AgentHome *h, const char *schema, char *const *images, char **ret_schema,
                              char ***ret_images);

/* Paths that exist on the machine of whoever wrote them, not where the agent's runtime lives (agent-runtime §10.5). */
bool cli_command_is_host_local(const char *command);
/* Whether a CLI would take the tools of an MCP server of this name for ours: they are called mcp__NAME__TOOL, with "_" in
 * the place of what is neither a letter nor a digit nor "-", and what ends the name is the first "__". */
bool cli_server_name_is_ours(const char *name);

/* The conversation that a CLI goes on with, cli_session.json (agent-home §5.8). > 0: *ret is its id, "" for the CLIs
 * that only know "the latest"; 0: none, *ret is NULL. Another harness's file counts as none. */
int cli_session_load(const AgentHome *h, const char *harness, char **ret);
/* session_id NULL: forget it. -EINVAL for an id that no CLI makes. Writes nothing when it says that already. */
int cli_session_save(const AgentHome *h, const char *harness, const char *model, const char *session_id);

/* The files and directories of certificates to trust that this environment names, as far as a sandbox does not show them
 * anyway; *ret may be NULL. What is not there is left out. */
int cli_certificates_find(char *const *environment, const char *user_home, char ***ret);

/* Finds the CLI's program: $PUFFO_CLAUDE_BIN (…CODEX…, …GEMINI…, …HERMES…; $AGENT_PROXY_CODEX), given (a path, or
 * another name for it; NULL), path (a PATH; NULL: none), the places where its installers put it. Of Codex it is the
 * program itself, not the script that starts it. *ret_program: without links. *ret_roots: what must be bound read-only
 * so that it runs where homes, /run and temporary directories are empty, may be NULL. *ret_path: the PATH to give to
 * it. -ENOENT; -EINVAL: unknown harness. */
int cli_program_find(const char *harness, const char *given, const char *path, const char *user_home,
                     char **ret_program, char ***ret_roots, char **ret_path);
