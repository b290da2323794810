/* SPDX-License-Identifier: MIT */
#pragma once

#include "api-key.h"
#include "scope.h"

/* What can be set (agent-proxy §13): the environment and the credential win over ~/.agent_proxy/.state/config.yaml,
 * which is read in user mode only. */
typedef struct GatewaySettings {
        ApiKeys keys;
        uint64_t sync_timeout_usec;     /* a request that waits for the whole answer */
        bool interrupt_on_disconnect;
        bool strict_tools;
        bool buffer_until_item_done;
        char **host_names;              /* allowed in Host besides addresses and localhost */
} GatewaySettings;

/* -EBADMSG with *reterr (malloc'ed, names file, line and key), -EACCES and the like when a configured key cannot be
 * read: then nothing may be served. The key is wiped from the environment. */
int gateway_settings_load(GatewaySettings **ret, Scope scope, char **reterr);
GatewaySettings* gateway_settings_free(GatewaySettings *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(GatewaySettings*, gateway_settings_free);

/* Applies the text of a config.yaml; with_key: api_key: counts. -EBADMSG with *reterr. */
int gateway_settings_parse(GatewaySettings *s, const char *name, const char *text, size_t size, bool with_key,
                           char **reterr);
int gateway_settings_new(GatewaySettings **ret);        /* all defaults */
