/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "agent-home.h"
#include "agent-zip.h"
#include "file-util.h"
#include "role.h"
#include "string-util.h"
#include "tree.h"

#define BYTES_MAX ((uint64_t) 1024 * MIB(1))
#define ENTRIES_MAX 100000U
#define DEPTH_MAX 32U
#define PART_MAX 255U

typedef struct Import {
        struct archive *zip;
        int fd;                 /* our copy of the archive */
        char *aside;            /* what is unpacked */
        char *top;              /* the one directory in the archive */
        uint64_t n_bytes;
        unsigned n_entries;
        char *error;
} Import;

static void import_done(Import *m) {
        archive_read_freep(&m->zip);
        safe_close(m->fd);
        m->aside = tree_discard(m->aside);
        free(m->top);
        free(m->error);
}

/* about: an entry's name, or NULL. */
static int refuse(Import *m, const char *about, const char *why) {
        _cleanup_free_ char *shown = about ? str_printable(about, 120) : NULL;

        free(m->error);
        m->error = shown ? strjoin("the archive's '", shown, "' ", why) : strjoin("the archive ", why);
        return m->error ? -EBADMSG : -ENOMEM;
}

static int refuse_zip(Import *m) {
        _cleanup_free_ char *why = NULL;

        if (archive_errno(m->zip) == ENOMEM)
                return -ENOMEM;
        why = strjoin("cannot be read: ", archive_error_string(m->zip) ?: "not a zip file");
        return why ? refuse(m, NULL, why) : -ENOMEM;
}

static bool part_is_valid(const char *part, size_t n) {
        if (n == 0 || n > PART_MAX || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
                return false;

        for (size_t i = 0; i < n; i++)
                if ((unsigned char) part[i] < 0x20 || part[i] == 0x7f || part[i] == '\\')
                        return false;
        return true;
}

/* Splits "<id>/<path>"; *ret_path is "" for the top directory itself. */
static int check_name(Import *m, const char *name, const char **ret_path) {
        size_t n_top = strcspn(name, "/"), depth = 0;

        if (!utf8_is_valid(name, strlen(name)))
                return refuse(m, name, "is not a UTF-8 name");
        for (const char *part = name; *part; ) {
                size_t n = strcspn(part, "/");

                if (!part_is_valid(part, n) || ++depth > DEPTH_MAX)
                        return refuse(m, name,
                                      "is not a name that is taken (relative, without '..', backslashes or control "
                                               "characters, not too deep)");
                part += n;
                part += *part == '/';
        }

        if (!m->top) {
                m->top = memdup0(name, n_top);
                if (!m->top)
                        return -ENOMEM;
                if (!agent_id_is_valid(m->top))
                        return refuse(m, name, "is not below a directory that is named like an agent");
        }
        if (strlen(m->top) != n_top || strncmp(m->top, name, n_top) != 0)
                return refuse(m, name, "is not below the same directory as the others");

        *ret_path = name + n_top + (name[n_top] == '/');
        return 0;
}

/* What is about a running agent, or somebody's login, is not carried over. */
static bool is_left_out(const char *path) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

        return startswith(path, ".puffo-agent/") || streq(path, ".puffo-agent") || streq(path, "runtime.json") ||
               startswith(path, AGENT_MESSAGES_COPIED) || streq(name, ".credentials.json") ||
               streq(name, "auth.json") || endswith(name, ".tmp");
}

static int write_all(int fd, const char *p, size_t n) {
        while (n > 0) {
                ssize_t k = write(fd, p, n);

                if (k < 0 && errno != EINTR)
                        return -errno;
                p += MAX(k, 0);
                n -= (size_t) MAX(k, 0);
        }
        return 0;
}

static int unpack_data(Import *m, int fd, const char *name) {
        char buffer[KIB(64)];
        int r;

        for (;;) {
                la_ssize_t n = archive_read_data(m->zip, buffer, sizeof(buffer));

                if (n == ARCHIVE_RETRY)
                        continue;
                if (n < 0)
                        return refuse_zip(m);
                if (n == 0)
                        return 0;

                m->n_bytes += (uint64_t) n;
                if (m->n_bytes > BYTES_MAX)
                        return refuse(m, name, "makes it larger than 1 GiB unpacked");

                r = write_all(fd, buffer, (size_t) n);
                if (r < 0)
                        return r;
        }
}

static int unpack_file(Import *m, const char *name, const char *path, mode_t mode) {
        _cleanup_free_ char *target = path_join(m->aside, path), *parent = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        parent = target ? strdup(target) : NULL;
        if (!parent)
                return -ENOMEM;
        *strrchr(parent, '/') = 0;
        r = directory_make(parent, 0700);
        if (r == -ENOTDIR || r == -EEXIST)
                return refuse(m, name, "is below something that is a file");
        if (r < 0)
                return r;

        /* The tree is new, ours, and has no links in it: nothing can lead out. */
        fd = open(target, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & 0100 ? 0700 : 0600);
        if (fd < 0)
                return errno == EEXIST ? refuse(m, name, "is there twice") : -errno;
        return unpack_data(m, fd, name);
}

static int unpack_directory(Import *m, const char *name, const char *path) {
        _cleanup_free_ char *target = path_join(m->aside, path);
        int r;

        if (!target)
                return -ENOMEM;
        r = directory_make(target, 0700);
        return r == -ENOTDIR || r == -EEXIST ? refuse(m, name, "is a file and a directory") : r;
}

static int unpack_entry(Import *m, struct archive_entry *e) {
        const char *name = archive_entry_pathname_utf8(e) ?: archive_entry_pathname(e), *path = "";
        int r;

        if (++m->n_entries > ENTRIES_MAX)
                return refuse(m, NULL, "has more than 100000 entries");
        if (isempty(name))
                return refuse(m, NULL, "has an entry without a name");
        r = check_name(m, name, &path);
        if (r < 0)
                return r;
        if (archive_entry_is_encrypted(e))
                return refuse(m, name, "is encrypted");
        if (archive_entry_hardlink(e) || archive_entry_symlink(e) ||
            (archive_entry_filetype(e) != AE_IFREG && archive_entry_filetype(e) != AE_IFDIR))
                return refuse(m, name, "is neither a file nor a directory");
        if (archive_entry_filetype(e) == AE_IFDIR)
                return is_left_out(path) ? 0 : unpack_directory(m, name, path);
        if (*path == 0)
                return refuse(m, name, "is a file, not a directory named like an agent");

        return is_left_out(path) ? 0 : unpack_file(m, name, path, archive_entry_perm(e));
}

/* libarchive reads all of the zip's directory before we see its first entry, so the entries are counted here, by the
 * signature that each of them has there; in a copy of ours, which nobody changes afterwards. */
static int spool(Import *m, int from) {
        static const char signature[] = "PK\1\2";
        _cleanup_free_ char *path = path_join(m->aside, ".zip-XXXXXX");
        _cleanup_close_ int fd = -EBADF;
        char buffer[3 + KIB(64)] = "";
        uint64_t n_bytes = 0, n_found = 0;

        if (!path)
                return -ENOMEM;
        fd = mkostemp(path, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (unlink(path) < 0)
                return -errno;

        for (;;) {
                ssize_t n = pread(from, buffer + 3, sizeof(buffer) - 3, (off_t) n_bytes);
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;

                n_bytes += (uint64_t) n;
                for (const char *c = buffer; (c = memmem(c, (size_t) (buffer + 3 + n - c), signature, 4)); c += 4)
                        n_found++;
                if (n_bytes > BYTES_MAX)
                        return refuse(m, NULL, "is larger than 1 GiB");
                if (n_found > ENTRIES_MAX)
                        return refuse(m, NULL, "has more than 100000 entries");
                r = write_all(fd, buffer + 3, (size_t) n);
                if (r < 0)
                        return r;
                memmove(buffer, buffer + n, 3);
        }

        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        m->fd = TAKE_FD(fd);
        return 0;
}

static int unpack(Import *m, int fd) {
        int r;

        r = spool(m, fd);
        if (r < 0)
                return r;

        m->zip = archive_read_new();
        if (!m->zip)
                return -ENOMEM;
        if (archive_read_support_format_zip_seekable(m->zip) != ARCHIVE_OK ||
            archive_read_open_fd(m->zip, m->fd, KIB(64)) != ARCHIVE_OK)
                return refuse_zip(m);

        for (;;) {
                struct archive_entry *e;

                r = archive_read_next_header(m->zip, &e);
                if (r == ARCHIVE_EOF)
                        break;
                if (r == ARCHIVE_RETRY)
                        continue;
                if (r < ARCHIVE_WARN)
                        return refuse_zip(m);
                r = unpack_entry(m, e);
                if (r < 0)
                        return r;
        }
        return m->top ? 0 : refuse(m, NULL, "is empty");
}

/* The error names the file as it is called in the archive. */
static int load_config(Import *m, const char *id, AgentConfig **ret) {
        _cleanup_free_ char *path = path_join(m->aside, "agent.yml"), *error = NULL;
        const char *below;
        int r;

        if (!path)
                return -ENOMEM;
        r = agent_config_load(ret, path, id, &error);
        if (r == -ENOENT || r == -EISDIR)
                return refuse(m, NULL, "has no agent.yml");
        if (r != -EBADMSG)
                return r;

        below = startswith(error, m->aside);
        free(m->error);
        m->error = strjoin("the archive's ", below ? below + 1 : error);
        return m->error ? -EBADMSG : -ENOMEM;
}

static int set_path(Import *m, char **p, const char *path, bool directory) {
        _cleanup_free_ char *target = NULL;
        int r;

        r = **p == '/' || path_leads_out(*p) ? free_and_strdup(p, path) : 0;
        if (r < 0)
                return r;
        if (!directory)
                return 0;

        target = path_join(m->aside, *p);
        if (!target)
                return -ENOMEM;
        r = directory_make(target, 0700);
        return r == -ENOTDIR || r == -EEXIST ? refuse(m, *p, "is a file; expected a directory") : r;
}

static bool url_is_loopback(const char *url) {
        const char *host = strstr(url, "://"), *end, *at, *port;
        char name[INET6_ADDRSTRLEN + 2];
        struct in_addr address;

        if (!host)
                return false;
        host += 3;
        end = host + strcspn(host, "/?#\\");
        at = memrchr(host, '@', (size_t) (end - host));
        host = at ? at + 1 : host;
        port = *host == '[' ? memchr(host, ']', (size_t) (end - host)) : NULL;
        port = port ? port + 1 : memchr(host, ':', (size_t) (end - host)) ?: end;
        if ((port != end && *port != ':') || (size_t) (port - host) >= sizeof(name))
                return false;
        (void) memcpy(name, host, (size_t) (port - host));
        name[port - host] = 0;
        if (inet_pton(AF_INET, name, &address) == 1)
                return ntohl(address.s_addr) >> 24 == 127;
        return streq(name, "[::1]") || strcasecmp(name, "localhost") == 0;
}

/* What the configuration says about places is about another machine, or about this one, but not from its owner. */
static int tame_config(Import *m, AgentConfig *c, bool role) {
        const ExportLayout l = export_layout(role);
        int r;

        c->running = false;
        c->extra_dirs = strv_free(c->extra_dirs);
        /* An agent without a key is given the operator's: that goes to no address which an archive has chosen. */
        if (isempty(c->api_key) && !isempty(c->llm_base_url) && !url_is_loopback(c->llm_base_url)) {
                r = free_and_strdup(&c->llm_base_url, "");
                if (r < 0)
                        return r;
        }
        r = set_path(m, &c->profile, l.profile, /* directory= */ false);
        if (r >= 0)
                r = set_path(m, &c->memory_dir, l.memory, /* directory= */ true);
        if (r >= 0)
                r = set_path(m, &c->workspace_dir, l.workspace, /* directory= */ true);
        return r;
}

static int save_config(Import *m, AgentConfig *c) {
        _cleanup_free_ char *path = path_join(m->aside, "agent.yml");

        return path ? agent_config_save(c, path) : -ENOMEM;
}

static int install(Import *m, const char *directory) {
        int r = tree_install(m->aside, directory);

        if (r >= 0)
                m->aside = mfree(m->aside);
        return r;
}

/* In user mode a role agent's workspace has a place of its own, and its configuration names it. */
static int install_role_agent(Import *m, const HomePaths *p, AgentConfig *c, const char *directory) {
        _cleanup_free_ char *workspace = path_join(p->proxy_home, c->id), *built = NULL;
        const char *profile = startswith(c->profile, "workspace/"), *memory = startswith(c->memory_dir, "workspace/");
        char *new_profile, *new_memory;
        int r;

        if (!workspace)
                return -ENOMEM;
        if (!profile || !memory || !streq(c->workspace_dir, "workspace"))
                return refuse(m, NULL, "has a role agent that is not laid out as export does it");

        built = path_join(m->aside, "workspace");
        new_profile = path_join(workspace, profile);
        new_memory = path_join(workspace, memory);
        if (!built || !new_profile || !new_memory) {
                free(new_profile);
                free(new_memory);
                return -ENOMEM;
        }
        free(c->profile);
        free(c->memory_dir);
        c->profile = new_profile;
        c->memory_dir = new_memory;
        r = free_and_strdup(&c->workspace_dir, workspace);
        if (r >= 0)
                r = save_config(m, c);
        if (r >= 0)
                r = tree_move(built, workspace);
        if (r < 0)
                return r;

        r = install(m, directory);
        if (r < 0)
                (void) tree_remove(workspace);
        return r;
}

static bool is_role_agent(const AgentConfig *c) {
        _cleanup_free_ char *role = NULL, *name = NULL;

        return (streq(c->profile, "SOUL.md") || endswith(c->profile, "/SOUL.md")) &&
               role_agent_id_split(c->id, &role, &name) >= 0;
}

static int mark_messages(Import *m) {
        _cleanup_free_ char *messages = path_join(m->aside, "messages.db"),
                            *mark = path_join(m->aside, AGENT_MESSAGES_COPIED);

        if (!messages || !mark)
                return -ENOMEM;
        if (access(messages, F_OK) < 0)
                return errno == ENOENT ? 0 : -errno;
        return file_write_atomic(mark, "", 0, 0600);
}

static int import(Import *m, const HomePaths *p, int fd, const char *wanted_id, AgentHome **ret) {
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_(agent_home_freep) AgentHome *taken = NULL;
        _cleanup_free_ char *directory = NULL;
        const char *id;
        bool role;
        int r;

        r = tree_new_aside(p->agents, &m->aside);
        if (r >= 0)
                r = unpack(m, fd);
        if (r < 0)
                return r;

        id = wanted_id ?: m->top;
        r = agent_home_find(p, id, &taken);
        if (r != -ENOENT)
                return r < 0 ? r : -EEXIST;
        r = load_config(m, id, &c);
        if (r < 0)
                return r;
        role = is_role_agent(c);
        r = tame_config(m, c, role);
        if (r >= 0)
                r = mark_messages(m);
        if (r < 0)
                return r;

        directory = path_join(role ? p->role_agents : p->agents, id);
        if (!directory)
                return -ENOMEM;
        if (role && p->proxy_home)
                r = install_role_agent(m, p, c, directory);
        else {
                r = save_config(m, c);
                if (r >= 0)
                        r = install(m, directory);
        }
        return r < 0 ? r : agent_home_find(p, id, ret);
}

int agent_home_import(const HomePaths *p, int fd, const char *id, AgentHome **ret, char **reterr) {
        _cleanup_(zip_locale_restore) ZipLocale locale = zip_locale_set();
        _cleanup_(import_done) Import m = { .fd = -EBADF };
        struct stat st;
        int r;

        if (id && !agent_id_is_valid(id))
                return -EINVAL;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -ESPIPE;

        r = import(&m, p, fd, id, ret);
        if (r == -EBADMSG)
                *reterr = TAKE_PTR(m.error);
        return r;
}
