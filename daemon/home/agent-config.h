/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"
#include "price.h"
#include "yaml-util.h"

/* agent.yml (agent-home §5.2) and the limits block it shares with daemon.yml (§3.1). */

typedef enum RuntimeKind {
        RUNTIME_CHAT_LOCAL,
        RUNTIME_SDK_LOCAL,
        RUNTIME_CLI_LOCAL,
        RUNTIME_CLI_DOCKER,
        _RUNTIME_KIND_MAX,
        _RUNTIME_KIND_INVALID = -EINVAL,
} RuntimeKind;

const char* runtime_kind_to_string(RuntimeKind k);
RuntimeKind runtime_kind_from_string(const char *s);    /* legacy names are not accepted here */

typedef enum SandboxProfile {
        SANDBOX_HOST,
        SANDBOX_WORKSPACE,
        SANDBOX_STRICT,
        _SANDBOX_PROFILE_MAX,
        _SANDBOX_PROFILE_INVALID = -EINVAL,
} SandboxProfile;

const char* sandbox_profile_to_string(SandboxProfile p);
SandboxProfile sandbox_profile_from_string(const char *s);

/* Properties of an agent's slice. Bytes and counts; UINT64_MAX: not given (in agent.yml: inherit). */
typedef struct Limits {
        uint64_t memory_high, memory_max, tasks_max, cpu_weight;
        uint64_t cpu_quota_usec_per_sec;        /* "150%" = 1500000; UINT64_MAX: none */
} Limits;

typedef struct AgentConfig {
        char *id;                       /* the directory's name; a different id: inside is only warned about */
        bool running;                   /* desired state: "running", else "paused" */
        char *display_name, *avatar_url;
        uint64_t created_at;            /* unix seconds */

        char *server_url, *slug, *device_id, *space_id, *operator_slug;         /* puffo_core */

        RuntimeKind kind;
        bool kind_given;                /* a role agent without runtime.kind: decided at each start */
        char *provider, *model, *api_key, *llm_base_url, *docker_image, *docker_memory_limit,
             *docker_memory_reservation, *permission_mode, *harness;    /* "" = inherit; harness: by provider */
        char **allowed_tools, **extra_dirs;
        uint64_t max_turns, max_tokens;
        bool task_timeout_given;
        uint64_t task_timeout_usec, permission_timeout_usec, freeze_after_usec, stop_after_usec;
        SandboxProfile sandbox;
        bool sandbox_given;

        char *profile, *memory_dir, *workspace_dir;     /* as written: absolute, or relative to the agent dir */
        bool on_mention, on_dm, on_all;
        Limits limits;
        uint64_t tokens_per_hour, cost_per_day_micro;   /* of model calls; UINT64_MAX: no limit. Never inherited */
        char **allow_hosts;             /* host-pattern.h: where the strict profile's proxy leads */
        PriceList prices;               /* read only; kept on save as it was written */

        char **warnings;                /* one text each, "agent.yml:7: …": old kinds, another id; NULL: none */
        YamlDocument *document;         /* what was read, for saving with unknown keys kept; NULL for a new one */
} AgentConfig;

/* All defaults, as for an empty file. To change a text: free_and_strdup(). -ENOMEM. */
int agent_config_new(AgentConfig **ret, const char *id);
AgentConfig* agent_config_free(AgentConfig *c);         /* wipes api_key */
DEFINE_TRIVIAL_CLEANUP_FUNC(AgentConfig*, agent_config_free);

/* Reads and validates a file, the runtime matrix included. -ENOENT; -EBADMSG with *reterr = "<path>:<line>: <key>:
 * <what is wrong, what is expected>" (malloc'ed). id: the directory's name. A null value counts as absent. */
int agent_config_load(AgentConfig **ret, const char *path, const char *id, char **reterr);

/* A second one of what was read from a file (-EINVAL for others). Warnings name other lines. */
int agent_config_copy(AgentConfig **ret, const AgentConfig *c);

/* Writes atomically, 0600: upstream's keys first and in its order, then ours where they differ from the default,
 * then unknown ones as they were read; comments are lost. runtime.kind and runtime.sandbox_profile only when they
 * are given. */
int agent_config_save(AgentConfig *c, const char *path);

/* The harness, an empty one resolved through agent-runtime §5.4 ("claude-code", "hermes", "gemini-cli"). */
const char* agent_config_harness(const AgentConfig *c);

/* The provider; an empty one is that of the CLI. "": the daemon's default. */
const char* agent_config_provider(const AgentConfig *c);

/* The (kind, provider, harness) matrix of agent-runtime §5.2, empty harness resolved through §5.4. 0, or -EINVAL with
 * *reterr = the reason in the words of local-bridge §9.5. */
int agent_config_check_runtime(const AgentConfig *c, char **reterr);
/* The same, and whether all of it can be read again once it is saved. */
int agent_config_check(AgentConfig *c, char **reterr);
