/* SPDX-License-Identifier: MIT */

#include "gemini.h"

/* Nobody can be asked without a terminal: what a mode would ask about is not offered to the model. */
static const struct { const char *mode, *approval; } modes[] = {
        { "default", "default" },
        { "dontAsk", "default" },
        { "acceptEdits", "auto_edit" },
        { "plan", "plan" },
        { "bypassPermissions", "yolo" },
};

static const struct { const char *name, *value; } switches[] = {
        /* Without it, the workspace's settings are not read: that is where its MCP servers are. */
        { "GEMINI_CLI_TRUST_WORKSPACE", "true" },
        /* One process instead of two. */
        { "GEMINI_CLI_NO_RELAUNCH", "true" },
};

static int launch_add_mode(const HarnessSetup *s, HarnessLaunch *l) {
        const char *mode = isempty(s->permission_mode) ? "default" : s->permission_mode;

        for (size_t i = 0; i < ELEMENTSOF(modes); i++)
                if (streq(mode, modes[i].mode))
                        return launch_add_value(l, "--approval-mode", modes[i].approval);
        return -EINVAL;
}

/* Session ids are not given to it: all that is told apart is whether there is a conversation to go on with. */
int gemini_launch(const HarnessSetup *s, HarnessLaunch *l) {
        _cleanup_free_ char *model = launch_model(s->model);
        int r = model ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(switches) && r >= 0; i++)
                r = launch_set(l, switches[i].name, switches[i].value);
        if (r >= 0 && *model)
                r = launch_add_value(l, "--model", model);
        if (r >= 0 && s->session_id) {
                r = launch_add(l, "-r");
                if (r >= 0)
                        r = launch_add(l, "latest");
        }
        if (r >= 0)
                r = launch_add_mode(s, l);
        for (size_t i = 0; i < strv_length(s->extra_dirs) && r >= 0; i++)
                if (!strchr(s->extra_dirs[i], ',')) /* it would read two */
                        r = launch_add_value(l, "--include-directories", s->extra_dirs[i]);
        if (r >= 0)
                r = launch_add(l, "--output-format");
        if (r >= 0)
                r = launch_add(l, "stream-json");
        if (r >= 0 && !isempty(s->model_token)) {
                r = launch_set(l, "GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:{model_port}");
                if (r >= 0)
                        r = launch_set(l, "GEMINI_API_KEY", s->model_token);
        }
        return r;
}
