/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "turn-files"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"
#include "tests.h"
#include "turn-files.h"

typedef struct World {
        char path[64];
        TurnFiles files;
        char *list;
} World;

static void world_begin(World *w) {
        *w = (World) { .path = "/tmp/test-turn-files-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->path));
}

static void world_end(World *w) {
        for (size_t i = 0; i < w->files.n; i++)
                safe_close(w->files.files[i].fd);
        free(w->list);
        ASSERT_OK(directory_remove(w->path));
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void add(World *w, const char *name, const char *type, const char *content) {
        int fd = memfd_create("test", MFD_CLOEXEC);

        ASSERT_OK(fd);
        ASSERT_EQ(write(fd, content, strlen(content)), (ssize_t) strlen(content));
        w->files.files[w->files.n++] = (TurnFile) {
                .name = name, .type = type, .image = startswith(type, "image/"), .fd = fd,
        };
}

static int save(World *w) {
        w->list = mfree(w->list);
        return turn_files_save(&w->files, w->path, "turn-1", &w->list);
}

static void assert_content(World *w, const char *name, const char *content) {
        _cleanup_free_ char *path = strjoin(w->path, "/.puffo/inbox/turn-1/", name), *text = NULL;
        struct stat st;
        size_t size;

        ASSERT_OK(file_read(path, KIB(1), &text, &size));
        ASSERT_STREQ(text, content);
        ASSERT_OK(stat(path, &st));
        ASSERT_EQ(st.st_mode & 0777, 0600);
}

TEST(save) {
        static const struct { const char *given, *becomes; } t[] = {
                { "a.txt", "a.txt" }, { "a.txt", "a-1.txt" }, { "../../.ssh/id", "id" }, { "", "attachment" },
                { ".bashrc", ".bashrc" }, { ".bashrc", ".bashrc-1" }, { "-rf", "_-rf" }, { "a\nb", "a_b" },
                { "c:\\x\\y.doc", "y.doc" }, { "..", "attachment-1" },
        };
        _cleanup_free_ char *shown = NULL, *before = NULL, *gone = NULL;
        _cleanup_json_ json_object *list = NULL;
        WORLD(w);

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                add(&w, t[i].given, i == 0 ? "text/plain" : i == 1 ? "image/png" : "bad type\n- /etc/passwd",
                    t[i].given);
        ASSERT_OK(save(&w));
        ASSERT_OK(json_parse(w.list, strlen(w.list), &list));
        ASSERT_EQ(json_object_array_length(list), ELEMENTSOF(t));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                json_object *o = json_object_array_get_idx(list, i);

                ASSERT_STREQ(json_get_string(o, "name"), t[i].becomes);
                assert_content(&w, json_get_string(o, "name"), t[i].given);
                ASSERT_EQ(json_get_int(o, "size", -1), (int64_t) strlen(t[i].given));
                ASSERT_EQ(json_get_bool(o, "image", false), i == 1);
                ASSERT_STREQ(json_get_string(o, "type"),
                             i == 0 ? "text/plain" : i == 1 ? "image/png" : "application/octet-stream");
        }
        ASSERT_OK(turn_files_list(w.list, NULL, &shown));
        ASSERT_TRUE(startswith(shown, "[files that came with this]\n- /tmp/test-turn-files-"));
        ASSERT_NOT_NULL(strstr(shown, "/.puffo/inbox/turn-1/a-1.txt (image/png, 5 bytes)\n- "));
        /* Once more, as after a lost reply. */
        before = strdup(w.list);
        ASSERT_OK(save(&w));
        ASSERT_STREQ(w.list, before);
        turn_files_remove(w.path, "turn-1");
        turn_files_remove(w.path, "turn-1");
        gone = strjoin(w.path, "/.puffo/inbox/turn-1");
        ASSERT_ERROR(access(gone, F_OK) < 0 ? -errno : 0, ENOENT);
}

TEST(refused) {
        static char big[MIB(1)];
        WORLD(w);

        memset(big, 'x', sizeof(big) - 1);
        add(&w, "big", "text/plain", "");
        for (size_t i = 0; i < 8; i++)
                ASSERT_EQ(write(w.files.files[0].fd, big, sizeof(big)), sizeof(big));
        ASSERT_OK(save(&w));
        ASSERT_EQ(write(w.files.files[0].fd, "x", 1), 1);
        ASSERT_ERROR(save(&w), EFBIG);
        /* Nothing that could keep us waiting. */
        safe_close(w.files.files[0].fd);
        w.files.files[0].fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
        ASSERT_ERROR(save(&w), EBADF);
}

/* The agent may have put anything into the place of its inbox. */
TEST(links) {
        _cleanup_free_ char *link = NULL;
        WORLD(w);

        link = strjoin(w.path, "/.puffo");
        add(&w, "a", "text/plain", "x");
        ASSERT_OK(symlink("/tmp", link) < 0 ? -errno : 0);
        ASSERT_TRUE(save(&w) < 0);
        ASSERT_OK(unlink(link) < 0 ? -errno : 0);
}

TEST(lists) {
        static const char *const bad[] = { "{", "{}", "7", "null" };
        char *shown = NULL;

        ASSERT_OK(turn_files_list("", NULL, &shown));
        ASSERT_NULL(shown);
        ASSERT_OK(turn_files_list("[]", NULL, &shown));
        ASSERT_NULL(shown);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                ASSERT_ERROR(turn_files_list(bad[i], NULL, &shown), EUCLEAN);
                ASSERT_NULL(shown);
        }
}

TEST_MAIN();
