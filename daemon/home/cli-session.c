/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <time.h>

#include "cli-file.h"
#include "cli-home.h"
#include "string-util.h"

#define SESSION_FILE "cli_session.json"
#define SESSION_SIZE_MAX KIB(64)
#define SESSION_ID_MAX 200U
#define CLAUDE "claude-code"

/* It becomes an argument of a command line. */
static bool session_id_is_valid(const char *s) {
        size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.");

        return n > 0 && n <= SESSION_ID_MAX && s[n] == 0 && *s != '-' && *s != '.';
}

static int home_root(const AgentHome *h) {
        int fd = open(h->directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* What was written before there were several harnesses is Claude's. */
static const char* harness_of(json_object *o) {
        return json_get(o, "harness") ? strempty(json_get_string(o, "harness")) : CLAUDE;
}

static int session_read(int root, const char *harness, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r = cli_file_read_object(root, SESSION_FILE, SESSION_SIZE_MAX, &o);

        if (r < 0)
                return r == -ENOMEM ? r : 0;
        if (!streq(harness_of(o), harness))
                return 0;
        *ret = TAKE_PTR(o);
        return 1;
}

int cli_session_load(const AgentHome *h, const char *harness, char **ret) {
        _cleanup_close_ int root = home_root(h);
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *id = NULL;
        size_t n;
        int r;

        *ret = NULL;
        if (root < 0)
                return root;
        r = session_read(root, harness, &o);
        if (r <= 0)
                return r;
        id = strdup(strempty(json_get_string(o, "session_id")));
        if (!id)
                return -ENOMEM;
        n = strspn(id, " \t\r\n");
        (void) memmove(id, id + n, strlen(id + n) + 1);
        n = strlen(id);
        while (n > 0 && strchr(" \t\r\n", id[n - 1]))
                id[--n] = 0;
        if (!session_id_is_valid(id)) {
                if (streq(harness, CLAUDE)) /* nothing that could be resumed */
                        return 0;
                *id = 0;
        }
        *ret = TAKE_PTR(id);
        return 1;
}

int cli_session_save(const AgentHome *h, const char *harness, const char *model, const char *session_id) {
        _cleanup_json_ json_object *present = NULL, *o = NULL;
        _cleanup_close_ int root = home_root(h);
        bool claude = streq(harness, CLAUDE);
        int64_t now = (int64_t) time(NULL);
        int r;

        if (root < 0)
                return root;
        if (!session_id)
                return unlinkat(root, SESSION_FILE, 0) < 0 && errno != ENOENT ? -errno : 0;
        if (!session_id_is_valid(session_id) && (claude || *session_id))
                return -EINVAL;

        r = session_read(root, harness, &present);
        if (r < 0)
                return r;
        if (r > 0 && streq_ptr(json_get_string(present, "session_id"), session_id) &&
            streq(strempty(json_get_string(present, "model")), strempty(model)))
                return 0;

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        r = json_put_string(o, "session_id", session_id);
        if (r >= 0)
                r = claude ? json_put_int(o, "updated_at", now)
                           : json_put_int(o, "first_turn_at", json_get_int(present, "first_turn_at", now));
        if (r >= 0)
                r = json_put_string(o, "harness", harness);
        if (r >= 0)
                r = json_put_string(o, "model", strempty(model));
        if (r >= 0) {
                _cleanup_free_ char *line = NULL;
                const char *text = json_text(o, NULL);

                line = text ? strjoin(text, "\n") : NULL;
                r = line ? cli_file_write(root, SESSION_FILE, line, strlen(line), 0600, CLI_FILE_SYNC) : -ENOMEM;
        }
        return MIN(r, 0);
}
