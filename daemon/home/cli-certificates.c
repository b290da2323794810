/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>

#include "cli-home-internal.h"
#include "string-util.h"

static const char *const variables[] = {
        "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", NULL,
};

bool cli_path_is_hidden(const char *path, const char *user_home) {
        static const char *const hidden[] = { "/home", "/root", "/run", "/tmp", "/var/tmp", "/var/lib" };

        for (size_t i = 0; i <= ELEMENTSOF(hidden); i++) {
                const char *place = i < ELEMENTSOF(hidden) ? hidden[i] : user_home,
                           *rest = place ? startswith(path, place) : NULL;

                if (rest && (*rest == '/' || *rest == 0))
                        return true;
        }
        return false;
}

/* A link is followed: what it leads to is shown in its place. */
static int add(char ***list, const char *path, const char *user_home) {
        struct stat st;

        if (*path != '/' || !cli_path_is_hidden(path, user_home) || strv_contains(*list, path) ||
            stat(path, &st) < 0 || (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
                return 0;
        return strv_extend(list, path);
}

/* OpenSSL takes several directories, with colons between them. */
static int add_each(char ***list, const char *paths, const char *user_home) {
        _cleanup_free_ char *copy = strdup(paths);
        char *rest = copy, *path;
        int r = copy ? 0 : -ENOMEM;

        while (r >= 0 && (path = strsep(&rest, ":")))
                r = add(list, path, user_home);
        return r;
}

int cli_certificates_find(char *const *environment, const char *user_home, char ***ret) {
        _cleanup_(strv_freep) char **list = NULL;
        int r = 0;

        for (const char *const *name = variables; *name; name++)
                for (char *const *e = environment; e && *e && r >= 0; e++) {
                        const char *value = startswith(*e, *name);

                        if (value && *value == '=')
                                r = streq(*name, "SSL_CERT_DIR") ? add_each(&list, value + 1, user_home) :
                                                                   add(&list, value + 1, user_home);
                }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(list);
        return 0;
}
