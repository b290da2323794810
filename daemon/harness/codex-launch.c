/* SPDX-License-Identifier: MIT */

#include "codex.h"

#define THREAD_ID_MAX 64U
/* The variable with the token of the model's endpoint: it has a name that is kept from tools by itself. */
#define TOKEN_VARIABLE "PUFFO_MODEL_TOKEN"

static const struct { const char *mode, *policy, *sandbox; bool accepts_edits; } modes[] = {
        { "default", "untrusted", NULL, false },
        { "acceptEdits", "untrusted", NULL, true },
        { "plan", "never", "read-only", false },
        { "dontAsk", "never", NULL, false },
        { "bypassPermissions", "never", NULL, false },
};

static const char *const settings[] = {
        "check_for_update_on_startup=false",
        "analytics.enabled=false",
        /* Else it looks for secrets by their names no more. */
        "shell_environment_policy.ignore_default_excludes=false",
};

int codex_permission(const char *mode, const char **ret_policy, const char **ret_sandbox, bool *ret_accepts_edits) {
        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                if (!streq(isempty(mode) ? "default" : mode, modes[i].mode))
                        continue;
                *ret_policy = modes[i].policy;
                *ret_sandbox = modes[i].sandbox;
                *ret_accepts_edits = modes[i].accepts_edits;
                return 0;
        }
        return -EINVAL;
}

bool codex_thread_id_is_valid(const char *id) {
        size_t n = id ? strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-") : 0;

        return n > 0 && n <= THREAD_ID_MAX && id[n] == 0 && *id != '-';
}

/* -c key=value; the value is TOML. */
static int launch_config(HarnessLaunch *l, const char *key, const char *value) {
        _cleanup_free_ char *s = strjoin(key, "=", value);
        int r = s ? launch_add(l, "-c") : -ENOMEM;

        return r < 0 ? r : launch_add(l, s);
}

static int launch_config_string(HarnessLaunch *l, const char *key, const char *value) {
        _cleanup_free_ char *quoted = toml_quote(value);

        return quoted ? launch_config(l, key, quoted) : -ENOMEM;
}

static int launch_config_roots(HarnessLaunch *l, char *const *roots) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = strbuf_puts(&b, "[");

        for (size_t i = 0; i < strv_length(roots) && r >= 0; i++) {
                _cleanup_free_ char *quoted = toml_quote(roots[i]);

                r = quoted ? strbuf_printf(&b, "%s%s", i > 0 ? "," : "", quoted) : -ENOMEM;
        }
        if (r >= 0)
                r = strbuf_puts(&b, "]");
        return r < 0 ? r : launch_config(l, "sandbox_workspace_write.writable_roots", b.text);
}

static int launch_endpoint(HarnessLaunch *l, const HarnessSetup *s) {
        static const struct { const char *key, *value; } provider[] = {
                { "model_providers.puffo.name", "\"Puffo\"" },
                { "model_providers.puffo.base_url", "\"http://127.0.0.1:{model_port}/v1\"" },
                { "model_providers.puffo.wire_api", "\"responses\"" },
                { "model_providers.puffo.env_key", "\"" TOKEN_VARIABLE "\"" },
                /* Whoever asked tries again, after longer pauses than these. */
                { "model_providers.puffo.request_max_retries", "2" },
                { "model_providers.puffo.stream_max_retries", "2" },
                { "model_provider", "\"puffo\"" },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(provider) && r >= 0; i++) {
                r = launch_config(l, provider[i].key, provider[i].value);
                if (strchr(provider[i].value, '{'))
                        l->port_argument = strv_length(l->argv) - 1;
        }
        return r < 0 ? r : launch_set(l, TOKEN_VARIABLE, s->model_token);
}

static int launch_common(const HarnessSetup *s, HarnessLaunch *l) {
        _cleanup_free_ char *home = strjoin(s->home, "/.codex"), *model = launch_model(s->model);
        int r;

        if (!home || !model)
                return -ENOMEM;
        r = launch_set(l, "CODEX_HOME", home);
        for (size_t i = 0; i < ELEMENTSOF(settings) && r >= 0; i++) {
                r = launch_add(l, "-c");
                if (r >= 0)
                        r = launch_add(l, settings[i]);
        }
        if (r >= 0)
                r = launch_config(l, "sandbox_workspace_write.network_access", s->codex_network ? "true" : "false");
        if (r >= 0 && strv_length(s->extra_dirs) > 0)
                r = launch_config_roots(l, s->extra_dirs);
        if (r >= 0 && *model)
                r = launch_config_string(l, "model", model);
        if (r >= 0 && !isempty(s->model_token))
                r = launch_endpoint(l, s);
        else if (r >= 0 && !isempty(s->codex_provider))
                r = launch_config_string(l, "model_provider", s->codex_provider);
        for (size_t i = 0; i < strv_length(s->codex_config) && r >= 0; i++) {
                r = strchr(s->codex_config[i], '=') ? launch_add(l, "-c") : -EINVAL;
                if (r >= 0)
                        r = launch_add(l, s->codex_config[i]);
        }
        return r;
}

int codex_launch(const HarnessSetup *s, HarnessLaunch *l) {
        const char *policy, *sandbox;
        bool accepts;
        int r;

        /* Told over its pipes; but a mode that it has not is to be refused before it runs. */
        r = codex_permission(s->permission_mode, &policy, &sandbox, &accepts);
        if (r >= 0)
                r = launch_common(s, l);
        return r < 0 ? r : launch_add(l, "app-server");
}

/* It takes several images for one argument, separated by commas: such a path has another name by now. */
static int launch_options(HarnessLaunch *l, const HarnessOptions *o) {
        int r = 0;

        if (!isempty(o->output_schema))
                r = launch_add_value(l, "--output-schema", o->output_schema);
        for (char *const *image = o->images; image && *image && r >= 0; image++)
                r = strchr(*image, ',') ? -EINVAL : launch_add_value(l, "--image", *image);
        return r;
}

int codex_exec_launch(const HarnessSetup *s, HarnessLaunch *l) {
        const char *policy, *sandbox;
        bool accepts;
        int r;

        r = codex_permission(s->permission_mode, &policy, &sandbox, &accepts);
        /* It never asks: what would need an answer is not to be done. */
        if (r >= 0 && !streq(policy, "never"))
                sandbox = "read-only";
        if (r >= 0)
                r = launch_common(s, l);
        if (r >= 0)
                r = launch_config_string(l, "sandbox_mode", sandbox ?: s->codex_sandbox ?: "workspace-write");
        if (r >= 0 && !isempty(s->system_prompt))
                r = launch_config_string(l, "developer_instructions", s->system_prompt);
        if (r >= 0 && s->options && !isempty(s->options->effort))
                r = launch_config_string(l, "model_reasoning_effort", s->options->effort);
        if (r >= 0)
                r = launch_add(l, "exec");
        if (r >= 0 && codex_thread_id_is_valid(s->session_id)) {
                r = launch_add(l, "resume");
                if (r >= 0)
                        r = launch_add(l, s->session_id);
        }
        if (r >= 0 && s->options)
                r = launch_options(l, s->options);
        if (r >= 0)
                r = launch_add(l, "--json");
        if (r >= 0)
                r = launch_add(l, "--skip-git-repo-check");
        return r < 0 ? r : launch_add(l, "-");
}
