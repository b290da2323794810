/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli-fixture.h"
#include "cli-home-internal.h"

#define CLAUDE "claude-code"
#define SERVERS(x) "{\"mcpServers\":{" x "}}"

static bool contains(char *const *list, const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);

        return strv_contains(list, path);
}

/* One that has room for four pages; -errno: not without being root. */
static int full_disk(const char *directory) {
        if (unshare(CLONE_NEWNS) < 0 ||
            mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("tmpfs", directory, "tmpfs", 0, "size=16k,mode=0700") < 0)
                return -errno;
        return 0;
}

/* In a process of its own, whose mounts nobody sees. */
static _Noreturn void fill_disk(const char *directory) {
        _cleanup_free_ char *big = malloc(50001), *text = NULL;
        size_t size;
        int fd;

        if (full_disk(directory) < 0)
                _exit(77);
        memset(big, 'x', 50000);
        big[50000] = 0;
        fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (cli_file_write(fd, "f", "old", 3, 0600, CLI_FILE_KEEP_INODE) != 1)
                _exit(1);
        if (cli_file_write(fd, "f", big, 50000, 0600, CLI_FILE_KEEP_INODE) != -ENOSPC)
                _exit(2);
        if (cli_file_read(fd, "f", KIB(64), &text, &size) < 0 || !streq(text, "old"))
                _exit(3);
        text = mfree(text);
        if (cli_file_write(fd, "f", big, 5000, 0600, CLI_FILE_KEEP_INODE) != 1)
                _exit(4);
        _exit(cli_file_read(fd, "f", KIB(64), &text, &size) < 0 || size != 5000 || memcmp(text, big, size) != 0);
}

TEST(a_full_disk_leaves_what_was_there) {
        char template[] = "/tmp/puffo-test-cli-home-XXXXXX";
        int status;
        pid_t pid;

        ASSERT_NOT_NULL(mkdtemp(template));
        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0)
                fill_disk(template);
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_OK(directory_remove(template));
        ASSERT_TRUE(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
                skip();
        ASSERT_EQ(WEXITSTATUS(status), 0);
}

TEST(fresh) {
        static const char *const there[] = { "CLAUDE.md", ".claude", ".mcp.json", ".gemini" };
        static const char *const hidden[] = { "keys", "messages.db", "agent.yml", ".puffo-agent", "runtime.json" };
        AGENT(a, CLAUDE);
        PREPARED(h, a);
        const char *home = a.home->directory, *workspace = a.home->workspace;

        assert_json(home, ".claude.json", "{}");
        assert_json(home, ".claude/settings.json", "{}");
        assert_json(workspace, ".claude/settings.json", "{}");
        assert_json(workspace, ".mcp.json", SERVERS(""));
        assert_json(home, "mcp-config.json",
                    SERVERS("\"puffo\":{\"type\":\"stdio\",\"command\":\"/usr/lib/puffo/puffo-mcp\",\"args\":[],"
                            "\"env\":{\"PUFFO_TOOL_SOCKET\":\"/run/puffo/tools.sock\"},\"alwaysLoad\":true,"
                            "\"timeout\":120000}"));
        ASSERT_TRUE(endswith(h.mcp_config, "/mcp-config.json"));
        ASSERT_NULL(h.notice);
        ASSERT_EQ(get_mode(home, "mcp-config.json"), 0600);
        ASSERT_EQ(get_mode(home, ".claude.json"), 0600);

        ASSERT_TRUE(strv_contains(h.read_write, workspace));
        ASSERT_TRUE(contains(h.read_write, home, ".claude"));
        ASSERT_TRUE(contains(h.read_write, home, ".claude.json"));
        ASSERT_TRUE(contains(h.read_write, home, "memory"));
        ASSERT_EQ(strv_length(h.read_write), 4);
        ASSERT_TRUE(contains(h.read_only, home, ".claude/CLAUDE.md"));
        ASSERT_TRUE(contains(h.read_only, home, ".claude/settings.json"));
        ASSERT_TRUE(contains(h.read_only, home, ".claude/skills"));
        ASSERT_TRUE(contains(h.read_only, home, "mcp-config.json"));
        for (size_t i = 0; i < ELEMENTSOF(there); i++)
                ASSERT_TRUE(contains(h.read_only, workspace, there[i]));
        ASSERT_EQ(strv_length(h.read_only), 4 + ELEMENTSOF(there));
        for (size_t i = 0; i < ELEMENTSOF(hidden); i++) {
                ASSERT_FALSE(contains(h.read_write, home, hidden[i]));
                ASSERT_FALSE(contains(h.read_only, home, hidden[i]));
        }
        for (char **p = h.read_only; *p; p++)
                ASSERT_EQ(access(*p, F_OK), 0);
        /* Covered by puffod, which wants it to be there. */
        ASSERT_FALSE(contains(h.read_only, workspace, ".puffo-agent"));
        ASSERT_TRUE(is_there(workspace, ".puffo-agent"));
}

TEST(nothing_is_written_twice) {
        static const char *const harnesses[] = { CLAUDE, "gemini-cli", "hermes" };

        for (size_t i = 0; i < ELEMENTSOF(harnesses); i++) {
                AGENT(a, harnesses[i]);
                _cleanup_free_ char *before = NULL, *after = NULL;

                put_file(a.user, ".claude.json", SERVERS("\"git\":{\"command\":\"git-mcp\"}"));
                put_file(a.user, ".claude/settings.json", "{\"language\":\"de\"}");
                put_file(a.user, ".claude/skills/cook/SKILL.md", "cook");
                put_file(a.user, ".claude/skills/cook/deep/er/recipe.md", "salt");
                put_file(a.user, ".gemini/settings.json", SERVERS("\"git\":{\"command\":\"git-mcp\"}"));
                put_file(a.user, ".gemini/skills/cook/SKILL.md", "cook");
                put_file(a.home->workspace, ".mcp.json",
                         SERVERS("\"own\":{\"command\":\"own-mcp\",\"args\":[\"x\"]}"));
                put_file(a.home->directory, ".claude.json", "{\"userID\":\"u\",\"cost\":0.1000}");

                PREPARED(one, a);
                before = tree_picture(a.home->directory);
                PREPARED(two, a);
                after = tree_picture(a.home->directory);
                ASSERT_STREQ(before, after);
                ASSERT_TRUE(same_hash(&one, &two));
        }
}

/* What the model may have put there for its CLI to find: another endpoint, another key. */
TEST(claude_json_is_no_way_out) {
        for (unsigned i = 0; i < 2; i++) {
                AGENT(a, CLAUDE);

                a.spec.no_login = i > 0;
                put_file(a.home->directory, ".claude.json",
                         "{\"userID\":\"u\",\"env\":{\"ANTHROPIC_BASE_URL\":\"http://x\"},\"primaryApiKey\":\"k\"}");
                PREPARED(h, a);
                assert_json(a.home->directory, ".claude.json",
                            i > 0 ? "{\"userID\":\"u\"}" :
                                    "{\"userID\":\"u\",\"env\":{\"ANTHROPIC_BASE_URL\":\"http://x\"},"
                                    "\"primaryApiKey\":\"k\"}");
        }
}

TEST(claude_json) {
        static const struct { const char *theirs, *own, *result; } t[] = {
                { NULL, "", "{}" },
                { NULL, "{\"a\":", "{}" },
                { NULL, "[1]", "{}" },
                { NULL, "{\"userID\":\"u\"}", "{\"userID\":\"u\"}" },
                { "{\"projects\":{\"/x\":{}},\"oauthAccount\":{\"e\":1},\"mcpServers\":{}}", "{}", "{}" },
                { "not json", "{\"userID\":\"u\"}", "{\"userID\":\"u\"}" },
                { "{\"projects\":{\"/x\":{}},\"oauthAccount\":{\"e\":1},"
                  "\"mcpServers\":{\"a\":{\"command\":\"x\"}}}",
                  "{\"userID\":\"u\",\"mcpServers\":{\"a\":{\"command\":\"mine\"},\"b\":{\"command\":\"y\"}}}",
                  "{\"userID\":\"u\",\"mcpServers\":{\"a\":{\"command\":\"x\"},\"b\":{\"command\":\"y\"}}}" },
                { SERVERS("\"puffo\":{\"command\":\"evil\"},\"bad\":7,\"a\":{\"url\":\"https://x/\"}"),
                  "{\"mcpServers\":3}",
                  SERVERS("\"a\":{\"url\":\"https://x/\"}") },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                AGENT(a, CLAUDE);

                if (t[i].theirs)
                        put_file(a.user, ".claude.json", t[i].theirs);
                put_file(a.home->directory, ".claude.json", t[i].own);
                PREPARED(h, a);
                assert_json(a.home->directory, ".claude.json", t[i].result);
        }
}

TEST(servers_that_the_operator_removed) {
        AGENT(a, CLAUDE);
        const char *home = a.home->directory;

        put_file(a.user, ".claude.json",
                 SERVERS("\"a\":{\"command\":\"x\"},\"b\":{\"command\":\"y\"},\"c\":{\"command\":\"z\"}"));
        PREPARED(one, a);
        assert_json(home, ".claude.json",
                    SERVERS("\"a\":{\"command\":\"x\"},\"b\":{\"command\":\"y\"},\"c\":{\"command\":\"z\"}"));

        /* b is another by now, and not his. */
        put_file(home, ".claude.json", SERVERS("\"a\":{\"command\":\"x\"},\"b\":{\"command\":\"mine\"},"
                                               "\"c\":{\"command\":\"z\"},\"d\":{\"command\":\"own\"}"));
        put_file(a.user, ".claude.json", SERVERS("\"c\":{\"command\":\"z\"}"));
        PREPARED(two, a);
        assert_json(home, ".claude.json", SERVERS("\"b\":{\"command\":\"mine\"},\"c\":{\"command\":\"z\"},"
                                                  "\"d\":{\"command\":\"own\"}"));
        ASSERT_FALSE(same_hash(&one, &two));

        /* Half written: what was known holds. */
        put_file(a.user, ".claude.json", "{\"mcpServers\":");
        PREPARED(three, a);
        ASSERT_NOT_NULL(strstr(three.notice, "/user/.claude.json"));
        ASSERT_TRUE(same_hash(&two, &three));

        a.spec.user_home = NULL;
        PREPARED(four, a);
        assert_json(home, ".claude.json", SERVERS("\"b\":{\"command\":\"mine\"},\"d\":{\"command\":\"own\"}"));
}

TEST(mcp_config) {
        AGENT(a, CLAUDE);
        _cleanup_json_ json_object *o = NULL;
        json_object *servers;

        a.config->sandbox = SANDBOX_WORKSPACE;
        put_file(a.user, ".claude.json", SERVERS("\"git\":{\"command\":\"git-mcp\",\"env\":{\"T\":\"1\"}},"
                                                 "\"far\":{\"command\":\"/home/op/bin/far\"},"
                                                 "\"args\":{\"command\":\"x\",\"args\":[1]}"));
        put_file(a.home->workspace, ".mcp.json", SERVERS("\"git\":{\"command\":\"other\"},"
                                                         "\"own\":{\"command\":\"own-mcp\"},"
                                                         "\"puffo\":{\"command\":\"evil\"},\"\":{\"command\":\"x\"},"
                                                         "\"ftp\":{\"url\":\"ftp://x\"}"));
        PREPARED(h, a);
        o = get_json(a.home->directory, "mcp-config.json");
        servers = json_get(o, "mcpServers");
        ASSERT_EQ(json_object_object_length(servers), 3);
        ASSERT_STREQ(json_get_string(json_get(servers, "git"), "command"), "git-mcp");
        ASSERT_STREQ(json_get_string(json_get(servers, "own"), "command"), "own-mcp");
        ASSERT_STREQ(json_get_string(json_get(servers, "puffo"), "command"), "/usr/lib/puffo/puffo-mcp");
        ASSERT_NOT_NULL(strstr(h.notice, "'far'"));
        ASSERT_NOT_NULL(strstr(h.notice, "1 of the MCP servers in"));
        ASSERT_NOT_NULL(strstr(h.notice, "2 of the MCP servers in"));

        a.config->sandbox = SANDBOX_HOST;
        a.spec.mcp_command = NULL;
        PREPARED(host, a);
        (void) json_object_put(TAKE_PTR(o));
        o = get_json(a.home->directory, "mcp-config.json");
        ASSERT_NOT_NULL(json_get(json_get(o, "mcpServers"), "far"));
        ASSERT_NULL(json_get(json_get(o, "mcpServers"), "puffo"));
        ASSERT_FALSE(same_hash(&h, &host));
}

TEST(host_local) {
        static const struct { const char *command; bool local; } t[] = {
                { "", false }, { "npx", false }, { "/usr/bin/x", false }, { "/opt/x", false }, { "/bin/x", false },
                { "/home/agent/x", false }, { "/home/op/x", true }, { "/Users/x", true }, { "/tmp/x", true },
                { "/var/folders/x", true }, { "C:/x", true }, { "C:\\x", true }, { "a\\b", true }, { "C:x", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_EQ(cli_command_is_host_local(t[i].command), t[i].local);
}

#define OLD "{\"matcher\":\"Bash\"," \
            "\"hooks\":[{\"type\":\"command\",\"command\":\"python -m puffo_agent.hooks.permission\"}]}"
#define FOREIGN "{\"matcher\":\"Bash\",\"hooks\":[{\"type\":\"command\",\"command\":\"mine\"}]}"

TEST(old_hooks) {
        static const struct { const char *before, *after; } t[] = {
                { "{\"hooks\":{\"PreToolUse\":[" OLD "," FOREIGN "," OLD "],\"Stop\":[]},\"x\":1}",
                  "{\"hooks\":{\"PreToolUse\":[" FOREIGN "],\"Stop\":[]},\"x\":1}" },
                { "{\"hooks\":{\"PreToolUse\":[" OLD "]}}", "{}" },
                { "{\"hooks\":{\"PreToolUse\":[" OLD "],\"Stop\":[]}}", "{\"hooks\":{\"Stop\":[]}}" },
                { "{\"hooks\":{\"PreToolUse\":[]}}", "{\"hooks\":{\"PreToolUse\":[]}}" },
                { "{\"hooks\":{\"PreToolUse\":[7,{\"hooks\":3},{\"hooks\":[{\"command\":9}]}]}}",
                  "{\"hooks\":{\"PreToolUse\":[7,{\"hooks\":3},{\"hooks\":[{\"command\":9}]}]}}" },
                { "{\"hooks\":[]}", "{\"hooks\":[]}" },
                { "", "{}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                AGENT(a, CLAUDE);

                put_file(a.home->workspace, ".claude/settings.json", t[i].before);
                put_file(a.home->directory, ".claude/settings.json", t[i].before);
                PREPARED(h, a);
                assert_json(a.home->workspace, ".claude/settings.json", t[i].after);
                assert_json(a.home->directory, ".claude/settings.json", t[i].after);
                ASSERT_NULL(h.notice);
        }
}

TEST(settings_that_make_no_sense) {
        static const char *const bad[] = { "{\"a\":", "[]", "7" };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                AGENT(a, CLAUDE);
                _cleanup_free_ char *directory = path_join(a.home->workspace, ".claude"), *aside = NULL, *text = NULL;

                put_file(directory, "settings.json", bad[i]);
                PREPARED(h, a);
                assert_json(directory, "settings.json", "{}");
                ASSERT_NOT_NULL(strstr(h.notice, "workspace/.claude/settings.json"));
                aside = find_name(directory, "settings.json.aside-");
                text = get_file(directory, aside);
                ASSERT_STREQ(text, bad[i]);

                PREPARED(again, a);
                ASSERT_NULL(again.notice);
        }
}

/* What he allows himself, his hooks and his keys stay his. */
TEST(seed) {
        AGENT(a, CLAUDE);

        put_file(a.user, ".claude/settings.json",
                 "{\"permissions\":{\"allow\":[\"Bash\"],\"deny\":[\"WebFetch\"]},\"env\":{\"K\":\"s\"},"
                 "\"apiKeyHelper\":\"x\","
                 "\"hooks\":{\"Stop\":[]},\"model\":\"opus\",\"language\":\"de\",\"includeCoAuthoredBy\":false}");
        PREPARED(h, a);
        assert_json(a.home->directory, ".claude/settings.json",
                    "{\"permissions\":{\"deny\":[\"WebFetch\"]},\"language\":\"de\",\"includeCoAuthoredBy\":false}");

        put_file(a.home->directory, ".claude/settings.json", "{\"mine\":1}");
        PREPARED(two, a);
        assert_json(a.home->directory, ".claude/settings.json", "{\"mine\":1}");
        ASSERT_FALSE(same_hash(&h, &two));
}

TEST(what_a_mount_has_to_cover) {
        AGENT(a, CLAUDE);
        const char *workspace = a.home->workspace;
        _cleanup_free_ char *outside = path_join(f.root, "outside"), *path = path_join(workspace, ".mcp.json"),
                            *other = path_join(workspace, "other"), *text = NULL, *second = NULL, *aside = NULL;
        struct stat st;

        /* A link that stays inside, a second name, a link that leads out. */
        put_file(workspace, "NOTES.md", "notes");
        make_link("NOTES.md", workspace, "CLAUDE.md");
        put_file(workspace, ".mcp.json", SERVERS("\"own\":{\"command\":\"x\"}"));
        ASSERT_EQ(link(path, other), 0);
        put_file(outside, "settings.json", "{\"theirs\":1}");
        make_link(outside, workspace, ".claude");

        PREPARED(h, a);
        text = get_file(workspace, "CLAUDE.md");
        ASSERT_STREQ(text, "notes");
        free(path);
        path = path_join(workspace, "CLAUDE.md");
        ASSERT_EQ(lstat(path, &st), 0);
        ASSERT_TRUE(S_ISREG(st.st_mode));
        assert_json(workspace, ".mcp.json", SERVERS("\"own\":{\"command\":\"x\"}"));
        ASSERT_EQ(lstat(other, &st), 0);
        ASSERT_EQ(st.st_nlink, 1);
        assert_json(outside, "settings.json", "{\"theirs\":1}");
        assert_json(workspace, ".claude/settings.json", "{}");
        aside = find_name(workspace, ".claude.aside-");
        ASSERT_NOT_NULL(aside);

        /* What is no file at all. */
        ASSERT_EQ(unlink(path), 0);
        ASSERT_EQ(mkfifo(path, 0600), 0);
        PREPARED(two, a);
        second = get_file(workspace, "CLAUDE.md");
        ASSERT_STREQ(second, "");
        ASSERT_EQ(unlink(path), 0);
        ASSERT_EQ(mkdir(path, 0700), 0);
        PREPARED(three, a);
        ASSERT_EQ(lstat(path, &st), 0);
        ASSERT_TRUE(S_ISREG(st.st_mode));
}

TEST(links_in_the_own_directory) {
        static const char *const names[] = {
                ".claude.json", "mcp-config.json", ".claude/settings.json", ".claude/CLAUDE.md", "cli_session.json",
        };
        AGENT(a, CLAUDE);
        const char *home = a.home->directory;
        _cleanup_free_ char *victim = path_join(f.root, "victim"), *text = NULL;

        put_file(f.root, "victim", "precious");
        put_file(home, ".claude/x", "");
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                make_link(victim, home, names[i]);
        PREPARED(h, a);
        ASSERT_OK(cli_session_save(a.home, CLAUDE, "m", "id"));
        text = get_file(f.root, "victim");
        ASSERT_STREQ(text, "precious");
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *path = path_join(home, names[i]);
                struct stat st;

                ASSERT_EQ(lstat(path, &st), 0);
                ASSERT_TRUE(S_ISREG(st.st_mode));
        }
}

TEST(hostile_files) {
        AGENT(a, CLAUDE);
        const char *home = a.home->directory, *workspace = a.home->workspace;
        _cleanup_free_ char *json = path_join(home, ".claude.json"), *servers = path_join(workspace, ".mcp.json"),
                            *outside = path_join(f.root, "outside"), *skills = path_join(home, ".claude/skills"),
                            *settings = path_join(workspace, ".claude/settings.json");
        StrBuf b = {};

        for (unsigned i = 0; i < 100000; i++)
                ASSERT_OK(strbuf_puts(&b, "{\"a\":["));
        put_file(home, ".claude.json", "{}");
        ASSERT_EQ(truncate(json, 1LL << 40), 0);
        put_file(workspace, ".mcp.json", b.text);
        put_file(workspace, ".claude/x", "");
        ASSERT_EQ(mkfifo(settings, 0600), 0);
        /* Pruning and copying must stay in here. */
        put_file(outside, "victim/host-synced.md", "");
        put_file(home, ".claude/x", "");
        ASSERT_EQ(symlink(outside, skills), 0);
        put_file(a.user, ".claude/skills/cook/SKILL.md", "cook");

        PREPARED(h, a);
        assert_json(home, ".claude.json", "{}");
        ASSERT_NOT_NULL(strstr(h.notice, ".mcp.json' is malformed"));
        assert_json(workspace, ".claude/settings.json", "{}");
        ASSERT_TRUE(is_there(outside, "victim/host-synced.md"));
        ASSERT_FALSE(is_there(outside, "cook"));
        ASSERT_TRUE(is_there(skills, "cook/SKILL.md"));

        ASSERT_EQ(unlink(servers), 0);
        ASSERT_EQ(mkfifo(servers, 0600), 0);
        PREPARED(two, a);
        assert_json(workspace, ".mcp.json", SERVERS(""));
        strbuf_done(&b);
}

TEST(skills) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *skills = path_join(a.home->directory, ".claude/skills"),
                            *theirs = path_join(a.user, ".claude/skills"), *linked = path_join(f.root, "linked"),
                            *text = NULL;

        put_file(skills, "untagged/SKILL.md", "u");
        put_file(skills, "installed/SKILL.md", "own");
        put_file(skills, "installed/agent-installed.md", "");
        put_file(skills, "gone/host-synced.md", "");
        put_file(skills, "kept/host-synced.md", "");
        put_file(skills, "kept/agent-installed.md", "");
        put_file(skills, "cook/stale.md", "old");
        put_file(theirs, "flat.md", "flat");
        put_file(theirs, "installed/SKILL.md", "theirs");
        put_file(theirs, "cook/SKILL.md", "cook");
        put_file(theirs, "cook/agent-installed.md", "");
        put_file(theirs, "cook/run.sh", "#!");
        put_file(theirs, "cook/.hidden", "h");
        put_file(theirs, "cook/.git/config", "g");
        {
                _cleanup_free_ char *run = path_join(theirs, "cook/run.sh"), *fifo = path_join(theirs, "cook/fifo");

                ASSERT_EQ(chmod(run, 0755), 0);
                ASSERT_EQ(mkfifo(fifo, 0600), 0);
        }
        put_file(linked, "SKILL.md", "linked");
        make_link(linked, theirs, "linked");
        make_link("nowhere", theirs, "dangling");

        PREPARED(one, a);
        ASSERT_NULL(one.notice);
        ASSERT_TRUE(is_there(skills, "untagged/SKILL.md"));
        ASSERT_FALSE(is_there(skills, "gone"));
        ASSERT_TRUE(is_there(skills, "kept"));
        ASSERT_FALSE(is_there(skills, "cook/stale.md"));
        ASSERT_FALSE(is_there(skills, "cook/agent-installed.md"));
        ASSERT_FALSE(is_there(skills, "cook/fifo"));
        ASSERT_FALSE(is_there(skills, "cook/.git"));
        ASSERT_TRUE(is_there(skills, "cook/.hidden"));
        ASSERT_TRUE(is_there(skills, "cook/host-synced.md"));
        ASSERT_FALSE(is_there(skills, "flat.md"));
        ASSERT_FALSE(is_there(skills, "dangling"));
        ASSERT_EQ(get_mode(skills, "cook/run.sh"), 0700);
        ASSERT_EQ(get_mode(skills, "cook/SKILL.md"), 0600);
        text = get_file(skills, "installed/SKILL.md");
        ASSERT_STREQ(text, "own");
        text = mfree(text);
        text = get_file(skills, "linked/SKILL.md");
        ASSERT_STREQ(text, "linked");

        /* Changed here: it is his again. Changed there: it is taken over. */
        put_file(skills, "cook/SKILL.md", "tampered");
        put_file(theirs, "linked/SKILL.md", "newer");
        PREPARED(two, a);
        text = mfree(text);
        text = get_file(skills, "cook/SKILL.md");
        ASSERT_STREQ(text, "cook");
        text = mfree(text);
        text = get_file(skills, "linked/SKILL.md");
        ASSERT_STREQ(text, "newer");
        ASSERT_FALSE(same_hash(&one, &two));

        ASSERT_OK(directory_remove(theirs));
        PREPARED(three, a);
        ASSERT_FALSE(is_there(skills, "cook"));
        ASSERT_FALSE(is_there(skills, "linked"));
        ASSERT_TRUE(is_there(skills, "installed"));
        ASSERT_TRUE(is_there(skills, "untagged"));
}

TEST(skills_without_end) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *theirs = path_join(a.user, ".claude/skills");

        put_file(theirs, "good/SKILL.md", "good");
        put_file(theirs, "loop/SKILL.md", "loop");
        make_link(".", theirs, "loop/again");
        PREPARED(h, a);
        ASSERT_TRUE(is_there(a.home->directory, ".claude/skills/good/SKILL.md"));
        ASSERT_FALSE(is_there(a.home->directory, ".claude/skills/loop"));
        ASSERT_NOT_NULL(strstr(h.notice, "The skill 'loop' could not be taken over"));
}

TEST(gemini) {
        AGENT(a, "gemini-cli");
        const char *home = a.home->directory, *workspace = a.home->workspace;

        put_file(a.user, ".gemini/settings.json", "{\"secret\":1,\"mcpServers\":{\"git\":{\"command\":\"git-mcp\"}}}");
        put_file(a.user, ".gemini/skills/cook/SKILL.md", "cook");
        put_file(workspace, ".gemini/settings.json", "{\"own\":1,\"mcpServers\":{\"puffo\":{\"command\":\"evil\"}}}");
        PREPARED(h, a);
        ASSERT_NULL(h.mcp_config);
        assert_json(home, ".gemini/settings.json", "{\"security\":{\"auth\":{\"selectedType\":\"gemini-api-key\"}},"
                    "\"privacy\":{\"usageStatisticsEnabled\":false},"
                    "\"context\":{\"fileFiltering\":{\"enableRecursiveFileSearch\":false}},"
                    "\"general\":{\"maxAttempts\":4}}");
        assert_json(workspace, ".gemini/settings.json",
                    "{\"own\":1,\"mcpServers\":{\"git\":{\"command\":\"git-mcp\"},\"puffo\":{\"command\":"
                    "\"/usr/lib/puffo/puffo-mcp\",\"args\":[],\"env\":"
                    "{\"PUFFO_TOOL_SOCKET\":\"/run/puffo/tools.sock\"},\"trust\":true,\"timeout\":120000}}}");
        ASSERT_TRUE(is_there(workspace, ".gemini/skills/cook/SKILL.md"));
        ASSERT_TRUE(contains(h.read_write, home, ".gemini"));
        ASSERT_FALSE(contains(h.read_write, home, ".claude"));
        ASSERT_TRUE(contains(h.read_only, home, ".gemini/GEMINI.md"));
        ASSERT_TRUE(contains(h.read_only, home, ".gemini/settings.json"));

        put_file(a.user, ".gemini/settings.json", "{}");
        a.spec.mcp_command = NULL;
        PREPARED(two, a);
        assert_json(workspace, ".gemini/settings.json", "{\"own\":1,\"mcpServers\":{}}");

        /* What somebody has decided stays, what is of no sense goes. */
        put_file(home, ".gemini/settings.json",
                 "{\"security\":{\"auth\":{\"selectedType\":\"oauth-personal\"}},"
                 "\"privacy\":{\"usageStatisticsEnabled\":true},\"context\":7,\"general\":{\"maxAttempts\":10}}");
        PREPARED(three, a);
        assert_json(home, ".gemini/settings.json",
                    "{\"security\":{\"auth\":{\"selectedType\":\"oauth-personal\"}},"
                    "\"privacy\":{\"usageStatisticsEnabled\":true},"
                    "\"context\":{\"fileFiltering\":{\"enableRecursiveFileSearch\":false}},"
                    "\"general\":{\"maxAttempts\":10}}");
}

TEST(hermes) {
        AGENT(a, "hermes");
        const char *home = a.home->directory;
        _cleanup_free_ char *one = NULL, *two = NULL, *three = NULL;

        put_file(home, ".hermes/config.yaml", "model: x\nmcp_servers:\n  time:\n    command: uvx\n");
        PREPARED(h, a);
        one = get_file(home, ".hermes/config.yaml");
        ASSERT_STREQ(one, "model: x\nmcp_servers:\n  time:\n    command: uvx\n  puffo:\n"
                          "    command: /usr/lib/puffo/puffo-mcp\n    env:\n"
                          "      PUFFO_TOOL_SOCKET: /run/puffo/tools.sock\n    timeout: 120\n");
        ASSERT_TRUE(contains(h.read_only, home, ".hermes/config.yaml"));
        ASSERT_FALSE(contains(h.read_only, home, ".claude/.credentials.json"));
        put_file(home, ".claude/.credentials.json", "{}");
        PREPARED(logged_in, a);
        ASSERT_TRUE(contains(logged_in.read_only, home, ".claude/.credentials.json"));

        a.spec.mcp_command = NULL;
        PREPARED(without, a);
        two = get_file(home, ".hermes/config.yaml");
        ASSERT_STREQ(two, "model: x\nmcp_servers:\n  time:\n    command: uvx\n");

        put_file(home, ".hermes/config.yaml", "a: [");
        PREPARED(bad, a);
        ASSERT_NOT_NULL(strstr(bad.notice, "config.yaml"));
        three = get_file(home, ".hermes/config.yaml");
        ASSERT_NOT_NULL(three);
}

TEST(unknown_harness) {
        AGENT(a, "emacs");
        CliHome h = {};

        ASSERT_ERROR(cli_home_prepare(&h, &a.spec), EINVAL);
}

TEST(what_a_running_cli_does_not_notice) {
        AGENT(a, CLAUDE);

        PREPARED(one, a);
        put_file(a.home->directory, "memory/facts.md", "Two and two.");
        PREPARED(memory, a);
        ASSERT_TRUE(same_hash(&one, &memory));
        put_file(a.home->directory, "profile.md", "Be brief.");
        PREPARED(profile, a);
        ASSERT_FALSE(same_hash(&one, &profile));
        put_file(a.home->workspace, ".claude/skills/new/SKILL.md", "new");
        PREPARED(skill, a);
        ASSERT_FALSE(same_hash(&profile, &skill));
        put_file(a.home->workspace, "CLAUDE.md", "project");
        PREPARED(project, a);
        ASSERT_FALSE(same_hash(&skill, &project));
        a.config->sandbox = SANDBOX_STRICT;
        PREPARED(strict, a);
        ASSERT_FALSE(same_hash(&project, &strict));
}

/* Of a file with another in its place, a sandbox that runs loses the mount. */
TEST(what_a_running_cli_has_mounted) {
        static const struct { const char *harness, *file, *text; } t[] = {
                { CLAUDE, ".claude/CLAUDE.md", NULL }, { CLAUDE, "mcp-config.json", NULL },
                { CLAUDE, ".claude/settings.json",
                  "{\"hooks\":{\"PreToolUse\":[{\"hooks\":[{\"command\":\"puffo_agent.hooks.permission\"}]}]}}" },
                { "gemini-cli", ".gemini/GEMINI.md", NULL }, { "gemini-cli", ".gemini/settings.json", "{}" },
                { "hermes", ".hermes/config.yaml", "a: b\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                AGENT(a, t[i].harness);
                _cleanup_free_ char *path = path_join(a.home->directory, t[i].file), *before = NULL, *after = NULL;
                struct stat one, two;

                ASSERT_OK(free_and_strdup(&a.config->slug, ""));
                PREPARED(h, a);
                if (t[i].text) {
                        _cleanup_close_ int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

                        ASSERT_EQ(write(fd, t[i].text, strlen(t[i].text)), strlen(t[i].text));
                }
                before = get_file(a.home->directory, t[i].file);
                ASSERT_EQ(stat(path, &one), 0);
                put_file(a.home->directory, "profile.md", "Be quite another.");
                a.spec.tool_socket = "/run/puffo/other.sock";
                PREPARED(again, a);
                after = get_file(a.home->directory, t[i].file);
                ASSERT_TRUE(!streq(before, after));
                ASSERT_EQ(stat(path, &two), 0);
                ASSERT_EQ(one.st_ino, two.st_ino);
        }
}

TEST(names_that_are_ours) {
        static const char *const ours[] = { "puffo", "puffo_", "puffo.", "puffo__x", "puffo  x", "puffo_\xc3\xa4",
                                            "puffo\xc3\xa4x" };
        static const char *const others[] = { "", "p", "puff", "puffo_x", "puffo.x", "puffo-", "puffo2", "puffox__y",
                                              "my_puffo", "my__puffo__x" };

        for (size_t i = 0; i < ELEMENTSOF(ours); i++)
                ASSERT_TRUE(cli_server_name_is_ours(ours[i]));
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                ASSERT_FALSE(cli_server_name_is_ours(others[i]));
}

TEST(instructions_of_who_is_not_on_puffo) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(free_and_strdup(&a.config->slug, ""));
        PREPARED(h, a);
        text = get_file(a.home->directory, ".claude/CLAUDE.md");
        ASSERT_NOT_NULL(strstr(text, "Be kind."));
}

TEST(directories) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *extra = path_join(f.root, "extra"), *keys = path_join(a.home->directory, "keys"),
                            *work = path_join(f.root, "work"), *link_path = path_join(f.root, "link");

        ASSERT_OK(directory_make(extra, 0700));
        ASSERT_OK(directory_make(work, 0700));
        ASSERT_OK(directory_make(keys, 0700));
        ASSERT_EQ(symlink(keys, link_path), 0);
        ASSERT_OK(strv_extend(&a.config->extra_dirs, extra));
        ASSERT_OK(strv_extend(&a.config->extra_dirs, "/nonexistent"));
        ASSERT_OK(strv_extend(&a.config->extra_dirs, f.root));
        ASSERT_OK(strv_extend(&a.config->extra_dirs, "/"));
        ASSERT_OK(strv_extend(&a.config->extra_dirs, link_path));
        a.spec.working_directory = work;
        PREPARED(h, a);
        ASSERT_TRUE(strv_contains(h.read_write, extra));
        ASSERT_TRUE(strv_contains(h.read_write, work));
        ASSERT_FALSE(strv_contains(h.read_write, f.root));
        ASSERT_FALSE(strv_contains(h.read_write, "/"));
        ASSERT_FALSE(strv_contains(h.read_write, link_path));
        ASSERT_NOT_NULL(strstr(h.notice, "'/nonexistent' is left out: it is not there"));
        ASSERT_NOT_NULL(strstr(h.notice, "'/' is left out: agents' keys lie in it"));
}

TEST(workspace_with_the_keys_in_it) {
        AGENT(a, CLAUDE);
        CliHome h = {};

        ASSERT_OK(free_and_strdup(&a.home->workspace, a.home->directory));
        a.config->sandbox = SANDBOX_WORKSPACE;
        ASSERT_ERROR(cli_home_prepare(&h, &a.spec), EXDEV);
}

#define TEST_SUITE "cli-home"
TEST_MAIN();
