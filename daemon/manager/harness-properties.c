/* SPDX-License-Identifier: MIT */

/* What a harness's transient unit is made of: the profiles of systemd-facts §13. What systemd 252 cannot do for an
 * ordinary user, the first program in it does. */

#include <signal.h>

#include "bus-util.h"
#include "config.h"
#include "file-util.h"
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
} Sandbox;

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
        const Sandbox s = { a->manager, a->config->sandbox, a->home, NULL };

        /* The others cover everything: what is writable is mounted. */
        return s.profile != SANDBOX_HOST || place_is_covered(&s, path);
}

/* --- properties --- */

/* Neither ProtectKernelTunables= nor ProtectKernelLogs= is among them. They cover parts of /proc, and where that is so the
 * kernel gives puffo-sandbox no new one: unless a whole one is still there below the unit's root, as systemd 252 leaves it
 * and one that calls pivot_root() does not. In the new one nothing of theirs is left; what they protect is root's. */
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

/* Below the user's. */
static const char *const secrets_in_home[] = { ".ssh", ".gnupg", ".local/share/keyrings" };

static int append_inaccessible(sd_bus_message *m, const Sandbox *s) {
        static const char *const units[] = { ".config/systemd", ".local/share/systemd" };
        const char *home = s->manager->scope == SCOPE_USER ? getenv("HOME") : NULL;
        _cleanup_(strv_freep) char **inaccessible = NULL, **read_only = NULL;
        int r;

        r = strv_extend(&inaccessible, "-/etc/puffo");
        if (r >= 0 && s->home) {
                _cleanup_free_ char *flags = strjoin("-", s->home->workspace, "/.puffo-agent");

                r = flags ? strv_extend(&inaccessible, flags) : -ENOMEM;
        }
        if (s->profile == SANDBOX_HOST && home) {
                for (size_t i = 0; i < ELEMENTSOF(secrets_in_home) && r >= 0; i++) {
                        _cleanup_free_ char *path = strjoin("-", home, "/", secrets_in_home[i]);

                        r = path ? strv_extend(&inaccessible, path) : -ENOMEM;
                }
                /* A unit that is written there runs outside of every sandbox when the user's next one is loaded. */
                for (size_t i = 0; i < ELEMENTSOF(units) && r >= 0; i++) {
                        _cleanup_free_ char *path = strjoin("-", home, "/", units[i]);

                        r = path ? strv_extend(&read_only, path) : -ENOMEM;
                }
        }
        if (r >= 0)
                r = unit_append_strings(m, "InaccessiblePaths", (const char *const *) inaccessible);
        if (r >= 0 && read_only)
                r = unit_append_strings(m, "ReadOnlyPaths", (const char *const *) read_only);
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

static int append_binds(sd_bus_message *m, const Sandbox *s, const HarnessRequest *q) {
        int r = 0;

        for (size_t i = 0; i < q->n_binds && r >= 0; i++) {
                const HarnessBind *b = q->binds + i;

                if (b->kind == HARNESS_BIND_WRITABLE && s->profile == SANDBOX_HOST &&
                    !place_is_covered(s, b->target) && !place_is_covered(s, b->source))
                        continue;
                r = unit_append_bind(m, b->kind != HARNESS_BIND_READ_ONLY, b->source, b->target, false);
        }
        return r;
}

static int add_hidden(char ***argv, const char *path) {
        _cleanup_free_ char *option = strjoin("--hidden=", path);

        return option ? strv_extend(argv, option) : -ENOMEM;
}

/* What it is told to make sure of before it starts anything. */
static int append_program(sd_bus_message *m, const Sandbox *s, bool probe) {
        const char *home = s->manager->scope == SCOPE_USER ? getenv("HOME") : NULL, *covered[8];
        _cleanup_free_ char *profile = strjoin("--profile=", sandbox_profile_to_string(s->profile)),
                            *pid = asprintf_new("--pid=%d", (int) getpid());
        _cleanup_(strv_freep) char **argv = NULL;
        int r = profile && pid ? strv_extend(&argv, SANDBOX_PROGRAM) : -ENOMEM;

        if (r >= 0)
                r = strv_extend(&argv, profile);
        list_covered(s, covered);
        for (const char *const *c = covered; *c && r >= 0; c++)
                r = add_hidden(&argv, *c);
        if (r >= 0)
                r = add_hidden(&argv, "/etc/puffo");
        for (size_t i = 0; i < ELEMENTSOF(secrets_in_home) && home && r >= 0; i++) {
                _cleanup_free_ char *path = path_join(home, secrets_in_home[i]);

                r = path ? add_hidden(&argv, path) : -ENOMEM;
        }
        if (r >= 0 && probe)
                r = strv_extend(&argv, "--probe");
        if (r >= 0 && probe) /* a process outside, for it to try */
                r = strv_extend(&argv, pid);
        return r < 0 ? r : unit_append_command(m, (const char *const *) argv);
}

int unit_append_harness(sd_bus_message *m, const Agent *a, const char *unit, const HarnessRequest *q,
                        const int fds[static 3]) {
        _cleanup_free_ char *user = unit_user_name(a->home->id);
        const Sandbox s = { a->manager, a->config->sandbox, a->home, user };
        int r;

        if (!user)
                return -ENOMEM;
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
                r = append_program(m, &s, /* probe= */ false);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

int unit_append_probe(sd_bus_message *m, const Manager *manager, const char *unit, SandboxProfile profile, int fd) {
        const Sandbox s = { manager, profile, NULL, "pf-probe" };
        int r;

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
                r = append_program(m, &s, /* probe= */ true);
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
