/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "link-client.h"
#include "macro.h"
#include "through-link.h"

static char directory[] = "/tmp/test-link-XXXXXX";
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static int listener = -EBADF;
static pid_t owner, link_pid;

static void become_link(void) {
        char number[32];

        (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void) snprintf(number, sizeof(number), "%d", (int) getpid());
        /* A proxy that its own environment names is not for those who ask it. */
        if (dup2(listener, 3) < 0 || fcntl(3, F_SETFD, 0) < 0 || setenv("LISTEN_PID", number, 1) < 0 ||
            setenv("LISTEN_FDS", "1", 1) < 0 || setenv("LISTEN_FDNAMES", "link", 1) < 0 ||
            setenv("http_proxy", "http://127.0.0.1:1", 1) < 0 || setenv("https_proxy", "http://127.0.0.1:1", 1) < 0)
                _exit(126);
        (void) execl(LINK_PROGRAM, LINK_PROGRAM, (char*) NULL);
        _exit(127);
}

pid_t through_link_pid(void) {
        return link_pid;
}

const char* through_link_path(void) {
        return address.sun_path;
}

void through_link_start(void) {
        link_pid = fork();
        if (link_pid < 0)
                abort();
        if (link_pid == 0)
                become_link();
}

void through_link_kill(void) {
        (void) kill(link_pid, SIGKILL);
        if (waitpid(link_pid, NULL, 0) != link_pid)
                abort();
        link_pid = 0;
}

__attribute__((constructor)) static void link_begin(void) {
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (listener < 0 || !mkdtemp(directory))
                abort();
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/link", directory);
        if (bind(listener, (struct sockaddr*) &address, sizeof(address)) < 0 || listen(listener, 300) < 0 ||
            link_set_socket(address.sun_path) < 0)
                abort();
        owner = getpid();
        through_link_start();
}

__attribute__((destructor)) static void link_end(void) {
        int status = 0;

        /* What a test has forked ends here, too. */
        if (getpid() != owner)
                return;
        if (link_pid > 0) {
                (void) kill(link_pid, SIGTERM);
                (void) waitpid(link_pid, &status, 0);
        }
        (void) unlink(address.sun_path);
        (void) rmdir(directory);
        /* It must not have crashed, nor have been found wanting by a sanitizer. */
        if (status != 0)
                _exit(99);
}
