/* SPDX-License-Identifier: MIT */

#include "ctl-bus.h"
#include "ctl-secret.h"
#include "ctl-verbs.h"
#include "string-util.h"

const Option provider_options[] = {
        { "api-key", 0, "[-]", "its key: asked for, or read from a pipe" },
        { "model", 0, "MODEL", "the model ('': the built-in one)" },
        { "base-url", 0, "URL", "its address ('': the vendor's)" },
        {},
};

static const Column columns[] = {
        { "provider", "PROVIDER"}, {"default", "DEFAULT"},  {"key", "KEY" },
        { "model", "MODEL"},       {"base_url", "ADDRESS"}, { },
};

static int add_provider(Table *t, json_object *row, const char *standard) {
        const char *name = json_object_get_string(json_object_array_get_idx(row, 0));
        bool is_default = streq_ptr(name, standard), key = json_object_get_boolean(json_object_array_get_idx(row, 3));
        bool needs_key = !streq_ptr(name, "echo");
        int r;

        r = table_add_coloured(t, name, COLOUR_BOLD);
        if (r >= 0)
                r = table_add(t, json_object_new_boolean(is_default), is_default ? "yes" : "-", COLOUR_NONE);
        if (r >= 0)
                r = table_add(t, json_object_new_boolean(key),
                              key         ? "configured"
                              : needs_key ? "missing"
                                          : "not needed",
                              key ? COLOUR_GREEN : COLOUR_NONE);
        if (r >= 0)
                r = table_add_string(t, json_object_get_string(json_object_array_get_idx(row, 1)));
        if (r >= 0)
                r = table_add_string(t, json_object_get_string(json_object_array_get_idx(row, 2)));
        return r;
}

int verb_provider_list(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *manager = NULL;
        _cleanup_(table_freep) Table *t = NULL;
        json_object *providers;
        int r;

        r = ctl_get_properties(c, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, /* start= */ true, &error, &manager);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot list providers");
        providers = json_get(manager, "providers");
        r = table_new(&t, columns);
        for (size_t i = 0; r >= 0 && providers && i < json_object_array_length(providers); i++)
                r = add_provider(t, json_object_array_get_idx(providers, i),
                                 json_get_string(manager, "default_provider"));
        return r < 0 ? ctl_oom(c) : ctl_print_table(c, t);
}

int verb_provider_set(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *question = NULL;
        _cleanup_(secret_freep) char *key = NULL;
        const char *name = a->words[0];
        int r, status;

        if (a->n_given == 0 ||
            !(arguments_has(a, "api-key") || arguments_has(a, "model") || arguments_has(a, "base-url")))
                return ctl_refuse(c, "what is to be set? --api-key, --model or --base-url");
        question = asprintf_new("API key of %s", name);
        if (!question)
                return ctl_oom(c);
        status = secret_from_option(c, a, "api-key", question, &key);
        if (status != 0)
                return status;

        r = ctl_new_call(c, &m, &error, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, "SetProvider");
        if (r >= 0)
                r = sd_bus_message_sensitive(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", name);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = bus_append_string_option(m, "ApiKey", key);
        if (r >= 0)
                r = bus_append_string_option(m, "Model", arguments_value(a, "model"));
        if (r >= 0)
                r = bus_append_string_option(m, "BaseUrl", arguments_value(a, "base-url"));
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = ctl_send_call(c, m, CTL_CALL_TIMEOUT_USEC, &error, NULL);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot configure provider '%s'", name);
        ctl_say(c, "provider '%s' configured", name);
        return c->json ? verb_provider_list(c, a) : EXIT_SUCCESS;
}

int verb_provider_default(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *name = a->words[0];
        int r;

        r = ctl_call_manager(c, &error, NULL, CTL_CALL_TIMEOUT_USEC, "SetDefaultProvider", "s", name);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot make '%s' the default provider", name);
        ctl_say(c, "agents use provider '%s' unless told otherwise", name);
        return c->json ? verb_provider_list(c, a) : EXIT_SUCCESS;
}
