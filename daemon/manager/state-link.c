/* SPDX-License-Identifier: MIT */

/* StateDirectory=puffo/ID of a dynamic user leaves a link /var/lib/puffo/ID to /var/lib/private/puffo/ID. The service
 * manager never takes it away: that is left to who takes away what it leads to. */

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helpers.h"
#include "log.h"
#include "string-util.h"

static bool leads_nowhere(int dir_fd, const char *name) {
        _cleanup_free_ char *end = strjoin("/private/puffo/", name);
        char target[PATH_MAX];
        struct stat st;
        ssize_t n;

        n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
        if (!end || n <= 0)
                return false;
        target[n] = 0;
        return endswith(target, end) && fstatat(dir_fd, name, &st, 0) < 0 && errno == ENOENT;
}

unsigned state_links_sweep(const char *directory) {
        DIR *dir = opendir(directory);
        struct dirent *entry;
        unsigned n = 0;

        if (!dir)
                return 0;
        while ((entry = readdir(dir))) {
                if (!leads_nowhere(dirfd(dir), entry->d_name))
                        continue;
                if (unlinkat(dirfd(dir), entry->d_name, 0) < 0)
                        (void) log_warning_errno(errno, "Failed to remove the link '%s/%s', ignoring: %m", directory,
                                                 entry->d_name);
                else
                        n++;
        }
        (void) closedir(dir);
        return n;
}
