/* SPDX-License-Identifier: MIT */

#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "fd-store.h"
#include "log.h"
#include "string-util.h"

#define BARRIER_USEC (5 * USEC_PER_SEC)

int fd_store_send(const char *name, int fd) {
        _cleanup_free_ char *state = NULL;
        int r;

        if (!getenv("NOTIFY_SOCKET"))
                return 0;
        /* FDPOLL=0: the last words of a program that ends while nobody reads are kept too. */
        state = strjoin("FDSTORE=1\nFDNAME=", name, "\nFDPOLL=0");
        if (!state)
                return -ENOMEM;
        r = sd_pid_notify_with_fds(0, 0, state, &fd, 1);
        return r < 0 ? r : r == 0 ? -EPERM : 0;
}

int fd_store_settle(void) {
        int r = getenv("NOTIFY_SOCKET") ? sd_notify_barrier(0, BARRIER_USEC) : 0;

        return MIN(r, 0);
}

int fd_store_add(const char *name, int fd) {
        int r = fd_store_send(name, fd);

        return r < 0 ? r : fd_store_settle();
}

void fd_store_remove(const char *name) {
        int r = sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to take '%s' out of the descriptor store, ignoring: %m", name);
}

int fd_store_take(const char *name) {
        static char **names;
        static int n = -1;

        if (n < 0)
                n = sd_listen_fds_with_names(/* unset_environment= */ true, &names);
        for (int i = 0; i < n; i++)
                if (streq(names[i], name)) {
                        names[i][0] = 0;
                        return SD_LISTEN_FDS_START + i;
                }
        return n < 0 ? n : -ENOENT;
}
