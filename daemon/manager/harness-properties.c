/* SPDX-License-Identifier: MIT */

/* What a harness's transient unit is made of: the profiles of systemd-facts §13. What systemd 252 cannot do for an
 * ordinary user, the first program in it does. */

#include <signal.h>

#include "bus-util.h"
#include "config.h"
#include "file-util.h"
#include "harness-home.h"
#include "harness-properties.h"
#include "string-util.h"
#include "unit-property.h"
#include "unit.h"

#define SANDBOX_PROGRAM PKGLIBEXECDIR "/puffo-sandbox"

/* Sessions have what their service manager gives, 200 below a user's: a harness goes before its session. */
#define OOM_SCORE_ADJUST 500

/* A whole sandbox: for an agent, or to see whether there is one. */
typedef struct Sandbox {
        const Manager *manager;
        SandboxProfile profile;
        const AgentHome *home;          /* NULL: nobody's */
        const char *user;               /* of the unit, in system mode */
        HarnessHome user_home;          /* in user mode, where it is seen */
} Sandbox;

static void sandbox_done(Sandbox *s) {
        harness_home_done(&s->user_home);
}

static int sandbox_prepare(Sandbox *s, char **reterr_reason) {
        const char *home = s->manager->scope == SCOPE_USER ? getenv("HOME") : NULL;

        return s->profile != SANDBOX_HOST || isempty(home) ? 0 :
               harness_home_make(&s->user_home, home, reterr_reason);
}

/* --- places --- */

/* Covered by ProtectHome=tmpfs. */
static bool is_in_home(const char *path) {
        return path_is_below(path, "/home") || path_is_below(path, "/root") || path_is_below(path, "/run/user");
}

/* Directories that a sandbox has an empty one in the place of. ret has room for all, the list ends with NULL. */
static void list_covered(const Sandbox *s, const char *ret[static 8]) {
        const HomePaths *p = s->manager->paths;
        bool host = s->profile == SANDBOX_HOST;
        const char *home = s->manager->scope == SCOPE_USER ? getenv("HOME") : NULL;
        size_t n = 0;

        if (s->manager->scope == SCOPE_SYSTEM && !host)
                ret[n++] = "/var/lib";
        else if (s->manager->scope == SCOPE_SYSTEM) {
                ret[n++] = "/var/lib/private";
                ret[n++] = "/var/lib/puffo";
                ret[n++] = "/var/lib/puffod";
        } else {
                /* A home may be anywhere. */
                if (!host && home && *home == '/' && !is_in_home(home))
                        ret[n++] = home;
                if (host || !is_in_home(p->home))
                        ret[n++] = p->home;
                if (p->proxy_home && (host || !is_in_home(p->proxy_home)))
                        ret[n++] = p->proxy_home;
        }
        ret[n] = NULL;
}

static bool place_is_covered(const Sandbox *s, const char *path) {
        const char *covered[8];

        if (s->profile != SANDBOX_HOST && is_in_home(path))
                return true;
        if (path_is_below(path, "/tmp") || path_is_below(path, "/var/tmp"))
                return true;
        list_covered(s, covered);
        for (const char *const *c = covered; *c; c++) {
                _cleanup_free_ char *real = realpath(*c, NULL);

                if (path_is_below(path, *c) || (real && path_is_below(path, real)))
                        return true;
        }
        return false;
}

bool harness_place_is_covered(const Agent *a, const char *path) {
        const Sandbox s = { .manager = a->manager, .profile = a->config->sandbox, .home = a->home };

        /* The others cover everything: what is writable is mounted. */
        return s.profile != SANDBOX_HOST || place_is_covered(&s, path);
}

/* --- properties --- */

/* Neither ProtectKernelTunables= nor ProtectKernelLogs= is among them. They cover parts of /proc, and where that is so
 * the kernel gives puffo-sandbox no new one: unless a whole one is still there below the unit's root, as systemd 252
 * leaves it and one that calls pivot_root() does not. In the new one nothing of theirs is left; what they protect is
 * root's. */
static int append_common(sd_bus_message *m, const Sandbox *s) {
        static const char *const yes[] = {
                "PrivateUsers", "NoNewPrivileges", "ProtectControlGroups", "RestrictSUIDSGID", "LockPersonality",
                "PrivateIPC",   "PrivateTmp",      NULL,
        };
        static const char *const variables[] = {
                "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "SSH_AUTH_SOCK", "SSH_AGENT_PID", "GPG_AGENT_INFO",
                "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "MANAGERPID", "SYSTEMD_EXEC_PID", "DOCKER_HOST",
                "NOTIFY_SOCKET", NULL,
        };
        int r;

        r = unit_append_string(m, "CollectMode", "inactive-or-failed");
        if (r >= 0)
                r = unit_append_string(m, "Type", "exec");
        if (r >= 0)
                r = unit_append_time(m, "TimeoutStartUSec", 30 * USEC_PER_SEC);
        if (r >= 0)
                r = unit_append_time(m, "TimeoutStopUSec", 10 * USEC_PER_SEC);
        if (r >= 0)
                r = unit_append_string(m, "KillMode", "control-group");
        if (r >= 0) /* of the CLI as the sandbox says it, when we stop it: nothing has failed */
                r = sd_bus_message_append(m, "(sv)", "SuccessExitStatus", "(aiai)", 1, 128 + SIGTERM, 0);
        if (r >= 0)
                r = unit_append_string(m, "OOMPolicy", "stop");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "OOMScoreAdjust", "i", OOM_SCORE_ADJUST);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "IgnoreSIGPIPE", "b", 0);
        if (r >= 0)
                r = unit_append_string(m, "KeyringMode", "private");
        if (r >= 0)
                r = unit_append_time(m, "LimitCORE", 0);
        if (r >= 0)
                r = unit_append_flags(m, yes);
        if (r >= 0)
                r = unit_append_strings(m, "UnsetEnvironment", variables);
        if (r >= 0)
                r = unit_append_time(m, "CapabilityBoundingSet", 0);
        if (r < 0 || s->manager->scope == SCOPE_USER)
                return r;

        r = unit_append_string(m, "User", s->user);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "DynamicUser", "b", 1);
        if (r >= 0)
                r = unit_append_string(m, "ProtectProc", "invisible");
        return r < 0 ? r : unit_append_string(m, "DevicePolicy", "closed");
}

/* Names of users are asked for there; who answers does nothing else. */
#define USER_NAMES "/run/systemd/userdb/io.systemd.DynamicUser"

/* The same in all profiles: of /run nothing is there but what resolves names. A socket that nobody has thought of, of
 * whatever will be installed next, is not to be a way out. */
static int append_run(sd_bus_message *m, const Sandbox *s) {
        int r;

        r = unit_append_tmpfs(m, "/run", "ro");
        if (r >= 0)
                r = unit_append_bind(m, false, "/run/systemd/resolve", "/run/systemd/resolve", true);
        if (r >= 0)
                r = unit_append_bind(m, false, "/run/NetworkManager", "/run/NetworkManager", true);
        if (r >= 0)
                r = unit_append_bind(m, false, "/run/resolvconf", "/run/resolvconf", true);
        if (r >= 0 && s->manager->scope == SCOPE_SYSTEM)
                r = unit_append_bind(m, true, USER_NAMES, USER_NAMES, true);
        return r;
}

static int append_covered(sd_bus_message *m, const Sandbox *s) {
        const char *covered[8];
        int r = 0;

        list_covered(s, covered);
        for (const char *const *c = covered; *c && r >= 0; c++)
                r = unit_append_tmpfs(m, *c, "mode=0755");
        if (r >= 0 && s->home) /* HOME, whatever of it is mounted */
                r = unit_append_tmpfs(m, s->home->directory, "mode=0755");
        return r;
}

static int append_inaccessible(sd_bus_message *m, const Sandbox *s) {
        _cleanup_(strv_freep) char **inaccessible = NULL;
        int r;

        r = strv_extend(&inaccessible, "-/etc/puffo");
        if (r >= 0 && s->home) {
                _cleanup_free_ char *flags = strjoin("-", s->home->workspace, "/.puffo-agent");

                r = flags ? strv_extend(&inaccessible, flags) : -ENOMEM;
        }
        for (char **path = s->user_home.hidden; path && *path && r >= 0; path++)
                r = strv_extend(&inaccessible, *path);
        if (r >= 0)
                r = unit_append_strings(m, "InaccessiblePaths", (const char *const *) inaccessible);
        if (r >= 0 && s->user_home.read_only)
                r = unit_append_strings(m, "ReadOnlyPaths", (const char *const *) s->user_home.read_only);
        /* Each on itself: what is a mount cannot be renamed. */
        for (char **path = s->user_home.anchors; path && *path && r >= 0; path++)
                r = unit_append_bind(m, true, *path, *path, false);
        return r;
}

/* The program filters further when it has made its own namespaces: for those the unit lets it mount (systemd-facts
 * §4.3). */
static int append_strict(sd_bus_message *m) {
        static const char *const yes[] = {
                "PrivateNetwork", "RestrictRealtime", "ProtectKernelModules", "ProtectClock", "ProtectHostname", NULL,
        };
        int r;

        r = unit_append_flags(m, yes);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "RestrictAddressFamilies", "(bas)", 1, 3, "AF_UNIX", "AF_INET",
                                          "AF_INET6");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallFilter", "(bas)", 1, 2, "@system-service", "@mount");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallFilter", "(bas)", 0, 5, "@keyring", "io_uring_setup",
                                          "io_uring_enter", "io_uring_register", "userfaultfd");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallErrorNumber", "i", EPERM);
        return r < 0 ? r : sd_bus_message_append(m, "(sv)", "SystemCallArchitectures", "as", 1, "native");
}

static int append_profile(sd_bus_message *m, const Sandbox *s) {
        int r = 0;

        if (s->profile != SANDBOX_HOST) {
                r = unit_append_string(m, "ProtectSystem", "strict");
                if (r >= 0)
                        r = unit_append_string(m, "ProtectHome", "tmpfs");
                if (r >= 0)
                        r = sd_bus_message_append(m, "(sv)", "PrivateDevices", "b", 1);
        }
        if (r >= 0)
                r = append_run(m, s);
        if (r >= 0)
                r = append_covered(m, s);
        if (r >= 0)
                r = append_inaccessible(m, s);
        if (r >= 0 && place_is_covered(s, PKGLIBEXECDIR))
                r = unit_append_bind(m, false, PKGLIBEXECDIR, PKGLIBEXECDIR, false);
        return r < 0 || s->profile != SANDBOX_STRICT ? r : append_strict(m);
}

/* What the profile host shows anyway is mounted all the same when there is something in it that must not be written:
 * the directory could be renamed, and another one put in its place. */
static bool bind_is_needed(const Sandbox *s, const HarnessRequest *q, const HarnessBind *b) {
        if (b->kind != HARNESS_BIND_WRITABLE || s->profile != SANDBOX_HOST || place_is_covered(s, b->target) ||
            place_is_covered(s, b->source))
                return true;
        for (size_t i = 0; i < q->n_binds; i++)
                if (q->binds[i].kind == HARNESS_BIND_READ_ONLY && path_is_below(q->binds[i].target, b->target))
                        return true;
        return false;
}

static int append_binds(sd_bus_message *m, const Sandbox *s, const HarnessRequest *q) {
        int r = 0;

        for (size_t i = 0; i < q->n_binds && r >= 0; i++) {
                const HarnessBind *b = q->binds + i;

                if (bind_is_needed(s, q, b))
                        r = unit_append_bind(m, b->kind != HARNESS_BIND_READ_ONLY, b->source, b->target, false);
        }
        return r;
}

/* The text is taken over. */
static int add_option(char ***argv, char *text) {
        _cleanup_free_ char *option = text;

        return option ? strv_extend(argv, option) : -ENOMEM;
}

static int add_places(char ***argv, const Sandbox *s, const HarnessRequest *q) {
        int r = 0;

        for (size_t i = 0; q && i < q->n_binds && r >= 0; i++) {
                const HarnessBind *b = q->binds + i;

                if (bind_is_needed(s, q, b))
                        r = add_option(argv, asprintf_new("--place=%s:%" PRIu64 ":%" PRIu64 ":%s",
                                                          b->kind == HARNESS_BIND_READ_ONLY ? "ro" : "rw",
                                                          (uint64_t) b->device, (uint64_t) b->inode, b->target));
        }
        return r;
}

static int add_home(char ***argv, const Sandbox *s) {
        const char *home = s->manager->scope == SCOPE_USER ? getenv("HOME") : NULL;
        int r = 0;

        for (const char *const *name = harness_home_hidden; *name && home && r >= 0; name++) {
                _cleanup_free_ char *path = path_join(home, *name);

                r = path ? add_option(argv, strjoin("--hidden=", path)) : -ENOMEM;
        }
        for (char **path = s->user_home.hidden; path && *path && r >= 0; path++)
                r = add_option(argv, strjoin("--kept=", *path));
        for (char **path = s->user_home.read_only; path && *path && r >= 0; path++)
                r = add_option(argv, strjoin("--kept=", *path));
        return r;
}

/* What it is told to make sure of before it starts anything. q NULL: it is to try to get out. */
static int append_program(sd_bus_message *m, const Sandbox *s, const HarnessRequest *q) {
        _cleanup_(strv_freep) char **argv = NULL;
        const char *covered[8];
        int r = strv_extend(&argv, SANDBOX_PROGRAM);

        if (r >= 0)
                r = add_option(&argv, strjoin("--profile=", sandbox_profile_to_string(s->profile)));
        list_covered(s, covered);
        for (const char *const *c = covered; *c && r >= 0; c++)
                r = add_option(&argv, strjoin("--hidden=", *c));
        if (r >= 0)
                r = strv_extend(&argv, "--hidden=/etc/puffo");
        if (r >= 0)
                r = add_home(&argv, s);
        if (r >= 0)
                r = add_places(&argv, s, q);
        if (r >= 0 && !q)
                r = strv_extend(&argv, "--probe");
        if (r >= 0 && !q) /* a process outside, for it to try */
                r = add_option(&argv, asprintf_new("--pid=%d", (int) getpid()));
        return r < 0 ? r : unit_append_command(m, (const char *const *) argv);
}

int unit_append_harness(sd_bus_message *m, const Agent *a, const char *unit, const HarnessRequest *q,
                        const int fds[static 3], char **reterr_reason) {
        _cleanup_free_ char *user = unit_user_name(a->home->id);
        _cleanup_(sandbox_done) Sandbox s = { a->manager, a->config->sandbox, a->home, user, {} };
        int r;

        *reterr_reason = NULL;
        if (!user)
                return -ENOMEM;
        r = sandbox_prepare(&s, reterr_reason);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", unit, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = unit_append_string(m, "Description", q->description);
        if (r >= 0)
                r = unit_append_string(m, "Slice", a->slice);
        if (r >= 0) /* how it ended is to be read before it is forgotten */
                r = sd_bus_message_append(m, "(sv)", "AddRef", "b", 1);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)(sv)(sv)", "StandardInputFileDescriptor", "h", fds[0],
                                          "StandardOutputFileDescriptor", "h", fds[1], "StandardErrorFileDescriptor",
                                          "h", fds[2]);
        if (r >= 0)
                r = unit_append_string(m, "WorkingDirectory", q->working_directory);
        if (r >= 0)
                r = append_common(m, &s);
        if (r >= 0)
                r = append_profile(m, &s);
        if (r >= 0)
                r = append_binds(m, &s, q);
        if (r >= 0)
                r = append_program(m, &s, q);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

int unit_append_probe(sd_bus_message *m, const Manager *manager, const char *unit, SandboxProfile profile, int fd,
                      char **reterr_reason) {
        _cleanup_(sandbox_done) Sandbox s = { manager, profile, NULL, "pf-probe", {} };
        int r;

        *reterr_reason = NULL;
        r = sandbox_prepare(&s, reterr_reason);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", unit, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = unit_append_string(m, "Description", "Look for ways out of the sandbox of AI agents");
        if (r >= 0)
                r = unit_append_string(m, "Slice", "puffod-readers.slice");
        if (r >= 0)
                r = unit_append_time(m, "RuntimeMaxUSec", 20 * USEC_PER_SEC);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "AddRef", "b", 1);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "StandardOutputFileDescriptor", "h", fd);
        if (r >= 0) /* with the default, the journal as well, errors would go where the output goes */
                r = unit_append_string(m, "StandardOutput", "null");
        if (r >= 0)
                r = unit_append_string(m, "StandardError", "journal");
        if (r >= 0)
                r = append_common(m, &s);
        if (r >= 0)
                r = append_profile(m, &s);
        if (r >= 0)
                r = append_program(m, &s, NULL);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

const char* unit_sandbox_step(int32_t status) {
        static const struct {
                int32_t status;
                const char *step;
        } steps[] = {
                { 217, "user" },    { 218, "capabilities" }, { 225, "network" },       { 226, "mount namespace" },
                { 227, "no new privileges" }, { 228, "system call filter" }, { 232, "address families" },
        };

        for (size_t i = 0; i < ELEMENTSOF(steps); i++)
                if (steps[i].status == status)
                        return steps[i].step;
        return NULL;
}
