/* SPDX-License-Identifier: MIT */

/* The operator's login with Codex (~/.codex/auth.json): the tokens of an account, or a key. */

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include "cli-file.h"
#include "cli-login.h"
#include "file-util.h"
#include "string-util.h"

#define DIRECTORY ".codex"
#define LOGIN "auth.json"
#define LOGIN_SIZE_MAX KIB(256)

static json_object* tokens_of(json_object *file) {
        json_object *tokens = json_get(file, "tokens");

        return isempty(json_get_string(tokens, "access_token")) ? NULL : tokens;
}

/* *ret NULL: there is none, or it makes no sense. */
static int operators(const char *user_home, json_object **ret) {
        _cleanup_free_ char *path = user_home ? path_join(user_home, DIRECTORY "/" LOGIN) : NULL, *text = NULL;
        size_t size;
        int r;

        *ret = NULL;
        if (!path)
                return user_home ? -ENOMEM : 0;
        r = file_read(path, LOGIN_SIZE_MAX, &text, &size);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        r = json_parse(text, size, ret);
        sodium_memzero(text, size);
        return r == -ENOMEM ? r : 0;
}

int codex_login_key(const char *user_home, char **ret) {
        _cleanup_json_ json_object *file = NULL;
        const char *key;
        int r;

        *ret = NULL;
        r = operators(user_home, &file);
        key = r < 0 ? NULL : json_get_string(file, "OPENAI_API_KEY");
        /* With an account the key stands beside it, and is not what is paid for. */
        if (r < 0 || isempty(key) || tokens_of(file))
                return r;
        *ret = strdup(key);
        sodium_memzero((char*) key, strlen(key));
        return *ret ? 1 : -ENOMEM;
}

/* What lets it work, and nothing that lets it work for longer: the field itself must be there. */
static int view_new(json_object *file, char **ret) {
        static const char *const keys[] = { "id_token", "access_token", "account_id" };
        _cleanup_json_ json_object *view = json_object_new_object(), *part = json_object_new_object();
        const char *text;
        int r;

        if (!view || !part)
                return -ENOMEM;
        r = json_put_string(view, "auth_mode", json_get_string(file, "auth_mode") ?: "chatgpt");
        if (r >= 0)
                r = json_put_null(view, "OPENAI_API_KEY");
        for (size_t i = 0; i < ELEMENTSOF(keys) && r >= 0; i++)
                if (json_get(tokens_of(file), keys[i]))
                        r = json_put(part, keys[i], json_object_get(json_get(tokens_of(file), keys[i])));
        if (r >= 0)
                r = json_put_string(part, "refresh_token", "");
        if (r >= 0)
                r = json_put(view, "tokens", TAKE_PTR(part));
        if (r >= 0 && json_get_string(file, "last_refresh"))
                r = json_put_string(view, "last_refresh", json_get_string(file, "last_refresh"));
        if (r < 0)
                return r;
        text = json_text(view, NULL);
        *ret = text ? strdup(text) : NULL;
        return *ret ? 0 : -ENOMEM;
}

/* A login of the agent's own has a refresh token, a view has an empty one. A key stays nowhere that a model can read.
 */
static int without_operator(const AgentHome *h, CliLogin *ret) {
        _cleanup_close_ int fd = cli_directory_in(h->directory, DIRECTORY, /* make= */ false);
        _cleanup_json_ json_object *file = NULL;
        struct stat st;
        int r;

        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        r = cli_file_read_object(fd, LOGIN, LOGIN_SIZE_MAX, &file);
        if (r == -ENOMEM)
                return r;
        if (!isempty(json_get_string(tokens_of(file), "refresh_token"))) {
                ret->state = CLI_LOGIN_VALID;
                return 0;
        }
        if (fstatat(fd, LOGIN, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        return S_ISDIR(st.st_mode) || unlinkat(fd, LOGIN, 0) >= 0 || errno == ENOENT ? 0 : -errno;
}

int codex_login_look(const AgentHome *h, const char *user_home, CliLogin *ret) {
        _cleanup_json_ json_object *file = NULL, *own = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        *ret = (CliLogin) { .state = CLI_LOGIN_MISSING, .expires_usec = USEC_INFINITY };
        r = operators(user_home, &file);
        if (r >= 0 && !tokens_of(file)) {
                fd = cli_directory_in(h->directory, DIRECTORY, /* make= */ false);
                r = fd >= 0 ? cli_file_read_object(fd, LOGIN, LOGIN_SIZE_MAX, &own) : 0;
                if (r == -ENOMEM)
                        return r;
                r = 0;
        }
        if (r >= 0 && (tokens_of(file) || !isempty(json_get_string(tokens_of(own), "refresh_token"))))
                ret->state = CLI_LOGIN_VALID;
        return r;
}

int codex_login_sync(const AgentHome *h, const char *user_home, CliLogin *ret) {
        _cleanup_json_ json_object *file = NULL;
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *view = NULL;
        int r;

        *ret = (CliLogin) { .state = CLI_LOGIN_MISSING, .expires_usec = USEC_INFINITY };
        r = operators(user_home, &file);
        if (r < 0)
                return r;
        if (!tokens_of(file))
                return without_operator(h, ret);
        r = view_new(file, &view);
        if (r < 0)
                return r;
        fd = cli_directory_in(h->directory, DIRECTORY, /* make= */ true);
        r = fd < 0 ? fd : cli_file_write(fd, LOGIN, view, strlen(view), 0600, CLI_FILE_KEEP_INODE);
        sodium_memzero(view, strlen(view));
        if (r < 0)
                return r;
        /* When it expires, it says so itself; nobody but the operator's own Codex refreshes it. */
        ret->state = CLI_LOGIN_VALID;
        return 0;
}

int codex_login_remove(const AgentHome *h) {
        CliLogin l;

        return without_operator(h, &l);
}
