/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "agent-file.h"
#include "agent-home.h"
#include "file-util.h"
#include "role.h"
#include "string-util.h"
#include "tree.h"

AgentHome* agent_home_free(AgentHome *h) {
        if (!h)
                return NULL;

        free(h->id);
        free(h->directory);
        free(h->config_path);
        free(h->workspace);
        free(h->role);
        free(h->name);
        return mfree(h);
}

char* agent_home_path(const AgentHome *h, const char *configured) {
        return path_join(h->directory, configured);
}

static bool profile_is_soul(const char *profile) {
        const char *slash = strrchr(profile, '/');

        return streq(slash ? slash + 1 : profile, "SOUL.md");
}

int agent_home_new(const char *id, const char *directory, AgentHome **ret) {
        _cleanup_(agent_home_freep) AgentHome *h = new0(AgentHome, 1);

        if (!h)
                return -ENOMEM;
        if (!agent_id_is_valid(id))
                return -EINVAL;
        h->id = strdup(id);
        h->directory = strdup(directory);
        h->config_path = path_join(directory, "agent.yml");
        if (!h->id || !h->directory || !h->config_path)
                return -ENOMEM;

        *ret = TAKE_PTR(h);
        return 0;
}

/* fallback: the workspace of a role agent whose agent.yml cannot tell, NULL where such a one is taken for none. */
static int home_complete(AgentHome *h, const AgentConfig *c, const char *fallback) {
        int r;

        if (c ? profile_is_soul(c->profile) : !!fallback) {
                r = role_agent_id_split(h->id, &h->role, &h->name);
                if (r < 0 && r != -EINVAL)
                        return r;
        }
        h->workspace = agent_home_path(h, c ? c->workspace_dir : fallback ?: "workspace");
        return h->workspace ? 0 : -ENOMEM;
}

int agent_home_complete(AgentHome *h, const AgentConfig *c) {
        return home_complete(h, c, NULL);
}

static int home_open(const char *directory, const char *fallback, AgentHome **ret) {
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *error = NULL;
        const char *name = strrchr(directory, '/');
        int r;

        r = agent_home_new(name ? name + 1 : directory, directory, &h);
        if (r < 0)
                return r;
        r = agent_config_load(&c, h->config_path, h->id, &error);
        if (r == -ENOMEM || r == -ENOENT)
                return r;
        r = home_complete(h, c, fallback);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(h);
        return 0;
}

int agent_home_open(const char *directory, AgentHome **ret) {
        _cleanup_free_ char *clean = path_join("/", directory);

        return clean ? home_open(clean, NULL, ret) : -ENOMEM;
}

static int home_open_below(const HomePaths *p, const char *parent, const char *id, AgentHome **ret) {
        _cleanup_free_ char *directory = path_join(parent, id), *fallback = NULL;

        if (!directory)
                return -ENOMEM;
        if (p->proxy_home && streq(parent, p->role_agents)) {
                fallback = path_join(p->proxy_home, id);
                if (!fallback)
                        return -ENOMEM;
        }
        return home_open(directory, fallback, ret);
}

void agent_homes_free(AgentHome **homes, size_t n) {
        for (size_t i = 0; i < n; i++)
                agent_home_free(homes[i]);
        free(homes);
}

typedef struct Scan {
        const HomePaths *paths;
        AgentHome **homes;
        size_t n_homes;
        char **problems;        /* pairs: directory, reason */
} Scan;

static void scan_done(Scan *s) {
        agent_homes_free(s->homes, s->n_homes);
        strv_free(s->problems);
}

static int scan_add_problem(Scan *s, const char *parent, const char *id, const char *why) {
        _cleanup_free_ char *shown = str_printable(id, 80), *directory = NULL, *text = NULL;

        directory = shown ? path_join(parent, shown) : NULL;
        text = directory ? strjoin(directory, ": ", why) : NULL;
        if (!text || strv_extend(&s->problems, directory) < 0)
                return -ENOMEM;
        return strv_extend(&s->problems, text);
}

static int scan_add(Scan *s, const char *parent, const char *id) {
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        _cleanup_free_ char *why = NULL;
        AgentHome **grown;
        int r;

        r = home_open_below(s->paths, parent, id, &h);
        if (r == -EINVAL)
                return scan_add_problem(s, parent, id,
                                        "the name is no agent id (letters, digits, '-' and '_', at most 64)");
        if (r < 0)
                return r == -ENOENT ? 0 : r;

        for (size_t i = 0; i < s->n_homes; i++)
                if (streq(s->homes[i]->id, id)) {
                        why = strjoin("not loaded, since ", s->homes[i]->directory,
                                      " has the same id; rename one of them");
                        return why ? scan_add_problem(s, parent, id, why) : -ENOMEM;
                }

        grown = reallocarray(s->homes, s->n_homes + 1, sizeof(AgentHome*));
        if (!grown)
                return -ENOMEM;
        s->homes = grown;
        s->homes[s->n_homes++] = TAKE_PTR(h);
        return 0;
}

/* Names that begin with a dot are ours while something is built or goes away. */
static int scan_directory(Scan *s, const char *parent) {
        DIR *dir = opendir(parent);
        int r = 0;

        if (!dir)
                return errno == ENOENT ? 0 : -errno;

        for (struct dirent *entry; r >= 0 && (r = directory_next(dir, &entry)) > 0; ) {
                _cleanup_free_ char *marker = NULL;

                if (entry->d_name[0] == '.')
                        continue;
                marker = strjoin(entry->d_name, "/agent.yml");
                if (!marker)
                        r = -ENOMEM;
                else if (faccessat(dirfd(dir), marker, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                        r = scan_add(s, parent, entry->d_name);
        }
        (void) closedir(dir);
        return r;
}

static int compare_homes(const void *a, const void *b) {
        const AgentHome *x = *(AgentHome *const *) a, *y = *(AgentHome *const *) b;
        bool x_first = streq(x->id, ROLE_MANAGER), y_first = streq(y->id, ROLE_MANAGER);

        return x_first != y_first ? (x_first ? -1 : 1) : strcmp(x->id, y->id);
}

static int compare_pairs(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

int agent_homes_enumerate(const HomePaths *p, AgentHome ***ret, size_t *ret_n, char ***ret_problems) {
        _cleanup_(scan_done) Scan s = { .paths = p };
        int r;

        r = scan_directory(&s, p->agents);
        if (r >= 0 && !streq(p->agents, p->role_agents))
                r = scan_directory(&s, p->role_agents);
        if (r < 0)
                return r;

        if (s.n_homes > 0)
                qsort(s.homes, s.n_homes, sizeof(AgentHome*), compare_homes);
        if (s.problems)
                qsort(s.problems, strv_length(s.problems) / 2, 2 * sizeof(char*), compare_pairs);

        *ret = TAKE_PTR(s.homes);
        *ret_n = s.n_homes;
        s.n_homes = 0;
        *ret_problems = TAKE_PTR(s.problems);
        return 0;
}

static int home_find_exact(const HomePaths *p, const char *id, AgentHome **ret) {
        int r;

        r = home_open_below(p, p->agents, id, ret);
        if (r == -ENOENT)
                r = home_open_below(p, p->role_agents, id, ret);
        return r;
}

int agent_home_find(const HomePaths *p, const char *id, AgentHome **ret) {
        _cleanup_free_ char *lower = NULL;
        int r;

        if (!agent_id_is_valid(id))
                return -ENOENT;
        r = home_find_exact(p, id, ret);
        if (r != -ENOENT)
                return r;

        lower = strdup(id);
        if (!lower)
                return -ENOMEM;
        for (char *c = lower; *c; c++)
                if (*c >= 'A' && *c <= 'Z')
                        *c = (char) (*c + ('a' - 'A'));
        return home_find_exact(p, lower, ret);
}

/* The directory of a configured path, or its parent, inside the tree that is being built; absolute ones are
 * elsewhere. */
static int make_configured(const char *aside, const char *configured, bool parent_only) {
        _cleanup_free_ char *path = NULL, *parent = NULL;
        const char *name;
        int r;

        if (*configured == '/')
                return 0;
        if (path_leads_out(configured))
                return -EINVAL;

        path = path_join(aside, configured);
        if (!path)
                return -ENOMEM;
        if (!parent_only)
                return directory_make(path, 0700);

        r = path_split(path, &parent, &name);
        return r < 0 ? r : directory_make(parent, 0700);
}

static int build_agent(const char *aside, AgentConfig *c, const char *profile) {
        _cleanup_free_ char *config_path = path_join(aside, "agent.yml");
        int r;

        if (!config_path)
                return -ENOMEM;

        r = make_configured(aside, c->memory_dir, /* parent_only= */ false);
        if (r >= 0)
                r = make_configured(aside, c->workspace_dir, /* parent_only= */ false);
        if (r >= 0)
                r = make_configured(aside, c->profile, /* parent_only= */ true);
        if (r >= 0 && c->profile[0] != '/')
                r = agent_file_write(aside, c->profile, profile, strlen(profile), 0600);
        return r < 0 ? r : agent_config_save(c, config_path);
}

int agent_home_create(const HomePaths *p, AgentConfig *c, const char *profile, AgentHome **ret) {
        _cleanup_(tree_discardp) char *aside = NULL;
        _cleanup_(agent_home_freep) AgentHome *taken = NULL;
        _cleanup_free_ char *directory = NULL;
        int r;

        if (!agent_id_is_valid(c->id))
                return -EINVAL;
        r = home_find_exact(p, c->id, &taken);
        if (r != -ENOENT)
                return r < 0 ? r : -EEXIST;

        if (c->created_at == 0)
                c->created_at = (uint64_t) time(NULL);
        c->kind_given = true;
        if (c->kind != RUNTIME_CHAT_LOCAL && !c->sandbox_given) {
                c->sandbox = SANDBOX_WORKSPACE;
                c->sandbox_given = true;
        }

        directory = path_join(p->agents, c->id);
        if (!directory)
                return -ENOMEM;
        r = tree_new_aside(p->agents, &aside);
        if (r >= 0)
                r = build_agent(aside, c, profile ?: agent_profile_template());
        if (r >= 0)
                r = tree_install(aside, directory);
        if (r < 0)
                return r;

        aside = mfree(aside);
        return home_open_below(p, p->agents, c->id, ret);
}

/* A role agent's workspace is its own only where init puts it: agent.yml may name any directory of the user. */
static int own_workspace(const HomePaths *p, const AgentHome *h, char **ret) {
        _cleanup_free_ char *path = NULL;

        if (h->role && p->proxy_home) {
                path = path_join(p->proxy_home, h->id);
                if (!path)
                        return -ENOMEM;
                if (!streq(path, h->workspace) || access(path, F_OK) < 0)
                        path = mfree(path);
        }

        *ret = TAKE_PTR(path);
        return 0;
}

static bool is_manager(const AgentHome *h) {
        return h->role && !h->name && streq(h->role, ROLE_MANAGER);
}

static int archive_path(const HomePaths *p, const char *id, char **ret) {
        time_t now = time(NULL);
        struct tm tm;
        char stamp[32];

        if (!localtime_r(&now, &tm) || strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm) == 0)
                return -EINVAL;

        for (unsigned i = 1; i < 100; i++) {
                _cleanup_free_ char *path = i == 1 ? strjoin(p->archived, "/", id, "-", stamp) :
                                                     asprintf_new("%s/%s-%s-%u", p->archived, id, stamp, i);

                if (!path)
                        return -ENOMEM;
                if (access(path, F_OK) < 0) {
                        *ret = TAKE_PTR(path);
                        return 0;
                }
        }
        return -EEXIST;
}

int agent_home_archive(const HomePaths *p, const AgentHome *h, char **ret_path) {
        _cleanup_free_ char *path = NULL, *workspace = NULL, *target = NULL;
        int r;

        if (is_manager(h))
                return -EBUSY;
        r = own_workspace(p, h, &workspace);
        if (r < 0)
                return r;
        r = directory_make(p->archived, 0700);
        if (r < 0)
                return r;
        r = archive_path(p, h->id, &path);
        if (r < 0)
                return r;

        /* The agent dir first: without it nothing starts the agent again, whatever happens to the rest. */
        r = tree_move(h->directory, path);
        if (r < 0)
                return r;
        if (workspace) {
                target = path_join(path, "workspace");
                if (!target)
                        return -ENOMEM;
                r = tree_move(workspace, target);
                if (r < 0)
                        return r;
        }

        *ret_path = TAKE_PTR(path);
        return 0;
}

/* Between the two renames only the first one's new name says that the workspace is to go as well, else it would be
 * taken for that of an agent who has lost his directory (role_workspaces_adopt()). */
int agent_home_hide(const HomePaths *p, const AgentHome *h, char ***ret) {
        _cleanup_free_ char *workspace = NULL, *suffix = NULL, *directory = NULL, *hidden = NULL;
        _cleanup_(strv_freep) char **trees = NULL;
        int r;

        r = own_workspace(p, h, &workspace);
        if (r < 0)
                return r;
        suffix = workspace ? strjoin("-", h->id) : strdup("");
        if (!suffix)
                return -ENOMEM;
        r = tree_hide(h->directory, suffix, &directory);
        if (r < 0 && r != -ENOENT)
                return r;
        if (workspace) {
                r = tree_hide(workspace, "", &hidden);
                if (r < 0 && r != -ENOENT) {
                        if (directory)
                                (void) rename(directory, h->directory);
                        return r;
                }
        }

        if (hidden && strv_extend(&trees, hidden) < 0)
                return -ENOMEM;
        if (directory && strv_extend(&trees, directory) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(trees);
        return 0;
}

int agent_homes_sweep(const HomePaths *p, time_t before) {
        const char *const parents[] = {
                p->agents, streq(p->agents, p->role_agents) ? NULL : p->role_agents, p->archived, p->proxy_home,
        };
        int r = 0, n = 0;

        for (size_t i = 0; i < ELEMENTSOF(parents); i++) {
                int k = parents[i] ? tree_sweep(parents[i], before) : 0;

                n += MAX(k, 0);
                r = r < 0 ? r : MIN(k, 0);
        }
        return r < 0 ? r : n;
}
