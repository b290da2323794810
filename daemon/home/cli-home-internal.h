/* SPDX-License-Identifier: MIT */
#pragma once

#include <sodium.h>

#include "cli-file.h"
#include "cli-home.h"
#include "string-util.h"

/* What the files of cli-home share while one home is made. */

#define HASH_HEX_SIZE (crypto_generichash_BYTES * 2 + 1)

typedef struct CliWork {
        const CliHomeSpec *spec;
        int root_fd, workspace_fd;      /* the agent's directory, its workspace */
        json_object *state;             /* what was copied from the operator, and from where; in no sandbox's view */
        bool state_changed;
        StrBuf notice;
        crypto_generichash_state hash;
} CliWork;

/* A line for the operator. */
int cli_work_notice(CliWork *w, const char *format, ...) _printf_(2, 3);
/* Text that a running CLI does not notice by itself; NULL counts as such, too. */
void cli_work_hash(CliWork *w, const char *text);
/* An object in the state by its name, made when it is not there. Borrowed. */
int cli_work_state(CliWork *w, const char *key, json_object **ret);

/* ---- cli-certificates.c ---- */

/* A sandbox shows everything but these. */
bool cli_path_is_hidden(const char *path, const char *user_home);

/* ---- cli-mcp.c ---- */

/* What the operator's own CLI has in "mcpServers" of a file in his home, as an object; without such a file an empty
 * one. */
int cli_mcp_of_operator(CliWork *w, const char *path, json_object **ret);
/* Brings them into an agent's file, and takes out those that came in this way and are his no more. key: where the
 * state remembers which. > 0: config has changed. */
int cli_mcp_merge(CliWork *w, const char *key, json_object *config, json_object *servers);
/* The server of the agent's own tools; *ret NULL: it has none. */
int cli_mcp_puffo(const CliWork *w, bool gemini, json_object **ret);
/* {"mcpServers": …} of the operator's, the agent's (.mcp.json) and puffo. */
int cli_mcp_collect(CliWork *w, json_object *operators, json_object **ret);
/* mcp-config.json, from the operator's, the agent's (.mcp.json) and puffo. */
int cli_mcp_write_config(CliWork *w, json_object *operators);

/* ---- cli-skills.c ---- */

/* Brings ~/<source> of the operator's into <directory> below root_fd (agent-runtime §10.3). How many were copied. */
int cli_skills_sync(CliWork *w, const char *source, int root_fd, const char *directory);
/* Hashes what is there. */
int cli_skills_hash(CliWork *w, int root_fd, const char *directory);

/* ---- cli-hermes.c ---- */

/* Hermes' settings, with the servers that it starts. Negative errno. */
int cli_hermes_prepare(CliWork *w);

/* ---- cli-codex.c ---- */

/* .codex with what has to be there, and in ret->codex_config what its config.toml is to be. Negative errno. */
int cli_codex_prepare(CliWork *w, CliHome *ret);

/* ---- cli-paths.c ---- */

/* Fills read_write and read_only. -EXDEV: the workspace would show the agent's keys. */
int cli_paths_collect(CliWork *w, CliHome *ret);
