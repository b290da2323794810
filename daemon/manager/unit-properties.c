/* SPDX-License-Identifier: MIT */

/* What a session's transient unit is made of (systemd-facts §§2–4). Whatever systemd can do is a property here. */

#include <sodium.h>

#include "bus-util.h"
#include "config.h"
#include "file-util.h"
#include "string-util.h"
#include "unit-property.h"
#include "unit.h"

#define SESSION_PROGRAM PKGLIBEXECDIR "/puffo-session"

char* unit_user_name(const char *id) {
        uint8_t hash[16];
        char hex[33];
        /* An id that looks like a hash would get the user, and with it the files, of the agent whose hash it is. */
        bool fits = strlen(id) <= 28 && !(strlen(id) == 16 && strspn(id, "0123456789abcdef") == 16);

        for (const char *c = id; *c && fits; c++)
                fits = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_' ||
                       *c == '-';
        if (fits)
                return strjoin("pf-", id);

        (void) crypto_generichash(hash, sizeof(hash), (const uint8_t*) id, strlen(id), NULL, 0);
        (void) sodium_bin2hex(hex, sizeof(hex), hash, 8);
        return strjoin("pf-", hex);
}

/* Of everything that puffod has started. systemd 252 ignores the mounts among these in a user manager without
 * PrivateUsers=, without a word. */
static int append_hardening(sd_bus_message *m, bool network) {
        const char *const yes[] = {
                "PrivateUsers",           "PrivateTmp",           "PrivateDevices",
                "NoNewPrivileges",        "ProtectKernelModules", "ProtectClock",
                "ProtectHostname",        "LockPersonality",      "RestrictRealtime",
                "RestrictSUIDSGID",       "MemoryDenyWriteExecute",
        };
        int r;

        r = unit_append_string(m, "ProtectSystem", "strict");
        for (size_t i = 0; i < ELEMENTSOF(yes) && r >= 0; i++)
                r = sd_bus_message_append(m, "(sv)", yes[i], "b", 1);
        if (r >= 0 && network) /* netlink: the C library's address selection */
                r = sd_bus_message_append(m, "(sv)", "RestrictAddressFamilies", "(bas)", 1, 4, "AF_UNIX", "AF_INET",
                                          "AF_INET6", "AF_NETLINK");
        else if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "RestrictAddressFamilies", "(bas)", 1, 1, "AF_UNIX");
        if (r >= 0)
                r = unit_append_time(m, "RestrictNamespaces", 0);
        if (r >= 0)
                r = unit_append_time(m, "CapabilityBoundingSet", 0);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallArchitectures", "as", 1, "native");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallFilter", "(bas)", 1, 1, "@system-service");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SystemCallErrorNumber", "i", EPERM);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "UMask", "u", 0077U);
        return r < 0 ? r : unit_append_time(m, "LimitCORE", 0);
}

/* The same in both modes. */
static int append_common(sd_bus_message *m, const Agent *a, const char *runtime_directory) {
        _cleanup_free_ char *description = strjoin("Session of AI agent ", a->home->id),
                            *credentials = strjoin(runtime_directory, "/credentials");
        int r;

        if (!description || !credentials)
                return -ENOMEM;

        r = unit_append_string(m, "Description", description);
        if (r >= 0)
                r = unit_append_string(m, "Slice", a->slice);
        if (r >= 0)
                r = unit_append_string(m, "CollectMode", "inactive");
        /* Its network, which is there until it has said its farewell. */
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "Wants", "as", 1, "puffo-link.socket");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "After", "as", 2, "puffo-link.socket", "puffo-link.service");
        if (r >= 0)
                r = unit_append_string(m, "Type", "notify");
        if (r >= 0)
                r = unit_append_string(m, "NotifyAccess", "main");
        if (r >= 0)
                r = unit_append_string(m, "Restart", "on-failure");
        if (r >= 0)
                r = unit_append_time(m, "RestartUSec", a->manager->restart_usec);
        if (r >= 0)
                r = unit_append_time(m, "StartLimitIntervalUSec", 0);
        if (r >= 0)
                r = unit_append_time(m, "TimeoutStartUSec", 30 * USEC_PER_SEC);
        if (r >= 0) /* above the grace time that a running turn has (agent-runtime §19) */
                r = unit_append_time(m, "TimeoutStopUSec", a->manager->config->turn_grace_usec + 25 * USEC_PER_SEC);
        if (r >= 0)
                r = unit_append_time(m, "WatchdogUSec", 60 * USEC_PER_SEC);
        if (r >= 0)
                r = unit_append_string(m, "KillMode", "mixed");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "FileDescriptorStoreMax", "u", 16U);
        /* glibc keeps freed pieces of memory at hand, and the page around each of them: half a megabyte of a session
         * that does nothing. What it costs to do without is not to be seen beside what a message costs. */
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "Environment", "as", 1,
                                          "GLIBC_TUNABLES=glibc.malloc.tcache_count=0");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "LoadCredential", "a(ss)", 1, "session", credentials);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "ProtectControlGroups", "b", 1);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "ProtectKernelTunables", "b", 1);
        return r < 0 ? r : append_hardening(m, /* network= */ true);
}

static int append_user_mode(sd_bus_message *m, const Agent *a) {
        _cleanup_free_ char *memory = agent_home_path(a->home, a->config->memory_dir),
                            *optional_memory = memory ? strjoin("-", memory) : NULL,
                            *optional_workspace = strjoin("-", a->home->workspace);
        int r;

        if (!optional_memory || !optional_workspace)
                return -ENOMEM;
        /* The user's other files stay readable to it (profile and working directory may be anywhere), none writable;
         * ProtectSystem=strict leaves homes alone. */
        r = unit_append_string(m, "ProtectHome", "read-only");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "ReadWritePaths", "as", 3, a->home->directory, optional_workspace,
                                          optional_memory);
        if (r >= 0)
                r = unit_append_string(m, "WorkingDirectory", a->home->directory);
        return r;
}

static int append_system_mode(sd_bus_message *m, const Agent *a, const char *runtime_directory) {
        _cleanup_free_ char *user = unit_user_name(a->home->id), *state = strjoin("puffo/", a->home->id),
                            *sessions = strjoin(runtime_directory, "/sessions");
        int r;

        if (!user || !state || !sessions)
                return -ENOMEM;
        r = unit_append_string(m, "User", user);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "DynamicUser", "b", 1);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "StateDirectory", "as", 1, state);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "StateDirectoryMode", "u", 0700U);
        if (r >= 0)
                r = unit_append_string(m, "ProtectHome", "yes");
        if (r >= 0)
                r = unit_append_string(m, "ProtectProc", "invisible");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "ProtectKernelLogs", "b", 1);
        if (r >= 0)
                r = unit_append_string(m, "DevicePolicy", "closed");
        /* The sockets of ours that it may see, puffod's and puffo-link's, by their directory: one that was bound alone
         * would be the old one for ever when its unit is started again. */
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "BindReadOnlyPaths", "a(ssbt)", 1, sessions, runtime_directory, 0,
                                          (uint64_t) 0);
        return r;
}

static int session_directory(const Agent *a, char **ret) {
        *ret = a->manager->scope == SCOPE_SYSTEM ? strjoin("/var/lib/puffo/", a->home->id)
                                                 : strdup(a->home->directory);
        return *ret ? 0 : -ENOMEM;
}

int unit_append_session(sd_bus_message *m, const Agent *a) {
        _cleanup_free_ char *runtime_directory = NULL, *directory = NULL;
        int r;

        r = scope_runtime_directory(a->manager->scope, &runtime_directory);
        if (r >= 0)
                r = session_directory(a, &directory);
        if (r < 0)
                return r;

        r = sd_bus_message_append(m, "ss", a->unit, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = append_common(m, a, runtime_directory);
        if (r >= 0)
                r = a->manager->scope == SCOPE_SYSTEM ? append_system_mode(m, a, runtime_directory)
                                                      : append_user_mode(m, a);
        if (r >= 0)
                r = unit_append_command(m, (const char *const[]){SESSION_PROGRAM,
                                                            a->manager->scope == SCOPE_SYSTEM ? "--system" : "--user",
                                                            a->home->id, directory, NULL});
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

/* Whose stream is never read, or never closed, is not to keep a unit for ever. */
#define READER_TIME_USEC (10 * 60 * USEC_PER_SEC)
#define FOLLOWER_TIME_USEC (24 * 60 * 60 * USEC_PER_SEC)

/* It may read the journal and write to the pipe that it is given, and nothing else: in system mode as nobody in
 * particular, in user mode as the user, whose home it does not see. Its /proc stays the machine's own: in a container,
 * journalctl --follow was seen to tell nothing, without a word, under each of ProtectProc=, ProtectKernelTunables= and
 * ProtectControlGroups=, probably because the /proc of such a unit has the boot id of the host. */
static int append_reader_limits(sd_bus_message *m, Scope scope, bool follow) {
        int r;

        r = unit_append_string(m, "Slice", "puffod-readers.slice");
        if (r >= 0)
                r = unit_append_time(m, "RuntimeMaxUSec", follow ? FOLLOWER_TIME_USEC : READER_TIME_USEC);
        if (r >= 0)
                r = unit_append_time(m, "TimeoutStopUSec", 5 * USEC_PER_SEC);
        if (r >= 0)
                r = unit_append_time(m, "TasksMax", 8);
        if (r >= 0) /* the journal's files are mapped: what of them is in memory counts, and can be dropped */
                r = unit_append_time(m, "MemoryMax", MIB(128));
        if (r >= 0)
                r = unit_append_time(m, "CPUWeight", 20);
        if (r >= 0)
                r = unit_append_string(m, "ProtectHome", "yes");
        if (r >= 0)
                r = append_hardening(m, /* network= */ false);
        if (r < 0 || scope == SCOPE_USER)
                return r;

        r = sd_bus_message_append(m, "(sv)", "DynamicUser", "b", 1);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "SupplementaryGroups", "as", 1, "systemd-journal");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "PrivateNetwork", "b", 1);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "ProtectKernelLogs", "b", 1);
        return r < 0 ? r : unit_append_string(m, "DevicePolicy", "closed");
}

int unit_append_reader(sd_bus_message *m, Scope scope, const char *name, const char *const *argv, int stdout_fd,
                       bool follow) {
        int r;

        r = sd_bus_message_append(m, "ss", name, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = unit_append_string(m, "Description", "Reader for a client of puffod");
        if (r >= 0)
                r = unit_append_string(m, "CollectMode", "inactive-or-failed");
        if (r >= 0)
                r = unit_append_string(m, "Type", "exec");
        if (r >= 0) /* a reader that went away ends it, quietly */
                r = sd_bus_message_append(m, "(sv)", "SuccessExitStatus", "(aiai)", 1, 1, 1, 13);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "IgnoreSIGPIPE", "b", 0);
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "StandardOutputFileDescriptor", "h", stdout_fd);
        if (r >= 0) /* not into the stream, where they go when both would be the same without the descriptor */
                r = unit_append_string(m, "StandardOutput", "null");
        if (r >= 0)
                r = unit_append_string(m, "StandardError", "journal");
        if (r >= 0)
                r = append_reader_limits(m, scope, follow);
        if (r >= 0)
                r = unit_append_command(m, argv);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

int unit_start_reader(Manager *manager, const char *name, const char *const *argv, int stdout_fd, bool follow,
                      sd_bus_message_handler_t callback, void *userdata) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_method_call(manager->bus, &m, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                           "org.freedesktop.systemd1.Manager", "StartTransientUnit");
        if (r >= 0)
                r = unit_append_reader(m, manager->scope, name, argv, stdout_fd, follow);
        return r < 0 ? r : sd_bus_call_async(manager->bus, NULL, m, callback, userdata, 0);
}
