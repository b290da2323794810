/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cli-home-internal.h"
#include "file-util.h"

#define STATE_DIRECTORY ".puffo-agent"
#define STATE_FILE "cli-home.json"
#define STATE_SIZE_MAX MIB(64)
#define CLAUDE_JSON_SIZE_MAX MIB(16)
#define EMPTY_SERVERS "{\n  \"mcpServers\": {}\n}\n"
/* The program that upstream's agents asked for permission with; it asked a service that is no more. */
#define OLD_HOOK "puffo_agent.hooks.permission"

/* ---- the work ---- */

int cli_work_notice(CliWork *w, const char *format, ...) {
        _cleanup_free_ char *line = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&line, format, ap);
        va_end(ap);
        if (r < 0) {
                line = NULL;
                return -ENOMEM;
        }
        if (w->notice.size > 0 && strbuf_puts(&w->notice, "\n") < 0)
                return -ENOMEM;
        return strbuf_puts(&w->notice, line);
}

void cli_work_hash(CliWork *w, const char *text) {
        uint64_t n = text ? strlen(text) : UINT64_MAX;

        (void) crypto_generichash_update(&w->hash, (const uint8_t*) &n, sizeof(n));
        if (text)
                (void) crypto_generichash_update(&w->hash, (const uint8_t*) text, n);
}

int cli_work_state(CliWork *w, const char *key, json_object **ret) {
        json_object *o = json_get(w->state, key);

        if (!json_object_is_type(o, json_type_object)) {
                o = json_object_new_object();
                if (!o || json_put(w->state, key, o) < 0)
                        return -ENOMEM;
        }
        *ret = o;
        return 0;
}

static int state_load(CliWork *w) {
        _cleanup_close_ int fd = cli_directory_open(w->root_fd, STATE_DIRECTORY, O_PATH);
        int r = fd < 0 ? fd : cli_file_read_object(fd, STATE_FILE, STATE_SIZE_MAX, &w->state);

        if (r == -ENOMEM)
                return r;
        if (r < 0) /* all is copied again then */
                w->state = json_object_new_object();
        return w->state ? 0 : -ENOMEM;
}

static int state_save(CliWork *w) {
        _cleanup_close_ int fd = -EBADF;
        const char *text;
        size_t size;

        if (!w->state_changed)
                return 0;
        fd = cli_directory_make(w->root_fd, STATE_DIRECTORY, 0700);
        if (fd < 0)
                return fd;
        text = json_text(w->state, &size);
        return text ? cli_file_write(fd, STATE_FILE, text, size, 0600, 0) : -ENOMEM;
}

static void work_done(CliWork *w) {
        safe_close(w->root_fd);
        safe_close(w->workspace_fd);
        json_object_put(w->state);
        strbuf_done(&w->notice);
}

/* ---- settings ---- */

static bool entry_is_old_hook(json_object *entry) {
        json_object *hooks = json_get(entry, "hooks");

        for (size_t i = 0; json_object_is_type(hooks, json_type_array) && i < json_object_array_length(hooks); i++) {
                const char *command = json_get_string(json_object_array_get_idx(hooks, i), "command");

                if (command && strstr(command, OLD_HOOK))
                        return true;
        }
        return false;
}

/* Only what is empty because of us goes with them. */
static bool remove_old_hooks(json_object *settings) {
        json_object *hooks = json_get(settings, "hooks"), *before = json_get(hooks, "PreToolUse");
        bool removed = false;

        if (!json_object_is_type(before, json_type_array))
                return false;
        for (size_t i = json_object_array_length(before); i-- > 0; )
                if (entry_is_old_hook(json_object_array_get_idx(before, i))) {
                        (void) json_object_array_del_idx(before, i, 1);
                        removed = true;
                }
        if (!removed)
                return false;
        if (json_object_array_length(before) == 0)
                json_object_object_del(hooks, "PreToolUse");
        if (json_object_object_length(hooks) == 0)
                json_object_object_del(settings, "hooks");
        return true;
}

/* A settings file that can be used, if need be with what seed says. *ret: its content. */
static int settings_read(CliWork *w, int dir_fd, const char *shown, json_object *seed, json_object **ret,
                         bool *ret_changed) {
        const char *name = "settings.json";
        struct stat st;
        int r;

        *ret_changed = true;
        r = cli_file_read_object(dir_fd, name, CLI_FILE_SIZE_MAX, ret);
        if (r >= 0) {
                *ret_changed = remove_old_hooks(*ret);
                return 0;
        }
        if (r == -ENOMEM)
                return r;
        if (r != -ENOENT && (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size > 0)) {
                /* A CLI ignores such a file without a word, rules and all. */
                r = cli_file_move_aside(dir_fd, name);
                if (r >= 0)
                        r = cli_work_notice(w, "'%s/%s' cannot be used: it has been moved aside.", shown, name);
                if (r < 0)
                        return r;
        }
        *ret = seed ? json_object_get(seed) : json_object_new_object();
        return *ret ? 0 : -ENOMEM;
}

static int settings_write(CliWork *w, int dir_fd, json_object *settings, bool changed) {
        cli_work_hash(w, json_text(settings, NULL));
        return changed ? cli_file_write_object(dir_fd, "settings.json", settings, 0600, CLI_FILE_KEEP_INODE)
                       : cli_file_ensure(dir_fd, "settings.json", "{}\n", 0600);
}

static int settings_clean(CliWork *w, int dir_fd, const char *shown, json_object *seed) {
        _cleanup_json_ json_object *settings = NULL;
        bool changed;
        int r;

        r = settings_read(w, dir_fd, shown, seed, &settings, &changed);
        return r < 0 ? r : settings_write(w, dir_fd, settings, changed);
}

/* Of the operator's settings what holds for whoever works for him. Not what he allows himself, his hooks, his
 * environment or how he pays. */
static int claude_seed(CliWork *w, json_object **ret) {
        static const char *const keys[] = { "attribution", "cleanupPeriodDays", "includeCoAuthoredBy", "language" };
        _cleanup_json_ json_object *theirs = NULL, *seed = json_object_new_object(), *permissions = NULL;
        _cleanup_free_ char *path = NULL, *text = NULL;
        json_object *deny;
        size_t size;
        int r;

        if (!seed)
                return -ENOMEM;
        if (w->spec->user_home) {
                path = path_join(w->spec->user_home, ".claude/settings.json");
                r = path ? file_read(path, CLI_FILE_SIZE_MAX, &text, &size) : -ENOMEM;
                if (r >= 0)
                        r = json_parse(text, size, &theirs);
                if (r == -ENOMEM)
                        return r;
        }
        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                json_object *v = json_get(theirs, keys[i]);

                if (v && json_put(seed, keys[i], json_object_get(v)) < 0)
                        return -ENOMEM;
        }
        deny = json_get(json_get(theirs, "permissions"), "deny");
        if (json_object_is_type(deny, json_type_array) && json_object_array_length(deny) > 0) {
                permissions = json_object_new_object();
                if (!permissions || json_put(permissions, "deny", json_object_get(deny)) < 0 ||
                    json_put(seed, "permissions", TAKE_PTR(permissions)) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(seed);
        return 0;
}

/* ---- the workspace ---- */

/* What is read-only to the model has to be there, so that a mount can cover it. */
static int workspace_cover(CliWork *w) {
        static const char *const directories[] = { ".claude", ".gemini", STATE_DIRECTORY };
        static const struct { const char *name, *text; mode_t mode; bool role; } files[] = {
                { "CLAUDE.md", "", 0644, false }, { ".mcp.json", EMPTY_SERVERS, 0600, false },
                { "SOUL.md", "", 0644, true }, { "AGENTS.md", "", 0644, true },
        };
        int r;

        for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
                _cleanup_close_ int fd = cli_directory_make(w->workspace_fd, directories[i], 0755);

                if (fd < 0)
                        return fd;
        }
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                if (files[i].role && !w->spec->home->role)
                        continue;
                r = cli_file_ensure(w->workspace_fd, files[i].name, files[i].text, files[i].mode);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The project's own instructions and settings are whoever's: that they are others is all that counts. */
static int workspace_hash(CliWork *w) {
        static const char *const files[] = {
                "CLAUDE.md", "CLAUDE.local.md", ".claude/CLAUDE.md", ".claude/settings.local.json",
        };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_free_ char *facts = NULL;
                struct stat st;

                if (fstatat(w->workspace_fd, files[i], &st, AT_SYMLINK_NOFOLLOW) < 0) {
                        cli_work_hash(w, NULL);
                        continue;
                }
                facts = asprintf_new("%" PRIu64 "/%" PRIi64 "/%" PRIi64 ".%09ld", (uint64_t) st.st_ino,
                                     (int64_t) st.st_size, (int64_t) st.st_mtim.tv_sec, (long) st.st_mtim.tv_nsec);
                if (!facts)
                        return -ENOMEM;
                cli_work_hash(w, facts);
        }
        return cli_skills_hash(w, w->workspace_fd, ".claude/skills");
}

/* ---- what is common ---- */

/* Agents that are on Puffo have theirs from prompt_files_write(). */
static int write_instructions(CliWork *w, int dir_fd, const char *name) {
        const CliHomeSpec *s = w->spec;
        _cleanup_free_ char *prompt = NULL, *profile = NULL;
        int r;

        r = agent_home_read_profile(s->home, s->config, &profile);
        if (r < 0)
                return r;
        cli_work_hash(w, profile);
        if (!isempty(s->config->slug))
                return cli_file_ensure(dir_fd, name, "", 0600);
        r = agent_home_system_prompt(s->home, s->config, NULL, &prompt);
        return r < 0 ? r : cli_file_write(dir_fd, name, prompt, strlen(prompt), 0600, CLI_FILE_KEEP_INODE);
}

/* ---- Claude Code ---- */

/* The model writes this file: variables in it go before those that the CLI is started with, and with them it would
 * call another endpoint than the one that counts; and a key in it is a login. */
static bool claude_drop_ways_out(CliWork *w, json_object *config) {
        static const char *const keys[] = { "env", "primaryApiKey" };
        bool dropped = false;

        for (size_t i = 0; i < ELEMENTSOF(keys) && w->spec->no_login; i++)
                if (json_object_object_get_ex(config, keys[i], NULL)) {
                        json_object_object_del(config, keys[i]);
                        dropped = true;
                }
        return dropped;
}

static int claude_json(CliWork *w, json_object *operators) {
        _cleanup_json_ json_object *config = NULL;
        bool broken;
        int r;

        r = cli_file_read_object(w->root_fd, ".claude.json", CLAUDE_JSON_SIZE_MAX, &config);
        if (r == -ENOMEM)
                return r;
        broken = r < 0;
        if (broken)
                config = json_object_new_object();
        if (!config)
                return -ENOMEM;
        r = cli_mcp_merge(w, ".claude.json", config, operators);
        if (r < 0)
                return r;
        if (claude_drop_ways_out(w, config))
                r = 1;
        /* With an empty or broken one the CLI does not start at all. */
        return r > 0 || broken ? cli_file_write_object(w->root_fd, ".claude.json", config, 0600, CLI_FILE_KEEP_INODE)
                               : cli_file_ensure(w->root_fd, ".claude.json", "{}\n", 0600);
}

static int claude_prepare(CliWork *w, CliHome *ret) {
        _cleanup_json_ json_object *operators = NULL, *seed = NULL;
        _cleanup_close_ int own = -EBADF, project = -EBADF, skills = -EBADF;
        int r;

        own = cli_directory_make(w->root_fd, ".claude", 0700);
        skills = own < 0 ? own : cli_directory_make(own, "skills", 0700);
        project = skills < 0 ? skills : cli_directory_make(w->workspace_fd, ".claude", 0755);
        if (project < 0)
                return project;

        r = cli_mcp_of_operator(w, ".claude.json", &operators);
        if (r >= 0)
                r = claude_json(w, operators);
        if (r >= 0)
                r = cli_mcp_write_config(w, operators);
        if (r >= 0)
                r = claude_seed(w, &seed);
        if (r >= 0)
                r = settings_clean(w, own, ".claude", seed);
        if (r >= 0)
                r = settings_clean(w, project, "workspace/.claude", NULL);
        if (r >= 0)
                r = write_instructions(w, own, "CLAUDE.md");
        if (r >= 0)
                r = cli_skills_sync(w, ".claude/skills", w->root_fd, ".claude/skills");
        if (r >= 0)
                r = cli_skills_hash(w, w->root_fd, ".claude/skills");
        if (r < 0)
                return r;
        ret->mcp_config = path_join(w->spec->home->directory, "mcp-config.json");
        return ret->mcp_config ? 0 : -ENOMEM;
}

/* ---- Gemini CLI ---- */

/* What it is to find in its own settings, where nothing else is said: a string, or a number above 0, or false. A type
 * of login: without it it refuses, as "gateway", an endpoint that is not Google's. No word about its use to others.
 * "@name" in what people write is not the name of whatever file has it as a part of its own. And when the endpoint
 * fails, not ten attempts, minutes long, of which nobody hears. */
static const struct { const char *path[3], *value; int number; } gemini_defaults[] = {
        { { "security", "auth", "selectedType" }, "gemini-api-key", 0 },
        { { "privacy", "usageStatisticsEnabled" }, NULL, 0 },
        { { "context", "fileFiltering", "enableRecursiveFileSearch" }, NULL, 0 },
        { { "general", "maxAttempts" }, NULL, 4 },
};

/* > 0: it was not there. */
static int gemini_default(json_object *settings, size_t i) {
        const char *const *path = gemini_defaults[i].path, *value = gemini_defaults[i].value;
        json_object *at = settings;
        size_t last = path[2] ? 2 : 1;
        int number = gemini_defaults[i].number, r;

        for (size_t j = 0; j < last; j++) {
                json_object *next = json_get(at, path[j]);

                if (!json_object_is_type(next, json_type_object)) {
                        next = json_object_new_object();
                        r = next ? json_put(at, path[j], next) : -ENOMEM;
                        if (r < 0)
                                return r;
                }
                at = next;
        }
        if (value ? !isempty(json_get_string(at, path[last])) :
                    json_object_is_type(json_get(at, path[last]), number > 0 ? json_type_int : json_type_boolean))
                return 0;
        r = value      ? json_put_string(at, path[last], value) :
            number > 0 ? json_put_int(at, path[last], number) : json_put_bool(at, path[last], false);
        return r < 0 ? r : 1;
}

static int gemini_own(CliWork *w, int dir_fd) {
        _cleanup_json_ json_object *settings = NULL;
        bool changed;
        int r;

        r = settings_read(w, dir_fd, ".gemini", NULL, &settings, &changed);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(gemini_defaults); i++) {
                r = gemini_default(settings, i);
                if (r < 0)
                        return r;
                changed |= r > 0;
        }
        return settings_write(w, dir_fd, settings, changed);
}

/* In the workspace, because older versions do not read servers in the user's own settings. */
static int gemini_servers(CliWork *w, int dir_fd) {
        _cleanup_json_ json_object *settings = NULL, *operators = NULL, *puffo = NULL;
        json_object *servers;
        bool changed;
        int r;

        r = cli_mcp_of_operator(w, ".gemini/settings.json", &operators);
        if (r >= 0)
                r = settings_read(w, dir_fd, "workspace/.gemini", NULL, &settings, &changed);
        if (r >= 0)
                r = cli_mcp_merge(w, ".gemini/settings.json", settings, operators);
        if (r < 0)
                return r;
        changed |= r > 0;

        r = cli_mcp_puffo(w, /* gemini= */ true, &puffo);
        if (r < 0)
                return r;
        servers = json_get(settings, "mcpServers");
        if (!json_object_is_type(servers, json_type_object)) {
                servers = json_object_new_object();
                if (!servers || json_put(settings, "mcpServers", servers) < 0)
                        return -ENOMEM;
                changed = true;
        }
        if (!json_object_equal(json_get(servers, "puffo"), puffo)) {
                json_object_object_del(servers, "puffo");
                if (puffo && json_put(servers, "puffo", TAKE_PTR(puffo)) < 0)
                        return -ENOMEM;
                changed = true;
        }
        return settings_write(w, dir_fd, settings, changed);
}

static int gemini_prepare(CliWork *w) {
        _cleanup_close_ int own = -EBADF, project = -EBADF;
        int r;

        own = cli_directory_make(w->root_fd, ".gemini", 0700);
        project = own < 0 ? own : cli_directory_make(w->workspace_fd, ".gemini", 0755);
        if (project < 0)
                return project;
        r = gemini_own(w, own);
        if (r >= 0)
                r = gemini_servers(w, project);
        if (r >= 0)
                r = write_instructions(w, own, "GEMINI.md");
        if (r >= 0)
                r = cli_skills_sync(w, ".gemini/skills", w->workspace_fd, ".gemini/skills");
        return r;
}

/* ---- */

void cli_home_done(CliHome *h) {
        h->read_write = strv_free(h->read_write);
        h->read_only = strv_free(h->read_only);
        h->mcp_config = mfree(h->mcp_config);
        if (h->codex_config)
                explicit_bzero(h->codex_config, strlen(h->codex_config));
        h->codex_config = mfree(h->codex_config);
        h->notice = mfree(h->notice);
}

static int prepare(CliWork *w, CliHome *ret) {
        const char *harness = w->spec->harness;
        int r;

        r = state_load(w);
        if (r >= 0)
                r = workspace_cover(w);
        if (r < 0)
                return r;
        r = streq(harness, "claude-code") ? claude_prepare(w, ret) :
            streq(harness, "codex") ? cli_codex_prepare(w, ret) :
            streq(harness, "gemini-cli") ? gemini_prepare(w) :
            streq(harness, "hermes") ? cli_hermes_prepare(w) : -EINVAL;
        if (r >= 0)
                r = cli_paths_collect(w, ret);
        if (r >= 0)
                r = workspace_hash(w);
        return r < 0 ? r : state_save(w);
}

int cli_home_prepare(CliHome *ret, const CliHomeSpec *spec) {
        _cleanup_(work_done) CliWork w = { .spec = spec, .root_fd = -EBADF, .workspace_fd = -EBADF };
        _cleanup_(cli_home_done) CliHome home = {};
        int r;

        (void) crypto_generichash_init(&w.hash, NULL, 0, sizeof(home.hash));
        cli_work_hash(&w, spec->harness);
        cli_work_hash(&w, sandbox_profile_to_string(spec->config->sandbox));
        w.root_fd = open(spec->home->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (w.root_fd < 0)
                return -errno;
        w.workspace_fd = open(spec->home->workspace, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (w.workspace_fd < 0)
                return -errno;

        r = prepare(&w, &home);
        if (r < 0)
                return r;
        if (w.notice.size > 0) {
                home.notice = strbuf_take(&w.notice);
                if (!home.notice)
                        return -ENOMEM;
        }
        (void) crypto_generichash_final(&w.hash, home.hash, sizeof(home.hash));
        *ret = home;
        home = (CliHome) {};
        return 0;
}
