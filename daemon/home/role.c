/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

#include "agent-file.h"
#include "file-util.h"
#include "role-text.h"
#include "role.h"
#include "string-util.h"
#include "tree.h"

#define ROLE_NAME_MAX 32
#define AGENT_ID_MAX 64

static bool role_char_is_valid(char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool role_name_is_valid(const char *s, size_t n) {
        if (n == 0 || n > ROLE_NAME_MAX || !role_char_is_valid(s[0]) || !role_char_is_valid(s[n - 1]))
                return false;

        for (size_t i = 0; i < n; i++)
                if (!role_char_is_valid(s[i]) && s[i] != '-')
                        return false;
        return true;
}

int role_name_normalize(const char *s, char **ret) {
        _cleanup_free_ char *lower = strdup(s);

        if (!lower)
                return -ENOMEM;
        for (char *c = lower; *c; c++)
                if (*c >= 'A' && *c <= 'Z')
                        *c = (char) (*c + ('a' - 'A'));
        if (!role_name_is_valid(lower, strlen(lower)))
                return -EINVAL;

        *ret = TAKE_PTR(lower);
        return 0;
}

int role_agent_id_split(const char *id, char **ret_role, char **ret_name) {
        size_t n = strcspn(id, "_");
        _cleanup_free_ char *role = NULL, *name = NULL;

        if (strlen(id) > AGENT_ID_MAX || !role_name_is_valid(id, n))
                return -EINVAL;
        if (id[n] && !role_name_is_valid(id + n + 1, strlen(id + n + 1)))
                return -EINVAL;

        role = memdup0(id, n);
        if (!role)
                return -ENOMEM;
        if (id[n]) {
                name = strdup(id + n + 1);
                if (!name)
                        return -ENOMEM;
        }

        *ret_role = TAKE_PTR(role);
        *ret_name = TAKE_PTR(name);
        return 0;
}

int role_agent_id_join(const char *role, const char *name, char **ret) {
        char *id = name ? strjoin(role, "_", name) : strdup(role);

        if (!id)
                return -ENOMEM;
        if (strlen(id) > AGENT_ID_MAX) {
                free(id);
                return -ENAMETOOLONG;
        }

        *ret = id;
        return 0;
}

/* > 0: it was made. Never touches what is there, of whatever type. */
static int ensure_file(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = path_join(directory, name);
        int r;

        if (!path)
                return -ENOMEM;
        r = file_create_atomic(path, text, strlen(text), 0600);
        return r == -EEXIST ? 0 : r < 0 ? r : 1;
}

static int ensure_directory(const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);

        return path ? directory_make(path, 0700) : -ENOMEM;
}

int role_daily_note_ensure(const char *workspace) {
        time_t now = time(NULL);
        struct tm tm;
        char name[48], text[24];
        int r;

        tzset();        /* the machine may have been taken elsewhere */
        if (!localtime_r(&now, &tm) || strftime(name, sizeof(name), "notes/daily-%Y-%m-%d.md", &tm) == 0 ||
            strftime(text, sizeof(text), "# %Y-%m-%d\n", &tm) == 0)
                return -EINVAL;

        r = ensure_directory(workspace, "notes");
        return r < 0 ? r : ensure_file(workspace, name, text);
}

static int ensure_rendered(const char *directory, const char *name, RoleFile file, const RoleText *t) {
        _cleanup_free_ char *path = path_join(directory, name), *text = NULL;
        int r;

        if (!path)
                return -ENOMEM;
        if (access(path, F_OK) >= 0)
                return 0;

        r = role_text_render(t, file, &text);
        return r < 0 ? r : ensure_file(directory, name, text);
}

/* AGENTS.md comes last: it makes the directory count as an agent's. */
static int workspace_fill(const char *directory, const RoleText *t) {
        int r;

        r = directory_make(directory, 0700);
        if (r >= 0)
                r = ensure_directory(directory, "memory");
        if (r >= 0)
                r = role_daily_note_ensure(directory);
        if (r >= 0)
                r = ensure_rendered(directory, "SOUL.md", ROLE_FILE_SOUL, t);
        if (r >= 0)
                r = ensure_rendered(directory, "memory/memory.md", ROLE_FILE_MEMORY, t);
        if (r >= 0)
                r = ensure_rendered(directory, "AGENTS.md", ROLE_FILE_AGENTS, t);
        return r;
}

/* base: where the workspace lies, as agent.yml shall say it. */
static int role_config_new(const char *id, const char *base, bool running, AgentConfig **ret) {
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        int r;

        r = agent_config_new(&c, id);
        if (r < 0)
                return r;

        c->running = running;
        c->created_at = (uint64_t) time(NULL);
        c->sandbox = SANDBOX_WORKSPACE;
        c->sandbox_given = true;
        free(c->workspace_dir);
        free(c->profile);
        free(c->memory_dir);
        c->workspace_dir = strdup(base);
        c->profile = strjoin(base, "/SOUL.md");
        c->memory_dir = strjoin(base, "/memory");
        if (!c->workspace_dir || !c->profile || !c->memory_dir)
                return -ENOMEM;

        *ret = TAKE_PTR(c);
        return 0;
}

/* Writes agent.yml, beside what may be left in the directory of an agent that was there before. > 0. */
static int agent_dir_fill(const HomePaths *p, const char *directory, AgentConfig *config) {
        _cleanup_(tree_discardp) char *aside = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        r = tree_new_aside(p->role_agents, &aside);
        if (r < 0)
                return r;
        path = path_join(aside, "agent.yml");
        if (!path)
                return -ENOMEM;
        r = agent_config_save(config, path);
        if (r >= 0)
                r = tree_install(aside, directory);
        if (r >= 0) {
                aside = mfree(aside);
                return 1;
        }
        if (r != -EEXIST)
                return r;

        free(path);
        path = path_join(directory, "agent.yml");
        if (!path)
                return -ENOMEM;
        r = agent_config_save(config, path);
        return r < 0 ? r : 1;
}

static int check_workspace(const char *workspace) {
        struct stat st;

        if (stat(workspace, &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISDIR(st.st_mode))
                return -ENOTDIR;
        return st.st_uid == geteuid() ? 0 : -EPERM;
}

static int ensure_user(const HomePaths *p, RoleText *t, const char *directory, bool running) {
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *puffo = strjoin(p->agents, "/", t->id, "/agent.yml"),
                            *config = path_join(directory, "agent.yml"), *workspace = path_join(p->proxy_home, t->id);
        int r;

        if (!puffo || !config || !workspace)
                return -ENOMEM;
        if (access(puffo, F_OK) >= 0)
                return -EEXIST;
        r = check_workspace(workspace);
        if (r < 0)
                return r;

        t->workspace = workspace;
        r = workspace_fill(workspace, t);
        if (r < 0 || access(config, F_OK) >= 0)
                return MIN(r, 0);

        r = role_config_new(t->id, workspace, running, &c);
        return r < 0 ? r : agent_dir_fill(p, directory, c);
}

/* All in one directory, which systemd makes over to the agent's user when it first starts. */
static int ensure_system(const HomePaths *p, RoleText *t, const char *directory) {
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_(agent_home_freep) AgentHome *there = NULL;
        _cleanup_(tree_discardp) char *aside = NULL;
        _cleanup_free_ char *workspace = path_join(directory, "workspace"), *build = NULL, *config = NULL;
        int r;

        if (!workspace)
                return -ENOMEM;
        r = agent_home_open(directory, &there);
        if (r != -ENOENT)
                return r < 0 ? r : there->role ? 0 : -EEXIST;

        r = tree_new_aside(p->agents, &aside);
        if (r < 0)
                return r;
        build = path_join(aside, "workspace");
        config = path_join(aside, "agent.yml");
        if (!build || !config)
                return -ENOMEM;

        t->workspace = workspace;
        r = workspace_fill(build, t);
        if (r >= 0)
                r = role_config_new(t->id, "workspace", /* running= */ true, &c);
        if (r >= 0)
                r = agent_config_save(c, config);
        if (r >= 0)
                r = tree_install(aside, directory);
        if (r < 0)
                return r;

        aside = mfree(aside);
        return 1;
}

int role_agent_ensure(const HomePaths *p, const char *role, const char *name, const char *base_url, AgentHome **ret) {
        RoleText t = { .role = role, .name = name, .base_url = base_url, .templates = p->templates };
        _cleanup_free_ char *id = NULL, *directory = NULL;
        int r, k;

        r = role_agent_id_join(role, name, &id);
        if (r < 0)
                return r;
        directory = path_join(p->role_agents, id);
        if (!directory)
                return -ENOMEM;
        t.id = id;

        r = p->proxy_home ? ensure_user(p, &t, directory, /* running= */ true) : ensure_system(p, &t, directory);
        if (r < 0)
                return r;

        k = agent_home_find(p, id, ret);
        return k < 0 ? k : r;
}

static int adopt(const HomePaths *p, const char *id) {
        _cleanup_free_ char *role = NULL, *name = NULL, *marker = NULL, *directory = NULL, *config = NULL;
        RoleText t = { .id = id, .base_url = "", .templates = p->templates };
        int r;

        r = role_agent_id_split(id, &role, &name);
        if (r < 0)
                return r == -EINVAL ? 0 : r;
        t.role = role;
        t.name = name;

        marker = strjoin(p->proxy_home, "/", id, "/AGENTS.md");
        directory = path_join(p->role_agents, id);
        config = directory ? path_join(directory, "agent.yml") : NULL;
        if (!marker || !config)
                return -ENOMEM;
        if (access(marker, F_OK) < 0 || access(config, F_OK) >= 0)
                return 0;

        /* One that cannot be taken in is no reason to leave out the others. */
        r = ensure_user(p, &t, directory, /* running= */ false);
        return r == -ENOMEM ? r : MAX(r, 0);
}

/* A deletion that was cut short between the agent's directory and its workspace: see agent_home_hide(). */
static int finish_deletion(const HomePaths *p, const char *parent, const char *name, const char *id) {
        _cleanup_free_ char *hidden = path_join(parent, name), *agent = path_join(parent, id),
                            *workspace = path_join(p->proxy_home, id), *plain = NULL, *gone = NULL;
        int r;

        if (!hidden || !agent || !workspace)
                return -ENOMEM;
        if (access(agent, F_OK) < 0) {
                r = tree_hide(workspace, "", &gone);
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        plain = memdup0(hidden, strlen(hidden) - strlen(id) - 1);
        if (!plain)
                return -ENOMEM;
        return rename(hidden, plain) < 0 ? -errno : 0;
}

static int finish_deletions(const HomePaths *p, const char *parent) {
        DIR *dir = opendir(parent);
        struct dirent *entry;
        int r = 0;

        if (!dir)
                return errno == ENOENT ? 0 : -errno;
        while (r >= 0 && (entry = readdir(dir))) {
                const char *suffix = tree_hidden_suffix(entry->d_name);
                _cleanup_free_ char *role = NULL, *name = NULL;

                if (suffix && suffix[0] == '-' && role_agent_id_split(suffix + 1, &role, &name) >= 0)
                        r = finish_deletion(p, parent, entry->d_name, suffix + 1);
        }
        (void) closedir(dir);
        return r;
}

int role_deletions_finish(const HomePaths *p) {
        int r;

        if (!p->proxy_home)
                return 0;
        r = finish_deletions(p, p->agents);
        return r < 0 ? r : finish_deletions(p, p->role_agents);
}

int role_workspaces_adopt(const HomePaths *p) {
        struct dirent *entry;
        int r = 0, n = 0;
        DIR *dir;

        if (!p->proxy_home)
                return 0;
        dir = opendir(p->proxy_home);
        if (!dir)
                return errno == ENOENT ? 0 : -errno;

        while (r >= 0 && (entry = readdir(dir))) {
                r = adopt(p, entry->d_name);
                n += r > 0;
        }
        (void) closedir(dir);
        return r < 0 ? r : n;
}
