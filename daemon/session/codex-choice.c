/* SPDX-License-Identifier: MIT */

#include <pwd.h>
#include <unistd.h>

#include "cli-home.h"
#include "cli-login.h"
#include "codex-choice.h"
#include "string-util.h"

#define HARNESS "codex"
#define PROVIDER "openai"

int operator_home(char **ret) {
        const struct passwd *pw = getpwuid(getuid());

        *ret = NULL;
        if (!pw || pw->pw_uid < 1000 || pw->pw_uid >= 60000 || !pw->pw_dir)
                return 0;
        *ret = strdup(pw->pw_dir);
        return *ret ? 0 : -ENOMEM;
}

static int set_secret(char **p, const char *value) {
        char *copy = strdup(value);

        if (!copy)
                return -ENOMEM;
        if (*p)
                explicit_bzero(*p, strlen(*p));
        free(*p);
        *p = copy;
        return 0;
}

/* > 0: its program is there. */
static int is_installed(const SessionConfig *c, const char *home) {
        _cleanup_(strv_freep) char **roots = NULL;
        _cleanup_free_ char *program = NULL, *path = NULL;
        int r;

        r = cli_program_find(HARNESS, c->codex.program, getenv("PATH"), home, &program, &roots, &path);
        return r == -ENOMEM ? r : r >= 0;
}

/* > 0: it can ask a model: with a login, a key, or a provider that is the operator's business. */
static int has_model(const SessionConfig *c, json_object *openai, const char *home) {
        const AgentConfig *a = c->agent;
        char *key = NULL;
        CliLogin login;
        int r;

        if (!isempty(a->api_key) || !isempty(a->llm_base_url) || c->codex.model_provider ||
            !isempty(json_get_string(openai, "api_key")) || !isempty(json_get_string(openai, "base_url")))
                return 1;
        r = codex_login_look(c->home, home, &login);
        if (r < 0 || login.state == CLI_LOGIN_VALID)
                return r < 0 ? (r == -ENOMEM ? r : 0) : 1;
        r = codex_login_key(home, &key);
        if (key)
                explicit_bzero(key, strlen(key));
        free(key);
        return r;
}

/* Of what the credential says the provider is perhaps another one. */
static int take_openai(SessionConfig *c, json_object *openai) {
        const AgentConfig *a = c->agent;
        const char *model = !isempty(a->model) ? a->model : json_get_string(openai, "model");
        int r;

        r = free_and_strdup(&c->provider, PROVIDER);
        if (r >= 0)
                r = free_and_strdup(&c->model, strempty(model));
        if (r >= 0)
                r = free_and_strdup(&c->base_url, !isempty(a->llm_base_url) ? a->llm_base_url :
                                                  strempty(json_get_string(openai, "base_url")));
        if (r >= 0)
                r = set_secret(&c->api_key, !isempty(a->api_key) ? a->api_key :
                                            strempty(json_get_string(openai, "api_key")));
        return r;
}

static int decide(SessionConfig *c, json_object *credential, const char *home) {
        json_object *openai = json_get(credential, PROVIDER);
        AgentConfig *a = c->agent;
        int r;

        /* With another provider there is no question. */
        if (!isempty(a->provider) && !streq(a->provider, PROVIDER))
                return 0;
        r = is_installed(c, home);
        if (r == 0) {
                c->lacking = strdup("Codex is not installed, or not where the service manager looks (PATH, setting "
                                    "'codex')");
                return c->lacking ? 0 : -ENOMEM;
        }
        if (r > 0)
                r = has_model(c, openai, home);
        if (r == 0) {
                c->lacking = strdup("Codex is not logged in (codex login, or a key: puffoctl provider set openai "
                                    "--api-key)");
                return c->lacking ? 0 : -ENOMEM;
        }
        if (r < 0)
                return r;
        r = free_and_strdup(&a->harness, HARNESS);
        if (r < 0)
                return r;
        a->kind = RUNTIME_CLI_LOCAL;
        a->kind_given = true;
        return take_openai(c, openai);
}

int codex_choose(SessionConfig *c, json_object *credential) {
        _cleanup_free_ char *home = NULL;
        AgentConfig *a = c->agent;
        char *key = NULL;
        int r;

        r = operator_home(&home);
        if (r >= 0 && c->home->role && !a->kind_given)
                r = decide(c, credential, home);
        if (r < 0 || a->kind != RUNTIME_CLI_LOCAL || !a->kind_given || !streq(agent_config_harness(a), HARNESS))
                return r;

        if (isempty(a->model) && c->codex.model)
                r = free_and_strdup(&c->model, c->codex.model);
        /* A key that Codex has been logged in with is used, but not shown to it. */
        if (r >= 0 && isempty(c->api_key) && isempty(c->base_url)) {
                r = codex_login_key(home, &key);
                if (r > 0)
                        r = set_secret(&c->api_key, key);
                if (key)
                        explicit_bzero(key, strlen(key));
                free(key);
        }
        if (r >= 0 && isempty(c->provider))
                r = free_and_strdup(&c->provider, PROVIDER);
        return MIN(r, 0);
}
