/* SPDX-License-Identifier: MIT */

/* Codex's home, $CODEX_HOME: <agent dir>/.codex (codex-protocol §3). Its config.toml is read-only to it, which would
 * change it else; all that it would add is there already. */

#include <fcntl.h>

#include "cli-home-internal.h"
#include "json-util.h"

#define CONFIG "config.toml"
#define PUFFO "puffo"
#define SCHEMA "puffo-schema.json"
/* Above the longest wait of a tool: that for an agent that was asked (tools/tool-staff.c). */
#define TOOL_TIMEOUT_SEC 1600

static int put_pair(StrBuf *b, const char *key, const char *value) {
        _cleanup_free_ char *quoted = toml_quote(value);

        return quoted ? strbuf_printf(b, "%s = %s\n", key, quoted) : -ENOMEM;
}

static int put_list(StrBuf *b, const char *key, json_object *list) {
        int r = 0;

        if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) == 0)
                return 0;
        r = strbuf_printf(b, "%s = [", key);
        for (size_t i = 0; i < json_object_array_length(list) && r >= 0; i++) {
                _cleanup_free_ char *quoted = toml_quote(json_object_get_string(json_object_array_get_idx(list, i)));

                r = quoted ? strbuf_printf(b, "%s%s", i > 0 ? ", " : "", quoted) : -ENOMEM;
        }
        return r < 0 ? r : strbuf_puts(b, "]\n");
}

static int put_table(StrBuf *b, const char *key, json_object *table) {
        const char *comma = "";
        int r;

        if (!json_object_is_type(table, json_type_object) || json_object_object_length(table) == 0)
                return 0;
        r = strbuf_printf(b, "%s = {", key);
        json_object_object_foreach(table, name, value) {
                _cleanup_free_ char *left = toml_quote(name), *right = toml_quote(json_object_get_string(value));

                if (r >= 0)
                        r = left && right ? strbuf_printf(b, "%s %s = %s", comma, left, right) : -ENOMEM;
                comma = ",";
        }
        return r < 0 ? r : strbuf_puts(b, " }\n");
}

/* Calls of a server's tools need leave of their own, which nobody gives where nobody is asked. */
static int put_server(StrBuf *b, const char *name, json_object *server, bool approved) {
        static const char *const timeouts[] = { "startup_timeout_sec", "tool_timeout_sec" };
        const char *command = json_get_string(server, "command"), *url = json_get_string(server, "url");
        _cleanup_free_ char *quoted = toml_quote(name);
        int r;

        r = quoted ? strbuf_printf(b, "\n[mcp_servers.%s]\n", quoted) : -ENOMEM;
        if (r >= 0)
                r = command ? put_pair(b, "command", command) : put_pair(b, "url", strempty(url));
        if (r >= 0)
                r = put_list(b, "args", json_get(server, "args"));
        if (r >= 0)
                r = put_table(b, "env", json_get(server, "env"));
        if (r >= 0 && !command)
                r = put_table(b, "http_headers", json_get(server, "headers"));
        if (r >= 0 && json_get_string(server, "cwd"))
                r = put_pair(b, "cwd", json_get_string(server, "cwd"));
        if (r >= 0)
                r = put_list(b, "enabled_tools", json_get(server, "enabled_tools"));
        if (r >= 0)
                r = put_list(b, "disabled_tools", json_get(server, "disabled_tools"));
        for (size_t i = 0; i < ELEMENTSOF(timeouts) && r >= 0 && !streq(name, PUFFO); i++)
                if (json_get_int(server, timeouts[i], 0) > 0)
                        r = strbuf_printf(b, "%s = %" PRIi64 "\n", timeouts[i], json_get_int(server, timeouts[i], 0));
        if (r >= 0 && streq(name, PUFFO))
                r = strbuf_printf(b, "tool_timeout_sec = %d\n", TOOL_TIMEOUT_SEC);
        if (r >= 0 && (approved || streq(name, PUFFO)))
                r = put_pair(b, "default_tools_approval_mode", "approve");
        return r;
}

static int make_config(CliWork *w, json_object *servers, char **ret) {
        _cleanup_free_ char *workspace = toml_quote(w->spec->home->workspace);
        bool approved = streq(w->spec->config->permission_mode, "bypassPermissions");
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        r = workspace ? strbuf_printf(&b, "# Written by puffo at each start.\n\n[projects.%s]\ntrust_level = "
                                          "\"trusted\"\n", workspace) : -ENOMEM;
        json_object_object_foreach(servers, name, server)
                if (r >= 0)
                        r = put_server(&b, name, server, approved);
        if (r < 0)
                return r;
        *ret = strbuf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

int cli_codex_prepare(CliWork *w, CliHome *ret) {
        _cleanup_json_ json_object *operators = NULL, *config = NULL;
        _cleanup_close_ int fd = cli_directory_make(w->root_fd, ".codex", 0700), rules = -EBADF, project = -EBADF;
        _cleanup_free_ char *profile = NULL;
        int r;

        if (fd < 0)
                return fd;
        r = agent_home_read_profile(w->spec->home, w->spec->config, &profile);
        if (r < 0)
                return r;
        /* It reads a role's instructions, and is told those of others, when it starts. */
        cli_work_hash(w, profile);
        r = cli_mcp_of_operator(w, ".codex/" CONFIG, &operators);
        if (r >= 0)
                r = cli_mcp_collect(w, operators, &config);
        if (r >= 0)
                r = make_config(w, json_get(config, "mcpServers"), &ret->codex_config);
        if (r < 0)
                return r;
        cli_work_hash(w, ret->codex_config);
        /* What else it would be instructed or allowed by has to be there, so that a mount can cover it. */
        rules = cli_directory_make(fd, "rules", 0700);
        project = rules < 0 ? rules : cli_directory_make(w->workspace_fd, ".codex", 0755);
        r = project < 0 ? project : cli_file_ensure(fd, "AGENTS.md", "", 0600);
        if (r >= 0)
                r = cli_file_ensure(fd, "hooks.json", "{\"hooks\":{}}\n", 0600);
        return r < 0 ? r : cli_file_ensure(fd, CONFIG, "", 0600);
}

int cli_home_start_codex(const AgentHome *h, const CliHome *home) {
        _cleanup_close_ int root = open(h->directory, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;

        if (root < 0)
                return -errno;
        fd = cli_directory_make(root, ".codex", 0700);
        if (fd < 0)
                return fd;
        return MIN(cli_file_write(fd, CONFIG, home->codex_config, strlen(home->codex_config), 0600, 0), 0);
}

static int name_image(const AgentHome *h, int fd, const char *path, unsigned i, char ***ret) {
        _cleanup_free_ char *name = NULL, *linked = NULL;
        int r;

        if (!strchr(path, ','))
                return strv_extend(ret, path);
        name = asprintf_new("puffo-image-%u", i);
        linked = name ? strjoin(h->directory, "/.codex/", name) : NULL;
        if (!linked)
                return -ENOMEM;
        if (strchr(linked, ','))
                return -EINVAL;
        if (unlinkat(fd, name, 0) < 0 && errno != ENOENT) {
                r = errno == EISDIR ? cli_file_move_aside(fd, name) : -errno;
                if (r < 0)
                        return r;
        }
        return symlinkat(path, fd, name) < 0 ? -errno : strv_extend(ret, linked);
}

int cli_home_start_codex_turn(const AgentHome *h, const char *schema, char *const *images, char **ret_schema,
                              char ***ret_images) {
        _cleanup_close_ int fd = cli_directory_in(h->directory, ".codex", /* make= */ true);
        _cleanup_(strv_freep) char **named = NULL;
        _cleanup_free_ char *path = NULL;
        int r = MIN(fd, 0);

        if (r >= 0 && schema) {
                path = strjoin(h->directory, "/.codex/" SCHEMA);
                r = path ? cli_file_write(fd, SCHEMA, schema, strlen(schema), 0600, 0) : -ENOMEM;
        }
        for (unsigned i = 0; images && images[i] && r >= 0; i++)
                r = name_image(h, fd, images[i], i, &named);
        if (r < 0)
                return r;
        *ret_schema = TAKE_PTR(path);
        *ret_images = TAKE_PTR(named);
        return 0;
}
