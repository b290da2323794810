/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/stat.h>

#include "file-util.h"
#include "harness-home.h"
#include "string-util.h"

const char *const harness_home_hidden[] = { ".ssh", ".gnupg", ".local/share/keyrings", NULL };

const char *const harness_home_read_only[] = {
        ".config/systemd", ".local/share/systemd", ".config/environment.d", ".config/autostart",
        ".config/user-tmpfiles.d", ".local/share/user-tmpfiles.d", ".local/share/dbus-1", NULL,
};

void harness_home_done(HarnessHome *h) {
        h->hidden = strv_free(h->hidden);
        h->read_only = strv_free(h->read_only);
        h->anchors = strv_free(h->anchors);
}

static int fail(int error, const char *path, char **reterr_reason) {
        *reterr_reason = error == -ELOOP ?
                asprintf_new("'%s' is a link, or no directory: a harness of the profile host could put something else "
                             "in its place. The profile workspace does not show it at all.", path) :
                asprintf_new("'%s' cannot be made, so that a harness of the profile host could make it: %s", path,
                             strerror(-error));
        return *reterr_reason ? error : -ENOMEM;
}

static int open_directory(int at, const char *name) {
        int fd;

        if (mkdirat(at, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd >= 0 ? fd : errno == ENOTDIR || errno == ELOOP ? -ELOOP : -errno;
}

/* Whether who owns the home could rename it. */
static bool home_is_loose(const char *home) {
        _cleanup_free_ char *parent = strdup(home);
        char *slash = parent ? strrchr(parent, '/') : NULL;
        struct stat st;

        if (!slash)
                return true;
        slash[slash == parent] = 0;
        return stat(parent, &st) < 0 || st.st_uid == geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH));
}

static int add(char ***list, const char *path) {
        return strv_contains(*list, path) ? 0 : strv_extend(list, path);
}

static int make_one(HarnessHome *h, char ***list, int home_fd, const char *home, const char *name,
                    char **reterr_reason) {
        _cleanup_free_ char *path = strdup(home), *copy = strdup(name);
        _cleanup_close_ int at = fcntl(home_fd, F_DUPFD_CLOEXEC, 3);
        char *rest = copy, *part;
        int r = 0;

        if (!path || !copy)
                return -ENOMEM;
        if (at < 0)
                return -errno;
        while (r >= 0 && (part = strsep(&rest, "/"))) {
                char *longer = path_join(path, part);
                int fd;

                if (!longer)
                        return -ENOMEM;
                free(path);
                path = longer;
                fd = open_directory(at, part);
                if (fd < 0)
                        return fail(fd, path, reterr_reason);
                safe_close(at);
                at = fd;
                r = add(rest ? &h->anchors : list, path);
        }
        return r;
}

int harness_home_make(HarnessHome *ret, const char *home, char **reterr_reason) {
        _cleanup_(harness_home_done) HarnessHome h = {};
        _cleanup_close_ int fd = open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
        /* A home may be reached by links; mounts are where they lead to. */
        _cleanup_free_ char *real = realpath(home, NULL);
        int r = 0;

        *reterr_reason = NULL;
        if (fd < 0 || !real)
                return fail(-errno, home, reterr_reason);
        if (home_is_loose(real))
                r = add(&h.anchors, real);
        for (const char *const *name = harness_home_hidden; *name && r >= 0; name++)
                r = make_one(&h, &h.hidden, fd, real, *name, reterr_reason);
        for (const char *const *name = harness_home_read_only; *name && r >= 0; name++)
                r = make_one(&h, &h.read_only, fd, real, *name, reterr_reason);
        if (r < 0)
                return r;
        *ret = h;
        h = (HarnessHome) {};
        return 0;
}
