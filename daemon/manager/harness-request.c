/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#include "bus-util.h"
#include "file-util.h"
#include "harness-home.h"
#include "harness-properties.h"
#include "log.h"
#include "real-names.h"
#include "string-util.h"

#define BINDS_MAX 256U
#define DESCRIPTION_MAX 200U
#define INNER_SOCKETS "/run/puffo/"

HarnessRequest* harness_request_free(HarnessRequest *q) {
        if (!q)
                return NULL;
        for (size_t i = 0; i < q->n_binds; i++) {
                free(q->binds[i].source);
                free(q->binds[i].target);
                safe_close(q->binds[i].fd);
        }
        free(q->binds);
        free(q->description);
        free(q->working_directory);
        return mfree(q);
}

bool path_is_below(const char *path, const char *directory) {
        const char *rest = startswith(path, directory);

        return rest && (!*rest || *rest == '/' || endswith(directory, "/"));
}

/* Control characters, because a transient unit is a file too, and a line of it may not begin in the middle of a path.
 */
static bool path_is_plain(const char *path) {
        if (*path != '/' || strlen(path) >= PATH_MAX)
                return false;
        for (const char *c = path; *c; c++)
                if ((unsigned char) *c < 0x20 || *c == 0x7f)
                        return false;
        for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
                size_t n = strcspn(slash + 1, "/");

                if ((n == 0 && slash[1]) || (n == 1 && slash[1] == '.') ||
                    (n == 2 && strncmp(slash + 1, "..", 2) == 0))
                        return false;
        }
        return true;
}

/* --- what nobody gets --- */

typedef struct Check {
        const Agent *agent;
        const char *given;              /* as in the request */
        bool above_too;                 /* what leads to a protected place is refused as well */
        sd_bus_error *error;
        RealNames *names;
} Check;

static int refuse(const Check *c, const char *why) {
        return bus_error_setf(c->error, PUFFO_ERROR_INVALID_ARGUMENT, "'%.300s' is not for a harness: %s.", c->given,
                              why);
}

/* Both as it is written and where it leads. */
static int check_against(const Check *c, const char *path, const char *place, const char *why) {
        const char *real;
        int r;

        if (isempty(place))
                return 0;
        r = real_names_get(c->names, place, &real);
        if (r < 0)
                return r;
        if (path_is_below(path, place) || (real && path_is_below(path, real)))
                return refuse(c, why);
        if (c->above_too && (path_is_below(place, path) || (real && path_is_below(real, path))))
                return refuse(c, "it holds what no harness may see");
        return 0;
}

static int check_system_places(const Check *c, const char *path) {
        static const struct {
                const char *place, *why;
        } places[] = {
                { "/run", "sockets of the system and of users are there" },
                { "/var/run", "sockets of the system and of users are there" },
                { "/proc", "it is the kernel's" },
                { "/sys", "it is the kernel's" },
                { "/dev", "it is the kernel's" },
                { "/etc/puffo", "keys of model providers are there" },
                { "/tmp/.X11-unix", "sockets of users are there" },
                { "/tmp/.ICE-unix", "sockets of users are there" },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(places) && r >= 0; i++)
                r = check_against(c, path, places[i].place, places[i].why);
        if (r < 0)
                return r;
        if (streq(path, "/tmp") || streq(path, "/var/tmp") || streq(path, "/"))
                return refuse(c, "sockets of users are there");
        for (const char *const *p = (const char *const[]) { "/tmp/ssh-", "/tmp/dbus-", "/tmp/tmux-", NULL }; *p; p++)
                if (startswith(path, *p))
                        return refuse(c, "sockets of users are there");
        return 0;
}

static int check_home(const Check *c, const char *path) {
        static const char *const *const lists[] = { harness_home_hidden, harness_home_read_only };
        const char *home = c->agent->manager->scope == SCOPE_USER ? getenv("HOME") : NULL,
                   *runtime = c->agent->manager->scope == SCOPE_USER ? getenv("XDG_RUNTIME_DIR") : NULL;
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(lists); i++)
                for (const char *const *name = lists[i]; *name && home && r >= 0; name++) {
                        _cleanup_free_ char *place = path_join(home, *name);

                        r = place ? check_against(c, path, place, "keys and units of the user are there") : -ENOMEM;
                }
        return r < 0 ? r : check_against(c, path, runtime, "sockets of the user are there");
}

/* What of its own directory is not for an agent's hands (agent-runtime §19). */
static int check_own(const Check *c, const char *path) {
        static const char *const names[] = { "keys", "agent.yml", "runtime.json", "run", ".puffo-agent" };
        const AgentHome *home = c->agent->home;
        const char *real;
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(names) && r >= 0; i++) {
                _cleanup_free_ char *place = path_join(home->directory, names[i]);

                r = place ? check_against(c, path, place, "it is the agent's own") : -ENOMEM;
        }
        if (r >= 0)
                r = real_names_get(c->names, home->directory, &real);
        for (unsigned i = 0; i < 2 && r >= 0; i++) {
                const char *directory = i == 0 ? home->directory : real;
                _cleanup_free_ char *place = directory ? path_join(directory, "messages.db") : NULL;

                if (directory && !place)
                        return -ENOMEM;
                /* with -wal, -shm, .copied and whatever comes to be there */
                if (place && startswith(path, place))
                        r = refuse(c, "it is the agent's own");
        }
        if (r >= 0) {
                _cleanup_free_ char *flags = path_join(home->workspace, ".puffo-agent");
                Check below = *c;

                /* The workspace itself is fine: that place in it is covered. */
                below.above_too = false;
                r = flags ? check_against(&below, path, flags, "it is the agent's own") : -ENOMEM;
        }
        return r;
}

/* Below root, which holds agents by their names, other agents are; agents that cannot be loaded too. */
static int check_others_in(const Check *c, const char *path, const char *root) {
        const char *own;
        int r = real_names_get(c->names, c->agent->home->directory, &own);

        if (r < 0 || path_is_below(path, c->agent->home->directory) || (own && path_is_below(path, own)))
                return MIN(r, 0);
        return check_against(c, path, root, "other agents are there");
}

/* The homes hold agents, keys of providers and of the pairing. Two directories in them are meant to be shared. */
static int check_homes(const Check *c, const char *path) {
        const HomePaths *p = c->agent->manager->paths;
        const char *const roots[] = { p->agents, p->role_agents }, *const homes[] = { p->home, p->proxy_home };
        _cleanup_free_ char *shared = path_join(p->home, "shared");
        const char *real_shared, *workspace;
        int r = 0;

        if (!shared)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(roots) && r >= 0; i++)
                r = check_others_in(c, path, roots[i]);
        if (r >= 0)
                r = real_names_get(c->names, shared, &real_shared);
        if (r >= 0)
                r = real_names_get(c->names, c->agent->home->workspace, &workspace);
        if (r < 0)
                return r;

        if (path_is_below(path, c->agent->home->workspace) || (workspace && path_is_below(path, workspace)) ||
            path_is_below(path, shared) || (real_shared && path_is_below(path, real_shared)))
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(homes) && r >= 0; i++)
                if (homes[i])
                        r = check_others_in(c, path, homes[i]);
        return r;
}

/* In system mode the session is nobody whose word counts for more than its own directory. */
static int check_system_mode(const Check *c, const char *real, HarnessBindKind kind) {
        static const char *const places[] = { "/usr", "/opt", "/nix/store" };
        const char *own;
        int r;

        if (c->agent->manager->scope != SCOPE_SYSTEM)
                return 0;
        r = real_names_get(c->names, c->agent->home->directory, &own);
        if (r < 0 || (own && path_is_below(real, own)))
                return MIN(r, 0);
        for (size_t i = 0; i < ELEMENTSOF(places) && kind == HARNESS_BIND_READ_ONLY; i++)
                if (path_is_below(real, places[i]))
                        return 0;
        return refuse(c, "it is neither in the agent's directory nor a part of the system");
}

static int check_places(const Check *c, const char *path) {
        int r = check_system_places(c, path);

        if (r >= 0)
                r = check_home(c, path);
        if (r >= 0)
                r = check_own(c, path);
        return r < 0 ? r : check_homes(c, path);
}

/* --- reading --- */

/* What a path leads to. */
typedef struct Found {
        char *real;
        int fd;
        struct stat st;
} Found;

static void found_done(Found *f) {
        free(f->real);
        safe_close(f->fd);
}

/* Takes over what was found. */
static int add_bind(HarnessRequest *q, HarnessBindKind kind, Found *f, const char *target) {
        HarnessBind *grown = reallocarray(q->binds, q->n_binds + 1, sizeof(HarnessBind));
        _cleanup_free_ char *copy = strdup(target);

        if (!grown)
                return -ENOMEM;
        q->binds = grown;
        if (!copy)
                return -ENOMEM;
        q->binds[q->n_binds++] = (HarnessBind) {
                .kind = kind, .source = TAKE_PTR(f->real), .target = TAKE_PTR(copy), .fd = TAKE_FD(f->fd),
                .device = f->st.st_dev, .inode = f->st.st_ino,
        };
        return 0;
}

/* Part by part, as open_beneath(), and without any link: what was none when it was followed has been changed since. */
static int open_without_links(const char *path, struct stat *ret_st) {
        _cleanup_close_ int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *copy = strdup(path);
        char *rest = copy, *part;

        if (!copy)
                return -ENOMEM;
        if (at < 0 || fstat(at, ret_st) < 0)
                return -errno;
        while ((part = strsep(&rest, "/"))) {
                int fd = *part ? openat(at, part, O_PATH | O_NOFOLLOW | O_CLOEXEC) : 0;

                if (!*part)
                        continue;
                if (fd < 0)
                        return -errno;
                safe_close(at);
                at = fd;
                if (fstat(at, ret_st) < 0)
                        return -errno;
                if (S_ISLNK(ret_st->st_mode))
                        return -ELOOP;
        }
        return TAKE_FD(at);
}

static int resolve(const Check *c, Found *ret) {
        _cleanup_(found_done) Found f = { .fd = -EBADF };

        if (!path_is_plain(c->given))
                return refuse(c, "an absolute path without '.', '..', doubled slashes and control characters is "
                                 "expected");
        f.real = realpath(c->given, NULL);
        f.fd = f.real ? open_without_links(f.real, &f.st) : -errno;
        if (f.fd < 0)
                return f.fd == -ENOMEM ? -ENOMEM : refuse(c, strerror(-f.fd));
        *ret = f;
        f = (Found) { .fd = -EBADF };
        return 0;
}

static int take_path(HarnessRequest *q, const Agent *a, RealNames *names, HarnessBindKind kind, const char *path,
                     sd_bus_error *error) {
        _cleanup_(found_done) Found f = { .fd = -EBADF };
        Check c = { a, path, true, error, names };
        int r;

        r = resolve(&c, &f);
        if (r < 0)
                return r;
        if (!S_ISDIR(f.st.st_mode) && !S_ISREG(f.st.st_mode))
                return refuse(&c, "it is neither a directory nor a file");
        /* What is not mounted but there anyway, in the user's own view, may well lead to places that are covered. */
        c.above_too = kind == HARNESS_BIND_READ_ONLY || harness_place_is_covered(a, path) ||
                      harness_place_is_covered(a, f.real);
        r = check_places(&c, path);
        if (r >= 0)
                r = check_places(&c, f.real);
        if (r >= 0)
                r = check_system_mode(&c, f.real, kind);
        return r < 0 ? r : add_bind(q, kind, &f, path);
}

static int take_socket(HarnessRequest *q, const Agent *a, RealNames *names, const char *source, const char *target,
                       sd_bus_error *error) {
        _cleanup_(found_done) Found f = { .fd = -EBADF };
        Check c = { a, source, false, error, names };
        const char *name = startswith(target, INNER_SOCKETS), *own;
        _cleanup_free_ char *run = NULL;
        int r;

        r = resolve(&c, &f);
        if (r >= 0)
                r = real_names_get(names, a->home->directory, &own);
        if (r < 0)
                return r;
        /* Not where a link of that name leads to: the directory is the session's, and so would be every socket of the
         * system. */
        run = own ? strjoin(own, "/run/") : NULL;
        if (own && !run)
                return -ENOMEM;
        if (!S_ISSOCK(f.st.st_mode) || !run || !startswith(f.real, run) || strchr(f.real + strlen(run), '/'))
                return refuse(&c, "a socket in the agent's run directory is expected");
        if (isempty(name) || strlen(name) > 64 || *name == '.' ||
            strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != strlen(name))
                return bus_error_setf(error, PUFFO_ERROR_INVALID_ARGUMENT,
                                      "'%.100s': sockets are shown as " INNER_SOCKETS "NAME.", target);
        return add_bind(q, HARNESS_BIND_SOCKET, &f, target);
}

static int take_paths(HarnessRequest *q, const Agent *a, RealNames *names, HarnessBindKind kind, sd_bus_message *m,
                      sd_bus_error *e) {
        const char *path;
        int r = sd_bus_message_enter_container(m, 'a', "s");

        while (r >= 0 && (r = sd_bus_message_read(m, "s", &path)) > 0) {
                if (q->n_binds >= BINDS_MAX)
                        return bus_error_setf(e, PUFFO_ERROR_INVALID_ARGUMENT, "More than %u paths.", BINDS_MAX);
                r = take_path(q, a, names, kind, path, e);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int take_optional(char ***list, sd_bus_message *m) {
        const char *path;
        int r = sd_bus_message_enter_container(m, 'a', "s");

        while (r >= 0 && (r = sd_bus_message_read(m, "s", &path)) > 0)
                r = strv_length(*list) >= BINDS_MAX ? -E2BIG : strv_extend(list, path);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static bool is_bound(const HarnessRequest *q, const char *path) {
        for (size_t i = 0; i < q->n_binds; i++)
                if (path_is_below(path, q->binds[i].target))
                        return true;
        return false;
}

/* What would be of use, and is no reason to do without a harness. */
static int bind_optional(HarnessRequest *q, const Agent *a, RealNames *names, char *const *list) {
        int r = 0;

        for (size_t i = 0; i < strv_length(list) && r >= 0; i++) {
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

                if (q->n_binds >= BINDS_MAX || is_bound(q, list[i]))
                        continue;
                r = take_path(q, a, names, HARNESS_BIND_READ_ONLY, list[i], &error);
                if (r < 0 && sd_bus_error_has_name(&error, PUFFO_ERROR_INVALID_ARGUMENT)) {
                        (void) log_agent(a, LOG_NOTICE, 0, "The agent's tools do without a path that the environment "
                                         "names: %s", error.message);
                        r = 0;
                }
        }
        return r;
}

static int take_sockets(HarnessRequest *q, const Agent *a, RealNames *names, sd_bus_message *m,
                        sd_bus_error *e) {
        const char *source, *target;
        int r = sd_bus_message_enter_container(m, 'a', "(ss)");

        while (r >= 0 && (r = sd_bus_message_read(m, "(ss)", &source, &target)) > 0) {
                if (q->n_binds >= BINDS_MAX)
                        return bus_error_setf(e, PUFFO_ERROR_INVALID_ARGUMENT, "More than %u paths.", BINDS_MAX);
                r = take_socket(q, a, names, source, target, e);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int take_text(HarnessRequest *q, const char *name, sd_bus_message *m, sd_bus_error *e) {
        const char *text;
        int r = sd_bus_message_read(m, "s", &text);

        if (r < 0)
                return r;
        if (streq(name, "Description")) {
                free(q->description);
                q->description = str_printable(text, DESCRIPTION_MAX);
                return q->description ? 0 : -ENOMEM;
        }
        if (!path_is_plain(text))
                return bus_error_setf(e, PUFFO_ERROR_INVALID_ARGUMENT,
                                      "WorkingDirectory: '%.300s' is no plain absolute path.", text);
        r = free_and_strdup(&q->working_directory, text);
        return MIN(r, 0);
}

static int take_member(HarnessRequest *q, char ***optional, const Agent *a, RealNames *names, const char *name,
                       sd_bus_message *m, sd_bus_error *e) {
        static const struct {
                const char *name, *type;
        } members[] = {
                { "Description", "s" }, { "ReadWritePaths", "as" }, { "ReadOnlyPaths", "as" }, { "Sockets", "a(ss)" },
                { "OptionalPaths", "as" }, { "WorkingDirectory", "s" },
        };
        int r;

        for (size_t i = 0; i < ELEMENTSOF(members); i++) {
                if (!streq(name, members[i].name))
                        continue;
                r = sd_bus_message_enter_container(m, 'v', members[i].type);
                if (r < 0)
                        break;
                r = streq(name, "ReadWritePaths")  ? take_paths(q, a, names, HARNESS_BIND_WRITABLE, m, e)
                    : streq(name, "ReadOnlyPaths") ? take_paths(q, a, names, HARNESS_BIND_READ_ONLY, m, e)
                    : streq(name, "OptionalPaths") ? take_optional(optional, m)
                    : streq(name, "Sockets")       ? take_sockets(q, a, names, m, e)
                                                   : take_text(q, name, m, e);
                return r < 0 ? r : sd_bus_message_exit_container(m);
        }
        return bus_error_setf(e, PUFFO_ERROR_INVALID_ARGUMENT,
                              "'%.80s' is no member of a harness, or of another type.", name);
}

/* --- the whole of it --- */

/* A name in a directory that the harness writes to may have become a link while it ran: it would be mounted where the
 * link leads to, with the harness's next start. */
static int check_links(const HarnessRequest *q, sd_bus_error *e) {
        for (size_t i = 0; i < q->n_binds; i++)
                for (size_t j = 0; j < q->n_binds; j++) {
                        const HarnessBind *in = q->binds + i, *out = q->binds + j;
                        const char *rest;

                        if (out->kind != HARNESS_BIND_WRITABLE || in->kind == HARNESS_BIND_SOCKET ||
                            !path_is_below(in->target, out->target))
                                continue;
                        rest = startswith(in->source, out->source);
                        if (!rest || !streq(rest, in->target + strlen(out->target)))
                                return bus_error_setf(e, PUFFO_ERROR_INVALID_ARGUMENT,
                                                      "'%.300s' is or goes through a link in '%.300s', where a "
                                                      "harness may write.", in->target, out->target);
                }
        return 0;
}

static int check_targets(const HarnessRequest *q, sd_bus_error *e) {
        for (size_t i = 0; i < q->n_binds; i++)
                for (size_t j = 0; j < i; j++)
                        if (streq(q->binds[i].target, q->binds[j].target))
                                return bus_error_setf(e, PUFFO_ERROR_INVALID_ARGUMENT, "'%.300s' is there twice.",
                                                      q->binds[i].target);
        return 0;
}

int harness_request_read(HarnessRequest **ret, const Agent *a, sd_bus_message *m, sd_bus_error *reterr_error) {
        _cleanup_(harness_request_freep) HarnessRequest *q = new0(HarnessRequest, 1);
        _cleanup_(real_names_done) RealNames names = {};
        _cleanup_(strv_freep) char **optional = NULL;
        int r;

        if (!q)
                return -ENOMEM;
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name;

                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = take_member(q, &optional, a, &names, name, m, reterr_error);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r >= 0)
                r = check_targets(q, reterr_error);
        if (r >= 0)
                r = bind_optional(q, a, &names, optional);
        if (r >= 0)
                r = check_links(q, reterr_error);
        if (r < 0)
                return r;

        if (!q->description)
                q->description = strjoin("Tools of AI agent ", a->home->id);
        if (!q->working_directory)
                q->working_directory = strdup("/");
        if (!q->description || !q->working_directory)
                return -ENOMEM;
        *ret = TAKE_PTR(q);
        return 0;
}
