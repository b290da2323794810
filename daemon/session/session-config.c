/* SPDX-License-Identifier: MIT */

#include <fcntl.h>

#include "codex-choice.h"
#include "file-util.h"
#include "json-util.h"
#include "session-config.h"
#include "string-util.h"

#define CREDENTIAL_NAME "session"
#define CREDENTIAL_SIZE_MAX KIB(64)
#define TURN_GRACE_DEFAULT_USEC (20 * USEC_PER_SEC)
#define QUEUE_LIMIT_DEFAULT 32
#define RETENTION_DEFAULT_DAYS 90
#define JITTER_DEFAULT_USEC (1500 * USEC_PER_MSEC)

static char* secret_free(char *s) {
        if (s)
                explicit_bzero(s, strlen(s));
        return mfree(s);
}

SessionConfig* session_config_free(SessionConfig *c) {
        if (!c)
                return NULL;

        (void) agent_home_free(c->home);
        (void) agent_config_free(c->agent);
        (void) secret_free(c->api_key);
        free(c->provider);
        free(c->model);
        free(c->base_url);
        price_list_done(&c->prices);
        free(c->verify_certs);
        free(c->ca_file);
        codex_settings_done(&c->codex);
        free(c->lacking);
        free(c->fault);
        free(c->ignored);
        return mfree(c);
}

static int fault(SessionConfig *c, const char *text) {
        c->fault = strdup(text);
        return c->fault ? 0 : -ENOMEM;
}

/* The credential's value when it has one, else agent.yml's. */
static int value_take(char **ret, json_object *credential, const char *key, const char *fallback) {
        const char *v = json_get_string(credential, key);

        *ret = strdup(isempty(v) ? strempty(fallback) : v);
        return *ret ? 0 : -ENOMEM;
}

static uint64_t usec_take(json_object *credential, const char *key, uint64_t fallback) {
        int64_t v = json_get_int(credential, key, -1);

        return v < 0 ? fallback : (uint64_t) v;
}

/* The object that puffod serves; NULL without one, when somebody runs the session by hand. */
static int credential_read(json_object **ret) {
        const char *directory = getenv("CREDENTIALS_DIRECTORY");
        _cleanup_free_ char *path = NULL;
        char *text = NULL;
        size_t size;
        int r;

        *ret = NULL;
        if (isempty(directory))
                return 0;
        path = path_join(directory, CREDENTIAL_NAME);
        if (!path)
                return -ENOMEM;
        r = file_read(path, CREDENTIAL_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0)
                return r;
        r = json_parse(text, size, ret);
        explicit_bzero(text, size);
        free(text);
        return r;
}

static void credential_wipe(json_object *credential) {
        const char *keys[] = {
                json_get_string(credential, "api_key"), json_get_string(json_get(credential, "openai"), "api_key"),
        };

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (keys[i])
                        explicit_bzero((char*) keys[i], strlen(keys[i]));
}

static int credential_apply(SessionConfig *c) {
        _cleanup_json_ json_object *o = NULL;
        const AgentConfig *a = c->agent;
        int64_t days;
        int r;

        r = credential_read(&o);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return fault(c, "The credential 'session' cannot be read; restart the agent.");

        r = value_take(&c->provider, o, "provider", a->provider);
        if (r >= 0)
                r = value_take(&c->model, o, "model", a->model);
        if (r >= 0)
                r = value_take(&c->base_url, o, "base_url", a->llm_base_url);
        if (r >= 0)
                r = value_take(&c->api_key, o, "api_key", a->api_key);
        if (r >= 0)
                r = value_take(&c->verify_certs, o, "verify_certs", NULL);
        if (r >= 0)
                r = value_take(&c->ca_file, o, "ca_file", NULL);
        if (r >= 0)
                r = price_list_extend(&c->prices, &a->prices);
        if (r >= 0)
                r = price_list_add_json(&c->prices, json_get(o, "pricing"));
        if (r >= 0)
                r = codex_settings_from_json(&c->codex, json_get(o, "codex"));
        if (r >= 0)
                r = codex_choose(c, o);
        c->turn_grace_usec = usec_take(o, "turn_grace_usec", TURN_GRACE_DEFAULT_USEC);
        c->task_timeout_usec = a->task_timeout_given ? a->task_timeout_usec :
                                                       usec_take(o, "task_timeout_usec", a->task_timeout_usec);
        c->queue_limit = (size_t) MAX(json_get_int(o, "queue_limit", QUEUE_LIMIT_DEFAULT), (int64_t) 1);
        c->dispatch_jitter_usec = usec_take(o, "dispatch_jitter_usec", JITTER_DEFAULT_USEC);
        days = json_get_int(o, "retention_days", RETENTION_DEFAULT_DAYS);
        c->retention_usec = days <= 0 ? 0 : (uint64_t) MIN(days, (int64_t) 36500) * 86400 * USEC_PER_SEC;
        credential_wipe(o);
        return r;
}

/* The faults that no retry mends; each text says what to do. */
static int check(SessionConfig *c) {
        static const struct { const char *name; bool needs_key; } providers[] = {
                { "anthropic", true }, { "openai", true }, { "google", true }, { "echo", false },
        };
        const AgentConfig *a = c->agent;
        _cleanup_free_ char *provider = NULL;

        if ((a->kind == RUNTIME_SDK_LOCAL || a->kind == RUNTIME_CLI_LOCAL) && (a->kind_given || !c->home->role))
                return 0;
        if (a->kind != RUNTIME_CHAT_LOCAL && (a->kind_given || !c->home->role)) {
                c->fault = asprintf_new("runtime kind '%s' (harness '%s') is not available in this version",
                                        runtime_kind_to_string(a->kind), isempty(a->harness) ? "default" : a->harness);
                return c->fault ? 0 : -ENOMEM;
        }
        if (isempty(c->provider))
                return fault(c, "No model provider is set; set one: puffoctl provider set anthropic --api-key, "
                                "or use provider echo.");

        for (size_t i = 0; i < ELEMENTSOF(providers); i++) {
                if (!streq(providers[i].name, c->provider))
                        continue;
                /* A server of one's own may well want no key. */
                if (!providers[i].needs_key || !isempty(c->api_key) || !isempty(c->base_url))
                        return 0;
                c->fault = asprintf_new("No API key for provider '%s'; set one: puffoctl provider set %s --api-key, "
                                        "or use provider echo.", c->provider, c->provider);
                return c->fault ? 0 : -ENOMEM;
        }

        provider = str_printable(c->provider, 40);
        c->fault = asprintf_new("Provider '%s' is not known; use anthropic, openai, google or echo.",
                                strempty(provider));
        return c->fault ? 0 : -ENOMEM;
}

/* Without Codex, and without what would stand in for it: both are ways out. */
static int add_lacking(SessionConfig *c) {
        _cleanup_free_ char *before = NULL;

        if (!c->fault || !c->lacking)
                return 0;
        before = TAKE_PTR(c->fault);
        c->fault = strjoin(before, " Or use Codex: ", c->lacking, ".");
        return c->fault ? 0 : -ENOMEM;
}

/* An edit that does not hold leaves the last good configuration in force (agent-home §3.1). */
static int agent_take(SessionConfig *c, const char *id, const AgentConfig *last) {
        _cleanup_free_ char *error = NULL;
        int r;

        r = agent_config_load(&c->agent, c->home->config_path, id, &error);
        if (r >= 0 || r == -ENOMEM)
                return r;
        if (!error)
                error = asprintf_new("%s: %s", c->home->config_path, strerror(-r));
        if (!error)
                return -ENOMEM;

        if (last && agent_config_copy(&c->agent, last) >= 0)
                c->ignored = TAKE_PTR(error);
        else
                c->fault = TAKE_PTR(error);
        return 0;
}

int session_config_load(SessionConfig **ret, const char *id, const char *directory, const AgentConfig *last) {
        _cleanup_(session_config_freep) SessionConfig *c = new0(SessionConfig, 1);
        int r;

        if (!c)
                return -ENOMEM;
        c->turn_grace_usec = TURN_GRACE_DEFAULT_USEC;
        r = agent_home_new(id, directory, &c->home);
        if (r < 0)
                return r;

        r = agent_take(c, id, last);
        if (r < 0)
                return r;
        if (!c->agent) {
                *ret = TAKE_PTR(c);
                return 0;
        }

        r = agent_home_complete(c->home, c->agent);
        if (r >= 0)
                r = credential_apply(c);
        if (r >= 0 && !c->fault)
                r = check(c);
        if (r >= 0)
                r = add_lacking(c);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}
