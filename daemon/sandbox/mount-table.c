/* SPDX-License-Identifier: MIT */

#include <fcntl.h>

#include "mount-table.h"
#include "string-util.h"

#define TABLE_SIZE_MAX MIB(16)
#define DEPTH_MAX 4096U

void mount_table_done(MountTable *t) {
        for (size_t i = 0; i < t->n_mounts; i++) {
                free(t->mounts[i].point);
                free(t->mounts[i].type);
        }
        free(t->mounts);
        *t = (MountTable) {};
}

/* Blanks, backslashes and line ends stand there as three octal digits. */
static char* unescape(const char *s, size_t n) {
        char *made = malloc(n + 1), *p = made;

        if (!made)
                return NULL;
        for (size_t i = 0; i < n; i++) {
                unsigned value = 0;
                size_t k = 1;

                for (; s[i] == '\\' && k <= 3 && i + k < n && s[i + k] >= '0' && s[i + k] <= '7'; k++)
                        value = value << 3 | (unsigned) (s[i + k] - '0');
                if (k == 4) {
                        *p++ = (char) value;
                        i += 3;
                } else
                        *p++ = s[i];
        }
        *p = 0;
        return made;
}

static int parse_id(const char *s, size_t n, int *ret) {
        char text[12];
        uint32_t value;
        int r;

        if (n >= sizeof(text))
                return -EBADMSG;
        memcpy(text, s, n);
        text[n] = 0;
        r = parse_u32(text, &value);
        if (r < 0 || value > INT32_MAX)
                return -EBADMSG;
        *ret = (int) value;
        return 0;
}

static bool has_option(const char *s, size_t n, const char *option) {
        for (size_t begin = 0; begin <= n; begin++) {
                const char *end = memchr(s + begin, ',', n - begin);
                size_t size = end ? (size_t) (end - s) - begin : n - begin;

                if (size == strlen(option) && memcmp(s + begin, option, size) == 0)
                        return true;
                begin += size;
        }
        return false;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue": any number of optional fields. */
static int parse_line(Mount *m, const char *line, size_t size) {
        struct { const char *s; size_t n; } fields[6], rest[3];
        size_t n_fields = 0, n_rest = 0;
        bool is_rest = false;
        int r;

        for (const char *p = line, *end = line + size; p < end; ) {
                const char *blank = memchr(p, ' ', (size_t) (end - p)) ?: end;
                size_t n = (size_t) (blank - p);

                if (n_fields < ELEMENTSOF(fields)) {
                        fields[n_fields].s = p;
                        fields[n_fields++].n = n;
                } else if (is_rest && n_rest < ELEMENTSOF(rest)) {
                        rest[n_rest].s = p;
                        rest[n_rest++].n = n;
                } else if (!is_rest)
                        is_rest = n == 1 && *p == '-';
                p = blank + 1;
        }
        if (n_rest < ELEMENTSOF(rest))
                return -EBADMSG;

        r = parse_id(fields[0].s, fields[0].n, &m->id);
        if (r >= 0)
                r = parse_id(fields[1].s, fields[1].n, &m->parent_id);
        if (r < 0)
                return r;
        m->is_read_only = has_option(fields[5].s, fields[5].n, "ro") || has_option(rest[2].s, rest[2].n, "ro");
        m->point = unescape(fields[4].s, fields[4].n);
        m->type = unescape(rest[0].s, rest[0].n);
        if (!m->point || !m->type)
                return -ENOMEM;
        return *m->point == '/' ? 0 : -EBADMSG;
}

int mount_table_parse(MountTable *t, const char *text) {
        size_t n = 0;

        for (const char *p = text; *p; p++)
                n += *p == '\n';
        t->mounts = new0(Mount, n + 1);
        if (!t->mounts)
                return -ENOMEM;

        for (const char *p = text, *end; *p; p = end) {
                size_t size = strcspn(p, "\n");
                int r;

                end = p + size + (p[size] == '\n');
                if (size == 0)
                        continue;
                /* Counted first: what was filled in of a bad line is freed too. */
                r = parse_line(&t->mounts[t->n_mounts++], p, size);
                if (r < 0) {
                        mount_table_done(t);
                        return r;
                }
        }
        return 0;
}

/* Not file_read(): files of proc have no size. */
int mount_table_read(MountTable *t) {
        _cleanup_close_ int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        _cleanup_(strbuf_done) StrBuf b = {};
        char buffer[KIB(16)];
        ssize_t n;
        int r;

        if (fd < 0)
                return -errno;
        while ((n = read(fd, buffer, sizeof(buffer))) != 0) {
                if (n < 0)
                        return -errno;
                if (b.size > TABLE_SIZE_MAX)
                        return -EFBIG;
                r = strbuf_append(&b, buffer, (size_t) n);
                if (r < 0)
                        return r;
        }
        return mount_table_parse(t, strempty(b.text));
}

bool path_is_below(const char *path, const char *other) {
        const char *rest = startswith(path, other);

        return rest && (*rest == 0 || *rest == '/' || streq(other, "/"));
}

static const Mount* find_root(const MountTable *t) {
        for (size_t i = 0; i < t->n_mounts; i++) {
                bool has_parent = false;

                if (!streq(t->mounts[i].point, "/"))
                        continue;
                for (size_t j = 0; j < t->n_mounts && !has_parent; j++)
                        has_parent = j != i && t->mounts[j].id == t->mounts[i].parent_id;
                if (!has_parent)
                        return t->mounts + i;
        }
        return NULL;
}

const Mount* mount_table_find(const MountTable *t, const char *path) {
        const Mount *here = find_root(t);

        /* From mount to mount, always the one that a walk would come to first. The bound is for tables in a circle. */
        for (unsigned depth = 0; here && depth < DEPTH_MAX; depth++) {
                const Mount *next = NULL;

                for (size_t i = 0; i < t->n_mounts; i++) {
                        const Mount *m = t->mounts + i;

                        if (m != here && m->parent_id == here->id && path_is_below(path, m->point) &&
                            (!next || strlen(m->point) < strlen(next->point)))
                                next = m;
                }
                if (!next)
                        return here;
                here = next;
        }
        return NULL;
}

bool mount_table_has_below(const MountTable *t, const char *path) {
        for (size_t i = 0; i < t->n_mounts; i++)
                if (path_is_below(t->mounts[i].point, path))
                        return true;
        return false;
}

bool mount_table_has_point(const MountTable *t, const char *path) {
        for (size_t i = 0; i < t->n_mounts; i++)
                if (streq(t->mounts[i].point, path))
                        return true;
        return false;
}
