/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/stat.h>

#include "cli-home-internal.h"
#include "file-util.h"
#include "toml.h"

#define OPERATOR_SIZE_MAX MIB(64)       /* with the history of all of his projects */
#define SERVERS_MAX 64U
#define SERVER_NAME_MAX 64U
#define PUFFO "puffo"
#define TOOL_TIMEOUT_MSEC 120000
#define TIMEOUT_SEC_MAX 31536000.0      /* a year */

bool cli_command_is_host_local(const char *command) {
        return strchr(command, '\\') ||
               (((*command >= 'A' && *command <= 'Z') || (*command >= 'a' && *command <= 'z')) && command[1] == ':' &&
                command[2] == '/') ||
               (startswith(command, "/home/") && !startswith(command, "/home/agent/")) ||
               startswith(command, "/Users/") || startswith(command, "/tmp/") || startswith(command, "/var/folders/");
}

static bool becomes_line(char c) {
        return !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '-';
}

bool cli_server_name_is_ours(const char *name) {
        const char *rest = startswith(name, PUFFO);

        return rest && (!*rest || (becomes_line(*rest) && (!rest[1] || becomes_line(rest[1]))));
}

static bool strings_are_ok(json_object *o, json_type type) {
        if (!o)
                return true;
        if (!json_object_is_type(o, type))
                return false;
        if (type == json_type_array) {
                for (size_t i = 0; i < json_object_array_length(o); i++)
                        if (!json_object_is_type(json_object_array_get_idx(o, i), json_type_string))
                                return false;
                return true;
        }
        json_object_object_foreach(o, key, value) {
                (void) key;
                if (!json_object_is_type(value, json_type_string))
                        return false;
        }
        return true;
}

/* One entry that does not make sense keeps a CLI from starting all of them. */
static bool server_is_ok(const char *name, json_object *server) {
        const char *command = json_get_string(server, "command"), *url = json_get_string(server, "url");

        if (isempty(name) || strlen(name) > SERVER_NAME_MAX * 4 || cli_server_name_is_ours(name) ||
            !strings_are_ok(json_get(server, "enabled_tools"), json_type_array) ||
            !strings_are_ok(json_get(server, "disabled_tools"), json_type_array))
                return false;
        if (!isempty(command))
                return strings_are_ok(json_get(server, "args"), json_type_array) &&
                       strings_are_ok(json_get(server, "env"), json_type_object);
        return url && (startswith(url, "http://") || startswith(url, "https://")) &&
               strings_are_ok(json_get(server, "headers"), json_type_object);
}

static int take_servers(json_object *config, json_object **ret, size_t *ret_n_bad) {
        _cleanup_json_ json_object *taken = json_object_new_object();
        json_object *servers = json_get(config, "mcpServers");
        size_t n = 0, n_bad = 0;

        if (!taken)
                return -ENOMEM;
        if (json_object_is_type(servers, json_type_object)) {
                json_object_object_foreach(servers, name, server) {
                        if (streq(name, PUFFO)) /* ours wins; nobody has to know */
                                continue;
                        if (n >= SERVERS_MAX || !server_is_ok(name, server)) {
                                n_bad++;
                                continue;
                        }
                        if (json_put(taken, name, json_object_get(server)) < 0)
                                return -ENOMEM;
                        n++;
                }
        } else if (servers)
                n_bad++;
        *ret = TAKE_PTR(taken);
        *ret_n_bad = n_bad;
        return 0;
}

/* ---- the operator's ---- */

static char* file_signature(const struct stat *st) {
        return asprintf_new("%" PRIu64 ":%" PRIu64 ":%" PRIi64 ":%" PRIi64 ".%09ld:%" PRIi64 ".%09ld",
                            (uint64_t) st->st_dev, (uint64_t) st->st_ino, (int64_t) st->st_size,
                            (int64_t) st->st_mtim.tv_sec, (long) st->st_mtim.tv_nsec,
                            (int64_t) st->st_ctim.tv_sec, (long) st->st_ctim.tv_nsec);
}

/* Of a part of a second all of it; what is no time at all, or infinite, is as if it were not there. */
static int put_timeout(json_object *o, json_object *server, const char *key) {
        json_object *value = json_get(server, key);
        double seconds = json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double) ?
                         json_object_get_double(value) : 0;

        if (!(seconds > 0 && seconds <= TIMEOUT_SEC_MAX))
                return 0;
        return json_put_int(o, key, (int64_t) seconds + ((double) (int64_t) seconds < seconds));
}

/* What Codex calls otherwise. Whatever takes a secret from the environment of who starts it would find none: an agent
 * has its own. > 0: it is taken. */
static int server_of_codex(json_object *server, json_object **ret) {
        static const char *const secrets[] = { "bearer_token_env_var", "env_vars", "env_http_headers" };
        static const char *const same[] = {
                "command", "args", "env", "url", "cwd", "enabled_tools", "disabled_tools",
        };
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? 0 : -ENOMEM;

        if (!json_get_bool(server, "enabled", true))
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(secrets); i++)
                if (json_get(server, secrets[i]))
                        return -ENOKEY;
        for (size_t i = 0; i < ELEMENTSOF(same) && r >= 0; i++)
                if (json_get(server, same[i]))
                        r = json_put(o, same[i], json_object_get(json_get(server, same[i])));
        if (r >= 0)
                r = put_timeout(o, server, "startup_timeout_sec");
        if (r >= 0)
                r = put_timeout(o, server, "tool_timeout_sec");
        if (r >= 0 && json_get(server, "http_headers"))
                r = json_put(o, "headers", json_object_get(json_get(server, "http_headers")));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 1;
}

/* ~/.codex/config.toml, as if it were like the others. */
static int read_codex(CliWork *w, const char *path, const char *text, size_t size, json_object **ret) {
        _cleanup_json_ json_object *config = NULL, *servers = json_object_new_object(), *o = json_object_new_object();
        _cleanup_free_ char *fault = NULL;
        json_object *theirs;
        int r;

        if (!servers || !o)
                return -ENOMEM;
        r = toml_parse(text, size, &config, &fault);
        theirs = r < 0 ? NULL : json_get(config, "mcp_servers");
        if (theirs && !json_object_is_type(theirs, json_type_object))
                r = -EBADMSG;
        if (r == -EBADMSG && cli_work_notice(w, "The MCP servers in '%s' cannot be had: %s.", path,
                                             fault ?: "mcp_servers is no table") < 0)
                return -ENOMEM;
        if (r < 0)
                return r;
        if (theirs) {
                json_object_object_foreach(theirs, name, server) {
                        _cleanup_free_ char *shown = NULL;
                        json_object *taken = NULL;

                        r = server_of_codex(server, &taken);
                        if (r > 0)
                                r = json_put(servers, name, taken);
                        if (r == -ENOKEY) {
                                shown = str_printable(name, SERVER_NAME_MAX);
                                r = !shown ? -ENOMEM :
                                    cli_work_notice(w, "The MCP server '%s' is left out: it takes a secret from the "
                                                       "operator's environment, which an agent does not have.", shown);
                        }
                        if (r < 0)
                                return r;
                }
        }
        r = json_put(o, "mcpServers", TAKE_PTR(servers));
        if (r >= 0)
                *ret = TAKE_PTR(o);
        return r;
}

/* 0: it cannot be read; *ret is NULL then. */
static int read_operators(CliWork *w, const char *path, json_object **ret) {
        _cleanup_json_ json_object *config = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size, n_bad = 0;
        bool is_toml;
        int r;

        r = file_read(path, OPERATOR_SIZE_MAX, &text, &size);
        is_toml = endswith(path, ".toml");
        if (r >= 0)
                r = is_toml ? read_codex(w, path, text, size, &config) : json_parse(text, size, &config);
        if (r == -ENOMEM)
                return r;
        if (r == -EBADMSG && is_toml) /* that is said already, and why */
                return 0;
        if (r < 0 && r != -ENOENT) {
                r = cli_work_notice(w, "The MCP servers in '%s' cannot be had: it cannot be read%s.", path,
                                    is_toml ? "" : " as JSON");
                return MIN(r, 0);
        }
        r = take_servers(config, ret, &n_bad);
        if (r >= 0 && n_bad > 0)
                r = cli_work_notice(w, "%zu of the MCP servers in '%s' make no sense and are left out.", n_bad, path);
        return r < 0 ? r : 1;
}

/* His file grows with everything he does and is not parsed again before it has changed. */
int cli_mcp_of_operator(CliWork *w, const char *path, json_object **ret) {
        _cleanup_free_ char *absolute = NULL, *signature = NULL;
        json_object *state, *known;
        struct stat st;
        int r;

        if (!w->spec->user_home) {
                *ret = json_object_new_object();
                return *ret ? 0 : -ENOMEM;
        }
        absolute = path_join(w->spec->user_home, path);
        if (!absolute)
                return -ENOMEM;
        signature = stat(absolute, &st) < 0 ? strdup("") : file_signature(&st);
        if (!signature)
                return -ENOMEM;

        r = cli_work_state(w, path, &state);
        if (r < 0)
                return r;
        known = json_get(state, "servers");
        if (json_object_is_type(known, json_type_object) && streq_ptr(json_get_string(state, "file"), signature)) {
                *ret = json_object_get(known);
                return 0;
        }
        *ret = NULL;
        r = read_operators(w, absolute, ret);
        if (r < 0)
                return r;
        if (r == 0) { /* what was known before holds until he has corrected it */
                *ret = json_object_is_type(known, json_type_object) ? json_object_get(known)
                                                                    : json_object_new_object();
                return *ret ? 0 : -ENOMEM;
        }
        r = json_put_string(state, "file", signature);
        if (r >= 0)
                r = json_put(state, "servers", json_object_get(*ret));
        w->state_changed = true;
        return r;
}

/* ---- into a CLI's own configuration ---- */

static int hash_text(json_object *o, char ret[static HASH_HEX_SIZE]) {
        uint8_t hash[crypto_generichash_BYTES];
        const char *text = json_text(o, NULL);

        if (!text)
                return -ENOMEM;
        (void) crypto_generichash(hash, sizeof(hash), (const uint8_t*) text, strlen(text), NULL, 0);
        (void) sodium_bin2hex(ret, HASH_HEX_SIZE, hash, sizeof(hash));
        return 0;
}

/* Those that came from the operator, are his no more, and have not been changed by anybody since. Bits: 1 present, 2
 * merged has changed. */
static int remove_gone(json_object *merged, json_object *present, json_object *servers) {
        _cleanup_(strv_freep) char **gone = NULL;
        int changed = 0, r;

        json_object_object_foreach(merged, name, hash) {
                (void) hash;
                if (!json_get(servers, name)) {
                        r = strv_extend(&gone, name);
                        if (r < 0)
                                return r;
                }
        }
        for (char **g = gone; g && *g; g++) {
                char now[HASH_HEX_SIZE] = "";
                json_object *server = json_get(present, *g);

                if (server) {
                        r = hash_text(server, now);
                        if (r < 0)
                                return r;
                }
                if (server && streq_ptr(json_get_string(merged, *g), now)) {
                        json_object_object_del(present, *g);
                        changed = 1;
                }
                json_object_object_del(merged, *g);
        }
        return gone ? 2 | changed : 0;
}

int cli_mcp_merge(CliWork *w, const char *key, json_object *config, json_object *servers) {
        json_object *state, *merged, *present = json_get(config, "mcpServers");
        int changed = 0, r;

        r = cli_work_state(w, key, &state);
        if (r < 0)
                return r;
        merged = json_get(state, "merged");
        if (!json_object_is_type(merged, json_type_object)) {
                merged = json_object_new_object();
                if (!merged)
                        return -ENOMEM;
                r = json_put(state, "merged", merged);
                if (r < 0)
                        return r;
        }
        if (!json_object_is_type(present, json_type_object)) {
                if (json_object_object_length(servers) == 0)
                        return 0;
                present = json_object_new_object();
                if (!present)
                        return -ENOMEM;
                r = json_put(config, "mcpServers", present);
                if (r < 0)
                        return r;
                changed = 1;
        }

        r = remove_gone(merged, present, servers);
        if (r < 0)
                return r;
        w->state_changed |= r > 0;
        changed |= r & 1;

        json_object_object_foreach(servers, name, server) {
                char hash[HASH_HEX_SIZE];

                if (!json_object_equal(json_get(present, name), server)) {
                        r = json_put(present, name, json_object_get(server));
                        if (r < 0)
                                return r;
                        changed = 1;
                }
                r = hash_text(server, hash);
                if (r >= 0 && !streq_ptr(json_get_string(merged, name), hash)) {
                        r = json_put_string(merged, name, hash);
                        w->state_changed = true;
                }
                if (r < 0)
                        return r;
        }
        return changed;
}

/* ---- for --mcp-config ---- */

int cli_mcp_puffo(const CliWork *w, bool gemini, json_object **ret) {
        _cleanup_json_ json_object *server = json_object_new_object(), *environment = json_object_new_object(),
                                   *arguments = json_object_new_array();
        int r = 0;

        *ret = NULL;
        if (!w->spec->mcp_command)
                return 0;
        if (!server || !environment || !arguments)
                return -ENOMEM;
        if (!gemini)
                r = json_put_string(server, "type", "stdio");
        if (r >= 0)
                r = json_put_string(server, "command", w->spec->mcp_command);
        if (r >= 0)
                r = json_put(server, "args", TAKE_PTR(arguments));
        if (r >= 0)
                r = json_put_string(environment, "PUFFO_TOOL_SOCKET", w->spec->tool_socket);
        if (r >= 0)
                r = json_put(server, "env", TAKE_PTR(environment));
        if (r >= 0) /* without it: claude shows the model only the tools' names, gemini none at all */
                r = json_put_bool(server, gemini ? "trust" : "alwaysLoad", true);
        if (r >= 0)
                r = json_put_int(server, "timeout", TOOL_TIMEOUT_MSEC);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(server);
        return 0;
}

static bool is_below(const char *path, const char *directory) {
        const char *rest = startswith(path, directory);

        return rest && (*rest == '/' || *rest == 0);
}

/* A sandbox shows neither homes nor temporary files but the agent's own. */
static bool is_out_of_sight(const CliWork *w, json_object *server) {
        const AgentConfig *c = w->spec->config;
        const char *command = json_get_string(server, "command");

        if (!command || c->sandbox == SANDBOX_HOST || !cli_command_is_host_local(command) ||
            is_below(command, w->spec->home->workspace) ||
            (!isempty(w->spec->working_directory) && is_below(command, w->spec->working_directory)))
                return false;
        for (char **directory = c->extra_dirs; directory && *directory; directory++)
                if (is_below(command, *directory))
                        return false;
        return true;
}

static int add_servers(CliWork *w, json_object *all, json_object *servers) {
        json_object_object_foreach(servers, name, server) {
                int r;

                if (is_out_of_sight(w, server)) {
                        _cleanup_free_ char *shown = str_printable(name, SERVER_NAME_MAX);

                        r = !shown ? -ENOMEM
                                   : cli_work_notice(w, "The MCP server '%s' is left out: its program lies where the "
                                                        "agent's sandbox does not show it.", shown);
                } else
                        r = json_put(all, name, json_object_get(server));
                if (r < 0)
                        return r;
        }
        return 0;
}

int cli_mcp_collect(CliWork *w, json_object *operators, json_object **ret) {
        _cleanup_json_ json_object *installed = NULL, *agents = NULL, *puffo = NULL, *all = json_object_new_object(),
                                   *config = json_object_new_object();
        size_t n_bad = 0;
        int r;

        if (!config || !all)
                return -ENOMEM;
        r = cli_file_read_object(w->workspace_fd, ".mcp.json", CLI_FILE_SIZE_MAX, &installed);
        if (r == -ENOMEM)
                return r;
        if (r < 0 && r != -ENOENT) {
                r = cli_work_notice(w, "The agent's own MCP servers cannot be had: '%s/.mcp.json' is malformed.",
                                    w->spec->home->workspace);
                if (r < 0)
                        return r;
        }
        r = take_servers(installed, &agents, &n_bad);
        if (r >= 0 && n_bad > 0)
                r = cli_work_notice(w, "%zu of the MCP servers in '%s/.mcp.json' make no sense and are left out.",
                                    n_bad, w->spec->home->workspace);
        if (r >= 0)
                r = add_servers(w, all, agents);
        if (r >= 0) /* the operator's win */
                r = add_servers(w, all, operators);
        if (r >= 0)
                r = cli_mcp_puffo(w, /* gemini= */ false, &puffo);
        if (r >= 0 && puffo)
                r = json_put(all, PUFFO, TAKE_PTR(puffo));
        if (r >= 0)
                r = json_put(config, "mcpServers", TAKE_PTR(all));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(config);
        return 0;
}

int cli_mcp_write_config(CliWork *w, json_object *operators) {
        _cleanup_json_ json_object *config = NULL;
        int r;

        r = cli_mcp_collect(w, operators, &config);
        if (r < 0)
                return r;
        cli_work_hash(w, json_text(config, NULL));
        return cli_file_write_object(w->root_fd, "mcp-config.json", config, 0600, CLI_FILE_KEEP_INODE);
}
