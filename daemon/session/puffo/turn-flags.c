/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "turn-flags.h"
#include "workspace-file.h"

#define DIRECTORY ".puffo-agent"
#define RELOAD "reload.flag"
#define REFRESH "refresh.flag"
#define CURRENT_TURN "current_turn.json"
#define FLAG_SIZE_MAX KIB(64)
#define MODEL_MAX 200U

void turn_flags_done(TurnFlags *f) {
        free(f->model);
        *f = (TurnFlags) {};
}

static int root_open(const char *workspace) {
        int fd = open(workspace, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : fd;
}

/* Whatever it is: a file, a link to nowhere, a directory. */
static int is_there(int fd, const char *name) {
        struct stat st;

        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0)
                return 1;
        return errno == ENOENT ? 0 : -errno;
}

/* A name that goes into a request to a provider, in its address even, and that a model has chosen. */
static bool model_is_valid(const char *s) {
        size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._:/@+");

        return s[n] == 0 && n <= MODEL_MAX && !strstr(s, "..");
}

/* What cannot be read asks for no other model. */
static int read_model(int root, char **ret) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        const char *model;
        size_t size;
        int r;

        r = workspace_read_file(root, DIRECTORY "/" REFRESH, FLAG_SIZE_MAX, &text, &size);
        if (r >= 0)
                r = json_parse(text, size, &o);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        model = json_get_string(o, "model");
        if (!model || !model_is_valid(model))
                return 0;
        *ret = strdup(model);
        return *ret ? 0 : -ENOMEM;
}

static int forget(int root, const char *name) {
        return workspace_remove(root, DIRECTORY, name);
}

int turn_flags_take(const char *workspace, TurnFlags *ret) {
        _cleanup_close_ int root = root_open(workspace), fd = -EBADF;
        int r, refresh, removed = 0;

        *ret = (TurnFlags) {};
        if (root < 0)
                return root == -ENOENT ? 0 : root;
        fd = open_beneath(root, DIRECTORY, O_PATH | O_DIRECTORY);
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;

        r = is_there(fd, RELOAD);
        refresh = is_there(fd, REFRESH);
        if (r > 0)
                ret->reload = true;
        else if (refresh > 0) {
                ret->refresh = true;
                r = read_model(root, &ret->model);
        }
        if (ret->reload)
                removed = forget(root, RELOAD);
        if (refresh > 0)
                refresh = forget(root, REFRESH);
        r = r < 0 ? r : removed < 0 ? removed : refresh;
        return r < 0 ? r : ret->reload || ret->refresh;
}

static int put_members(json_object *o, const CurrentTurn *t) {
        int r = json_put_string(o, "channel_id", strempty(t->channel_id));

        if (r >= 0)
                r = json_put_string(o, "root_id", strempty(t->root_id));
        if (r >= 0)
                r = json_put_string(o, "triggering_post_id", strempty(t->first_envelope));
        if (r >= 0)
                r = json_put_string(o, "peer_slug", strempty(t->peer_slug));
        return r < 0 ? r : json_put_bool(o, "is_dm", t->is_dm);
}

int current_turn_write(const char *workspace, const CurrentTurn *t) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_close_ int root = root_open(workspace), fd = -EBADF;
        char path[sizeof("/proc/self/fd//" CURRENT_TURN) + 11];
        const char *text;
        size_t size;
        int r;

        if (!o)
                return -ENOMEM;
        if (root < 0)
                return root;
        r = put_members(o, t);
        if (r < 0)
                return r;
        text = json_text(o, &size);
        if (!text)
                return -ENOMEM;
        fd = workspace_make_directory(root, DIRECTORY);
        if (fd < 0)
                return fd;
        (void) snprintf(path, sizeof(path), "/proc/self/fd/%i/" CURRENT_TURN, fd);
        return file_write_snapshot(path, text, size, 0600);
}

int current_turn_remove(const char *workspace) {
        _cleanup_close_ int root = root_open(workspace);
        int r;

        if (root < 0)
                return root == -ENOENT ? 0 : root;
        r = forget(root, CURRENT_TURN);
        return r == -ENOENT ? 0 : r;
}
