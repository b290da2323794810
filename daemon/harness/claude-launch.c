/* SPDX-License-Identifier: MIT */

#include "claude.h"

static const char *const modes[] = { "default", "acceptEdits", "plan", "dontAsk", "auto" };

static const struct { const char *name, *value; } switches[] = {
        { "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1" },
        { "DISABLE_AUTOUPDATER", "1" },
        { "DISABLE_BUG_COMMAND", "1" },
        { "CLAUDE_CODE_MAX_RETRIES", "4" },
        /* Both begin turns of their own, which nobody has asked for and nobody reads. */
        { "CLAUDE_CODE_DISABLE_CRON", "1" },
        { "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS", "1" },
};

static int launch_common(const HarnessSetup *s, HarnessLaunch *l) {
        static const char *const words[] = {
                "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose",
                "--include-partial-messages",
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(words) && r >= 0; i++)
                r = launch_add(l, words[i]);
        for (size_t i = 0; i < ELEMENTSOF(switches) && r >= 0; i++)
                r = launch_set(l, switches[i].name, switches[i].value);
        if (r >= 0 && !isempty(s->model))
                r = launch_add_value(l, "--model", s->model);
        for (size_t i = 0; i < strv_length(s->extra_dirs) && r >= 0; i++)
                r = launch_add_value(l, "--add-dir", s->extra_dirs[i]);
        if (r >= 0 && !isempty(s->model_token)) {
                r = launch_set(l, "ANTHROPIC_BASE_URL", "http://127.0.0.1:{model_port}");
                if (r >= 0)
                        r = launch_set(l, "ANTHROPIC_API_KEY", s->model_token);
                /* Neither is to be had another way: not by what the model writes into a file of settings meanwhile. */
                if (r >= 0)
                        r = launch_set(l, "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST", "1");
        }
        return r;
}

/* The agent's tools need no permission, but for the one that has a program started: where somebody is asked about
 * commands, he is asked about that. Such a rule goes before those that allow. */
#define ASKED "{\"permissions\":{\"ask\":[\"mcp__puffo__install_mcp_server\"]}}"

static int launch_add_mode(const HarnessSetup *s, HarnessLaunch *l) {
        const char *mode = isempty(s->permission_mode) ? "default" : s->permission_mode;
        int r;

        if (streq(mode, "bypassPermissions"))
                return launch_add(l, "--dangerously-skip-permissions");
        for (size_t i = 0; i < ELEMENTSOF(modes); i++)
                if (streq(mode, modes[i])) {
                        r = launch_add_value(l, "--permission-mode", mode);
                        if (r >= 0)
                                r = launch_add_value(l, "--permission-prompt-tool", "stdio");
                        return r < 0 ? r : launch_add_value(l, "--settings", ASKED);
                }
        return -EINVAL;
}

/* It takes titles as well, and says of anything else that it is no id: only for what it has given out itself there is
 * a conversation to go on with. */
bool claude_session_id_is_valid(const char *id) {
        sd_id128_t parsed;

        return id && strlen(id) == 36 && sd_id128_from_string(id, &parsed) >= 0;
}

int claude_launch(const HarnessSetup *s, HarnessLaunch *l) {
        int r;

        r = launch_common(s, l);
        if (r >= 0)
                r = launch_add_mode(s, l);
        if (r >= 0)
                r = launch_add_value(l, "--allowedTools", "mcp__puffo");
        if (r >= 0 && !isempty(s->mcp_config)) {
                r = launch_add_value(l, "--mcp-config", s->mcp_config);
                if (r >= 0)
                        r = launch_add(l, "--strict-mcp-config");
        }
        if (r >= 0 && claude_session_id_is_valid(s->session_id))
                r = launch_add_value(l, "--resume", s->session_id);
        return r;
}

int claude_sdk_launch(const HarnessSetup *s, HarnessLaunch *l) {
        _cleanup_free_ char *turns = asprintf_new("%" PRIu64, s->max_turns > 0 ? s->max_turns : 10);
        int r;

        if (!turns)
                return -ENOMEM;
        r = launch_common(s, l);
        if (r >= 0)
                r = launch_add_value(l, "--permission-mode", "default");
        if (r >= 0)
                r = launch_add_value(l, "--permission-prompt-tool", "stdio");
        if (r >= 0)
                r = launch_add_value(l, "--setting-sources", "project");
        /* A server is a program: what is in the project would be started past the list of what may be called. */
        if (r >= 0)
                r = launch_add(l, "--strict-mcp-config");
        if (r >= 0)
                r = launch_add_value(l, "--max-turns", turns);
        if (r >= 0)
                r = launch_add(l, "--no-session-persistence");
        return r;
}
