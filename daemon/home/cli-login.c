/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include "cli-file.h"
#include "cli-login.h"
#include "event-util.h"
#include "file-util.h"
#include "string-util.h"

#define LOGIN ".claude/.credentials.json"
#define LOGIN_SIZE_MAX KIB(256)
#define SCOPES_MAX ((size_t) 32)
#define NO_LOGIN "{}\n"
#define RETRY_USEC (600 * USEC_PER_SEC)
#define EXPIRES_MSEC_MAX (INT64_MAX / 1000)

/* The part with the tokens; NULL: there is none. */
static json_object* tokens_of(json_object *file) {
        json_object *tokens = json_get(file, "claudeAiOauth");

        return isempty(json_get_string(tokens, "accessToken")) ? NULL : tokens;
}

static void login_judge(json_object *tokens, CliLogin *l) {
        int64_t expires_msec = json_get_int(tokens, "expiresAt", 0);

        l->expires_usec = USEC_INFINITY;
        l->state = tokens ? CLI_LOGIN_VALID : CLI_LOGIN_MISSING;
        if (!tokens || expires_msec <= 0 || expires_msec > EXPIRES_MSEC_MAX)
                return;
        l->expires_usec = (uint64_t) expires_msec * USEC_PER_MSEC;
        if (l->expires_usec <= now_realtime_usec())
                l->state = CLI_LOGIN_EXPIRED;
}

static int parse(char *text, size_t size, json_object **ret) {
        int r = json_parse(text, size, ret);

        sodium_memzero(text, size);
        return r == -ENOMEM ? r : 0;
}

/* *ret NULL: there is none, or it makes no sense. */
static int file_load(const char *path, json_object **ret) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        *ret = NULL;
        r = file_read(path, LOGIN_SIZE_MAX, &text, &size);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        return parse(text, size, ret);
}

bool cli_login_is_for(const AgentConfig *c) {
        const char *harness = agent_config_harness(c);

        return streq(harness, "claude-code") || (streq(harness, "hermes") && !streq(c->provider, "openai"));
}

int cli_login_read(const char *path, CliLogin *ret, bool *ret_renewable) {
        _cleanup_json_ json_object *file = NULL;
        json_object *tokens;
        int r;

        r = file_load(path, &file);
        if (r < 0)
                return r;
        tokens = tokens_of(file);
        *ret = (CliLogin) {};
        login_judge(tokens, ret);
        if (ret_renewable)
                *ret_renewable = !isempty(json_get_string(tokens, "refreshToken"));
        return 0;
}

/* What lets a CLI work, and nothing that lets it work for longer. */
static int view_new(json_object *tokens, char **ret) {
        static const char *const keys[] = {
                "accessToken", "expiresAt", "scopes", "subscriptionType", "rateLimitTier",
        };
        _cleanup_json_ json_object *view = json_object_new_object(), *part = json_object_new_object();
        const char *text;
        int r = 0;

        if (!view || !part)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(keys) && r >= 0; i++) {
                json_object *v = json_get(tokens, keys[i]);

                if (v)
                        r = json_put(part, keys[i], json_object_get(v));
        }
        if (r >= 0)
                r = json_put(view, "claudeAiOauth", TAKE_PTR(part));
        if (r < 0)
                return r;
        text = json_text(view, NULL);
        *ret = text ? strdup(text) : NULL;
        return *ret ? 0 : -ENOMEM;
}

/* What an earlier puffo-agent has put there leads to the operator's own file. */
static int remove_link(int fd, const char *name) {
        struct stat st;

        if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        return S_ISLNK(st.st_mode) && unlinkat(fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* A login of the agent's own has a refresh token, a view has none. */
static int own_read(int fd, const char *name, CliLogin *ret, bool *ret_own) {
        _cleanup_json_ json_object *file = NULL;
        _cleanup_free_ char *text = NULL;
        json_object *tokens;
        size_t size;
        int r;

        r = cli_file_read(fd, name, LOGIN_SIZE_MAX, &text, &size);
        r = r == -ENOMEM ? r : r < 0 ? 0 : parse(text, size, &file);
        if (r < 0)
                return r;
        tokens = tokens_of(file);
        login_judge(tokens, ret);
        *ret_own = !isempty(json_get_string(tokens, "refreshToken"));
        if (*ret_own) { /* the CLI sees to that by itself */
                ret->state = CLI_LOGIN_VALID;
                ret->expires_usec = USEC_INFINITY;
        }
        return 0;
}

static int without_operator(const AgentHome *h, bool logged_out, CliLogin *ret) {
        _cleanup_close_ int fd = cli_directory_in(h->directory, ".claude", /* make= */ false);
        const char *name = strrchr(LOGIN, '/') + 1;
        bool own;
        int r;

        *ret = (CliLogin) { .state = CLI_LOGIN_MISSING, .expires_usec = USEC_INFINITY };
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        r = remove_link(fd, name);
        if (r >= 0)
                r = own_read(fd, name, ret, &own);
        if (r < 0 || own || !logged_out)
                return r;
        ret->state = CLI_LOGIN_MISSING;
        return unlinkat(fd, name, 0) < 0 && errno != ENOENT && errno != EISDIR ? -errno : 0;
}

int cli_login_sync(const AgentHome *h, const char *user_home, CliLogin *ret) {
        _cleanup_free_ char *path = user_home ? path_join(user_home, LOGIN) : NULL, *view = NULL;
        _cleanup_json_ json_object *file = NULL;
        _cleanup_close_ int fd = -EBADF;
        json_object *tokens;
        int r = 0;

        if (user_home && !path)
                return -ENOMEM;
        if (path)
                r = file_load(path, &file);
        if (r < 0)
                return r;
        tokens = tokens_of(file);
        if (!tokens) /* logging out leaves a file without tokens */
                return without_operator(h, json_object_is_type(file, json_type_object), ret);

        r = view_new(tokens, &view);
        if (r < 0)
                return r;
        fd = cli_directory_in(h->directory, ".claude", /* make= */ true);
        r = fd < 0 ? fd : cli_file_write(fd, strrchr(LOGIN, '/') + 1, view, strlen(view), 0600, CLI_FILE_KEEP_INODE);
        sodium_memzero(view, strlen(view));
        if (r < 0)
                return r;
        *ret = (CliLogin) { .link = r > 0 ? CLI_LOGIN_COPIED : CLI_LOGIN_FRESH };
        login_judge(tokens, ret);
        return 0;
}

int cli_login_remove(const AgentHome *h) {
        _cleanup_close_ int fd = cli_directory_in(h->directory, ".claude", /* make= */ true);
        const char *name = strrchr(LOGIN, '/') + 1;
        CliLogin l;
        bool own;
        int r;

        if (fd < 0)
                return fd;
        r = remove_link(fd, name);
        if (r >= 0)
                r = own_read(fd, name, &l, &own);
        if (r < 0)
                return r;
        r = cli_file_write(fd, name, NO_LOGIN, strlen(NO_LOGIN), 0600, CLI_FILE_KEEP_INODE);
        return r < 0 ? r : l.state != CLI_LOGIN_MISSING;
}

uint64_t cli_login_refresh_usec(const CliLogin *l, uint64_t attempt_usec) {
        uint64_t due;

        if (l->link == CLI_LOGIN_NO_OPERATOR || l->state == CLI_LOGIN_MISSING || l->expires_usec == USEC_INFINITY)
                return USEC_INFINITY;
        due = l->expires_usec > CLI_LOGIN_REFRESH_BEFORE_USEC ? l->expires_usec - CLI_LOGIN_REFRESH_BEFORE_USEC : 0;
        return attempt_usec > 0 ? MAX(due, attempt_usec + RETRY_USEC) : due;
}

/* ---- for people ---- */

void cli_login_file_done(CliLoginFile *f) {
        free(f->path);
        free(f->problem);
        (void) strv_free(f->scopes);
        *f = (CliLoginFile) {};
}

static int take_scopes(json_object *tokens, CliLoginFile *f) {
        json_object *list = json_get(tokens, "scopes");
        int r = 0;

        if (!json_object_is_type(list, json_type_array))
                return 0;
        for (size_t i = 0; i < MIN(json_object_array_length(list), SCOPES_MAX) && r >= 0; i++) {
                json_object *scope = json_object_array_get_idx(list, i);
                _cleanup_free_ char *text = NULL;

                if (!json_object_is_type(scope, json_type_string))
                        continue;
                text = str_printable(json_object_get_string(scope), 100);
                r = text ? strv_extend(&f->scopes, text) : -ENOMEM;
        }
        return r;
}

/* file: NULL when it is none of a login. without: what it is called when it has none in it. */
static int describe(json_object *file, const char *without, CliLoginFile *f) {
        json_object *tokens = json_get(file, "claudeAiOauth");
        int64_t expires_msec = json_get_int(tokens, "expiresAt", 0);

        if (!json_object_is_type(tokens, json_type_object)) {
                bool none = json_object_is_type(file, json_type_object) && !tokens;

                f->problem = strdup(none ? without : "parse-error: it is no JSON of a login");
                return f->problem ? 0 : -ENOMEM;
        }
        if (expires_msec > 0 && expires_msec <= EXPIRES_MSEC_MAX)
                f->expires_usec = (uint64_t) expires_msec * USEC_PER_MSEC;
        f->has_access_token = !isempty(json_get_string(tokens, "accessToken"));
        f->has_refresh_token = !isempty(json_get_string(tokens, "refreshToken"));
        return take_scopes(tokens, f);
}

static int look(int fd, const char *name, const char *without, CliLoginFile *f) {
        _cleanup_json_ json_object *file = NULL;
        _cleanup_free_ char *text = NULL;
        struct stat st;
        size_t size;
        int r;

        r = fd < 0 ? fd : fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
        if (r >= 0) {
                f->modified_usec = (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC;
                r = cli_file_read(fd, name, LOGIN_SIZE_MAX, &text, &size);
        }
        if (r >= 0)
                r = parse(text, size, &file);
        if (r == -ENOMEM)
                return r;
        if (r >= 0)
                return describe(file, without, f);
        f->problem = r == -ENOENT ? strdup("not present") : strjoin("stat failed: ", strerror(-r));
        return f->problem ? 0 : -ENOMEM;
}

static int look_below(const char *directory, const char *without, CliLoginFile *ret) {
        _cleanup_(cli_login_file_done) CliLoginFile f = { .path = path_join(directory, LOGIN) };
        _cleanup_close_ int root = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;
        int r;

        if (!f.path)
                return -ENOMEM;
        fd = root < 0 ? -errno : cli_directory_open(root, ".claude", O_PATH);
        r = look(fd, strrchr(LOGIN, '/') + 1, without, &f);
        if (r < 0)
                return r;
        *ret = f;
        f = (CliLoginFile) {};
        return 0;
}

int cli_login_look_operator(const char *user_home, CliLoginFile *ret) {
        return look_below(user_home, "not logged in", ret);
}

int cli_login_look_agent(const AgentHome *h, CliLoginFile *ret) {
        /* What cli_login_remove() leaves. */
        return look_below(h->directory, CLI_LOGIN_HAS_KEY, ret);
}
