/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"
#include "yaml-util.h"

/* What agent-proxy's config.yaml says of Codex (agent-proxy §13), for role agents. puffod reads it, sessions get it
 * with their credential. */
typedef struct CodexSettings {
        char *program, *model, *model_provider, *sandbox;       /* NULL when not set */
        char *url;                      /* ip, port: where agent-proxy's HTTP is; NULL: where it is by default */
        bool exec;                      /* driver: exec */
        bool network;                   /* network_access */
        char **config;                  /* codex_config: "key=value", for -c */
} CodexSettings;

void codex_settings_done(CodexSettings *s);

/* -EBADMSG with *reterr = "<path>:<line>: <key>: <problem>". */
int codex_settings_load(CodexSettings *ret, const char *path, const YamlNode *root, char **reterr);
/* *ret NULL: there is nothing that is not the default. */
int codex_settings_to_json(const CodexSettings *s, json_object **ret);
/* o may be NULL; what makes no sense counts as not set. */
int codex_settings_from_json(CodexSettings *ret, json_object *o);
