/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "turn-files"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conversation.h"
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
        _cleanup_free_ char *shown = NULL, *before = NULL;
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
}

static bool is_there(const World *w, const char *turn) {
        _cleanup_free_ char *path = strjoin(w->path, "/.puffo/inbox/", turn);

        return access(path, F_OK) >= 0;
}

/* With each crash in between: nothing is left over, and nothing goes that a turn needs. */
TEST(removed_with_the_turn) {
        _cleanup_(turn_row_freep) TurnRow *t = NULL;
        _cleanup_(database_freep) Database *db = NULL;
        _cleanup_free_ char *path = NULL, *inbox = NULL;
        _cleanup_(strv_freep) char **left = NULL;
        WORLD(w);

        path = strjoin(w.path, "/messages.db");
        ASSERT_OK(database_open(&db, path, NULL));
        add(&w, "a", "text/plain", "x");

        /* Written, and then there was no turn. */
        ASSERT_OK(turn_store_note_files(db, "turn-1"));
        ASSERT_OK(save(&w));
        ASSERT_EQ(turn_files_sweep(db, w.path), 0);
        ASSERT_FALSE(is_there(&w, "turn-1"));
        ASSERT_EQ(turn_files_sweep(db, w.path), 0);

        /* The same turn once more, which stays. */
        ASSERT_OK(turn_store_note_files(db, "turn-1"));
        ASSERT_OK(save(&w));
        ASSERT_OK(turn_store_submit(db, &(TurnSubmission) { .id = "turn-1", .files = w.list, .now_usec = 1 }, &t));
        ASSERT_OK(turn_store_list_left_files(db, 10, &left));
        ASSERT_NULL(left);
        ASSERT_OK(turn_store_note_files(db, "turn-1"));         /* a second Submit that comes to nothing */
        ASSERT_EQ(turn_files_sweep(db, w.path), 0);
        ASSERT_TRUE(is_there(&w, "turn-1"));

        /* Forgotten, and a crash before anything was removed. */
        ASSERT_EQ(turn_store_delete(db, "turn-1"), 1);
        ASSERT_TRUE(is_there(&w, "turn-1"));
        ASSERT_EQ(turn_files_sweep(db, w.path), 0);
        ASSERT_FALSE(is_there(&w, "turn-1"));

        /* Removed, and a crash before that was noted. */
        ASSERT_OK(turn_store_note_files(db, "turn-1"));
        ASSERT_EQ(turn_files_sweep(db, w.path), 0);
        ASSERT_OK(turn_store_list_left_files(db, 10, &left));
        ASSERT_NULL(left);

        /* Nothing but turns. */
        ASSERT_OK(turn_store_note_files(db, "../../victim"));
        inbox = strjoin(w.path, "/victim");
        ASSERT_OK(mkdir(inbox, 0700));
        ASSERT_EQ(turn_files_sweep(db, w.path), 0);
        ASSERT_OK(access(inbox, F_OK));
}

/* What retention drops takes its files along. */
TEST(removed_by_retention) {
        static const struct { const char *id; bool store; uint64_t ended; bool stays; } t[] = {
                { "old", true, 10, false }, { "unstored", false, 90, false }, { "fresh", true, 90, true },
                { "waiting", false, 0, true }, { "no-files", true, 10, false },
        };
        _cleanup_(database_freep) Database *db = NULL;
        _cleanup_free_ char *path = NULL;
        WORLD(w);

        path = strjoin(w.path, "/messages.db");
        ASSERT_OK(database_open(&db, path, NULL));
        add(&w, "a", "text/plain", "x");
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(turn_row_freep) TurnRow *row = NULL;
                _cleanup_free_ char *list = NULL;

                if (!streq(t[i].id, "no-files")) {
                        ASSERT_OK(turn_store_note_files(db, t[i].id));
                        ASSERT_OK(turn_files_save(&w.files, w.path, t[i].id, &list));
                }
                ASSERT_OK(turn_store_submit(db, &(TurnSubmission) {
                        .id = t[i].id, .files = list, .store = t[i].store, .now_usec = 1,
                }, &row));
                if (t[i].ended > 0)
                        ASSERT_OK(turn_store_finish(db, row->seq, &(TurnResult) {
                                .status = TURN_COMPLETED, .now_usec = t[i].ended,
                        }));
        }
        ASSERT_EQ(retention_sweep(db, &(Retention) { .turns_usec = 50, .turns_max = 10, .unstored_usec = 5 }, 100), 3);
        ASSERT_EQ(turn_files_sweep(db, w.path), 0);
        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_EQ(is_there(&w, t[i].id), t[i].stays);
        /* And when there are too many. */
        ASSERT_EQ(retention_sweep(db, &(Retention) { .turns_usec = 50, .turns_max = 0, .unstored_usec = 5 }, 100), 1);
        ASSERT_EQ(turn_files_sweep(db, w.path), 0);
        ASSERT_FALSE(is_there(&w, "fresh"));
        ASSERT_TRUE(is_there(&w, "waiting"));
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
