/* SPDX-License-Identifier: MIT */

/* inotify on the homes: agents that come and go, their agent.yml and workspaces, daemon.yml, pairing.json. Events only
 * say "look again", a little later, so that an editor's or an installer's burst of them is one look. */

#include <dirent.h>
#include <sys/inotify.h>

#include "agent.h"
#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "helpers.h"
#include "log.h"
#include "string-util.h"

#define DEBOUNCE_USEC (100 * USEC_PER_MSEC)
#define DIRECTORY_MASK                                                                                                \
        (IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR | IN_EXCL_UNLINK)

typedef struct Watch {
        char *path;
        sd_event_source *source;
        bool whole;             /* every name counts, not only those below */
        bool wanted;
        bool gone;              /* the directory is; one that has come in its place needs a watch of its own */
        HomeWatch *owner;
} Watch;

struct HomeWatch {
        Manager *manager;
        Watch **watches;
        size_t n_watches;
        sd_event_source *later;
        int shortage;           /* errno of a directory that could not be watched for want of watches, else 0 */
};

int home_watch_new(HomeWatch **ret, Manager *m) {
        HomeWatch *w = new0(HomeWatch, 1);

        if (!w)
                return -ENOMEM;
        w->manager = m;
        *ret = w;
        return 0;
}

static void watch_free(Watch *w) {
        if (!w)
                return;
        sd_event_source_disable_unref(w->source);
        free(w->path);
        free(w);
}

HomeWatch* home_watch_free(HomeWatch *w) {
        if (!w)
                return NULL;
        for (size_t i = 0; i < w->n_watches; i++)
                watch_free(w->watches[i]);
        sd_event_source_disable_unref(w->later);
        free(w->watches);
        return mfree(w);
}

static int on_later(sd_event_source *s, uint64_t usec, void *userdata) {
        HomeWatch *w = userdata;
        int r = manager_rescan(w->manager);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to look at the agents' homes again: %m");
        return 0;
}

/* Sessions keep their database and other files beside agent.yml: those must not wake us. */
static bool name_counts(const char *name) {
        return streq(name, "agent.yml") || streq(name, "daemon.yml") || streq(name, "pairing.json") ||
               streq(name, "config.yaml") || streq(name, "AGENTS.md");
}

static void look_later(HomeWatch *w) {
        int r;

        /* From the first event on: whoever never stops writing must not put it off for ever. */
        if (w->later && sd_event_source_get_enabled(w->later, NULL) > 0)
                return;
        r = event_arm_timer(w->manager->event, &w->later, DEBOUNCE_USEC, USEC_PER_MSEC, on_later, w);
        if (r < 0)
                (void) log_error_errno(r, "Failed to arm the timer for a look at the agents' homes: %m");
}

static int on_event(sd_event_source *s, const struct inotify_event *event, void *userdata) {
        Watch *w = userdata;

        w->gone |= event->mask & IN_IGNORED;
        if (!(event->mask & (IN_Q_OVERFLOW | IN_IGNORED)) && !w->whole &&
            (event->len == 0 || !name_counts(event->name)))
                return 0;
        /* Ours, while they are built or go away; the name that counts has an event of its own. */
        if (event->len > 0 && (event->name[0] == '.' || strstr(event->name, ".tmp")))
                return 0;
        look_later(w->owner);
        return 0;
}

static int want(HomeWatch *w, const char *path, bool whole) {
        Watch **grown, *new;
        int r;

        for (size_t i = 0; i < w->n_watches; i++)
                if (streq(w->watches[i]->path, path) && !w->watches[i]->gone) {
                        w->watches[i]->wanted = true;
                        w->watches[i]->whole |= whole;
                        return 0;
                }

        grown = reallocarray(w->watches, w->n_watches + 1, sizeof(Watch*));
        if (!grown)
                return -ENOMEM;
        w->watches = grown;

        new = new0(Watch, 1);
        if (!new)
                return -ENOMEM;
        *new = (Watch) { .path = strdup(path), .whole = whole, .wanted = true, .owner = w };
        r = new->path ? sd_event_add_inotify(w->manager->event, &new->source, path, DIRECTORY_MASK, on_event, new)
                      : -ENOMEM;
        if (r < 0) {
                watch_free(new);
                if (r == -ENOSPC || errno_is_shortage(-r)) {
                        w->shortage = -r;
                        return 0;
                }
                return r == -ENOENT || r == -ENOTDIR ? 0 : r;   /* gone already: the parent's watch will tell */
        }
        w->watches[w->n_watches++] = new;
        return 1;
}

/* Each directory where an agent may be or come to be: agent.yml is often written some time after its directory.
 * What happened in there before it was watched was not seen, so there is another look. */
static int watch_children(HomeWatch *w, const char *parent, bool (*is_wanted)(Manager *m, const char *name)) {
        DIR *dir = opendir(parent);
        struct dirent *entry;
        bool news = false;
        int r = 0;

        if (!dir)
                return errno == ENOENT ? 0 : -errno;
        while (r >= 0 && (entry = readdir(dir))) {
                _cleanup_free_ char *path = NULL;

                if (entry->d_name[0] == '.' ||
                    (entry->d_type != DT_DIR && entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN))
                        continue;
                if (is_wanted && !is_wanted(w->manager, entry->d_name))
                        continue;
                path = path_join(parent, entry->d_name);
                r = path ? want(w, path, /* whole= */ false) : -ENOMEM;
                if (r == -EACCES)
                        r = 0;
                news |= r > 0;
        }
        (void) closedir(dir);
        if (news)
                look_later(w);
        return r;
}

static int want_parent(HomeWatch *w, const char *file) {
        _cleanup_free_ char *parent = strdup(file);
        char *slash = parent ? strrchr(parent, '/') : NULL;

        if (!parent)
                return -ENOMEM;
        if (!slash || slash == parent)
                return 0;
        *slash = 0;
        return want(w, parent, /* whole= */ false);
}

/* A directory that may become a role agent's, when somebody has copied AGENTS.md into it. In those of agents, models
 * write: that need not wake us. */
static bool may_become_agent(Manager *m, const char *name) {
        _cleanup_free_ char *role = NULL, *rest = NULL;

        return role_agent_id_split(name, &role, &rest) >= 0 && !manager_find_agent(m, name);
}

int home_watch_update(HomeWatch *w) {
        const HomePaths *p = w->manager->paths;
        int r;

        w->shortage = 0;
        for (size_t i = 0; i < w->n_watches; i++)
                w->watches[i]->wanted = false;

        r = want(w, p->agents, /* whole= */ true);
        if (r >= 0 && !streq(p->role_agents, p->agents))
                r = want(w, p->role_agents, /* whole= */ true);
        if (r >= 0)
                r = want_parent(w, p->daemon_yml);
        if (r >= 0)
                r = want_parent(w, p->pairing_json);
        if (r >= 0 && p->proxy_state)
                r = want(w, p->proxy_state, /* whole= */ false);
        if (r >= 0 && p->proxy_home)
                r = want(w, p->proxy_home, /* whole= */ true);
        if (r >= 0 && p->proxy_home)
                r = watch_children(w, p->proxy_home, may_become_agent);
        if (r >= 0)
                r = watch_children(w, p->agents, NULL);
        if (r >= 0 && !streq(p->role_agents, p->agents))
                r = watch_children(w, p->role_agents, NULL);

        for (size_t i = 0; i < w->n_watches; )
                if (!w->watches[i]->wanted) {
                        watch_free(w->watches[i]);
                        w->watches[i] = w->watches[--w->n_watches];
                } else
                        i++;
        return MIN(r, 0);
}

char* home_watch_problem(const HomeWatch *w) {
        if (w->shortage == 0)
                return strdup("");
        return asprintf_new("%s: what changes there is not noticed by itself (%s); raise the limit (sysctl "
                            "fs.inotify.%s) or call Reload (busctl --%s call " PUFFO_BUS_NAME " " PUFFO_BUS_PATH " "
                            PUFFO_BUS_MANAGER_INTERFACE " Reload) after each change",
                            w->manager->paths->agents, strerror(w->shortage),
                            w->shortage == ENOSPC ? "max_user_watches" : "max_user_instances",
                            scope_to_string(w->manager->scope));
}
