/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "cli-home-internal.h"
#include "file-util.h"
#include "tree.h"

#define SKILLS_MAX 256U
#define SKILL_NAME_MAX 128U
#define ENTRIES_MAX 10000U
#define FILES_MAX 2000U
#define DEPTH_MAX 16U
#define BYTES_MAX MIB(64)

#define MARK_SYNCED "host-synced.md"
#define MARK_INSTALLED "agent-installed.md"
#define MARK_TEXT "Copied from the operator's own skills by puffo; changes made here are overwritten.\n"

/* ---- directories ---- */

/* Entries, sorted. hidden: also those that begin with a dot, but for a repository. -E2BIG. */
static int list(int dir_fd, bool hidden, char ***ret) {
        _cleanup_(strv_freep) char **names = NULL;
        int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);
        size_t n = 0;

        if (!dir) {
                r = -errno;
                safe_close(fd);
                return r;
        }
        for (struct dirent *entry; r >= 0 && (r = directory_next(dir, &entry)) > 0; )
                if (n++ >= ENTRIES_MAX)
                        r = -E2BIG;
                else if (entry->d_name[0] != '.' || (hidden && !streq(entry->d_name, ".git")))
                        r = strv_extend(&names, entry->d_name);
        (void) closedir(dir);
        if (r < 0)
                return r;
        if (names)
                strv_sort(names);
        *ret = TAKE_PTR(names);
        return 0;
}

static bool has_mark(int dir_fd, const char *mark) {
        struct stat st;

        return fstatat(dir_fd, mark, &st, AT_SYMLINK_NOFOLLOW) >= 0 && S_ISREG(st.st_mode);
}

/* ---- one tree ---- */

typedef struct Tree {
        crypto_generichash_state hash;
        size_t n_files, n_bytes;
        bool follow;                    /* the operator's: he puts links to where he works on them */
} Tree;

static void tree_add(Tree *t, const void *p, size_t n) {
        (void) crypto_generichash_update(&t->hash, (const uint8_t*) &n, sizeof(n));
        (void) crypto_generichash_update(&t->hash, p, n);
}

static int tree_walk(Tree *t, int dir_fd, int to_fd, unsigned depth);

static int walk_directory(Tree *t, int dir_fd, const char *name, int to_fd, unsigned depth) {
        _cleanup_close_ int fd = -EBADF, to = -EBADF;

        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | (t->follow ? 0 : O_NOFOLLOW));
        if (fd < 0)
                return -errno;
        if (to_fd >= 0) {
                if (mkdirat(to_fd, name, 0700) < 0)
                        return -errno;
                to = openat(to_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (to < 0)
                        return -errno;
        }
        return tree_walk(t, fd, to, depth + 1);
}

static int copy_file(int dir_fd, const char *name, int to_fd, mode_t mode) {
        _cleanup_free_ char *text = NULL, *path = NULL;
        size_t size;
        int r;

        r = file_read_at(dir_fd, name, BYTES_MAX, &text, &size);
        if (r < 0)
                return r;
        path = cli_file_path(to_fd, name);
        return path ? file_write_snapshot(path, text, size, mode & 0100 ? 0700 : 0600) : -ENOMEM;
}

static int walk_entry(Tree *t, int dir_fd, const char *name, int to_fd, unsigned depth) {
        struct stat st;

        if (fstatat(dir_fd, name, &st, t->follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;    /* gone, or a link to nothing */
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
                return 0;
        if (++t->n_files > FILES_MAX)
                return -E2BIG;
        tree_add(t, name, strlen(name));
        if (S_ISDIR(st.st_mode)) {
                tree_add(t, "d", 1);
                return walk_directory(t, dir_fd, name, to_fd, depth);
        }

        if ((uint64_t) st.st_size > BYTES_MAX - t->n_bytes)
                return -EFBIG;
        t->n_bytes += (size_t) st.st_size;
        tree_add(t, &st.st_ino, sizeof(st.st_ino));
        tree_add(t, &st.st_size, sizeof(st.st_size));
        tree_add(t, &st.st_mode, sizeof(st.st_mode));
        tree_add(t, &st.st_mtim, sizeof(st.st_mtim));
        tree_add(t, &st.st_ctim, sizeof(st.st_ctim));
        return to_fd < 0 ? 0 : copy_file(dir_fd, name, to_fd, st.st_mode);
}

static int tree_walk(Tree *t, int dir_fd, int to_fd, unsigned depth) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        if (depth > DEPTH_MAX)
                return -ELOOP;
        r = list(dir_fd, /* hidden= */ true, &names);
        for (char **name = names; r >= 0 && name && *name; name++)
                r = walk_entry(t, dir_fd, *name, to_fd, depth);
        tree_add(t, ".", 1);
        return r;
}

/* What a tree is, without reading its files; to_fd: a directory to copy it into, < 0: none. */
static int tree_look(int dir_fd, bool follow, int to_fd, char ret[static HASH_HEX_SIZE]) {
        uint8_t hash[crypto_generichash_BYTES];
        Tree t = { .follow = follow };
        int r;

        (void) crypto_generichash_init(&t.hash, NULL, 0, sizeof(hash));
        r = tree_walk(&t, dir_fd, to_fd, 0);
        if (r < 0)
                return r;
        (void) crypto_generichash_final(&t.hash, hash, sizeof(hash));
        (void) sodium_bin2hex(ret, HASH_HEX_SIZE, hash, sizeof(hash));
        return 0;
}

/* ---- one skill ---- */

static int remove_skill(int skills_fd, const char *name) {
        _cleanup_free_ char *path = cli_file_path(skills_fd, name);

        return path ? tree_remove(path) : -ENOMEM;
}

static int copy_skill(int source_fd, int skills_fd, const char *name, char hash[static HASH_HEX_SIZE]) {
        _cleanup_free_ char *skills = cli_file_path(skills_fd, "."), *path = cli_file_path(skills_fd, name);
        _cleanup_(tree_discardp) char *aside = NULL;
        _cleanup_close_ int aside_fd = -EBADF;
        int r;

        if (!skills || !path)
                return -ENOMEM;
        r = tree_new_aside(skills, &aside);
        if (r < 0)
                return r;
        aside_fd = open(aside, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (aside_fd < 0)
                return -errno;
        r = tree_look(source_fd, /* follow= */ true, aside_fd, hash);
        if (r >= 0) /* a mark of his own is not one of ours */
                r = unlinkat(aside_fd, MARK_INSTALLED, 0) < 0 && errno != ENOENT ? -errno : 0;
        if (r >= 0)
                r = cli_file_write(aside_fd, MARK_SYNCED, MARK_TEXT, strlen(MARK_TEXT), 0600, 0);
        if (r >= 0)
                r = remove_skill(skills_fd, name);
        if (r < 0)
                return r;
        if (rename(aside, path) < 0)
                return -errno;
        aside = mfree(aside);
        return 0;
}

/* > 0: copied. */
static int sync_skill(json_object *state, int source_fd, int skills_fd, const char *name) {
        char source[HASH_HEX_SIZE] = "", copy[HASH_HEX_SIZE] = "";
        json_object *known = json_get(state, name), *now;
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = cli_directory_open(skills_fd, name, O_RDONLY);
        if (fd < 0 && fd != -ENOENT)
                return fd;
        if (fd >= 0) {
                if (has_mark(fd, MARK_INSTALLED))
                        return 0;
                r = tree_look(source_fd, /* follow= */ true, -EBADF, source);
                if (r < 0)
                        return r;
                if (tree_look(fd, /* follow= */ false, -EBADF, copy) >= 0 &&
                    streq_ptr(json_get_string(known, "source"), source) &&
                    streq_ptr(json_get_string(known, "copy"), copy))
                        return 0;
        }

        r = copy_skill(source_fd, skills_fd, name, source);
        if (r < 0)
                return r;
        safe_close(fd);
        fd = cli_directory_open(skills_fd, name, O_RDONLY);
        r = fd < 0 ? fd : tree_look(fd, /* follow= */ false, -EBADF, copy);
        if (r < 0)
                return r;
        now = json_object_new_object();
        r = now ? json_put(state, name, now) : -ENOMEM;
        if (r >= 0)
                r = json_put_string(now, "source", source);
        if (r >= 0)
                r = json_put_string(now, "copy", copy);
        return r < 0 ? r : 1;
}

/* ---- all of them ---- */

static int prune(CliWork *w, json_object *state, int skills_fd, char **operators) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = list(skills_fd, /* hidden= */ false, &names);
        if (r < 0)
                return r;
        for (char **name = names; name && *name; name++) {
                _cleanup_close_ int fd = -EBADF;

                if (strv_contains(operators, *name))
                        continue;
                fd = cli_directory_open(skills_fd, *name, O_PATH);
                if (fd < 0 || !has_mark(fd, MARK_SYNCED) || has_mark(fd, MARK_INSTALLED))
                        continue;
                r = remove_skill(skills_fd, *name);
                if (r < 0)
                        return r;
                json_object_object_del(state, *name);
                w->state_changed = true;
        }
        return 0;
}

/* The operator's skills: directories, links to such among them. */
static int list_operators(CliWork *w, const char *source, int *ret_fd, char ***ret) {
        _cleanup_free_ char *path = w->spec->user_home ? path_join(w->spec->user_home, source) : NULL;
        _cleanup_(strv_freep) char **names = NULL, **skills = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (w->spec->user_home && !path)
                return -ENOMEM;
        fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -EBADF;
        r = fd < 0 ? 0 : list(fd, /* hidden= */ false, &names);
        if (r == -E2BIG)
                r = cli_work_notice(w, "'%s' has more than %u entries: no skill is taken over.", path, ENTRIES_MAX);
        for (char **name = names; r >= 0 && name && *name; name++) {
                struct stat st;

                if (strlen(*name) > SKILL_NAME_MAX || fstatat(fd, *name, &st, 0) < 0 || !S_ISDIR(st.st_mode))
                        continue;
                if (strv_length(skills) >= SKILLS_MAX) {
                        r = cli_work_notice(w, "'%s' has more than %u skills: the others are left out.", path,
                                            SKILLS_MAX);
                        break;
                }
                r = strv_extend(&skills, *name);
        }
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        *ret = TAKE_PTR(skills);
        return 0;
}

static int sync_named(CliWork *w, json_object *state, int operators_fd, int skills_fd, const char *name) {
        _cleanup_close_ int fd = openat(operators_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_free_ char *shown = NULL;
        int r;

        r = fd < 0 ? -errno : sync_skill(state, fd, skills_fd, name);
        w->state_changed |= r > 0;
        if (r >= 0 || r == -ENOMEM)
                return r;
        shown = str_printable(name, SKILL_NAME_MAX);
        if (!shown)
                return -ENOMEM;
        errno = -r;
        r = cli_work_notice(w, "The skill '%s' could not be taken over: %m", shown);
        return MIN(r, 0);
}

int cli_skills_sync(CliWork *w, const char *source, int root_fd, const char *directory) {
        _cleanup_close_ int operators_fd = -EBADF, skills_fd = -EBADF;
        _cleanup_(strv_freep) char **operators = NULL;
        _cleanup_free_ char *path = NULL;
        json_object *state;
        int r, n = 0;

        r = list_operators(w, source, &operators_fd, &operators);
        if (r < 0)
                return r;
        skills_fd = operators ? cli_directory_make(root_fd, directory, 0700)
                              : cli_directory_open(root_fd, directory, O_PATH);
        if (skills_fd < 0)
                return skills_fd == -ENOENT ? 0 : skills_fd;
        r = cli_work_state(w, directory, &state);
        if (r < 0)
                return r;

        for (char **name = operators; name && *name; name++) {
                r = sync_named(w, state, operators_fd, skills_fd, *name);
                if (r < 0)
                        return r;
                n += r > 0;
        }
        if (n > 0) { /* what one that was killed has left */
                path = cli_file_path(skills_fd, ".");
                if (!path)
                        return -ENOMEM;
                (void) tree_sweep(path, time(NULL) - 60);
        }
        r = prune(w, state, skills_fd, operators);
        if (r == -E2BIG)
                r = 0;
        return r < 0 ? r : n;
}

int cli_skills_hash(CliWork *w, int root_fd, const char *directory) {
        _cleanup_close_ int fd = cli_directory_open(root_fd, directory, O_RDONLY);
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        cli_work_hash(w, directory);
        r = fd < 0 ? fd : list(fd, /* hidden= */ false, &names);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        for (char **name = names; name && *name; name++) {
                _cleanup_close_ int skill = cli_directory_open(fd, *name, O_PATH);
                _cleanup_free_ char *facts = NULL;
                struct stat st;

                if (skill < 0 || fstatat(skill, "SKILL.md", &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                facts = asprintf_new("%s/%" PRIu64 "/%" PRIi64 "/%" PRIi64 ".%09ld", *name, (uint64_t) st.st_ino,
                                     (int64_t) st.st_size, (int64_t) st.st_mtim.tv_sec, (long) st.st_mtim.tv_nsec);
                if (!facts)
                        return -ENOMEM;
                cli_work_hash(w, facts);
        }
        return 0;
}
