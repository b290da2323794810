/* SPDX-License-Identifier: MIT */

#include "bus-util.h"
#include "option.h"
#include "string-util.h"

static const RuntimeOption runtime_table[] = {
        {"RuntimeKind", 's'}, {"Provider", 's'},       {"Model", 's'},          {"ApiKey", 's'},
        {"BaseUrl", 's'},     {"Harness", 's'},        {"DockerImage", 's'},    {"PermissionMode", 's'},
        {"AllowedTools", 'a'}, {"ExtraDirs", 'a'},     {"SandboxProfile", 's'}, {"MaxTurns", 'u'},
        {"MaxTokens", 'u'},   {},
};

void runtime_options_done(RuntimeOptions *o) {
        for (size_t i = 0; i < o->n; i++)
                strv_free(o->values[i].strings);
        o->n = 0;
}

static const RuntimeOption* find_option(const RuntimeOption *table, const char *name) {
        for (; table && table->name; table++)
                if (streq(table->name, name))
                        return table;
        return NULL;
}

static const RuntimeOptionValue* find_value(const RuntimeOptions *o, const char *name) {
        for (size_t i = 0; i < o->n; i++)
                if (streq(o->values[i].name, name))
                        return o->values + i;
        return NULL;
}

static int read_value(sd_bus_message *m, const RuntimeOption *option, RuntimeOptionValue *ret) {
        uint32_t u;
        int b, r;

        switch (option->type) {

        case 's':
                return sd_bus_message_read(m, "v", "s", &ret->string);

        case 't':
                return sd_bus_message_read(m, "v", "t", &ret->number);

        case 'u':
                r = sd_bus_message_read(m, "v", "u", &u);
                ret->number = r < 0 ? 0 : u;
                return r;

        case 'b':
                r = sd_bus_message_read(m, "v", "b", &b);
                ret->number = r < 0 ? 0 : (uint64_t) b;
                return r;

        default:
                r = sd_bus_message_enter_container(m, 'v', "as");
                if (r >= 0)
                        r = sd_bus_message_read_strv(m, &ret->strings);
                return r < 0 ? r : sd_bus_message_exit_container(m);
        }
}

static const char* type_name(char type) {
        return type == 's' ? "a string (s)" : type == 'b' ? "a boolean (b)" : type == 'u' ? "a number (u)"
             : type == 't' ? "a number (t)" : "a list of strings (as)";
}

int options_read(sd_bus_message *message, const RuntimeOption *table, const RuntimeOption *more, RuntimeOptions *ret,
                 sd_bus_error *reterr_error) {
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                const RuntimeOption *option;
                const char *name;

                r = sd_bus_message_read(message, "s", &name);
                if (r < 0)
                        return r;
                option = find_option(table, name) ?: find_option(more, name);
                if (!option)
                        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "Unknown option '%.80s'.",
                                              name);
                if (find_value(ret, name) || ret->n >= OPTIONS_MAX)
                        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                              "Option '%s' is given twice.", name);

                ret->values[ret->n] = (RuntimeOptionValue) { .name = option->name };
                r = read_value(message, option, &ret->values[ret->n]);
                ret->n++;
                if (r < 0)
                        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "Option '%s' takes %s.",
                                              name, type_name(option->type));
                r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

int runtime_options_read(sd_bus_message *message, const RuntimeOption *more, RuntimeOptions *ret,
                         sd_bus_error *reterr_error) {
        return options_read(message, runtime_table, more, ret, reterr_error);
}

const char* runtime_options_string(const RuntimeOptions *o, const char *name) {
        const RuntimeOptionValue *v = find_value(o, name);

        return v ? v->string : NULL;
}

uint64_t runtime_options_number(const RuntimeOptions *o, const char *name, uint64_t fallback) {
        const RuntimeOptionValue *v = find_value(o, name);

        return v ? v->number : fallback;
}

bool runtime_options_bool(const RuntimeOptions *o, const char *name, bool fallback) {
        return runtime_options_number(o, name, fallback);
}

static int take_strings(const RuntimeOptions *o, const char *name, char ***target) {
        const RuntimeOptionValue *v = find_value(o, name);
        char **copy = NULL;

        if (!v)
                return 0;
        for (char **s = v->strings; s && *s; s++)
                if (strv_extend(&copy, *s) < 0) {
                        strv_free(copy);
                        return -ENOMEM;
                }
        strv_free(*target);
        *target = copy;
        return 0;
}

static int take_enums(const RuntimeOptions *o, AgentConfig *c, sd_bus_error *reterr_error) {
        const char *kind = runtime_options_string(o, "RuntimeKind"),
                   *sandbox = runtime_options_string(o, "SandboxProfile");

        if (kind) {
                RuntimeKind k = runtime_kind_from_string(kind);

                if (k < 0)
                        return bus_error_setf(
                                        reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                        "'%.80s' is no runtime kind: chat-local, cli-docker, cli-local or sdk-local.",
                                        kind);
                c->kind = k;
                c->kind_given = true;
        }
        if (sandbox) {
                SandboxProfile p = sandbox_profile_from_string(sandbox);

                if (p < 0)
                        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                              "'%.80s' is no sandbox profile: host, workspace or strict.", sandbox);
                c->sandbox = p;
                c->sandbox_given = true;
        }
        return 0;
}

int runtime_options_apply(const RuntimeOptions *o, AgentConfig *c, sd_bus_error *reterr_error) {
        const struct {
                const char *name;
                char **target;
        } strings[] = {
                {"Provider", &c->provider},
                {"Model", &c->model},
                {"ApiKey", &c->api_key},
                {"BaseUrl", &c->llm_base_url},
                {"Harness", &c->harness},
                {"DockerImage", &c->docker_image},
                {"PermissionMode", &c->permission_mode},
        };
        int r;

        r = take_enums(o, c, reterr_error);
        for (size_t i = 0; i < ELEMENTSOF(strings) && r >= 0; i++)
                if (runtime_options_string(o, strings[i].name))
                        r = free_and_strdup(strings[i].target, runtime_options_string(o, strings[i].name));
        if (r >= 0)
                r = take_strings(o, "AllowedTools", &c->allowed_tools);
        if (r >= 0)
                r = take_strings(o, "ExtraDirs", &c->extra_dirs);
        if (r < 0)
                return r;

        c->max_turns = runtime_options_number(o, "MaxTurns", c->max_turns);
        c->max_tokens = runtime_options_number(o, "MaxTokens", c->max_tokens);
        if (c->max_turns < 1 || c->max_tokens < 1)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                        "MaxTurns and MaxTokens are at least 1.");
        return 0;
}
