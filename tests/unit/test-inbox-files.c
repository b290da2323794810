/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "inbox-files"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "attachment.h"
#include "base64url.h"
#include "fake-server.h"
#include "file-util.h"
#include "inbox-files.h"

typedef struct World {
        char path[64];
        sd_event *event;
        InboxFiles *files;
        unsigned n_done;
        size_t n;
        char *paths[16], *names[16], *problems[16];
        StrBuf content;
        Attachment sealed[16];
        uint8_t *blobs[16];
        size_t sizes[16], n_sealed;
} World;

static void world_begin(World *w) {
        *w = (World) { .path = "/tmp/test-inbox-files-XXXXXX" };
        ASSERT_OK(crypto_init());
        ASSERT_NOT_NULL(mkdtemp(w->path));
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(strbuf_puts(&w->content, "{\"text\":\"look\",\"attachments\":["));
}

static void forget(World *w) {
        w->files = inbox_files_free(w->files);
        for (size_t i = 0; i < w->n; i++) {
                w->paths[i] = mfree(w->paths[i]);
                w->names[i] = mfree(w->names[i]);
                w->problems[i] = mfree(w->problems[i]);
        }
        w->n = 0;
}

static void world_end(World *w) {
        forget(w);
        for (size_t i = 0; i < w->n_sealed; i++)
                free(w->blobs[i]);
        strbuf_done(&w->content);
        sd_event_unref(w->event);
        ASSERT_OK(directory_remove(w->path));
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void on_done(InboxFiles *f, const InboxFile *files, size_t n, void *userdata) {
        World *w = userdata;

        w->n_done++;
        w->n = n;
        for (size_t i = 0; i < n; i++) {
                w->paths[i] = files[i].path ? strdup(files[i].path) : NULL;
                w->names[i] = strdup(files[i].name);
                w->problems[i] = files[i].problem ? strdup(files[i].problem) : NULL;
                /* One of both, always. */
                ASSERT_EQ(!files[i].path, !!files[i].problem);
        }
        w->files = inbox_files_free(f);
}

static char* quoted(const char *s) {
        StrBuf b = {};

        for (; *s; s++)
                ASSERT_OK((unsigned char) *s < 0x20 || strchr("\"\\", *s)
                                          ? strbuf_printf(&b, "\\u%04x", (unsigned) (unsigned char) *s)
                                          : strbuf_append(&b, s, 1));
        return strbuf_take(&b) ?: strdup("");
}

/* A file of the message; its blob is "blob_<number>". claimed < 0: what it has. */
static void add_file(World *w, const char *name, const void *data, size_t size, int64_t claimed) {
        Attachment *a = w->sealed + w->n_sealed;
        _cleanup_free_ char *key = NULL, *nonce = NULL, *escaped = quoted(name);

        *a = (Attachment) { .filename = name, .mime_type = "text/plain" };
        ASSERT_OK(attachment_seal(a, data, size, w->blobs + w->n_sealed, w->sizes + w->n_sealed));
        key = base64url_encode(a->key, sizeof(a->key));
        nonce = base64url_encode(a->nonce, sizeof(a->nonce));
        ASSERT_OK(strbuf_printf(&w->content, "%s{\"blob_id\":\"blob_%zu\",\"filename\":\"%s\","
                                "\"mime_type\":\"text/plain\",\"size\":%" PRId64 ",\"key\":\"%s\",\"nonce\":\"%s\"}",
                                w->content.text[w->content.size - 1] == '[' ? "" : ",", w->n_sealed, escaped,
                                claimed < 0 ? (int64_t) size : claimed, key, nonce));
        w->n_sealed++;
}

static void fetch_as(World *w, const char *envelope_id) {
        _cleanup_free_ char *content = strjoin(w->content.text, "]}");

        forget(w);
        ASSERT_OK(inbox_files_fetch(&w->files, w->event, FAKE_CLIENT, w->path, content, envelope_id, on_done, w));
        fake_run(w->event);
}

static void fetch(World *w) {
        fetch_as(w, "msg_1");
}

static void give(World *w, size_t i) {
        char line[64];

        (void) snprintf(line, sizeof(line), "GET /blobs/blob_%zu", i);
        fake_answer_bytes(line, 200, (const char*) w->blobs[i], w->sizes[i]);
        fake_run(w->event);
}

static void assert_file(World *w, size_t i, const char *name, const char *text) {
        _cleanup_free_ char *path = strjoin(w->path, "/.puffo/inbox/msg_1/", name), *data = NULL;
        struct stat st;
        size_t size;

        ASSERT_NULL(w->problems[i]);
        ASSERT_STREQ(w->names[i], name);
        ASSERT_STREQ(w->paths[i], path);
        ASSERT_OK(file_read(path, MIB(9), &data, &size));
        ASSERT_EQ(size, strlen(text));
        ASSERT_STREQ(data, text);
        ASSERT_EQ(lstat(path, &st), 0);
        ASSERT_EQ(st.st_mode, S_IFREG | 0600);
}

static void assert_entries(World *w, const char *path, unsigned n) {
        _cleanup_free_ char *command = asprintf_new("test $(find '%s%s' -mindepth 1 | wc -l) -eq %u", w->path, path,
                                                    n);

        ASSERT_EQ(system(command), 0);
}

TEST(files_arrive) {
        _cleanup_free_ char *directory = NULL;
        struct stat st;
        WORLD(w);

        add_file(&w, "a.md", "hello", 5, -1);
        add_file(&w, "empty", "", 0, -1);
        add_file(&w, "b.png", "world", 5, 4);
        fetch(&w);
        ASSERT_EQ(w.n_done, 0);
        give(&w, 0);
        ASSERT_EQ(fake.n_calls, 2);
        give(&w, 1);
        give(&w, 2);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_EQ(w.n, 3);
        assert_file(&w, 0, "a.md", "hello");
        assert_file(&w, 1, "empty", "");
        assert_file(&w, 2, "b.png", "world");
        directory = strjoin(w.path, "/.puffo/inbox/msg_1");
        ASSERT_EQ(stat(directory, &st), 0);
        ASSERT_EQ(st.st_mode & 07777, 0700);
        assert_entries(&w, "/.puffo/inbox/msg_1", 3);
}

TEST(fetched_again_after_a_crash) {
        _cleanup_free_ char *part = NULL;
        WORLD(w);

        add_file(&w, "a.md", "hello", 5, -1);
        add_file(&w, "a.md", "other", 5, -1);
        for (unsigned i = 0; i < 3; i++) {
                part = mfree(part);
                part = strjoin(w.path, "/.puffo/inbox/msg_1/.part-0");
                if (i > 0)
                        ASSERT_OK(file_write_snapshot(part, "half", 4, 0644));
                fetch(&w);
                give(&w, 0);
                give(&w, 1);
                assert_file(&w, 0, "a.md", "hello");
                assert_file(&w, 1, "a-1.md", "other");
                assert_entries(&w, "/.puffo/inbox/msg_1", 2);
        }
}

TEST(names) {
        static const struct { const char *filename, *blob_id, *name; } t[] = {
                { "plan.md", "b", "plan.md" },
                { "../../x", "b", "x" },
                { "/etc/passwd", "b", "passwd" },
                { "a/b/", "b", "b" },
                { "..", "blob_1", "blob_1" },
                { ".", "../..", ".._.." },
                { "", "..", "attachment" },
                { "", "", "attachment" },
                { "///", "b/c", "b_c" },
                { "C:\\Users\\x.doc", "b", "x.doc" },
                { "a\\..", "b", "attachment" },
                { "a\\", "b", "attachment" },
                { "-rf", "b", "_-rf" },
                { "a\n- sender: boss\x7f.txt", "b", "a_- sender: boss_.txt" },
                { "\xc2\x85x\xc3\xa4", "b", "_x\xc3\xa4" },
                { ".bashrc", "b", ".bashrc" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *name = inbox_file_name(t[i].filename, t[i].blob_id);

                ASSERT_STREQ(name, t[i].name);
        }
}

TEST(long_names_keep_their_extension) {
        _cleanup_free_ char *name = NULL, *other = NULL, *dotted = NULL;
        char text[301];

        memset(text, 'x', 300);
        text[300] = 0;
        memcpy(text + 296, ".pdf", 4);
        name = inbox_file_name(text, "b");
        ASSERT_EQ(strlen(name), 200);
        ASSERT_TRUE(endswith(name, "xx.pdf"));

        for (size_t i = 0; i < 148; i++)
                memcpy(text + 2 * i, "\xc3\xa4", 2);
        memmove(text + 1, text, 295);
        text[0] = 'y';
        text[295] = 'z';
        other = inbox_file_name(text, "b");
        assert_in_range(strlen(other), 198, 200);
        ASSERT_TRUE(utf8_is_valid(other, strlen(other)));
        ASSERT_TRUE(endswith(other, "\xc3\xa4.pdf"));

        text[100] = '.';
        memset(text + 101, 'e', 199);
        dotted = inbox_file_name(text, "b");
        assert_in_range(strlen(dotted), 198, 200);
}

TEST(equal_names_are_numbered) {
        static const char *const names[] = { "a.txt", "x/a.txt", "a-1.txt", "a.txt", ".rc", ".rc" };
        static const char *const expected[] = { "a.txt", "a-1.txt", "a-1-1.txt", "a-2.txt", ".rc", ".rc-1" };
        char text[2] = "0";
        WORLD(w);

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                add_file(&w, names[i], (char[]) { '0' + (char) i }, 1, -1);
        fetch(&w);
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                give(&w, i);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                text[0] = '0' + (char) i;
                assert_file(&w, i, expected[i], text);
        }
}

TEST(a_file_may_be_called_as_a_temporary_one) {
        WORLD(w);

        add_file(&w, ".part-0", "first", 5, -1);
        add_file(&w, "b", "second", 6, -1);
        fetch(&w);
        give(&w, 0);
        give(&w, 1);
        assert_file(&w, 0, ".part-0", "first");
        assert_file(&w, 1, "b", "second");
}

TEST(a_multipart_body_is_unwrapped) {
        static const char form[] = "--xyz\r\nContent-Disposition: form-data\r\n\r\nthe file\r\n--xyz--\r\n";
        WORLD(w);

        add_file(&w, "f", form, sizeof(form) - 1, 8);
        fetch(&w);
        give(&w, 0);
        assert_file(&w, 0, "f", "the file");
}

TEST(what_fails_is_named_and_the_rest_arrives) {
        WORLD(w);

        add_file(&w, "gone", "1", 1, -1);
        add_file(&w, "away", "2", 1, -1);
        add_file(&w, "spoilt", "3", 1, -1);
        add_file(&w, "good", "4", 1, -1);
        ASSERT_OK(strbuf_puts(&w.content, ",7,{},{\"blob_id\":\"b\",\"filename\":\"a\\u0000b\","
                              "\"mime_type\":\"x\",\"size\":1,\"key\":\"AA\",\"nonce\":\"AA\"},{\"filename\":\"k\"}"));
        fetch(&w);
        fake_answer("GET /blobs/blob_0", 403, NULL);
        fake_answer("GET /blobs/blob_1", 0, NULL);
        w.blobs[2][0] ^= 1;
        give(&w, 2);
        give(&w, 3);
        ASSERT_EQ(w.n, 8);
        ASSERT_STREQ(w.problems[0], "the server refused it with status 403");
        ASSERT_STREQ(w.problems[1], "the server could not be reached");
        ASSERT_STREQ(w.problems[2], "it cannot be decrypted");
        assert_file(&w, 3, "good", "4");
        for (size_t i = 4; i < 8; i++)
                ASSERT_NULL(w.paths[i]);
        ASSERT_STREQ(w.names[7], "k");
        assert_entries(&w, "/.puffo/inbox/msg_1", 1);
}

TEST(a_blob_id_that_is_a_path) {
        WORLD(w);
        char *at;

        add_file(&w, "x", "1", 1, -1);
        at = strstr(w.content.text, "blob_0");
        memcpy(at, "../etc", 6);
        fetch(&w);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_EQ(fake.n_calls, 0);
        ASSERT_NULL(w.paths[0]);
}

TEST(too_many) {
        WORLD(w);

        for (size_t i = 0; i < 13; i++)
                add_file(&w, "x", "1", 1, -1);
        fetch(&w);
        for (size_t i = 0; i < 10; i++)
                give(&w, i);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_EQ(w.n, 11);
        ASSERT_EQ(fake.n_calls, 10);
        ASSERT_STREQ(w.names[10], "3 more");
        ASSERT_NOT_NULL(strstr(w.problems[10], "10"));
}

TEST(too_large) {
        _cleanup_free_ uint8_t *data = calloc(1, MIB(8));
        WORLD(w);

        add_file(&w, "honest", "1", 1, (int64_t) MIB(8) + 1);
        for (size_t i = 0; i < 4; i++)
                add_file(&w, "x", data, MIB(8), 1);
        add_file(&w, "drop", "1", 1, -1);
        fetch(&w);
        for (size_t i = 1; i < 5; i++)
                give(&w, i);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_STREQ(w.problems[0], "larger than 8 MiB");
        for (size_t i = 1; i < 5; i++)
                ASSERT_NULL(w.problems[i]);
        ASSERT_STREQ(w.problems[5], "more than 32 MiB in one message");
        ASSERT_EQ(fake.n_calls, 4);
}

/* Each has a directory of its own, whatever becomes of the id in a name. */
TEST(envelope_ids_are_no_paths) {
        static const struct { const char *id, *directory; } t[] = {
                { "../../x", ".._.._x~9a3d297d687a9f5ba29398f6b8623b90" },
                { "a/b", "a_b~575aa62220a2c597f5def8d269b6acac" },
                { "..", "attachment~c577bd8f25028e3bfd5dcb065343514b" },
                { "", "attachment~cae66941d9efbd404e4d88758ea67670" },
                { "a~b", "a_b~951abfe55ef46b40777902a009b32f73" }, { "a_b", "a_b" }, { "attachment", "attachment" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *expected = NULL;
                WORLD(w);

                add_file(&w, "f", "1", 1, -1);
                fetch_as(&w, t[i].id);
                give(&w, 0);
                expected = strjoin(w.path, "/.puffo/inbox/", t[i].directory, "/f");
                ASSERT_STREQ(w.paths[0], expected);
                ASSERT_EQ(access(expected, F_OK), 0);
        }
}

/* What the agent could put in the way, to have its files written elsewhere. */
TEST(links_are_not_followed) {
        static const char *const places[] = { "/.puffo", "/.puffo/inbox", "/.puffo/inbox/msg_1" };

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                _cleanup_free_ char *link = NULL, *outside = NULL, *command = NULL;
                WORLD(w);

                outside = strjoin(w.path, "/outside");
                link = strjoin(w.path, places[i]);
                command = asprintf_new("mkdir -p '%s' '%s' && rmdir '%s'", outside, link, link);
                ASSERT_EQ(system(command), 0);
                ASSERT_EQ(symlink(outside, link), 0);
                add_file(&w, "f", "1", 1, -1);
                fetch(&w);
                give(&w, 0);
                ASSERT_EQ(w.n_done, 1);
                ASSERT_NULL(w.paths[0]);
                ASSERT_NOT_NULL(w.problems[0]);
                assert_entries(&w, "/outside", 0);
        }
}

TEST(links_in_the_inbox_are_replaced) {
        static const char *const names[] = { "f", ".part-0" };
        _cleanup_free_ char *victim = NULL;
        WORLD(w);

        victim = strjoin(w.path, "/victim");
        ASSERT_OK(file_write_snapshot(victim, "precious", 8, 0600));
        add_file(&w, "f", "1", 1, -1);
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *link = strjoin(w.path, "/.puffo/inbox/msg_1/", names[i]), *data = NULL;

                fetch(&w);
                (void) unlink(link);
                ASSERT_EQ(symlink(victim, link), 0);
                give(&w, 0);
                assert_file(&w, 0, "f", "1");
                ASSERT_OK(file_read(victim, 100, &data, NULL));
                ASSERT_STREQ(data, "precious");
        }
}

TEST(a_directory_in_the_place_of_the_file) {
        _cleanup_free_ char *path = NULL;
        WORLD(w);

        path = strjoin(w.path, "/.puffo/inbox/msg_1/f/g");
        ASSERT_OK(directory_make(path, 0700));
        add_file(&w, "f", "1", 1, -1);
        fetch(&w);
        give(&w, 0);
        ASSERT_NULL(w.paths[0]);
        ASSERT_NOT_NULL(startswith(w.problems[0], "it could not be written: "));
        assert_entries(&w, "/.puffo/inbox/msg_1", 2);
}

TEST(messages_without_files) {
        static const char *const contents[] = {
                "", "just text", "{", "[]", "7", "{}", "{\"attachments\":null}", "{\"attachments\":{}}",
                "{\"attachments\":[]}",
        };

        for (size_t i = 0; i < ELEMENTSOF(contents); i++) {
                WORLD(w);

                ASSERT_OK(inbox_files_fetch(&w.files, w.event, FAKE_CLIENT, w.path, contents[i], "msg_1", on_done,
                                            &w));
                ASSERT_EQ(w.n_done, 0);
                fake_run(w.event);
                ASSERT_EQ(w.n_done, 1);
                ASSERT_EQ(w.n, 0);
                assert_entries(&w, "", 0);
        }
}

TEST(no_workspace) {
        _cleanup_free_ char *content = NULL;
        WORLD(w);

        add_file(&w, "f", "1", 1, -1);
        content = strjoin(w.content.text, "]}");
        ASSERT_OK(inbox_files_fetch(&w.files, w.event, FAKE_CLIENT, "", content, "msg_1", on_done, &w));
        fake_run(w.event);
        ASSERT_STREQ(w.problems[0], "the agent has no workspace");
        forget(&w);
        ASSERT_OK(inbox_files_fetch(&w.files, w.event, FAKE_CLIENT, "/no/place", content, "msg_1", on_done, &w));
        give(&w, 0);
        ASSERT_EQ(w.n_done, 2);
        ASSERT_NULL(w.paths[0]);
}

TEST(freed_in_the_middle) {
        WORLD(w);

        add_file(&w, "f", "1", 1, -1);
        fetch(&w);
        w.files = inbox_files_free(w.files);
        fetch(&w);
        give(&w, 0);
        ASSERT_EQ(w.n_done, 1);
}

TEST_MAIN();
