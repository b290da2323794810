/* SPDX-License-Identifier: MIT */

/* The login that an agent's CLI works with: what there is of it, and having it refreshed. */

#include "agent-login-bus.h"
#include "agent-turn-bus.h"
#include "bus-util.h"
#include "cli-login.h"
#include "credential-refresh.h"
#include "string-util.h"

static int check_kind(const Agent *a, sd_bus_error *reterr_error) {
        if (a->manager->scope == SCOPE_SYSTEM)
                return sd_bus_error_set(reterr_error, SD_BUS_ERROR_NOT_SUPPORTED,
                                        "In system mode there is no operator whose login an agent could work with.");
        if (!a->config || a->config->kind != RUNTIME_CLI_LOCAL || !cli_login_is_for(a->config))
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                      "Agent '%s' does not work with its operator's login: only kind cli-local with "
                                      "the harness claude-code, or hermes with Anthropic, does.", a->home->id);
        return 0;
}

static int append_file(sd_bus_message *m, const CliLoginFile *f) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}", "File", "s", f->path, "Problem", "s",
                                          strempty(f->problem), "ModifiedAt", "t", f->modified_usec, "ExpiresAt", "t",
                                          f->expires_usec, "AccessToken", "b", (int) f->has_access_token,
                                          "RefreshToken", "b", (int) f->has_refresh_token);
        if (r >= 0)
                r = bus_append_strings(m, 'e', "Scopes", f->scopes);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int agent_method_get_login(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(cli_login_file_done) CliLoginFile theirs = {}, view = {};
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        const char *home = getenv("HOME");
        Agent *a = userdata;
        int r;

        r = agent_verify(a, message, "ai.puffo.agents.manage", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = check_kind(a, reterr_error);
        if (r >= 0)
                r = home ? cli_login_look_operator(home, &theirs) : -ENXIO;
        if (r >= 0)
                r = cli_login_look_agent(a->home, &view);
        /* Whether its session has removed the view yet or not. */
        if (r >= 0 && (!isempty(a->config->api_key) || !isempty(a->config->llm_base_url)))
                r = free_and_strdup(&view.problem, CLI_LOGIN_HAS_KEY);
        if (r >= 0)
                r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = append_file(reply, &theirs);
        if (r >= 0)
                r = append_file(reply, &view);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

int agent_method_refresh_login(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        int r;

        r = agent_verify(a, message, "ai.puffo.agents.manage", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = check_kind(a, reterr_error);
        return r < 0 ? r : credential_refresh_ask(a->manager, "anthropic", message, reterr_error);
}
