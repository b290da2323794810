/* SPDX-License-Identifier: MIT */

#include "agent-file.h"
#include "file-util.h"
#include "primer.h"
#include "string-util.h"
#include "template.h"

#define PATH_MAX_CHARS 1000U
#define SLUG_MAX_CHARS 200U
#define TOOL_PREFIX "mcp__puffo__"
#define CONTAINER_WORKSPACE "/workspace"
#define CONTAINER_AGENT "/home/agent/.puffo-agent-state"

static const char primer_text[] =
#include "primer.md.inc"
        ;
static const char profile_text[] =
#include "profile.md.inc"
        ;

/* What is said only where a tool or a fact is there; names as in primer.md. */
static const struct {
        const char *name, *needs, *text;
} skills[] = {
        { "puffo-attachments", "files",
#include "skill-attachments.md.inc"
        },
        { "puffo-channel-history", "get_channel_history",
#include "skill-channel-history.md.inc"
        },
        { "puffo-channel-members", "list_channel_members",
#include "skill-channel-members.md.inc"
        },
        { "puffo-fetch-channel-files", "fetch_channel_files",
#include "skill-fetch-channel-files.md.inc"
        },
        { "puffo-get-post", "get_post",
#include "skill-get-post.md.inc"
        },
        { "puffo-get-user-info", "get_user_info",
#include "skill-get-user-info.md.inc"
        },
        { "puffo-permissions", "permissions",
#include "skill-permissions.md.inc"
        },
        { "puffo-reload-system-prompt", "reload_system_prompt",
#include "skill-reload-system-prompt.md.inc"
        },
        { "puffo-send-message", "send_message",
#include "skill-send-message.md.inc"
        },
        { "puffo-upload-file", "upload_file",
#include "skill-upload-file.md.inc"
        },
};

const char* agent_profile_template(void) {
        return profile_text;
}

/* ---- facts ---- */

#define FACTS_MAX 64U

typedef struct Facts {
        TemplateFact facts[FACTS_MAX];
        size_t n;
        char **texts;                   /* what values point to */
} Facts;

static void facts_done(Facts *f) {
        (void) strv_free(f->texts);
}

static int add(Facts *f, const char *name, const char *value, size_t max_chars) {
        _cleanup_free_ char *shown = str_printable(value, max_chars);
        int r;

        if (!shown)
                return -ENOMEM;
        if (f->n + 1 >= FACTS_MAX)
                return -E2BIG;
        r = strv_extend(&f->texts, shown);
        if (r >= 0)
                f->facts[f->n++] = (TemplateFact) { name, f->texts[strv_length(f->texts) - 1] };
        return r;
}

static int add_path(Facts *f, const char *name, const char *directory, const char *below) {
        _cleanup_free_ char *path = below ? path_join(directory, below) : strdup(directory);

        return path ? add(f, name, path, PATH_MAX_CHARS) : -ENOMEM;
}

static int add_tools(Facts *f, const char *const *tools) {
        for (; tools && *tools; tools++) {
                const char *name = startswith(*tools, TOOL_PREFIX) ?: *tools;
                int r = add(f, name, *tools, SLUG_MAX_CHARS);

                if (r < 0)
                        return r;
        }
        return 0;
}

static const char* inside(const char *path, const char *directory) {
        const char *rest = startswith(path, directory);

        return rest && (*rest == '/' || *rest == 0) ? rest : NULL;
}

/* The one directory that all agents see lies beside agents/ in the user's home (agent-home §6); a sandbox does not
 * show it, and in system mode there is none. */
static int add_shared(Facts *f, const AgentHome *h) {
        _cleanup_free_ char *agents = NULL, *home = NULL;
        const char *name;
        int r;

        r = path_split(h->directory, &agents, &name);
        if (r >= 0)
                r = path_split(agents, &home, &name);
        if (r < 0)
                return r;
        return h->role || !streq(name, "agents") ? 0 : add_path(f, "shared", home, "shared");
}

static int add_memory(Facts *f, const AgentHome *h, const AgentConfig *c) {
        _cleanup_free_ char *path = agent_home_path(h, c->memory_dir);

        if (!path)
                return -ENOMEM;
        if (c->kind == RUNTIME_CLI_DOCKER)
                return *c->memory_dir == '/' ? 0 : add_path(f, "memory", CONTAINER_AGENT, c->memory_dir);
        return c->sandbox != SANDBOX_HOST && !inside(path, h->workspace) ? 0 : add_path(f, "memory", path, NULL);
}

/* Who has files at all can also be asked for permission. */
static int add_files(Facts *f, const AgentHome *h, const AgentConfig *c) {
        static const struct { const char *harness, *file; } projects[] = {
                { "claude-code", "CLAUDE.md" }, { "gemini-cli", "GEMINI.md" }, { "codex", "AGENTS.md" },
        };
        const char *harness = c->kind == RUNTIME_SDK_LOCAL ? "claude-code" : agent_config_harness(c);
        int r;

        r = add(f, "files", "yes", SLUG_MAX_CHARS);
        for (size_t i = 0; i < ELEMENTSOF(projects) && r >= 0; i++)
                if (streq(projects[i].harness, harness))
                        r = add(f, "project", projects[i].file, SLUG_MAX_CHARS);
        if (r >= 0)
                r = add_memory(f, h, c);
        if (r >= 0 && c->kind == RUNTIME_CLI_DOCKER)
                r = add_path(f, "shared", CONTAINER_WORKSPACE, ".shared");
        else if (r >= 0 && c->sandbox == SANDBOX_HOST)
                r = add_shared(f, h);
        return r;
}

static int add_permissions(Facts *f, const AgentConfig *c) {
        const char *what = streq(c->permission_mode, "default") ? "commands, changes of files and access to the web" :
                           streq(c->permission_mode, "acceptEdits") ? "commands and access to the web" : NULL;
        _cleanup_free_ char *timeout = NULL;
        int r;

        /* What sdk-local may call is said in runtime.allowed_tools: nobody is asked. */
        if (!what || c->kind == RUNTIME_SDK_LOCAL || !streq(agent_config_harness(c), "claude-code"))
                return 0;
        timeout = asprintf_new("%" PRIu64, c->permission_timeout_usec / USEC_PER_SEC);
        if (!timeout)
                return -ENOMEM;
        r = add(f, "permissions", what, SLUG_MAX_CHARS);
        return r < 0 ? r : add(f, "timeout", timeout, SLUG_MAX_CHARS);
}

static int facts_collect(Facts *f, const AgentHome *h, const AgentConfig *c, const char *const *tools) {
        const char *workspace = c->kind == RUNTIME_CLI_DOCKER ? CONTAINER_WORKSPACE : h->workspace;
        int r;

        r = add_tools(f, tools);
        if (r >= 0)
                r = add(f, "slug", c->slug, SLUG_MAX_CHARS);
        if (r >= 0)
                r = add_path(f, "workspace", workspace, NULL);
        if (r >= 0)
                r = add_path(f, "inbox", workspace, ".puffo/inbox");
        if (r < 0 || c->kind == RUNTIME_CHAT_LOCAL)
                return r;
        r = add_files(f, h, c);
        return r < 0 ? r : add_permissions(f, c);
}

/* ---- texts ---- */

int primer_new(const AgentHome *h, const AgentConfig *c, const char *const *tools, char **ret) {
        _cleanup_(facts_done) Facts f = {};
        int r = facts_collect(&f, h, c, tools);

        return r < 0 ? r : template_render(primer_text, f.facts, ret);
}

static bool is_fact(const Facts *f, const char *name) {
        for (size_t i = 0; i < f->n; i++)
                if (streq(f->facts[i].name, name))
                        return true;
        return false;
}

int agent_home_skill(const AgentHome *h, const AgentConfig *c, const char *const *tools, size_t i,
                     const char **ret_name, char **ret) {
        _cleanup_(facts_done) Facts f = {};
        int r;

        if (i >= ELEMENTSOF(skills))
                return -ENOENT;
        r = facts_collect(&f, h, c, tools);
        if (r < 0)
                return r;
        *ret_name = skills[i].name;
        *ret = NULL;
        return is_fact(&f, skills[i].needs) ? template_render(skills[i].text, f.facts, ret) : 0;
}
