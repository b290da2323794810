/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "cli-home-internal.h"
#include "file-util.h"

static bool is_below(const char *path, const char *directory) {
        const char *rest = startswith(path, directory);

        return rest && (*rest == '/' || *rest == 0 || streq(directory, "/"));
}

static int add(CliWork *w, char ***list, const char *base, const char *path) {
        _cleanup_free_ char *joined = path_join(base, path);

        if (!joined)
                return -ENOMEM;
        if (access(joined, F_OK) < 0 || strv_contains(*list, joined))
                return 0;
        cli_work_hash(w, joined);
        return strv_extend(list, joined);
}

/* Would a mount of it show agents' keys and databases? > 0: yes, as does everything around the agents' directories. */
static int shows_keys(const AgentHome *h, const char *path) {
        _cleanup_free_ char *real = realpath(path, NULL), *own = realpath(h->directory, NULL), *agents = NULL;
        const char *name, *rest;
        int r;

        if (!real || !own)
                return errno == ENOMEM ? -ENOMEM : 1;
        r = path_split(own, &agents, &name);
        if (r < 0)
                return r;
        if (is_below(own, real))
                return 1;
        rest = startswith(real, agents);
        if (!rest || *rest != '/')
                return 0;
        rest = strchr(rest + 1, '/');
        return !rest || is_below(rest, "/keys") || is_below(rest, "/.puffo-agent");
}

/* A directory that somebody has named. */
static int add_named(CliWork *w, CliHome *ret, const char *what, const char *path) {
        _cleanup_free_ char *shown = NULL;
        const char *why = NULL;
        struct stat st;
        int r = 0;

        if (*path != '/')
                why = "it is no absolute path";
        else if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
                why = "it is not there";
        else {
                r = shows_keys(w->spec->home, path);
                if (r > 0)
                        why = "agents' keys lie in it";
        }
        if (r < 0)
                return r;
        if (!why)
                return add(w, &ret->read_write, "/", path);
        shown = str_printable(path, 200);
        return shown ? cli_work_notice(w, "The agent's %s '%s' is left out: %s.", what, shown, why) : -ENOMEM;
}

static int add_memory(CliWork *w, CliHome *ret) {
        const CliHomeSpec *s = w->spec;
        _cleanup_free_ char *path = agent_home_path(s->home, s->config->memory_dir);

        if (!path)
                return -ENOMEM;
        if (is_below(path, s->home->workspace))
                return 0;
        if (*s->config->memory_dir != '/' && !path_leads_out(s->config->memory_dir)) {
                _cleanup_close_ int fd = cli_directory_make(w->root_fd, s->config->memory_dir, 0700);

                if (fd < 0)
                        return fd;
        }
        return add_named(w, ret, "memory", path);
}

static int add_writable(CliWork *w, CliHome *ret) {
        const CliHomeSpec *s = w->spec;
        int r;

        r = shows_keys(s->home, s->home->workspace);
        if (r < 0)
                return r;
        if (r > 0 && s->config->sandbox != SANDBOX_HOST)
                return -EXDEV;
        r = add(w, &ret->read_write, "/", s->home->workspace);
        if (r >= 0)
                r = add_memory(w, ret);
        if (r >= 0 && !isempty(s->working_directory) && !is_below(s->working_directory, s->home->workspace))
                r = add_named(w, ret, "working directory", s->working_directory);
        for (char **directory = s->config->extra_dirs; directory && *directory && r >= 0; directory++)
                r = add_named(w, ret, "extra directory", *directory);
        return r;
}

int cli_paths_collect(CliWork *w, CliHome *ret) {
        static const struct { const char *harness, *writable[2], *readable[6]; } own[] = {
                { "claude-code", { ".claude", ".claude.json" },
                  { ".claude/CLAUDE.md", ".claude/settings.json", ".claude/skills", ".claude/.credentials.json",
                    "mcp-config.json" } },
                { "codex", { ".codex" },
                  { ".codex/config.toml", ".codex/AGENTS.md", ".codex/hooks.json", ".codex/rules",
                    ".codex/auth.json" } },
                { "gemini-cli", { ".gemini" }, { ".gemini/GEMINI.md", ".gemini/settings.json" } },
                { "hermes", { ".hermes" }, { ".hermes/config.yaml", ".claude/.credentials.json" } },
        };
        static const char *const project[] = { "CLAUDE.md", ".claude", ".mcp.json", ".gemini", ".codex", "SOUL.md",
                                               "AGENTS.md" };
        const AgentHome *h = w->spec->home;
        int r;

        r = add_writable(w, ret);
        for (size_t i = 0; i < ELEMENTSOF(own) && r >= 0; i++) {
                if (!streq(own[i].harness, w->spec->harness))
                        continue;
                for (size_t k = 0; k < ELEMENTSOF(own[i].writable) && own[i].writable[k] && r >= 0; k++)
                        r = add(w, &ret->read_write, h->directory, own[i].writable[k]);
                for (size_t k = 0; k < ELEMENTSOF(own[i].readable) && own[i].readable[k] && r >= 0; k++)
                        r = add(w, &ret->read_only, h->directory, own[i].readable[k]);
        }
        /* The last two are a role's; in others' workspaces they are files like all. */
        for (size_t i = 0; i < ELEMENTSOF(project) - (h->role ? 0 : 2) && r >= 0; i++)
                r = add(w, &ret->read_only, h->workspace, project[i]);
        return r;
}
