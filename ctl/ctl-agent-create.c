/* SPDX-License-Identifier: MIT */

#include "ctl-bus.h"
#include "ctl-line.h"
#include "ctl-secret.h"
#include "ctl-verbs.h"
#include "file-util.h"
#include "string-util.h"

#define PROFILE_SIZE_MAX MIB(1)

#define RUNTIME_OPTIONS(kind) \
        { kind, 0, "KIND", "chat-local, sdk-local, cli-local, cli-docker" }, \
        { "provider", 0, "NAME", "anthropic, openai, google, echo ('': the default)" }, \
        { "model", 0, "MODEL", "the model ('': the provider's)" }, \
        { "base-url", 0, "URL", "the provider's address" }, \
        { "api-key", 0, "[-]", "a key of its own: asked for, or read from a pipe" }, \
        { "harness", 0, "NAME", "claude-code, codex, gemini-cli, hermes" }, \
        { "sandbox", 0, "PROFILE", "host, workspace, strict" }

const Option create_options[] = {
        { "display-name", 0, "NAME", "what to call it" },
        { "profile", 0, "FILE", "its profile (a text; '-': stdin)" },
        RUNTIME_OPTIONS("runtime"),
        { "no-mention", 0, NULL, "do not react to being mentioned" },
        { "no-dm", 0, NULL, "do not react to direct messages" },
        { "no-start", 0, NULL, "leave it stopped" },
        {},
};

const Option runtime_options[] = {
        RUNTIME_OPTIONS("kind"),
        { "display-name", 0, "NAME", "what to call it" },
        { "docker-image", 0, "IMAGE", "for cli-docker" },
        { "permission-mode", 0, "MODE", "what the harness may do unasked" },
        { "allowed-tools", 0, "TOOL,…", "tools it may use unasked" },
        { "extra-dir", 0, "DIR", "a directory besides its workspace (repeatable)" },
        { "max-turns", 0, "N", "steps of the harness in one turn" },
        { "max-tokens", 0, "N", "length of an answer" },
        {},
};

/* What create and runtime share; an option that was not given is left out. */
static int append_runtime(sd_bus_message *m, const Arguments *a, const char *kind_option, const char *key) {
        const struct {
                const char *option, *name;
        } map[] = {
                { "provider", "Provider" }, { "model", "Model" }, { "base-url", "BaseUrl" }, { "harness", "Harness" },
                { "sandbox", "SandboxProfile" },
        };
        int r = bus_append_string_option(m, "RuntimeKind", arguments_value(a, kind_option));

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(map); i++)
                r = bus_append_string_option(m, map[i].name, arguments_value(a, map[i].option));
        return r < 0 ? r : bus_append_string_option(m, "ApiKey", key);
}

/* Exit status. */
static int read_profile(Ctl *c, const char *path, char **ret) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        if (!path)
                return EXIT_SUCCESS;
        if (streq(path, "-")) {
                r = stdin_read(PROFILE_SIZE_MAX, &text);
                size = text ? strlen(text) : 0;
        } else
                r = file_read(path, PROFILE_SIZE_MAX, &text, &size);
        if (r < 0)
                return ctl_fail(c, "cannot read the profile %s: %s", path, strerror(-r));
        if (!utf8_is_valid(text, size) || strlen(text) != size)
                return ctl_fail(c, "the profile %s is no UTF-8 text", path);
        *ret = TAKE_PTR(text);
        return EXIT_SUCCESS;
}

static int append_create_options(sd_bus_message *m, const Arguments *a, const char *profile, const char *key) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = bus_append_string_option(m, "DisplayName", arguments_value(a, "display-name"));
        if (r >= 0)
                r = bus_append_string_option(m, "Profile", profile);
        if (r >= 0)
                r = append_runtime(m, a, "runtime", key);
        if (r >= 0 && arguments_has(a, "no-mention"))
                r = bus_append_bool_option(m, "OnMention", false);
        if (r >= 0 && arguments_has(a, "no-dm"))
                r = bus_append_bool_option(m, "OnDm", false);
        if (r >= 0 && arguments_has(a, "no-start"))
                r = bus_append_bool_option(m, "Start", false);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int verb_agent_create(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *profile = NULL, *text = NULL;
        _cleanup_(secret_freep) char *key = NULL;
        const char *id = a->words[0];
        int r, status;

        status = read_profile(c, arguments_value(a, "profile"), &profile);
        if (status == 0)
                status = secret_from_option(c, a, "api-key", "API key", &key);
        if (status != 0)
                return status;

        r = ctl_new_call(c, &m, &error, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, "CreateAgent");
        if (r >= 0)
                r = sd_bus_message_sensitive(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", id);
        if (r >= 0)
                r = append_create_options(m, a, profile, key);
        if (r >= 0)
                r = ctl_send_call(c, m, CTL_CALL_TIMEOUT_USEC, &error, NULL);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot create agent '%s'", id);
        text = strjoin("created ", id);
        return text ? ctl_print_done(c, id, text) : ctl_oom(c);
}

/* --- runtime --- */

static int append_list(sd_bus_message *m, const char *name, const char *list) {
        _cleanup_(strv_freep) char **items = new0(char*, 1);

        if (!items)
                return -ENOMEM;
        for (const char *p = list; *p;) {
                size_t n = strcspn(p, ","), skip = strspn(p, " ");
                _cleanup_free_ char *item = NULL;

                for (item = memdup0(p + MIN(skip, n), n - MIN(skip, n)); item && endswith(item, " ");)
                        item[strlen(item) - 1] = 0;
                if (!item || (*item && strv_extend(&items, item) < 0))
                        return -ENOMEM;
                p += n + (p[n] == ',');
        }
        return bus_append_strings_option(m, name, items);
}

static int append_directories(sd_bus_message *m, const Arguments *a) {
        _cleanup_(strv_freep) char **directories = NULL;

        for (size_t i = 0; i < a->n_given; i++) {
                _cleanup_free_ char *path = NULL;
                int r;

                if (!streq(a->given[i].option->name, "extra-dir") || isempty(a->given[i].value))
                        continue;
                r = path_make_absolute_from_user(a->given[i].value, &path);
                if (r >= 0)
                        r = strv_extend(&directories, path);
                if (r < 0)
                        return r;
        }
        return bus_append_strings_option(m, "ExtraDirs", directories);
}

static int append_runtime_options(sd_bus_message *m, const Arguments *a, const char *key, uint32_t max_turns,
                                  uint32_t max_tokens) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_runtime(m, a, "kind", key);
        if (r >= 0)
                r = bus_append_string_option(m, "DockerImage", arguments_value(a, "docker-image"));
        if (r >= 0)
                r = bus_append_string_option(m, "PermissionMode", arguments_value(a, "permission-mode"));
        if (r >= 0 && arguments_has(a, "allowed-tools"))
                r = append_list(m, "AllowedTools", arguments_value(a, "allowed-tools"));
        if (r >= 0 && arguments_has(a, "extra-dir"))
                r = append_directories(m, a);
        if (r >= 0 && arguments_has(a, "max-turns"))
                r = bus_append_number_option(m, "MaxTurns", max_turns);
        if (r >= 0 && arguments_has(a, "max-tokens"))
                r = bus_append_number_option(m, "MaxTokens", max_tokens);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int show_runtime(Ctl *c, const char *id) {
        static const struct {
                const char *key, *label;
        } lines[] = {
                { "runtime_kind", "Kind" }, { "provider", "Provider" }, { "model", "Model" }, { "harness", "Harness" },
                { "sandbox_profile", "Sandbox" }, { "display_name", "Name" },
        };
        _cleanup_json_ json_object *agent = NULL, *o = json_object_new_object();
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = ctl_get_agent(c, id, &error, &agent);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot show the runtime of agent '%s'", id);
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                const char *value = json_get_string(agent, lines[i].key);

                if (!o || json_put_string(o, lines[i].key, value) < 0)
                        return ctl_oom(c);
                if (c->json || isempty(value))
                        continue;
                printf("%12s: ", lines[i].label);
                (void) text_write_safe(stdout, value);
                fputc('\n', stdout);
        }
        return c->json ? ctl_print_json(c, o) : EXIT_SUCCESS;
}

static bool has_any(const Arguments *a, const Option *options) {
        for (const Option *o = options; o->name; o++)
                if (arguments_has(a, o->name))
                        return true;
        return false;
}

int verb_agent_runtime(Ctl *c, const Arguments *a) {
        const char *id = a->words[0], *turns = arguments_value(a, "max-turns"),
                   *tokens = arguments_value(a, "max-tokens");
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_(secret_freep) char *key = NULL;
        uint32_t max_turns = 0, max_tokens = 0;
        int r, status;

        if (!has_any(a, runtime_options))
                return show_runtime(c, id);
        if (turns && (parse_u32(turns, &max_turns) < 0 || max_turns == 0))
                return ctl_refuse(c, "'%s' is no number of turns", turns);
        if (tokens && (parse_u32(tokens, &max_tokens) < 0 || max_tokens == 0))
                return ctl_refuse(c, "'%s' is no number of tokens", tokens);
        status = secret_from_option(c, a, "api-key", "API key", &key);
        if (status != 0)
                return status;

        r = ctl_new_agent_call(c, id, &m, &error, "SetRuntime");
        if (r >= 0)
                r = sd_bus_message_sensitive(m);
        if (r >= 0)
                r = append_runtime_options(m, a, key, max_turns, max_tokens);
        if (r >= 0)
                r = ctl_send_call(c, m, CTL_CALL_TIMEOUT_USEC, &error, NULL);
        if (r >= 0 && arguments_has(a, "display-name"))
                r = ctl_call_agent(c, id, &error, NULL, CTL_CALL_TIMEOUT_USEC, "SetDisplayName", "s",
                                   arguments_value(a, "display-name"));
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot change the runtime of agent '%s'", id);
        return c->quiet ? EXIT_SUCCESS : show_runtime(c, id);
}
