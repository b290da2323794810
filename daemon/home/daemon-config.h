/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-config.h"

/* daemon.yml (agent-home §§3, 3.1). */
typedef struct ProviderConfig {
        char *api_key, *model, *base_url;       /* "" when not set */
} ProviderConfig;

typedef enum ConfiguredProvider {
        PROVIDER_ANTHROPIC,
        PROVIDER_OPENAI,
        PROVIDER_GOOGLE,
        _PROVIDER_MAX,
} ConfiguredProvider;

typedef struct DaemonConfig {
        char *default_provider;         /* anthropic, openai, google or echo */
        char *skills_dir, *docker_memory_limit, *docker_memory_reservation;
        double reconcile_interval_seconds, runtime_heartbeat_seconds;   /* kept, drive nothing */
        ProviderConfig providers[_PROVIDER_MAX];
        bool bridge_enabled, data_service_enabled;
        char *bridge_bind_host, *data_service_bind_host;
        uint64_t bridge_port, data_service_port;
        char **bridge_allowed_origins;
        char *wire_verify_certs, *wire_ca_file;
        uint64_t retention_days, dispatch_jitter_ms, max_parallel_starts;
        uint64_t turn_grace_usec;
        PriceList prices;               /* as AgentConfig's */
        Limits limits;                  /* always given: defaults of §3.1 filled in */

        char **warnings;
        YamlDocument *document;
} DaemonConfig;

int daemon_config_new(DaemonConfig **ret);      /* all defaults */
DaemonConfig* daemon_config_free(DaemonConfig *c);      /* wipes the keys */
DEFINE_TRIVIAL_CLEANUP_FUNC(DaemonConfig*, daemon_config_free);

/* A missing file gives the defaults. Errors as agent_config_load(). */
int daemon_config_load(DaemonConfig **ret, const char *path, char **reterr);
/* As agent_config_check() and agent_config_save(). */
int daemon_config_check(DaemonConfig *c, char **reterr);
int daemon_config_save(DaemonConfig *c, const char *path);

/* The provider's block by name ("anthropic", …), or NULL ("echo" and unknown names have none). */
ProviderConfig* daemon_config_provider(const DaemonConfig *c, const char *name);

/* What the agent's model calls use, its own or its CLI's (agent-runtime §5.5): provider, key, model, base URL, each
 * from the agent, else the daemon, else "". The strings are copies. -ENOMEM. */
typedef struct ResolvedModel {
        char *provider, *api_key, *model, *base_url;
} ResolvedModel;
void resolved_model_done(ResolvedModel *m);     /* wipes the key */
int resolve_model(const DaemonConfig *d, const AgentConfig *a, ResolvedModel *ret);

/* The agent's limits with the daemon's filled in where it has none. */
Limits resolve_limits(const DaemonConfig *d, const AgentConfig *a);
