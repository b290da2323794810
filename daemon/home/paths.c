/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>

#include "file-util.h"
#include "paths.h"
#include "string-util.h"

/* The first variable that is set and not empty, else a directory below $HOME. */
static int user_directory(const char *const *variables, const char *fallback, char **ret) {
        for (; *variables; variables++) {
                const char *value = getenv(*variables);

                if (!isempty(value))
                        return path_make_absolute_from_user(value, ret);
        }
        return path_make_absolute_from_user(fallback, ret);
}

static int paths_fill_user(HomePaths *p) {
        int r;

        r = user_directory((const char *const []) { "PUFFO_AGENT_HOME", "PUFFO_HOME", NULL }, "~/.puffo-agent",
                           &p->home);
        if (r < 0)
                return r;
        r = user_directory((const char *const []) { "AGENT_PROXY_HOME", NULL }, "~/.agent_proxy", &p->proxy_home);
        if (r < 0)
                return r;

        p->agents = path_join(p->home, "agents");
        p->daemon_yml = path_join(p->home, "daemon.yml");
        p->proxy_state = path_join(p->proxy_home, ".state");
        if (!p->agents || !p->daemon_yml || !p->proxy_state)
                return -ENOMEM;

        p->role_agents = path_join(p->proxy_state, "agents");
        p->templates = path_join(p->proxy_home, ".templates");
        return p->role_agents && p->templates ? 0 : -ENOMEM;
}

static int paths_fill_system(HomePaths *p) {
        p->home = strdup("/var/lib/puffod");
        p->agents = strdup("/var/lib/private/puffo");
        p->role_agents = strdup("/var/lib/private/puffo");
        p->daemon_yml = strdup("/etc/puffo/daemon.yml");
        p->proxy_state = strdup("/var/lib/puffod/proxy");
        p->owners = strdup("/var/lib/puffod/owners");
        p->templates = strdup("/etc/puffo/templates");
        return p->home && p->agents && p->role_agents && p->daemon_yml && p->proxy_state && p->owners && p->templates ?
               0 : -ENOMEM;
}

int home_paths_new(HomePaths **ret, Scope scope) {
        _cleanup_(home_paths_freep) HomePaths *p = new0(HomePaths, 1);
        int r;

        if (!p)
                return -ENOMEM;
        p->scope = scope;

        r = scope == SCOPE_USER ? paths_fill_user(p) : paths_fill_system(p);
        if (r < 0)
                return r;

        p->pairing_json = path_join(p->home, "pairing.json");
        p->archived = path_join(p->home, "archived");
        if (!p->pairing_json || !p->archived)
                return -ENOMEM;

        *ret = TAKE_PTR(p);
        return 0;
}

HomePaths* home_paths_free(HomePaths *p) {
        if (!p)
                return NULL;

        free(p->home);
        free(p->agents);
        free(p->daemon_yml);
        free(p->pairing_json);
        free(p->archived);
        free(p->proxy_home);
        free(p->proxy_state);
        free(p->role_agents);
        free(p->templates);
        free(p->owners);
        return mfree(p);
}

int home_paths_make(const HomePaths *p) {
        const char *const directories[] = { p->home, p->agents, p->proxy_home, p->proxy_state, p->role_agents,
                                            p->owners };

        for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
                int r = directories[i] ? directory_make(directories[i], 0700) : 0;

                if (r < 0)
                        return r;
        }

        /* Where systemd puts the states of dynamic users; closed to others one level above. */
        if (p->scope == SCOPE_SYSTEM && chmod(p->agents, 0755) < 0)
                return -errno;
        return 0;
}
