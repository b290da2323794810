/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "cli-home.h"
#include "cli-login.h"
#include "event-util.h"
#include "file-util.h"
#include "refresh.h"
#include "string-util.h"

#define OUTPUT_MAX MIB(1)

const char* refresh_result_to_string(RefreshResult r) {
        static const char *const names[_REFRESH_RESULT_MAX] = {
                [REFRESH_OK] = "ok", [REFRESH_NOT_NEEDED] = "not-needed", [REFRESH_BUSY] = "busy",
                [REFRESH_MISSING] = "missing", [REFRESH_AUTH_FAILED] = "auth-failed", [REFRESH_FAILED] = "failed",
        };

        return r >= 0 && r < _REFRESH_RESULT_MAX ? names[r] : NULL;
}

void refresh_done(Refresh *r) {
        r->argv = strv_free(r->argv);
        r->directory = mfree(r->directory);
        r->output = mfree(r->output);
        r->errors = mfree(r->errors);
}

/* ---- the child ---- */

/* Neither keys, which would take the place of the login, nor a proxy's or anybody's own settings of the CLI. */
static int environment_new(const RefreshSpec *s, const char *path, char ***ret) {
        static const char *const passed[] = {
                "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LOGNAME", "TZ", "USER", "HTTPS_PROXY", "HTTP_PROXY",
                "NO_PROXY", "https_proxy", "http_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR",
                "NODE_EXTRA_CA_CERTS",
        };
        _cleanup_free_ char *home = strjoin("HOME=", s->user_home), *search = strjoin("PATH=", path);
        _cleanup_(strv_freep) char **list = NULL;
        int r;

        if (!home || !search)
                return -ENOMEM;
        r = strv_extend(&list, home);
        if (r >= 0)
                r = strv_extend(&list, search);
        if (r >= 0)
                r = strv_extend(&list, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1");
        if (r >= 0)
                r = strv_extend(&list, "DISABLE_AUTOUPDATER=1");
        for (char *const *e = s->environment; e && *e && r >= 0; e++)
                for (size_t i = 0; i < ELEMENTSOF(passed) && r >= 0; i++) {
                        const char *rest = startswith(*e, passed[i]);

                        if (rest && *rest == '=')
                                r = strv_extend(&list, *e);
                }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(list);
        return 0;
}

static int argv_new(const char *program, char ***ret) {
        static const char *const arguments[] = {
                "-p", "--max-turns", "1", "--output-format", "stream-json", "--verbose", "ok",
        };
        _cleanup_(strv_freep) char **argv = NULL;
        int r = strv_extend(&argv, program);

        for (size_t i = 0; i < ELEMENTSOF(arguments) && r >= 0; i++)
                r = strv_extend(&argv, arguments[i]);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(argv);
        return 0;
}

static _Noreturn void child(const Refresh *f, char **environment, int output, int errors, pid_t parent) {
        sigset_t none;
        int null;

        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) signal(SIGPIPE, SIG_DFL);
        (void) setpgid(0, 0);
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                _exit(126);
        null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
            dup2(errors, STDERR_FILENO) < 0 || chdir(f->directory) < 0)
                _exit(126);
        (void) execve(f->argv[0], f->argv, environment);
        _exit(errno == ENOENT ? 127 : 126);
}

typedef struct Running {
        pid_t pid;
        int pidfd, fds[2];              /* its output, its errors */
        StrBuf texts[2];
} Running;

static void running_done(Running *p) {
        if (p->pid > 0) {
                (void) kill(-p->pid, SIGKILL);
                (void) kill(p->pid, SIGKILL);
                (void) waitpid(p->pid, NULL, 0);
        }
        safe_close(p->pidfd);
        for (size_t i = 0; i < 2; i++) {
                safe_close(p->fds[i]);
                strbuf_done(&p->texts[i]);
        }
}

static int start(const Refresh *f, char **environment, Running *p) {
        int output[2], errors[2];
        pid_t self = getpid();

        if (pipe2(output, O_CLOEXEC) < 0)
                return -errno;
        if (pipe2(errors, O_CLOEXEC) < 0) {
                safe_close(output[0]);
                safe_close(output[1]);
                return -errno;
        }
        p->fds[0] = output[0];
        p->fds[1] = errors[0];
        p->pid = fork();
        if (p->pid == 0)
                child(f, environment, output[1], errors[1], self);
        safe_close(output[1]);
        safe_close(errors[1]);
        if (p->pid < 0)
                return -errno;
        (void) setpgid(p->pid, p->pid);
        p->pidfd = pidfd_open(p->pid, 0);
        return p->pidfd < 0 ? -errno : 0;
}

/* Something, or the end, has come. */
static int take(Running *p, size_t i) {
        char buffer[KIB(64)];
        ssize_t n = read(p->fds[i], buffer, sizeof(buffer));

        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        if (n == 0) {
                p->fds[i] = safe_close(p->fds[i]);
                return 0;
        }
        if (p->texts[i].size + (size_t) n > OUTPUT_MAX)
                strbuf_consume(&p->texts[i], p->texts[i].size / 2);
        return strbuf_append(&p->texts[i], buffer, (size_t) n);
}

static void reap(Running *p, Refresh *f) {
        int status;

        if (waitpid(p->pid, &status, 0) == p->pid)
                f->exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        /* What it has left behind must not hold on to anything. */
        (void) kill(-p->pid, SIGKILL);
        p->pid = 0;
}

/* 0: it took too long. */
static int wait_for_end(Running *p, Refresh *f, uint64_t deadline_usec) {
        while (p->pid > 0) {
                struct pollfd polled[] = {
                        { .fd = p->fds[0], .events = POLLIN }, { .fd = p->fds[1], .events = POLLIN },
                        { .fd = p->pidfd, .events = POLLIN },
                };
                uint64_t now = now_boottime_usec();
                int r;

                if (now >= deadline_usec)
                        return 0;
                r = poll(polled, ELEMENTSOF(polled), (int) MIN((deadline_usec - now) / USEC_PER_MSEC + 1, 60000U));
                if (r < 0 && errno != EINTR)
                        return -errno;
                if (r <= 0)
                        continue;
                for (size_t i = 0; i < 2; i++)
                        if (polled[i].revents) {
                                r = take(p, i);
                                if (r < 0)
                                        return r;
                        }
                if (polled[2].revents && !polled[0].revents && !polled[1].revents)
                        reap(p, f);
        }
        return 1;
}

/* ---- what came of it ---- */

static bool says_logged_out(const char *text) {
        static const char *const signs[] = {
                "api error: 401", "invalid authentication credentials", "authentication_error", "invalid_grant",
                "please run /login", "please run `claude /login`", "run `claude login`",
        };

        for (size_t i = 0; i < ELEMENTSOF(signs); i++)
                if (strcasestr(text, signs[i]))
                        return true;
        return false;
}

static int read_login(const RefreshSpec *s, CliLogin *ret) {
        _cleanup_free_ char *path = path_join(s->user_home, ".claude/.credentials.json");

        return path ? cli_login_read(path, ret, NULL) : -ENOMEM;
}

/* > 0: it is to be refreshed. */
static int look(const RefreshSpec *s, Refresh *f) {
        CliLogin l;
        int r;

        r = read_login(s, &l);
        if (r < 0)
                return r;
        f->expires_before_usec = f->expires_after_usec = l.expires_usec;
        f->result = l.state == CLI_LOGIN_MISSING ? REFRESH_MISSING : REFRESH_NOT_NEEDED;
        if (l.state == CLI_LOGIN_MISSING)
                return 0;
        if (s->always)
                return 1;
        return l.expires_usec != USEC_INFINITY &&
               l.expires_usec <= now_realtime_usec() + CLI_LOGIN_REFRESH_BEFORE_USEC;
}

/* In a directory of its own: nobody's project says what is to be done. */
static int run(const RefreshSpec *s, Refresh *f) {
        _cleanup_(running_done) Running p = { .pidfd = -EBADF, .fds = { -EBADF, -EBADF } };
        _cleanup_(strv_freep) char **roots = NULL, **environment = NULL;
        _cleanup_free_ char *program = NULL, *path = NULL;
        uint64_t begin = now_boottime_usec();
        CliLogin after;
        int r;

        r = cli_program_find("claude-code", NULL, s->path, s->user_home, &program, &roots, &path);
        if (r >= 0)
                r = argv_new(program, &f->argv);
        if (r >= 0)
                r = environment_new(s, path, &environment);
        if (r < 0)
                return r;
        f->directory = strdup("/tmp/puffo-credentials-XXXXXX");
        if (!f->directory)
                return -ENOMEM;
        if (!mkdtemp(f->directory))
                return -errno;

        r = start(f, environment, &p);
        if (r >= 0)
                r = wait_for_end(&p, f, begin + s->timeout_usec);
        (void) directory_remove(f->directory);
        if (r < 0)
                return r;
        f->elapsed_usec = now_boottime_usec() - begin;
        f->output = strbuf_take(&p.texts[0]);
        f->errors = strbuf_take(&p.texts[1]);
        if (!f->output || !f->errors)
                return -ENOMEM;

        f->result = says_logged_out(f->output) || says_logged_out(f->errors) ? REFRESH_AUTH_FAILED :
                    f->exit_status == 0 ? REFRESH_OK : REFRESH_FAILED;
        r = read_login(s, &after);
        if (r >= 0)
                f->expires_after_usec = after.expires_usec;
        return r;
}

int refresh_run(const RefreshSpec *s, Refresh *ret) {
        _cleanup_(refresh_done) Refresh f = { .exit_status = -1 };
        _cleanup_free_ char *directory = path_join(s->user_home, ".claude");
        _cleanup_close_ int lock = -EBADF;
        int r;

        if (!directory)
                return -ENOMEM;
        r = look(s, &f);
        if (r > 0) {
                /* The directory itself: nothing of ours is left in a home that is not ours. */
                lock = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                if (lock < 0)
                        return -errno;
                if (flock(lock, LOCK_EX | LOCK_NB) < 0) {
                        if (errno != EWOULDBLOCK)
                                return -errno;
                        f.result = REFRESH_BUSY;
                        r = 0;
                } else /* somebody may just have been at it */
                        r = look(s, &f);
        }
        if (r > 0)
                r = run(s, &f);
        if (r < 0)
                return r;
        *ret = f;
        f = (Refresh) {};
        return 0;
}
