/* SPDX-License-Identifier: MIT */

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <locale.h>

#include "agent-home.h"
#include "count-entries.h"
#include "home-fixture.h"
#include "role.h"

typedef struct Entry {
        const char *name, *text;        /* text NULL: a directory */
        const char *link;               /* a symbolic link to this */
} Entry;

static int new_file(const Fixture *f, const char *name) {
        _cleanup_free_ char *path = path_join(f->root, name);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        ASSERT_TRUE(fd >= 0);
        return fd;
}

static void zip_put(struct archive *a, const Entry *e) {
        struct archive_entry *entry = archive_entry_new();

        archive_entry_set_pathname(entry, e->name);
        archive_entry_set_perm(entry, 0600);
        archive_entry_set_filetype(entry, e->link ? AE_IFLNK : e->text ? AE_IFREG : AE_IFDIR);
        if (e->link)
                archive_entry_set_symlink(entry, e->link);
        else if (e->text)
                archive_entry_set_size(entry, (la_int64_t) strlen(e->text));
        ASSERT_EQ(archive_write_header(a, entry), ARCHIVE_OK);
        if (e->text && !e->link)
                ASSERT_TRUE(archive_write_data(a, e->text, strlen(e->text)) >= 0);
        archive_entry_free(entry);
}

static struct archive* zip_begin(int fd, const char *options, const char *passphrase) {
        struct archive *a = archive_write_new();

        ASSERT_EQ(archive_write_set_format_zip(a), ARCHIVE_OK);
        if (options)
                ASSERT_EQ(archive_write_set_options(a, options), ARCHIVE_OK);
        if (passphrase)
                ASSERT_EQ(archive_write_set_passphrase(a, passphrase), ARCHIVE_OK);
        ASSERT_EQ(archive_write_open_fd(a, fd), ARCHIVE_OK);
        return a;
}

static void zip_end(struct archive *a) {
        ASSERT_EQ(archive_write_close(a), ARCHIVE_OK);
        archive_write_free(a);
}

static int make_zip(const Fixture *f, const Entry *entries, size_t n) {
        int fd = new_file(f, "made.zip");
        struct archive *a = zip_begin(fd, NULL, NULL);

        for (size_t i = 0; i < n; i++)
                zip_put(a, entries + i);
        zip_end(a);
        return fd;
}

/* The names in an archive, sorted, one a line. */
static char* list_zip(int fd) {
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        struct archive *a = archive_read_new();
        struct archive_entry *e;

        ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
        ASSERT_EQ(archive_read_support_format_zip_seekable(a), ARCHIVE_OK);
        ASSERT_EQ(archive_read_open_fd(a, fd, 4096), ARCHIVE_OK);
        while (archive_read_next_header(a, &e) == ARCHIVE_OK)
                ASSERT_OK(strv_extend(&names, archive_entry_pathname(e)));
        archive_read_free(a);
        strv_sort(names);
        for (char **i = names; i && *i; i++)
                ASSERT_OK(strbuf_printf(&b, "%s\n", *i));
        return strbuf_take(&b);
}

static AgentConfig* load(const AgentHome *h) {
        _cleanup_free_ char *error = NULL;
        AgentConfig *c = NULL;

        if (agent_config_load(&c, h->config_path, h->id, &error) < 0)
                fail_msg("%s", error);
        return c;
}

static AgentHome* make_agent(const Fixture *f) {
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *link = NULL;
        AgentHome *h = NULL;

        ASSERT_OK(agent_config_new(&c, "bot"));
        ASSERT_OK(free_and_strdup(&c->api_key, "sk-secret"));
        ASSERT_OK(agent_home_create(f->paths, c, "profile\n", &h));
        put_file(h->directory, "memory/topic.md", "known\n");
        put_file(h->directory, "keys/bot-1.json", "{}");
        put_file(h->directory, "runtime.json", "{}");
        put_file(h->directory, ".claude/.credentials.json", "login");
        put_file(h->directory, "workspace/a/b.txt", "work");
        put_file(h->directory, "workspace/gr\xc3\xbc\xc3\x9f.txt", "hello");
        put_file(h->directory, "workspace/half.tmp", "x");
        put_file(h->directory, "workspace/.codex/auth.json", "login");
        link = path_join(h->directory, "workspace/link");
        ASSERT_EQ(symlink("/etc/passwd", link), 0);
        return h;
}

TEST(export_parts) {
        static const struct {
                ExportFlags flags;
                bool messages;
                const char *names;
        } t[] = {
                { 0, false, "bot/agent.yml\nbot/memory/topic.md\nbot/profile.md\n" },
                { EXPORT_SECRETS, false, "bot/agent.yml\nbot/keys/bot-1.json\nbot/memory/topic.md\nbot/profile.md\n" },
                { EXPORT_WORKSPACE, true,
                  "bot/agent.yml\nbot/memory/topic.md\nbot/messages.db\nbot/profile.md\nbot/workspace/a/b.txt\n"
                  "bot/workspace/gr\xc3\xbc\xc3\x9f.txt\n" },
        };
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = make_agent(&f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(h);
        _cleanup_free_ char *messages = path_join(f.root, "backup.db");
        _cleanup_close_ int db = -EBADF;

        ASSERT_NOT_NULL(setlocale(LC_CTYPE, "C.UTF-8"));        /* so that list_zip() can read the names */
        put_file(f.root, "backup.db", "rows");
        db = open(messages, O_RDONLY | O_CLOEXEC);
        ASSERT_OK(db);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_close_ int fd = new_file(&f, "out.zip");
                _cleanup_free_ char *names = NULL;

                ASSERT_OK(agent_home_export(h, c, t[i].flags, t[i].messages ? db : -EBADF, -EBADF, fd));
                names = list_zip(fd);
                ASSERT_STREQ(names, t[i].names);
        }
}

/* A session that was killed has left the better part of what it wrote in the log. */
TEST(export_of_an_unfolded_log) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = make_agent(&f), *copy = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = load(h);
        _cleanup_close_ int fd = new_file(&f, "out.zip"), db = new_file(&f, "db"), wal = new_file(&f, "wal");
        _cleanup_free_ char *with = NULL, *without = NULL, *error = NULL, *path = NULL, *text = NULL;

        ASSERT_EQ(write(db, "rows", 4), 4);
        ASSERT_OK(agent_home_export(h, c, 0, db, wal, fd));
        without = list_zip(fd);
        ASSERT_STREQ(without, "bot/agent.yml\nbot/memory/topic.md\nbot/messages.db\nbot/profile.md\n");
        ASSERT_EQ(write(wal, "more rows", 9), 9);
        ASSERT_OK(agent_home_export(h, c, 0, db, wal, fd));
        with = list_zip(fd);
        ASSERT_STREQ(with, "bot/agent.yml\nbot/memory/topic.md\nbot/messages.db\nbot/messages.db-wal\n"
                           "bot/profile.md\n");
        ASSERT_OK(agent_home_import(f.paths, fd, "copy", &copy, &error));
        ASSERT_TRUE(is_there(copy->directory, AGENT_MESSAGES_COPIED));
        path = path_join(copy->directory, "messages.db-wal");
        ASSERT_OK(file_read(path, 100, &text, NULL));
        ASSERT_STREQ(text, "more rows");
}

/* Whose the queue is does not depend on what an archive says. */
TEST(import_marks_copied_messages) {
        static const Entry entries[] = {
                { "bot/agent.yml", "", NULL }, { "bot/messages.db.copied/x", "x", NULL },
                { "bot/messages.db", "x", NULL },
        };
        FIXTURE(f);

        for (size_t n = 1; n <= ELEMENTSOF(entries); n++) {
                _cleanup_close_ int fd = make_zip(&f, entries, n);
                _cleanup_(agent_home_freep) AgentHome *h = NULL;
                _cleanup_free_ char *error = NULL;

                ASSERT_OK(agent_home_import(f.paths, fd, NULL, &h, &error));
                ASSERT_EQ(is_there(h->directory, AGENT_MESSAGES_COPIED), n == 3);
                ASSERT_OK(home_delete(f.paths, h));
        }
}

/* The key of daemon.yml is for those whom the operator has chosen. */
TEST(import_sends_no_key_away) {
        static const struct {
                const char *url, *key;
                bool kept;
        } t[] = {
                { "https://evil.example/v1", "", false },
                { "https://evil.example/v1", "sk-its-own", true },
                { "http://127.0.0.1:11434/v1", "", true },
                { "http://localhost:8080", "", true },
                { "http://[::1]:8080/v1", "", true },
                { "http://127.0.0.1@evil.example/", "", false },
                { "http://127.0.0.1.evil.example/", "", false },
                { "http://localhost.evil.example:80/", "", false },
                { "http://[::1].evil.example/", "", false },
                { "http://evil.example/http://127.0.0.1/", "", false },
        };
        FIXTURE(f);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *yml = NULL, *error = NULL;
                _cleanup_(agent_home_freep) AgentHome *h = NULL;
                _cleanup_(agent_config_freep) AgentConfig *c = NULL;
                _cleanup_close_ int fd = -EBADF;

                yml = asprintf_new("runtime:\n  provider: openai\n  llm_base_url: '%s'\n  api_key: '%s'\n", t[i].url,
                                   t[i].key);
                fd = make_zip(&f, &(Entry) { "guest/agent.yml", yml, NULL }, 1);
                ASSERT_OK(agent_home_import(f.paths, fd, NULL, &h, &error));
                c = load(h);
                ASSERT_STREQ(c->llm_base_url, t[i].kept ? t[i].url : "");
                ASSERT_STREQ(c->api_key, t[i].key);
                ASSERT_OK(home_delete(f.paths, h));
        }
}

TEST(round_trip) {
        static const struct {
                ExportFlags flags;
                const char *api_key;
        } t[] = { { EXPORT_WORKSPACE, "" }, { EXPORT_SECRETS | EXPORT_WORKSPACE, "sk-secret" } };
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = make_agent(&f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(h);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_close_ int fd = new_file(&f, "out.zip");
                _cleanup_(agent_home_freep) AgentHome *copy = NULL, *twin = NULL;
                _cleanup_(agent_config_freep) AgentConfig *copied = NULL;
                _cleanup_free_ char *error = NULL, *work = NULL, *hello = NULL, *profile = NULL;

                ASSERT_OK(agent_home_export(h, c, t[i].flags, -EBADF, -EBADF, fd));
                ASSERT_ERROR(agent_home_import(f.paths, fd, NULL, &twin, &error), EEXIST);
                ASSERT_OK(agent_home_import(f.paths, fd, "copy", &copy, &error));
                copied = load(copy);
                ASSERT_FALSE(copied->running);
                ASSERT_STREQ(copied->api_key, t[i].api_key);
                ASSERT_EQ(strv_length(copied->warnings), 0);
                work = get_file(copy->directory, "workspace/a/b.txt");
                ASSERT_STREQ(work, "work");
                hello = get_file(copy->directory, "workspace/gr\xc3\xbc\xc3\x9f.txt");
                ASSERT_STREQ(hello, "hello");
                ASSERT_OK(agent_home_read_profile(copy, copied, &profile));
                ASSERT_STREQ(profile, "profile");
                ASSERT_EQ(get_mode(copy->directory, "workspace/a/b.txt"), 0600);
                ASSERT_EQ(get_mode(copy->directory, "workspace/a"), 0700);
                ASSERT_EQ(is_there(copy->directory, "keys/bot-1.json"), (t[i].flags & EXPORT_SECRETS) != 0);
                ASSERT_OK(home_delete(f.paths, copy));
                ASSERT_EQ(count_entries(f.paths->home), 1);     /* nothing stays aside */
        }
}

TEST(role_round_trip) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL, *copy = NULL, *twin = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = NULL, *copied = NULL;
        _cleanup_close_ int fd = new_file(&f, "out.zip"), whole = new_file(&f, "whole.zip");
        _cleanup_free_ char *error = NULL, *names = NULL, *all = NULL, *soul = NULL, *workspace = NULL;

        ASSERT_OK(role_agent_ensure(f.paths, "engineer", "bo", "", &h));
        put_file(h->workspace, "SOUL.md", "soul\n");
        c = load(h);
        ASSERT_OK(agent_home_export(h, c, 0, -EBADF, -EBADF, fd));
        names = list_zip(fd);
        ASSERT_STREQ(names, "engineer_bo/agent.yml\nengineer_bo/workspace/AGENTS.md\nengineer_bo/workspace/SOUL.md\n"
                            "engineer_bo/workspace/memory/memory.md\n");
        ASSERT_OK(agent_home_export(h, c, EXPORT_WORKSPACE, -EBADF, -EBADF, whole));
        all = list_zip(whole);
        ASSERT_NOT_NULL(strstr(all, "/workspace/notes/daily-"));

        ASSERT_ERROR(agent_home_import(f.paths, fd, NULL, &twin, &error), EEXIST);
        ASSERT_OK(agent_home_import(f.paths, whole, "engineer_al", &copy, &error));
        workspace = path_join(f.paths->proxy_home, "engineer_al");
        ASSERT_STREQ(copy->workspace, workspace);
        ASSERT_STREQ(copy->name, "al");
        copied = load(copy);
        ASSERT_FALSE(copied->running);
        ASSERT_STREQ(copied->workspace_dir, workspace);
        soul = get_file(workspace, "SOUL.md");
        ASSERT_STREQ(soul, "soul\n");
        ASSERT_FALSE(is_there(copy->directory, "workspace"));
        ASSERT_TRUE(is_there(h->workspace, "SOUL.md"));
}

/* As upstream makes them: everything, with its own marks of a running agent. */
TEST(import_of_upstream) {
        static const Entry entries[] = {
                { "bot/agent.yml",
                  "id: bot\nstate: running\nruntime:\n  extra_dirs: [/etc]\nprofile: /home/a/profile.md\n"
                                   "memory_dir: ../../x\nworkspace_dir: /home/a\nnewer: 1\n", NULL },
                { "bot/profile.md", "p", NULL },
                { "bot/.puffo-agent/delete.flag", "requested", NULL },
                { "bot/.claude/.credentials.json", "login", NULL },
                { "bot/.claude/settings.json", "{}", NULL },
                { "bot/runtime.json", "{}", NULL },
                { "bot/agent.yml.tmp", "x", NULL },
                { "bot/messages.db", "rows", NULL },
        };
        FIXTURE(f);
        _cleanup_close_ int fd = make_zip(&f, entries, ELEMENTSOF(entries));
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *error = NULL, *yml = NULL;

        ASSERT_OK(agent_home_import(f.paths, fd, NULL, &h, &error));
        ASSERT_EQ(count_entries(h->directory), 7);
        ASSERT_TRUE(is_there(h->directory, "messages.db") && is_there(h->directory, AGENT_MESSAGES_COPIED) &&
                    is_there(h->directory, ".claude/settings.json") &&
                    is_there(h->directory, "memory") && is_there(h->directory, "workspace"));
        ASSERT_FALSE(is_there(h->directory, ".claude/.credentials.json"));
        c = load(h);
        ASSERT_FALSE(c->running);
        ASSERT_NULL(c->extra_dirs);
        ASSERT_STREQ(c->profile, "profile.md");
        ASSERT_STREQ(c->memory_dir, "memory");
        ASSERT_STREQ(c->workspace_dir, "workspace");
        yml = get_file(h->directory, "agent.yml");
        ASSERT_TRUE(endswith(yml, "\nnewer: 1\n"));
}

TEST(hostile_archives) {
        static const struct {
                Entry entries[3];
                const char *error;
        } t[] = {
                { { { "bot/agent.yml", "", NULL }, { "bot/../../evil", "x", NULL } },
                  "'bot/../../evil' is not a name that is taken" },
                { { { "../agent.yml", "", NULL } }, "'../agent.yml' is not a name that is taken" },
                { { { "/bot/agent.yml", "", NULL } }, "is not a name that is taken" },
                { { { "bot//agent.yml", "", NULL } }, "is not a name that is taken" },
                { { { "bot/./agent.yml", "", NULL } }, "is not a name that is taken" },
                { { { "bot/a\\b", "", NULL } }, "is not a name that is taken" },
                { { { "bot/a\nb", "", NULL } }, "'bot/a?b' is not a name that is taken" },
                { { { "bot/\xff", "", NULL } }, "the archive" },
                { { { "1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3/4/5/6/7/8/9/0/1/2/3", "", NULL } },
                  "is not a name that is taken" },
                { { { "bot/agent.yml", "", NULL }, { "bob/agent.yml", "", NULL } },
                  "'bob/agent.yml' is not below the same directory as the others" },
                { { { "bot/agent.yml", "", NULL }, { "bot2", "", NULL } },
                  "is not below the same directory as the others" },
                { { { "-x/agent.yml", "", NULL } }, "is not below a directory that is named like an agent" },
                { { { ".ssh/agent.yml", "", NULL } }, "is not below a directory that is named like an agent" },
                { { { "bot", "x", NULL } }, "'bot' is a file, not a directory named like an agent" },
                { { { "bot/agent.yml", "", NULL }, { "bot/workspace/x", NULL, "/etc" } },
                  "'bot/workspace/x' is neither a file nor a directory" },
                { { { "bot/agent.yml", "", NULL }, { "bot/a", "1", NULL }, { "bot/a", "2", NULL } },
                  "'bot/a' is there twice" },
                { { { "bot/agent.yml", "", NULL }, { "bot/a", "1", NULL }, { "bot/a/b", "2", NULL } },
                  "'bot/a/b' is below something that is a file" },
                { { { "bot/agent.yml", "", NULL }, { "bot/a", "1", NULL }, { "bot/a/", NULL, NULL } },
                  "is a file and a directory" },
                { { { "bot/agent.yml", "", NULL }, { "bot/memory", "1", NULL } },
                  "'memory' is a file; expected a directory" },
                { { { "bot/profile.md", "x", NULL } }, "the archive has no agent.yml" },
                { { { "bot/agent.yml", NULL, NULL } }, "the archive has no agent.yml" },
                { { { "bot/agent.yml", "runtime:\n  max_turns: many\n", NULL } },
                  "the archive's agent.yml:2: runtime.max_turns: 'many' is not a whole number of at least 1" },
                { { { NULL, NULL, NULL } }, "the archive cannot be read: " },
        };
        FIXTURE(f);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_close_ int fd = -EBADF;
                _cleanup_free_ char *error = NULL;
                AgentHome *h = NULL;
                size_t n = 0;

                while (n < ELEMENTSOF(t[i].entries) && t[i].entries[n].name)
                        n++;
                fd = make_zip(&f, t[i].entries, n);
                if (agent_home_import(f.paths, fd, NULL, &h, &error) != -EBADMSG)
                        fail_msg("case %zu ('%s') is taken", i, t[i].error);
                if (!strstr(error, t[i].error))
                        fail_msg("case %zu: '%s', not '%s'", i, error, t[i].error);
                ASSERT_EQ(count_entries(f.paths->home), 1);
                ASSERT_EQ(count_entries(f.paths->agents), 0);
                ASSERT_FALSE(is_there(f.root, "evil"));
        }
}

TEST(encrypted) {
        static const Entry entry = { "bot/agent.yml", "id: bot\n", NULL };
        FIXTURE(f);
        _cleanup_close_ int fd = new_file(&f, "made.zip");
        struct archive *a = zip_begin(fd, "zip:encryption=traditional", "secret");
        _cleanup_free_ char *error = NULL;
        AgentHome *h = NULL;

        zip_put(a, &entry);
        zip_end(a);
        ASSERT_ERROR(agent_home_import(f.paths, fd, NULL, &h, &error), EBADMSG);
        ASSERT_STREQ(error, "the archive's 'bot/agent.yml' is encrypted");
}

TEST(too_many_entries) {
        FIXTURE(f);
        _cleanup_close_ int fd = new_file(&f, "made.zip");
        struct archive *a = zip_begin(fd, "compression=store", NULL);
        _cleanup_free_ char *error = NULL;
        AgentHome *h = NULL;

        for (unsigned i = 0; i <= 100000; i++) {
                _cleanup_free_ char *name = asprintf_new("bot/%u", i);

                zip_put(a, &(Entry) { name, "", NULL });
        }
        zip_end(a);
        ASSERT_ERROR(agent_home_import(f.paths, fd, NULL, &h, &error), EBADMSG);
        ASSERT_STREQ(error, "the archive has more than 100000 entries");
}

TEST(broken) {
        static const Entry entries[] = {
                { "bot/agent.yml", "id: bot\n", NULL }, { "bot/profile.md", "profile", NULL },
        };
        FIXTURE(f);
        _cleanup_close_ int fd = make_zip(&f, entries, ELEMENTSOF(entries));
        off_t size = lseek(fd, 0, SEEK_END);

        /* Cut anywhere it is no archive any more, and never half an agent. */
        for (off_t cut = 0; cut < size; cut += 7) {
                _cleanup_free_ char *error = NULL;
                AgentHome *h = NULL;

                ASSERT_EQ(ftruncate(fd, size - 1 - cut), 0);
                ASSERT_ERROR(agent_home_import(f.paths, fd, NULL, &h, &error), EBADMSG);
                ASSERT_NOT_NULL(error);
                ASSERT_EQ(count_entries(f.paths->agents), 0);
        }
}

TEST(only_regular_files) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = make_agent(&f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(h);
        _cleanup_free_ char *error = NULL;
        AgentHome *made = NULL;
        int fds[2];

        ASSERT_EQ(pipe(fds), 0);
        ASSERT_ERROR(agent_home_export(h, c, 0, -EBADF, -EBADF, fds[1]), ESPIPE);
        ASSERT_ERROR(agent_home_import(f.paths, fds[0], NULL, &made, &error), ESPIPE);
        ASSERT_ERROR(agent_home_import(f.paths, fds[0], "../x", &made, &error), EINVAL);
        safe_close(fds[0]);
        safe_close(fds[1]);
}

#define TEST_SUITE "agent-zip"
TEST_MAIN();
