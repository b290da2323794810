/* SPDX-License-Identifier: MIT */

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <time.h>

#include "agent-file.h"
#include "agent-home.h"
#include "agent-zip.h"
#include "config-field.h"
#include "file-util.h"
#include "string-util.h"

#define DEPTH_MAX 64

typedef struct Export {
        struct archive *zip;
        const char *id;
} Export;

static int zip_error(struct archive *a) {
        int e = archive_errno(a);

        return e > 0 ? -e : -EIO;
}

/* Logins of CLIs, which are the operator's own, and files somebody was writing when he was stopped. */
static bool is_excluded(const char *name) {
        return endswith(name, ".tmp") || strstr(name, ".tmp-") || streq(name, ".credentials.json") ||
               streq(name, "auth.json");
}

static int add_header(Export *x, const char *path, uint64_t size, time_t mtime, mode_t mode) {
        _cleanup_(archive_entry_freep) struct archive_entry *e = archive_entry_new();
        _cleanup_free_ char *name = strjoin(x->id, "/", path);

        if (!e || !name)
                return -ENOMEM;

        archive_entry_set_pathname(e, name);
        archive_entry_set_filetype(e, AE_IFREG);
        archive_entry_set_perm(e, mode & 0100 ? 0700 : 0600);
        archive_entry_set_size(e, (la_int64_t) size);
        archive_entry_set_mtime(e, mtime, 0);
        return archive_write_header(x->zip, e) < ARCHIVE_WARN ? zip_error(x->zip) : 0;
}

static int add_text(Export *x, const char *path, const char *text, size_t size) {
        int r;

        r = add_header(x, path, size, time(NULL), 0600);
        if (r < 0)
                return r;
        return archive_write_data(x->zip, text, size) < 0 ? zip_error(x->zip) : 0;
}

/* As long as it was when we began: what is appended meanwhile is for the next export. */
static int add_data(Export *x, int fd, uint64_t size) {
        char buffer[KIB(64)];

        while (size > 0) {
                ssize_t n = read(fd, buffer, (size_t) MIN(size, (uint64_t) sizeof(buffer)));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -ESTALE;
                if (archive_write_data(x->zip, buffer, (size_t) n) < 0)
                        return zip_error(x->zip);
                size -= (uint64_t) n;
        }
        return 0;
}

/* Takes the descriptor over. Anything but a regular file is left out. */
static int add_fd(Export *x, const char *path, int file_fd) {
        _cleanup_close_ int fd = file_fd;
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return 0;

        r = add_header(x, path, (uint64_t) st.st_size, st.st_mtim.tv_sec, st.st_mode);
        return r < 0 ? r : add_data(x, fd, (uint64_t) st.st_size);
}

/* A missing file is no error. */
static int add_file(Export *x, const AgentHome *h, const char *path, const char *name) {
        int fd = agent_file_open(h->directory, path, O_RDONLY | O_NONBLOCK);

        return fd < 0 ? (fd == -ENOENT ? 0 : fd) : add_fd(x, name, fd);
}

static int add_entries(Export *x, const char *name, int dir_fd, unsigned depth);

/* Links are not followed: neither may a tree lead out, nor a file be in the archive twice. */
static int add_entry(Export *x, const char *parent, int parent_fd, const char *entry, unsigned depth) {
        _cleanup_free_ char *name = strjoin(parent, "/", entry);
        struct stat st;
        int fd;

        if (!name)
                return -ENOMEM;
        if (fstatat(parent_fd, entry, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISDIR(st.st_mode) && (!S_ISREG(st.st_mode) || is_excluded(entry)))
                return 0;

        fd = openat(parent_fd, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
                return errno == ENOENT || errno == ELOOP ? 0 : -errno;
        return S_ISDIR(st.st_mode) ? add_entries(x, name, fd, depth + 1) : add_fd(x, name, fd);
}

/* Takes the descriptor over. */
static int add_entries(Export *x, const char *name, int dir_fd, unsigned depth) {
        DIR *dir = fdopendir(dir_fd);
        int r = 0;

        if (!dir) {
                r = -errno;
                safe_close(dir_fd);
                return r;
        }

        if (depth > DEPTH_MAX)
                r = -ELOOP;
        for (struct dirent *entry; r >= 0 && (r = directory_next(dir, &entry)) > 0; )
                r = add_entry(x, name, dirfd(dir), entry->d_name, depth);
        (void) closedir(dir);
        return r;
}

static int add_tree(Export *x, const AgentHome *h, const char *path, const char *name) {
        int fd = agent_file_open(h->directory, path, O_RDONLY | O_DIRECTORY);

        return fd < 0 ? (fd == -ENOENT ? 0 : fd) : add_entries(x, name, fd, 0);
}

/* agent.yml as it is on disk, but with the paths it has in the archive and without the key. */
static int add_config(Export *x, const AgentHome *h, const ExportLayout *l, bool secrets) {
        _cleanup_(yaml_document_freep) YamlDocument *d = NULL;
        _cleanup_free_ char *text = NULL, *error = NULL;
        YamlNode *root, *runtime;
        size_t size;
        int r;

        r = config_read(h->config_path, &d, &error);
        if (r < 0)
                return r;

        root = yaml_document_root(d);
        r = yaml_mapping_set_string(root, "profile", l->profile);
        if (r >= 0)
                r = yaml_mapping_set_string(root, "memory_dir", l->memory);
        if (r >= 0)
                r = yaml_mapping_set_string(root, "workspace_dir", l->workspace);
        if (r < 0)
                return r;
        runtime = yaml_mapping_get(root, "runtime");
        if (!secrets && runtime && yaml_mapping_get(runtime, "api_key")) {
                r = yaml_mapping_set_string(runtime, "api_key", "");
                if (r < 0)
                        return r;
        }

        r = yaml_document_dump(d, &text, &size);
        if (r < 0)
                return r;
        r = add_text(x, "agent.yml", text, size);
        sodium_memzero(text, size);
        return r;
}

static int add_role_files(Export *x, const AgentHome *h, const AgentConfig *c) {
        _cleanup_free_ char *parent = NULL, *agents = NULL;
        const char *name;
        int r;

        r = path_split(c->profile, &parent, &name);
        if (r < 0)
                return r;
        agents = path_join(parent, "AGENTS.md");
        return agents ? add_file(x, h, agents, "workspace/AGENTS.md") : -ENOMEM;
}

static int add_copy(Export *x, int file_fd, const char *name) {
        int fd = fcntl(file_fd, F_DUPFD_CLOEXEC, 3);

        if (fd < 0)
                return -errno;
        if (lseek(fd, 0, SEEK_SET) < 0) {
                int r = -errno;

                safe_close(fd);
                return r;
        }
        return add_fd(x, name, fd);
}

static bool same_moment(const struct stat *a, const struct stat *b) {
        return a->st_size == b->st_size && a->st_nlink == b->st_nlink && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
               a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* What the last session has written is in the log when it was killed, and in the database when it closed it: both, as
 * long as nobody opens them meanwhile. */
static int add_messages(Export *x, int messages, int wal) {
        struct stat before[2] = {}, after[2] = {};
        int r;

        if (fstat(messages, before) < 0 || (wal >= 0 && fstat(wal, before + 1) < 0))
                return -errno;
        r = add_copy(x, messages, "messages.db");
        if (r >= 0 && wal >= 0 && before[1].st_size > 0)
                r = add_copy(x, wal, "messages.db-wal");
        if (r < 0)
                return r;
        if (fstat(messages, after) < 0 || (wal >= 0 && fstat(wal, after + 1) < 0))
                return -errno;
        return same_moment(before, after) && same_moment(before + 1, after + 1) ? 0 : -EBUSY;
}

static int add_all(Export *x, const AgentHome *h, const AgentConfig *c, ExportFlags flags, int messages, int wal) {
        const ExportLayout l = export_layout(!!h->role);
        int r;

        r = add_config(x, h, &l, flags & EXPORT_SECRETS);
        if (r >= 0 && flags & EXPORT_WORKSPACE)
                r = add_tree(x, h, c->workspace_dir, l.workspace);
        /* A role agent's other files are in its workspace, and with that in the archive already. */
        if (r >= 0 && !(h->role && flags & EXPORT_WORKSPACE)) {
                r = add_file(x, h, c->profile, l.profile);
                if (r >= 0)
                        r = add_tree(x, h, c->memory_dir, l.memory);
                if (r >= 0 && h->role)
                        r = add_role_files(x, h, c);
        }
        if (r >= 0 && flags & EXPORT_SECRETS)
                r = add_tree(x, h, "keys", "keys");
        if (r >= 0 && messages >= 0)
                r = add_messages(x, messages, wal);
        return r;
}

int agent_home_export(const AgentHome *h, const AgentConfig *c, ExportFlags flags, int messages, int wal, int fd) {
        _cleanup_(zip_locale_restore) ZipLocale locale = zip_locale_set();
        _cleanup_(archive_write_freep) struct archive *zip = NULL;
        Export x = { .id = h->id };
        struct stat st;
        int r;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ESPIPE;
        if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
                return -errno;

        x.zip = zip = archive_write_new();
        if (!zip)
                return -ENOMEM;
        if (archive_write_set_format_zip(zip) != ARCHIVE_OK ||
            archive_write_set_options(zip, "compression=deflate,hdrcharset=UTF-8") != ARCHIVE_OK ||
            archive_write_set_bytes_in_last_block(zip, 1) != ARCHIVE_OK ||
            archive_write_open_fd(zip, fd) != ARCHIVE_OK)
                return zip_error(zip);

        r = add_all(&x, h, c, flags, messages, wal);
        if (r < 0)
                return r;
        return archive_write_close(zip) != ARCHIVE_OK ? zip_error(zip) : 0;
}
