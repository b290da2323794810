/* SPDX-License-Identifier: MIT */
#pragma once

/* An agent, and an operator with a home of his own, for the tests of what a CLI finds. */

#include <dirent.h>
#include <ftw.h>

#include "cli-home.h"
#include "home-fixture.h"
#include "json-util.h"

typedef struct Agent {
        AgentHome *home;
        AgentConfig *config;
        char *user;             /* the operator's home */
        CliHomeSpec spec;
} Agent;

_unused_ static void agent_done(Agent *a) {
        (void) agent_home_free(a->home);
        (void) agent_config_free(a->config);
        free(a->user);
}

_unused_ static Agent agent_new(const Fixture *f, const char *harness) {
        Agent a = { .user = path_join(f->root, "user") };

        ASSERT_OK(directory_make(a.user, 0700));
        ASSERT_OK(agent_config_new(&a.config, "bot"));
        ASSERT_OK(free_and_strdup(&a.config->slug, "bot-1234"));
        a.config->kind = RUNTIME_CLI_LOCAL;
        a.config->kind_given = true;
        ASSERT_OK(agent_home_create(f->paths, a.config, "Be kind.", &a.home));
        a.spec = (CliHomeSpec) {
                .home = a.home, .config = a.config, .harness = harness, .user_home = a.user,
                .mcp_command = "/usr/lib/puffo/puffo-mcp", .tool_socket = "/run/puffo/tools.sock",
                .working_directory = "",
        };
        return a;
}

#define AGENT(name, harness) FIXTURE(f); _cleanup_(agent_done) Agent name = agent_new(&f, harness)

#define PREPARED(name, agent) \
        _cleanup_(cli_home_done) CliHome name = {}; \
        ASSERT_OK(cli_home_prepare(&name, &(agent).spec))

_unused_ static bool same_hash(const CliHome *a, const CliHome *b) {
        return memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}

/* "{}" for nothing. */
_unused_ static json_object* get_json(const char *directory, const char *name) {
        _cleanup_free_ char *text = get_file(directory, name);
        json_object *o = NULL;

        ASSERT_NOT_NULL(text);
        ASSERT_OK(json_parse(text, strlen(text), &o));
        return o;
}

_unused_ static void assert_json(const char *directory, const char *name, const char *expected) {
        _cleanup_json_ json_object *o = get_json(directory, name), *e = NULL;

        ASSERT_OK(json_parse(expected, strlen(expected), &e));
        if (!json_object_equal(o, e))
                fail_msg("%s/%s is %s, not %s", directory, name, json_text(o, NULL), expected);
}

static StrBuf picture;

static int draw(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        return strbuf_printf(&picture, "%s %o %lu %ld.%09ld %ld.%09ld\n", path, st->st_mode,
                             (unsigned long) st->st_ino, (long) st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
                             (long) st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

/* Everything about a tree that writing to it would change. */
_unused_ static char* tree_picture(const char *path) {
        ASSERT_EQ(nftw(path, draw, 16, FTW_PHYS), 0);
        return strbuf_take(&picture);
}

/* The first name in a directory that begins so, or NULL. */
_unused_ static char* find_name(const char *directory, const char *prefix) {
        struct dirent **names;
        char *found = NULL;
        int n = scandir(directory, &names, NULL, alphasort);

        ASSERT_TRUE(n >= 0);
        for (int i = 0; i < n; i++) {
                if (!found && startswith(names[i]->d_name, prefix))
                        found = strdup(names[i]->d_name);
                free(names[i]);
        }
        free(names);
        return found;
}

_unused_ static void make_link(const char *target, const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);

        (void) unlink(path);
        ASSERT_EQ(symlink(target, path), 0);
}
