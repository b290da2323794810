/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>
#include <sys/statvfs.h>

#include "places.h"
#include "string-util.h"

#define SHOWN_MAX 200U

void places_done(Places *p) {
        for (size_t i = 0; i < p->n_places; i++)
                free(p->places[i].path);
        free(p->places);
        *p = (Places) {};
}

static int parse_part(char **text, uint64_t *ret) {
        char *part = strsep(text, ":");

        return part && *text ? parse_u64(part, ret) : -EINVAL;
}

int places_add(Places *p, const char *text) {
        _cleanup_free_ char *copy = strdup(text);
        char *rest = copy, *kind;
        uint64_t device, inode;
        Place *grown;

        if (!copy)
                return -ENOMEM;
        kind = strsep(&rest, ":");
        if ((!streq(kind, "ro") && !streq(kind, "rw")) || parse_part(&rest, &device) < 0 ||
            parse_part(&rest, &inode) < 0 || *rest != '/')
                return -EINVAL;
        grown = reallocarray(p->places, p->n_places + 1, sizeof(Place));
        if (!grown)
                return -ENOMEM;
        p->places = grown;
        grown += p->n_places;
        *grown = (Place) { strdup(rest), (dev_t) device, (ino_t) inode, streq(kind, "ro") };
        if (!grown->path)
                return -ENOMEM;
        p->n_places++;
        return 0;
}

static int stale(const Place *place, const char *what, char **reterr_reason) {
        _cleanup_free_ char *shown = str_printable(place->path, SHOWN_MAX);

        *reterr_reason = shown ? asprintf_new("'%s' %s", shown, what) : NULL;
        return *reterr_reason ? -ESTALE : -ENOMEM;
}

int places_check(const Places *p, char **reterr_reason) {
        for (size_t i = 0; i < p->n_places; i++) {
                const Place *place = p->places + i;
                struct statvfs vfs;
                struct stat st;

                if (stat(place->path, &st) < 0)
                        return stale(place, "is not there", reterr_reason);
                if (st.st_dev != place->device || st.st_ino != place->inode)
                        return stale(place, S_ISDIR(st.st_mode) ? "is not the directory that was checked" :
                                            S_ISSOCK(st.st_mode) ? "is not the socket that was checked" :
                                            "is not the file that was checked", reterr_reason);
                if (place->read_only && (statvfs(place->path, &vfs) < 0 || !(vfs.f_flag & ST_RDONLY)))
                        return stale(place, "can be written", reterr_reason);
        }
        return 0;
}
