/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "config-field.h"
#include "daemon-config.h"
#include "string-util.h"

static const char *const default_providers[] = { "anthropic", "openai", "google", "echo", NULL };

static const char *const provider_names[_PROVIDER_MAX] = {
        [PROVIDER_ANTHROPIC] = "anthropic",
        [PROVIDER_OPENAI] = "openai",
        [PROVIDER_GOOGLE] = "google",
};

static const char *const verify_modes[] = { "warn", "enforce", NULL };

#define STRING(member, section, key, ...) CONFIG_FIELD(DaemonConfig, member, section, key, CONFIG_STRING, __VA_ARGS__)
#define UINT(member, section, key, ...) CONFIG_FIELD(DaemonConfig, member, section, key, CONFIG_UINT, __VA_ARGS__)
#define PROVIDER(index, name) \
        STRING(providers[index].api_key, name, "api_key", .flags = CONFIG_SECRET), \
        STRING(providers[index].model, name, "model"), \
        STRING(providers[index].base_url, name, "base_url", .flags = CONFIG_OURS, .check = config_check_url)

/* agent-home §§3, 3.1; within a block upstream's keys come first, in its order. */
static const ConfigField daemon_fields[] = {
        STRING(default_provider, NULL, "default_provider", .flags = CONFIG_NOT_EMPTY, .fallback = "anthropic",
               .choices = default_providers),
        STRING(skills_dir, NULL, "skills_dir"),
        CONFIG_FIELD(DaemonConfig, reconcile_interval_seconds, NULL, "reconcile_interval_seconds", CONFIG_NUMBER,
                     .fallback = "2.0"),
        CONFIG_FIELD(DaemonConfig, runtime_heartbeat_seconds, NULL, "runtime_heartbeat_seconds", CONFIG_NUMBER,
                     .fallback = "5.0"),
        STRING(docker_memory_limit, NULL, "docker_memory_limit", .fallback = "1.5g"),
        STRING(docker_memory_reservation, NULL, "docker_memory_reservation", .fallback = "500m"),

        PROVIDER(PROVIDER_ANTHROPIC, "anthropic"),
        PROVIDER(PROVIDER_OPENAI, "openai"),
        PROVIDER(PROVIDER_GOOGLE, "google"),

        CONFIG_FIELD(DaemonConfig, bridge_enabled, "bridge", "enabled", CONFIG_BOOL, .fallback = "true"),
        STRING(bridge_bind_host, "bridge", "bind_host", .flags = CONFIG_NOT_EMPTY, .fallback = "127.0.0.1"),
        UINT(bridge_port, "bridge", "port", .fallback = "63387", .minimum = 1, .maximum = 65535),
        CONFIG_FIELD(DaemonConfig, bridge_allowed_origins, "bridge", "allowed_origins", CONFIG_STRINGS,
                     .flags = CONFIG_NOT_EMPTY | CONFIG_ONE_OR_MORE,
                     .fallback = "https://chat.puffo.ai http://localhost:5173 http://127.0.0.1:5173"),

        CONFIG_FIELD(DaemonConfig, data_service_enabled, "data_service", "enabled", CONFIG_BOOL, .fallback = "true"),
        STRING(data_service_bind_host, "data_service", "bind_host", .flags = CONFIG_NOT_EMPTY,
               .fallback = "127.0.0.1"),
        UINT(data_service_port, "data_service", "port", .fallback = "63386", .minimum = 1, .maximum = 65535),

        STRING(wire_verify_certs, "wire", "verify_certs", .flags = CONFIG_OURS | CONFIG_NOT_EMPTY, .fallback = "warn",
               .choices = verify_modes),
        STRING(wire_ca_file, "wire", "ca_file", .flags = CONFIG_OURS),
        UINT(retention_days, "messages", "retention_days", .flags = CONFIG_OURS, .fallback = "90", .maximum = 36500),
        CONFIG_FIELD(DaemonConfig, turn_grace_usec, NULL, "turn_grace_seconds", CONFIG_SECONDS, .flags = CONFIG_OURS,
                     .fallback = "20"),
        UINT(dispatch_jitter_ms, NULL, "dispatch_jitter_ms", .flags = CONFIG_OURS, .fallback = "1500",
             .maximum = 3600000),
        UINT(max_parallel_starts, NULL, "max_parallel_starts", .flags = CONFIG_OURS, .fallback = "4", .minimum = 1,
             .maximum = 1000),
        CONFIG_LIMIT_FIELDS(DaemonConfig, "2G", "4G", "512", "100"),
};

int daemon_config_new(DaemonConfig **ret) {
        _cleanup_(daemon_config_freep) DaemonConfig *c = new0(DaemonConfig, 1);
        int r;

        if (!c)
                return -ENOMEM;

        r = config_set_defaults(daemon_fields, ELEMENTSOF(daemon_fields), c);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

DaemonConfig* daemon_config_free(DaemonConfig *c) {
        if (!c)
                return NULL;

        config_done(daemon_fields, ELEMENTSOF(daemon_fields), c);
        price_list_done(&c->prices);
        strv_free(c->warnings);
        yaml_document_free(c->document);
        return mfree(c);
}

int daemon_config_load(DaemonConfig **ret, const char *path, char **reterr) {
        _cleanup_(daemon_config_freep) DaemonConfig *c = NULL;
        int r;

        r = daemon_config_new(&c);
        if (r < 0)
                return r;

        r = config_read(path, &c->document, reterr);
        if (r >= 0)
                r = config_load(daemon_fields, ELEMENTSOF(daemon_fields), c, path, yaml_document_root(c->document),
                                reterr);
        if (r >= 0)
                r = price_list_load(&c->prices, path, yaml_document_root(c->document), reterr);
        if (r < 0 && r != -ENOENT)
                return r;
        if (*c->skills_dir) {
                r = strv_extend(&c->warnings, "daemon.yml: skills_dir: nothing reads it");
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(c);
        return 0;
}

static int daemon_config_store(DaemonConfig *c) {
        _cleanup_(daemon_config_freep) DaemonConfig *defaults = NULL;
        int r;

        r = daemon_config_new(&defaults);
        if (r < 0)
                return r;
        if (!c->document) {
                r = yaml_document_new(&c->document);
                if (r < 0)
                        return r;
        }
        return config_save(daemon_fields, ELEMENTSOF(daemon_fields), c, defaults, yaml_document_root(c->document));
}

int daemon_config_check(DaemonConfig *c, char **reterr) {
        _cleanup_(daemon_config_freep) DaemonConfig *again = NULL;
        int r;

        r = daemon_config_new(&again);
        if (r >= 0)
                r = daemon_config_store(c);
        if (r >= 0)
                r = config_reread(c->document, &again->document, reterr);
        if (r >= 0) {
                r = config_load(daemon_fields, ELEMENTSOF(daemon_fields), again, "daemon.yml",
                                yaml_document_root(again->document), reterr);
                if (r == -EBADMSG)
                        config_error_without_place(*reterr);
        }
        return r == -EBADMSG ? -EINVAL : r;
}

int daemon_config_save(DaemonConfig *c, const char *path) {
        int r = daemon_config_store(c);

        return r < 0 ? r : config_write(path, c->document);
}

ProviderConfig* daemon_config_provider(const DaemonConfig *c, const char *name) {
        for (size_t i = 0; i < _PROVIDER_MAX; i++)
                if (streq(name, provider_names[i]))
                        return (ProviderConfig*) c->providers + i;
        return NULL;
}

void resolved_model_done(ResolvedModel *m) {
        if (m->api_key)
                sodium_memzero(m->api_key, strlen(m->api_key));
        free(m->provider);
        free(m->api_key);
        free(m->model);
        free(m->base_url);
        *m = (ResolvedModel) {};
}

static char* copy_first(const char *own, const char *inherited) {
        return strdup(*own ? own : strempty(inherited));
}

int resolve_model(const DaemonConfig *d, const AgentConfig *a, ResolvedModel *ret) {
        const char *own = agent_config_provider(a), *provider = *own ? own : d->default_provider;
        const ProviderConfig *p = daemon_config_provider(d, provider);
        _cleanup_(resolved_model_done) ResolvedModel m = {
                .provider = strdup(provider),
                .api_key = copy_first(a->api_key, p ? p->api_key : NULL),
                .model = copy_first(a->model, p ? p->model : NULL),
                .base_url = copy_first(a->llm_base_url, p ? p->base_url : NULL),
        };

        if (!m.provider || !m.api_key || !m.model || !m.base_url)
                return -ENOMEM;

        *ret = m;
        m = (ResolvedModel) {};
        return 0;
}

Limits resolve_limits(const DaemonConfig *d, const AgentConfig *a) {
        Limits l = a->limits;

        if (l.memory_high == UINT64_MAX)
                l.memory_high = d->limits.memory_high;
        if (l.memory_max == UINT64_MAX)
                l.memory_max = d->limits.memory_max;
        if (l.tasks_max == UINT64_MAX)
                l.tasks_max = d->limits.tasks_max;
        if (l.cpu_weight == UINT64_MAX)
                l.cpu_weight = d->limits.cpu_weight;
        if (l.cpu_quota_usec_per_sec == UINT64_MAX)
                l.cpu_quota_usec_per_sec = d->limits.cpu_quota_usec_per_sec;
        return l;
}
