/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "cli-file.h"
#include "cli-home.h"
#include "event-util.h"
#include "file-util.h"
#include "tool-internal.h"
#include "workspace-file.h"

#define FLAGS ".puffo-agent"
#define SKILLS ".claude/skills"
#define SKILL_FILE "SKILL.md"
#define SKILL_MARKER "agent-installed.md"
#define SKILL_MARKER_TEXT "Installed by the agent with install_skill.\n"
#define SKILL_NAME_MAX 64U
#define SKILL_SIZE_MAX KIB(512)
#define SKILLS_MAX 1000U
/* Somebody may have filled the directory with other things. */
#define SKILL_ENTRIES_MAX 10000U
#define SERVERS ".mcp.json"
#define SERVERS_SIZE_MAX MIB(1)
#define SERVER_NAME_MAX 64U
#define CLAUDE_SIZE_MAX MIB(16)
#define MODEL_MAX 200U

static int root_open(ToolCall *c) {
        int fd = open(c->box->workspace, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* The reason why a file of the workspace could not be had. */
static int fail_file(ToolCall *c, const char *path, int error) {
        char buffer[128];

        if (error == -ENOMEM)
                return error;
        if (error == -EXDEV)
                return tool_fail(c, "%s leads out of the workspace", path);
        if (error == -ELOOP)
                return tool_fail(c, "%s is no regular file", path);
        return tool_fail(c, "%s: %s", path, strerror_r(-error, buffer, sizeof(buffer)));
}

/* --- flags --- */

/* model NULL: none is asked for. */
static int write_flag(ToolCall *c, const char *name, const char *model) {
        _cleanup_json_ json_object *flag = json_object_new_object();
        _cleanup_close_ int root = root_open(c);
        const char *text;
        size_t size;
        int r;

        if (root < 0)
                return root;
        if (!flag)
                return -ENOMEM;
        r = json_put_int(flag, "requested_at", (int64_t) (now_realtime_usec() / USEC_PER_SEC));
        if (r >= 0 && model)
                r = json_put_string(flag, "model", model);
        if (r < 0)
                return r;
        text = json_object_to_json_string_length(flag, JSON_C_TO_STRING_NOSLASHESCAPE | JSON_C_TO_STRING_PLAIN, &size);
        return text ? workspace_write_file(root, FLAGS, name, text, size, 0600) : -ENOMEM;
}

int tool_reload_system_prompt(ToolCall *c) {
        int r = write_flag(c, "reload.flag", NULL);

        return r < 0 ? fail_file(c, FLAGS "/reload.flag", r)
                     : tool_succeed(c, strdup("Reload requested: the system prompt will be rebuilt and the runtime "
                                              "restarted before the next message."));
}

int tool_refresh(ToolCall *c) {
        _cleanup_free_ char *model = NULL, *shown = NULL;
        bool given = json_get(c->arguments, "model");
        int r;

        r = tool_trimmed(c, "model", &model);
        if (r < 0)
                return r;
        if (strlen(model) > MODEL_MAX)
                return tool_fail(c, "model is longer than %u bytes", MODEL_MAX);
        r = write_flag(c, "refresh.flag", given ? model : NULL);
        if (r < 0)
                return fail_file(c, FLAGS "/refresh.flag", r);

        shown = str_printable(model, MODEL_MAX);
        return tool_succeed(c, !shown ? NULL
                               : strjoin("Refresh requested: the runtime will be restarted before the next message",
                                         !given ? "" : *model ? ", with the model " : ", with the configured model",
                                         shown, "."));
}

/* --- skills --- */

static bool skill_name_is_valid(const char *name) {
        size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

        return n >= 1 && n <= SKILL_NAME_MAX && name[n] == 0 && *name != '-';
}

static int check_skill_name(ToolCall *c, const char *name) {
        if (skill_name_is_valid(name))
                return 1;
        return tool_fail(c, "the name of a skill consists of 1 to 64 lower-case letters, digits and dashes and does "
                            "not begin with a dash");
}

int tool_install_skill(ToolCall *c) {
        const char *name = tool_string(c, "name"), *content = tool_string(c, "content");
        _cleanup_free_ char *directory = NULL;
        _cleanup_close_ int root = -EBADF;
        int r;

        r = check_skill_name(c, name);
        if (r <= 0)
                return r;
        if (content[strspn(content, " \t\r\n\v\f")] == 0)
                return tool_fail(c, "content must not be blank");
        if (strlen(content) > SKILL_SIZE_MAX)
                return tool_fail(c, "content is larger than %zu KiB", SKILL_SIZE_MAX / KIB(1));
        directory = strjoin(SKILLS "/", name);
        if (!directory)
                return -ENOMEM;

        r = root = root_open(c);
        /* The marker first: what is half installed can be uninstalled. */
        if (r >= 0)
                r = workspace_write_file(root, directory, SKILL_MARKER, SKILL_MARKER_TEXT, strlen(SKILL_MARKER_TEXT),
                                         0644);
        if (r >= 0)
                r = workspace_write_file(root, directory, SKILL_FILE, content, strlen(content), 0644);
        if (r < 0)
                return fail_file(c, directory, r);
        return tool_succeed(c, asprintf_new("Installed skill '%s' at %s/%s/" SKILL_FILE ". Call refresh() to make it "
                                            "available.", name, c->box->workspace, directory));
}

/* Whether there is such a file below a directory; links may not lead out of it. */
static int has_file(int root, const char *directory, const char *name) {
        _cleanup_free_ char *path = strjoin(directory, "/", name);
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (!path)
                return -ENOMEM;
        fd = open_beneath(root, path, O_PATH);
        if (fd < 0)
                return fd == -ENOMEM ? fd : 0;
        return fstat(fd, &st) >= 0 && S_ISREG(st.st_mode);
}

int tool_uninstall_skill(ToolCall *c) {
        const char *name = tool_string(c, "name");
        _cleanup_free_ char *directory = NULL;
        _cleanup_close_ int root = -EBADF, fd = -EBADF;
        int r;

        r = check_skill_name(c, name);
        if (r <= 0)
                return r;
        directory = strjoin(SKILLS "/", name);
        if (!directory)
                return -ENOMEM;

        root = root_open(c);
        if (root < 0)
                return fail_file(c, c->box->workspace, root);
        fd = open_beneath(root, directory, O_PATH | O_DIRECTORY);
        if (fd == -ENOENT || fd == -ENOTDIR)
                return tool_fail(c, "there is no skill '%s' in the workspace", name);
        if (fd < 0)
                return fail_file(c, directory, fd);
        r = has_file(root, directory, SKILL_MARKER);
        if (r < 0)
                return r;
        if (r == 0)
                return tool_fail(c, "skill '%s' was not installed by the agent (it has no " SKILL_MARKER ")", name);

        r = workspace_remove(root, SKILLS, name);
        if (r < 0)
                return fail_file(c, directory, r);
        return tool_succeed(c, asprintf_new("Uninstalled skill '%s'. Call refresh() to make this effective.", name));
}

/* Names of the skills in a directory, sorted; none when there is no such directory. */
static int read_skills(const char *directory, char ***ret) {
        _cleanup_close_ int root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
        _cleanup_(strv_freep) char **names = NULL;
        DIR *dir;
        int r = 0;

        fd = root < 0 ? -errno : open_beneath(root, SKILLS, O_RDONLY | O_DIRECTORY);
        if (fd < 0)
                return fd == -ENOMEM ? fd : 0;
        safe_close(root);
        root = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        dir = root < 0 ? NULL : fdopendir(fd);
        if (!dir)
                return -errno;
        TAKE_FD(fd);

        for (size_t n = 0, n_entries = 0; r >= 0 && n < SKILLS_MAX && n_entries < SKILL_ENTRIES_MAX; n_entries++) {
                struct dirent *entry = readdir(dir);

                if (!entry)
                        break;
                if (entry->d_name[0] == '.')
                        continue;
                r = has_file(root, entry->d_name, SKILL_FILE);
                if (r > 0) {
                        r = strv_extend(&names, entry->d_name);
                        n++;
                }
        }
        (void) closedir(dir);
        if (r < 0)
                return r;
        if (names)
                strv_sort(names);
        *ret = TAKE_PTR(names);
        return 0;
}

static int put_names(StrBuf *b, const char *prefix, char **names) {
        int r = 0;

        for (char **name = names; name && *name && r >= 0; name++) {
                r = strbuf_puts(b, b->size > 0 ? "\n" : "");
                if (r >= 0)
                        r = strbuf_puts(b, prefix);
                if (r >= 0)
                        r = tool_put_line(b, *name, TOOL_NAME_MAX);
        }
        return r;
}

static int answer_names(ToolCall *c, char **system, char **agent, const char *nothing) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = put_names(&b, "[system] ", system);

        if (r >= 0)
                r = put_names(&b, "[agent]  ", agent);
        if (r >= 0 && b.size == 0)
                r = strbuf_puts(&b, nothing);
        return r < 0 ? r : tool_succeed(c, strbuf_take(&b));
}

int tool_list_skills(ToolCall *c) {
        _cleanup_(strv_freep) char **system = NULL, **agent = NULL;
        int r = read_skills(c->box->directory, &system);

        if (r >= 0)
                r = read_skills(c->box->workspace, &agent);
        return r < 0 ? r : answer_names(c, system, agent, "(no skills installed)");
}

/* --- MCP servers --- */

/* The whole of .mcp.json and the servers in it. -EBADMSG: malformed. *ret NULL: there is no file. */
static int servers_read(int root, json_object **ret, json_object **ret_servers) {
        _cleanup_json_ json_object *config = NULL;
        _cleanup_free_ char *text = NULL;
        json_object *servers;
        size_t size;
        int r;

        *ret = *ret_servers = NULL;
        r = workspace_read_file(root, SERVERS, SERVERS_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = json_parse(text, size, &config);
        if (r < 0)
                return r;
        servers = json_get(config, "mcpServers");
        if (!json_object_is_type(config, json_type_object) ||
            (servers && !json_object_is_type(servers, json_type_object)))
                return -EBADMSG;
        *ret = TAKE_PTR(config);
        *ret_servers = servers;
        return 0;
}

static int fail_servers(ToolCall *c, int error) {
        if (error == -EBADMSG)
                return tool_fail(c, SERVERS " in the workspace is malformed; correct or remove it first");
        return fail_file(c, SERVERS, error);
}

static int servers_write(int root, json_object *config) {
        /* An environment may hold secrets; and the CLI that has called us has it mounted. */
        return cli_file_write_object(root, SERVERS, config, 0600, CLI_FILE_KEEP_INODE | CLI_FILE_SYNC);
}

static int check_server_name(ToolCall *c, const char *name) {
        size_t n = 0;

        for (const char *p = name; *p; p++)
                n += ((unsigned char) *p & 0xc0) != 0x80;
        return n >= 1 && n <= SERVER_NAME_MAX ? 1 : tool_fail(c, "the name of an MCP server has 1 to 64 characters");
}

static int put_or_empty(json_object *entry, const char *key, json_object *value, json_object *(*make)(void)) {
        json_object *v = value ? json_object_get(value) : make();

        return v ? json_put(entry, key, v) : -ENOMEM;
}

static int server_entry(ToolCall *c, json_object **ret) {
        _cleanup_json_ json_object *entry = json_object_new_object();
        int r;

        if (!entry)
                return -ENOMEM;
        r = json_put_string(entry, "command", tool_string(c, "command"));
        if (r >= 0)
                r = put_or_empty(entry, "args", json_get(c->arguments, "args"), json_object_new_array);
        if (r >= 0)
                r = put_or_empty(entry, "env", json_get(c->arguments, "env"), json_object_new_object);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(entry);
        return 0;
}

static int server_put(int root, json_object **config, json_object *servers, const char *name, json_object *entry) {
        int r;

        if (!*config)
                *config = json_object_new_object();
        if (!*config) {
                json_object_put(entry);
                return -ENOMEM;
        }
        if (!servers) {
                r = json_put(*config, "mcpServers", json_object_new_object());
                servers = r < 0 ? NULL : json_get(*config, "mcpServers");
        }
        if (!servers) {
                json_object_put(entry);
                return -ENOMEM;
        }
        r = json_put(servers, name, entry);
        return r < 0 ? r : servers_write(root, *config);
}

int tool_install_mcp_server(ToolCall *c) {
        const char *name = tool_string(c, "name"), *command = tool_string(c, "command");
        _cleanup_json_ json_object *config = NULL;
        _cleanup_free_ char *shown = NULL;
        json_object *servers, *entry;
        _cleanup_close_ int root = -EBADF;
        int r;

        r = check_server_name(c, name);
        if (r <= 0)
                return r;
        /* What it may do is a list of calls; a program that is started is none. */
        if (c->box->kind == RUNTIME_SDK_LOCAL)
                return tool_fail(c, "an agent of the kind sdk-local has no MCP servers but its own");
        if (cli_server_name_is_ours(name))
                return tool_fail(c, "the name '%s' would be taken for this agent's own server", name);
        if (command[strspn(command, " \t\r\n\v\f")] == 0)
                return tool_fail(c, "command must not be blank");
        if (c->box->kind != RUNTIME_CLI_LOCAL && cli_command_is_host_local(command))
                return tool_fail(c, "command '%s' looks like a path of another machine; it must exist where the agent "
                                 "runs", command);

        r = root = root_open(c);
        if (r >= 0)
                r = servers_read(root, &config, &servers);
        if (r < 0)
                return fail_servers(c, r);
        r = server_entry(c, &entry);
        if (r < 0)
                return r;
        r = server_put(root, &config, servers, name, entry);
        if (r < 0)
                return fail_servers(c, r);

        shown = str_printable(name, SERVER_NAME_MAX);
        return tool_succeed(c, !shown ? NULL
                               : strjoin("Registered MCP server '", shown, "'. Call refresh() to make it available."));
}

int tool_uninstall_mcp_server(ToolCall *c) {
        const char *name = tool_string(c, "name");
        _cleanup_json_ json_object *config = NULL;
        _cleanup_free_ char *shown = NULL;
        json_object *servers, *entry;
        _cleanup_close_ int root = -EBADF;
        int r;

        r = check_server_name(c, name);
        if (r <= 0)
                return r;
        r = root = root_open(c);
        if (r >= 0)
                r = servers_read(root, &config, &servers);
        if (r < 0)
                return fail_servers(c, r);
        if (!config)
                return tool_fail(c, "there is no " SERVERS " in the workspace");
        if (!servers || !json_object_object_get_ex(servers, name, &entry))
                return tool_fail(c, "MCP server '%s' is not registered in the workspace", name);

        json_object_object_del(servers, name);
        r = servers_write(root, config);
        if (r < 0)
                return fail_servers(c, r);
        shown = str_printable(name, SERVER_NAME_MAX);
        return tool_succeed(c, !shown ? NULL
                               : strjoin("Removed MCP server '", shown, "'. Call refresh() to make this effective."));
}

/* A file that is not there or makes no sense has none. */
static int read_servers(const char *directory, const char *path, size_t max, char ***ret) {
        _cleanup_close_ int root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_json_ json_object *config = NULL;
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_free_ char *text = NULL;
        json_object *servers;
        size_t size;
        int r;

        r = root < 0 ? -errno : workspace_read_file(root, path, max, &text, &size);
        if (r >= 0)
                r = json_parse(text, size, &config);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        servers = json_get(config, "mcpServers");
        if (!json_object_is_type(servers, json_type_object))
                return 0;

        json_object_object_foreach(servers, name, value) {
                (void) value;
                r = strv_extend(&names, name);
                if (r < 0)
                        return r;
        }
        if (names)
                strv_sort(names);
        *ret = TAKE_PTR(names);
        return 0;
}

int tool_list_mcp_servers(ToolCall *c) {
        _cleanup_(strv_freep) char **system = NULL, **agent = NULL;
        int r = read_servers(c->box->directory, ".claude.json", CLAUDE_SIZE_MAX, &system);

        if (r >= 0)
                r = read_servers(c->box->workspace, SERVERS, SERVERS_SIZE_MAX, &agent);
        return r < 0 ? r : answer_names(c, system, agent, "(no MCP servers registered)");
}
