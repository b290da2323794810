/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-request"

/* What may be asked for, and what the service manager is then told. */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "harness-properties.h"
#include "harness-unit.h"
#include "unit-world.h"

typedef struct Property {
        const char *name, *value;
} Property;

/* All that is in a{sv} as text: "Name=value" a line, of arrays an entry a line. */
static char* list_properties(sd_bus_message *m) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *name, *type, *x, *y;
        uint64_t t;
        int n;

        ASSERT_OK(sd_bus_message_rewind(m, true));
        ASSERT_OK(sd_bus_message_skip(m, "ss"));
        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(sv)"));
        while (ASSERT_OK(sd_bus_message_enter_container(m, 'r', "sv")) > 0) {
                ASSERT_OK(sd_bus_message_read(m, "s", &name));
                ASSERT_OK(sd_bus_message_peek_type(m, NULL, &type));
                ASSERT_OK(sd_bus_message_enter_container(m, 'v', type));
                if (streq(type, "s")) {
                        ASSERT_OK(sd_bus_message_read(m, "s", &x));
                        ASSERT_OK(strbuf_printf(&b, "%s=%s\n", name, x));
                } else if (streq(type, "b") || streq(type, "i")) {
                        ASSERT_OK(sd_bus_message_read(m, type, &n));
                        ASSERT_OK(strbuf_printf(&b, "%s=%d\n", name, n));
                } else if (streq(type, "t")) {
                        ASSERT_OK(sd_bus_message_read(m, "t", &t));
                        ASSERT_OK(strbuf_printf(&b, "%s=%" PRIu64 "\n", name, t));
                } else if (streq(type, "as")) {
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "s"));
                        while (sd_bus_message_read(m, "s", &x) > 0)
                                ASSERT_OK(strbuf_printf(&b, "%s=%s\n", name, x));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                } else if (streq(type, "a(ss)")) {
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(ss)"));
                        while (sd_bus_message_read(m, "(ss)", &x, &y) > 0)
                                ASSERT_OK(strbuf_printf(&b, "%s=%s:%s\n", name, x, y));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                } else if (streq(type, "a(ssbt)")) {
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(ssbt)"));
                        while (sd_bus_message_read(m, "(ssbt)", &x, &y, &n, &t) > 0)
                                ASSERT_OK(strbuf_printf(&b, "%s=%s%s:%s\n", name, n ? "-" : "", x, y));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                } else if (streq(type, "a(sasb)")) {
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(sasb)"));
                        ASSERT_OK(sd_bus_message_enter_container(m, 'r', "sasb"));
                        ASSERT_OK(sd_bus_message_read(m, "s", &x));
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "s"));
                        while (sd_bus_message_read(m, "s", &x) > 0)
                                ASSERT_OK(strbuf_printf(&b, "%s=%s\n", name, x));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                        ASSERT_OK(sd_bus_message_skip(m, "b"));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                } else {
                        ASSERT_OK(strbuf_printf(&b, "%s=…\n", name));
                        ASSERT_OK(sd_bus_message_skip(m, type));
                }
                ASSERT_OK(sd_bus_message_exit_container(m));
                ASSERT_OK(sd_bus_message_exit_container(m));
        }
        return strbuf_take(&b);
}

static bool has_line(const char *text, const char *line) {
        _cleanup_free_ char *whole = strjoin("\n", line, "\n"), *all = strjoin("\n", text);

        return strstr(all, whole);
}

static void expect(const char *text, const char *const *lines, bool there) {
        for (; *lines; lines++)
                if (has_line(text, *lines) != there)
                        fail_msg("%s '%s' in:\n%s", there ? "no" : "unexpected", *lines, text);
}

static char* build(World *w, const HarnessRequest *q, Scope scope, SandboxProfile profile) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        static const int fds[3] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };
        char *reason;

        w->manager.scope = scope;
        w->agent->config->sandbox = profile;
        ASSERT_OK(sd_bus_message_new_method_call(w->manager.bus, &m, SYSTEMD, "/o", "i.f", "StartTransientUnit"));
        ASSERT_OK(unit_append_harness(m, w->agent, HARNESS, q, fds, &reason));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        w->manager.scope = SCOPE_USER;
        return list_properties(m);
}

/* Of the user's home, what is not there as well. */
static void expect_home(const char *text, bool there) {
        static const struct { const char *property, *name; } t[] = {
                { "InaccessiblePaths=", ".ssh" }, { "ExecStart=--kept=", ".ssh" },
                { "InaccessiblePaths=", ".local/share/keyrings" }, { "ReadOnlyPaths=", ".config/systemd" },
                { "ExecStart=--kept=", ".config/systemd" }, { "ReadOnlyPaths=", ".local/share/dbus-1" },
        };
        _cleanup_free_ char *home = realpath(getenv("HOME"), NULL), *config = path_join(home, ".config"),
                            *anchor = strjoin("BindPaths=", config, ":", config);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *path = path_join(home, t[i].name), *line = strjoin(t[i].property, path);
                struct stat st;

                expect(text, (const char *const[]) { line, NULL }, there);
                if (there)
                        ASSERT_TRUE(stat(path, &st) >= 0 && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0700);
        }
        expect(text, (const char *const[]) { anchor, NULL }, there);
}

TEST(messages) {
        static const char *const always[] = {
                "Slice=puffo-rob.slice", "CollectMode=inactive-or-failed", "AddRef=1", "Type=exec",
                "KillMode=control-group", "OOMPolicy=stop", "OOMScoreAdjust=500", "IgnoreSIGPIPE=0",
                "TimeoutStopUSec=10000000", "PrivateUsers=1", "NoNewPrivileges=1", "ProtectControlGroups=1",
                "RestrictSUIDSGID=1", "LockPersonality=1", "PrivateIPC=1", "KeyringMode=private",
                "StandardInputFileDescriptor=…", "StandardOutputFileDescriptor=…", "StandardErrorFileDescriptor=…",
                "UnsetEnvironment=DBUS_SESSION_BUS_ADDRESS", "UnsetEnvironment=SSH_AUTH_SOCK",
                "UnsetEnvironment=XDG_RUNTIME_DIR", "TemporaryFileSystem=/run:ro", "Description=Hands", NULL,
        };
        static const char *const workspace[] = { "ProtectSystem=strict", "ProtectHome=tmpfs", "PrivateDevices=1",
                                                 NULL };
        static const char *const strict[] = { "PrivateNetwork=1", "RestrictAddressFamilies=…", "SystemCallFilter=…",
                                              "SystemCallErrorNumber=1", "RestrictRealtime=1", "ProtectClock=1",
                                              NULL };
        static const char *const system[] = { "User=pf-rob", "DynamicUser=1", "ProtectProc=invisible", NULL };
        HarnessBind binds[] = {
                { HARNESS_BIND_WRITABLE, (char*) "/real/desk", (char*) "/desk", -EBADF, 7, 1 },
                { HARNESS_BIND_READ_ONLY, (char*) "/desk/fixed", (char*) "/desk/fixed", -EBADF, 7, 2 },
                { HARNESS_BIND_SOCKET, (char*) "/x/tools.sock", (char*) "/run/puffo/tools.sock", -EBADF, 8, 3 },
                { HARNESS_BIND_WRITABLE, (char*) "/real/more", (char*) "/more", -EBADF, 9, 4 },
        };
        const HarnessRequest q = { .description = (char*) "Hands", .working_directory = (char*) "/desk",
                                   .binds = binds, .n_binds = ELEMENTSOF(binds) };
        _cleanup_(world_done) World w;

        world_init(&w);
        for (Scope scope = 0; scope < _SCOPE_MAX; scope++)
                for (SandboxProfile p = 0; p < _SANDBOX_PROFILE_MAX; p++) {
                        _cleanup_free_ char *text = build(&w, &q, scope, p),
                                            *profile = strjoin("ExecStart=--profile=", sandbox_profile_to_string(p));

                        expect(text, always, true);
                        expect(text, workspace, p != SANDBOX_HOST);
                        expect(text, strict, p == SANDBOX_STRICT);
                        expect(text, system, scope == SCOPE_SYSTEM);
                        expect(text, (const char *const[]) { profile, "BindReadOnlyPaths=/desk/fixed:/desk/fixed",
                                                             "BindPaths=/x/tools.sock:/run/puffo/tools.sock",
                                                             "BindPaths=/real/desk:/desk",
                                                             "ExecStart=--place=rw:7:1:/desk",
                                                             "ExecStart=--place=ro:7:2:/desk/fixed",
                                                             "ExecStart=--place=rw:8:3:/run/puffo/tools.sock", NULL },
                               true);
                        /* In the user's own view it is there anyway; the other has something in it that is to stay. */
                        expect(text, (const char *const[]) { "BindPaths=/real/more:/more",
                                                             "ExecStart=--place=rw:9:4:/more", NULL },
                               p != SANDBOX_HOST);
                        expect_home(text, p == SANDBOX_HOST && scope == SCOPE_USER);
                        ASSERT_NULL(strstr(text, "Restart="));
                        ASSERT_NULL(strstr(text, "Watchdog"));
                }
}

/* What is no directory cannot be covered in such a way that it stays. */
TEST(a_home_with_a_link) {
        static const char *const links[] = { ".ssh", ".config/systemd", ".local" };

        for (size_t i = 0; i < ELEMENTSOF(links); i++) {
                _cleanup_bus_message_ sd_bus_message *m = NULL;
                _cleanup_free_ char *path = NULL, *config = NULL, *reason = NULL;
                const HarnessRequest q = { .description = (char*) "Hands", .working_directory = (char*) "/desk" };
                _cleanup_(world_done) World w;

                world_init(&w);
                path = path_join(getenv("HOME"), links[i]);
                config = path_join(getenv("HOME"), ".config");
                ASSERT_OK(directory_make(config, 0700));
                ASSERT_EQ(symlink("/usr", path), 0);
                w.agent->config->sandbox = SANDBOX_HOST;
                ASSERT_OK(sd_bus_message_new_method_call(w.manager.bus, &m, SYSTEMD, "/o", "i.f", "Start"));
                ASSERT_ERROR(unit_append_harness(m, w.agent, HARNESS, &q, (const int[3]) { 0, 1, 2 }, &reason), ELOOP);
                ASSERT_NOT_NULL(strstr(reason, links[i]));
                ASSERT_NOT_NULL(strstr(reason, "is a link"));
        }
}

static int read_request(World *w, const char *kind, const char *path, HarnessRequest **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        ASSERT_OK(sd_bus_message_new_method_call(w->manager.bus, &m, SYSTEMD, "/o", "i.f", "StartHarness"));
        ASSERT_OK(sd_bus_message_append(m, "a{sv}", 2, kind, "as", 1, path, "ReadWritePaths", "as", 1,
                                        w->agent->home->workspace));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        r = harness_request_read(ret, w->agent, m, &e);
        if (r < 0)
                ASSERT_TRUE(sd_bus_error_has_name(&e, PUFFO_ERROR_INVALID_ARGUMENT));
        return r;
}

/* "@": the agent's directory, "~": the home of all. */
static char* place_path(const World *w, const char *path) {
        const char *base = *path == '@' ? w->agent->home->directory : *path == '~' ? w->paths->home : "";

        return strjoin(base, path + (*base ? 1 : 0));
}

TEST(requests) {
        static const struct {
                const char *path;
                bool fine;
        } t[] = {
                { "/usr", true }, { "@/memory", true }, { "@/workspace/sub", true }, { "@/.claude", true },
                { "~/shared", true },
                { "", false }, { "usr", false }, { "/", false }, { "/usr/..", false }, { "/usr//bin", false },
                { "/usr/.", false }, { "/us\nr", false }, { "/usr/\x7f", false }, { "/none", false },
                { "/run", false }, { "/proc/self", false }, { "/dev/null", false }, { "/sys", false },
                { "/tmp", false }, { "@", false }, { "@/keys", false }, { "@/keys/x.pem", false },
                { "@/agent.yml", false }, { "@/messages.db", false }, { "@/messages.db-wal", false },
                { "@/run", false }, { "@/runtime.json", false }, { "@/.puffo-agent", false },
                { "@/workspace/.puffo-agent", false }, { "@/workspace/out", false }, { "@/workspace/in", false },
                { "@/link", false }, { "~", false }, { "~/agents", false }, { "~/agents/other", false },
                { "~/agents/other/workspace", false }, { "~/daemon.yml", false },
        };
        static const char *const directories[] = { "@/memory", "@/keys", "@/workspace/sub", "@/.claude", "@/run",
                                                   "@/.puffo-agent", "@/workspace/.puffo-agent",
                                                   "~/agents/other/workspace", "~/shared" };
        static const char *const files[] = { "@/keys/x.pem", "@/messages.db", "@/messages.db-wal", "@/runtime.json",
                                             "~/daemon.yml" };
        _cleanup_free_ char *link = NULL, *out = NULL, *in = NULL;
        _cleanup_(world_done) World w;

        world_init(&w);
        ASSERT_OK(setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1));
        for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
                _cleanup_free_ char *path = place_path(&w, directories[i]);

                ASSERT_OK(directory_make(path, 0700));
        }
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_free_ char *path = place_path(&w, files[i]);

                ASSERT_OK(file_write_atomic(path, "x", 1, 0600));
        }
        link = path_join(w.agent->home->directory, "link");
        out = path_join(w.agent->home->directory, "workspace/out");
        in = path_join(w.agent->home->directory, "workspace/in");
        ASSERT_EQ(symlink("keys", link), 0);
        ASSERT_EQ(symlink("/usr", out), 0);
        ASSERT_EQ(symlink("sub", in), 0);
        w.agent->config->sandbox = SANDBOX_WORKSPACE;

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *path = place_path(&w, t[i].path);
                _cleanup_(harness_request_freep) HarnessRequest *q = NULL;
                int r = read_request(&w, "ReadOnlyPaths", path, &q);

                if ((r >= 0) != t[i].fine)
                        fail_msg("'%s': %d", t[i].path, r);
        }
}

static int socket_at(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ASSERT_TRUE(strlen(path) < sizeof(address.sun_path));
        memcpy(address.sun_path, path, strlen(path) + 1);
        ASSERT_EQ(bind(fd, (struct sockaddr*) &address, sizeof(address)), 0);
        return fd;
}

static int read_socket_request(World *w, const char *path) {
        _cleanup_(harness_request_freep) HarnessRequest *q = NULL;
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        ASSERT_OK(sd_bus_message_new_method_call(w->manager.bus, &m, SYSTEMD, "/o", "i.f", "StartHarness"));
        ASSERT_OK(sd_bus_message_append(m, "a{sv}", 1, "Sockets", "a(ss)", 1, path, "/run/puffo/tools.sock"));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        r = harness_request_read(&q, w->agent, m, &e);
        if (r >= 0)
                return r;
        ASSERT_TRUE(sd_bus_error_has_name(&e, PUFFO_ERROR_INVALID_ARGUMENT));
        ASSERT_NOT_NULL(strstr(e.message, "a socket in the agent's run directory is expected"));
        return -EPERM;
}

/* The directory of an agent's sockets is its session's, which may have made something else of it: the socket itself, or a
 * link to where those of the system are. */
TEST(sockets) {
        _cleanup_free_ char *run = NULL, *elsewhere = NULL, *bus = NULL, *in = NULL, *deep = NULL, *deeper = NULL;
        _cleanup_(world_done) World w;

        world_init(&w);
        run = path_join(w.agent->home->directory, "run");
        in = path_join(run, "bus");
        deep = path_join(run, "deep");
        deeper = path_join(deep, "s");
        elsewhere = path_join(w.directory, "elsewhere");
        bus = path_join(elsewhere, "bus");
        ASSERT_OK(directory_make(w.agent->home->directory, 0700));
        ASSERT_OK(directory_make(elsewhere, 0700));
        (void) close(socket_at(bus));

        (void) close(socket_at(run));
        ASSERT_ERROR(read_socket_request(&w, run), EPERM);
        ASSERT_EQ(unlink(run), 0);

        ASSERT_EQ(symlink(elsewhere, run), 0);
        ASSERT_ERROR(read_socket_request(&w, in), EPERM);
        ASSERT_ERROR(read_socket_request(&w, bus), EPERM);
        ASSERT_EQ(unlink(run), 0);

        ASSERT_OK(directory_make(deep, 0700));
        (void) close(socket_at(deeper));
        ASSERT_ERROR(read_socket_request(&w, deeper), EPERM);
        ASSERT_ERROR(read_socket_request(&w, deep), EPERM);
        ASSERT_EQ(symlink(bus, in), 0);
        ASSERT_ERROR(read_socket_request(&w, in), EPERM);
        ASSERT_EQ(unlink(in), 0);
        (void) close(socket_at(in));
        ASSERT_OK(read_socket_request(&w, in));
}

/* What nobody is to see, or is there already, is left out. */
TEST(optional_paths) {
        static const struct { const char *path; size_t n; } t[] = {
                { "/usr/lib", 2 }, { "/run", 1 }, { "@/keys", 1 }, { "~/agents/other", 1 }, { "/not/there", 1 },
                { "@/.ca.pem", 2 }, { "relative", 1 }, { "@/workspace", 1 },
        };
        _cleanup_free_ char *keys = NULL, *file = NULL;
        _cleanup_(world_done) World w;

        world_init(&w);
        ASSERT_OK(setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1));
        keys = path_join(w.agent->home->directory, "keys");
        file = path_join(w.agent->home->directory, ".ca.pem");
        ASSERT_OK(directory_make(keys, 0700));
        ASSERT_OK(directory_make(w.agent->home->workspace, 0700));
        ASSERT_OK(file_write_atomic(file, "x", 1, 0600));
        w.agent->config->sandbox = SANDBOX_WORKSPACE;
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *path = place_path(&w, t[i].path);
                _cleanup_(harness_request_freep) HarnessRequest *q = NULL;

                ASSERT_OK(read_request(&w, "OptionalPaths", path, &q));
                if (q->n_binds != t[i].n)
                        fail_msg("'%s': %zu", t[i].path, q->n_binds);
                ASSERT_EQ(q->binds[0].kind, HARNESS_BIND_WRITABLE);
                if (q->n_binds > 1)
                        ASSERT_EQ(q->binds[1].kind, HARNESS_BIND_READ_ONLY);
        }
}

/* In the user's own view a directory that holds protected ones is there anyway, and what it holds is covered; but none
 * is mounted over what covers it. */
TEST(requests_of_host) {
        static const char *const outside[] = { "/var", "/srv" };
        _cleanup_(world_done) World w;

        world_init(&w);
        w.agent->config->sandbox = SANDBOX_HOST;
        for (size_t i = 0; i < ELEMENTSOF(outside); i++)
                ASSERT_EQ(harness_place_is_covered(w.agent, outside[i]), false);
        ASSERT_EQ(harness_place_is_covered(w.agent, w.agent->home->directory), true);
        ASSERT_EQ(harness_place_is_covered(w.agent, w.paths->home), true);
        ASSERT_EQ(harness_place_is_covered(w.agent, "/tmp/x"), true);
        ASSERT_EQ(harness_place_is_covered(w.agent, "/tmpx"), false);
}

TEST_MAIN();
