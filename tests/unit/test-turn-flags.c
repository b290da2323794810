/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>

#include "home-fixture.h"
#include "json-util.h"
#include "turn-flags.h"

#define RELOAD ".puffo-agent/reload.flag"
#define REFRESH ".puffo-agent/refresh.flag"
#define TURN ".puffo-agent/current_turn.json"

static TurnFlags take(const Fixture *f, int expected) {
        TurnFlags flags;

        ASSERT_EQ(turn_flags_take(f->root, &flags), expected);
        return flags;
}

static void link_to(const Fixture *f, const char *target, const char *name) {
        _cleanup_free_ char *path = path_join(f->root, name);

        ASSERT_EQ(symlink(target, path), 0);
}

static void make_directory(const Fixture *f, const char *name) {
        _cleanup_free_ char *path = path_join(f->root, name);

        ASSERT_OK(directory_make(path, 0755));
}

TEST(nothing_asked) {
        FIXTURE(f);
        TurnFlags flags;

        ASSERT_EQ(turn_flags_take("/nowhere/at/all", &flags), 0);
        (void) take(&f, 0);
        make_directory(&f, ".puffo-agent");
        flags = take(&f, 0);
        ASSERT_FALSE(flags.reload || flags.refresh || flags.model);
}

TEST(reload_wins) {
        FIXTURE(f);
        TurnFlags flags;

        put_file(f.root, RELOAD, "{\"requested_at\": 1}\n");
        put_file(f.root, REFRESH, "{\"requested_at\": 1, \"model\": \"m\"}\n");
        flags = take(&f, 1);
        ASSERT_TRUE(flags.reload);
        ASSERT_FALSE(flags.refresh);
        ASSERT_NULL(flags.model);
        ASSERT_FALSE(is_there(f.root, RELOAD));
        ASSERT_FALSE(is_there(f.root, REFRESH));
        (void) take(&f, 0);
}

TEST(refresh) {
        static const struct { const char *text, *model; } t[] = {
                { "{\"requested_at\": 1}\n", NULL },
                { "{\"requested_at\": 1, \"model\": \"claude-opus-4-7\"}\n", "claude-opus-4-7" },
                { "{\"model\": \"anthropic/claude-3.5:beta@2\"}", "anthropic/claude-3.5:beta@2" },
                { "{\"model\": \"\"}", "" },
                { "{\"model\": null}", NULL },
                { "{\"model\": 5}", NULL },
                { "{\"model\": [\"m\"]}", NULL },
                { "{\"model\": \"a b\"}", NULL },
                { "{\"model\": \"a\\nb\"}", NULL },
                { "{\"model\": \"a\\u0000b\"}", NULL },
                { "{\"model\": \"../../v1/files\"}", NULL },
                { "{\"model\": \"m?key=x\"}", NULL },
                { "[\"model\"]", NULL },
                { "null", NULL },
                { "requested", NULL },
                { "", NULL },
        };
        FIXTURE(f);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                TurnFlags flags;

                put_file(f.root, REFRESH, t[i].text);
                flags = take(&f, 1);
                ASSERT_TRUE(flags.refresh);
                ASSERT_FALSE(flags.reload);
                if (t[i].model)
                        ASSERT_STREQ(flags.model, t[i].model);
                else
                        ASSERT_NULL(flags.model);
                ASSERT_FALSE(is_there(f.root, REFRESH));
                turn_flags_done(&flags);
        }
}

TEST(long_model_and_large_flag) {
        FIXTURE(f);
        _cleanup_free_ char *model = malloc(KIB(65)), *text = NULL;
        TurnFlags flags;

        memset(model, 'm', KIB(65));
        model[KIB(65) - 1] = 0;
        text = strjoin("{\"model\": \"", model, "\"}");
        put_file(f.root, REFRESH, text);
        flags = take(&f, 1);
        ASSERT_NULL(flags.model);
        ASSERT_FALSE(is_there(f.root, REFRESH));

        model[201] = 0;
        text = mfree(text);
        text = strjoin("{\"model\": \"", model, "\"}");
        put_file(f.root, REFRESH, text);
        flags = take(&f, 1);
        ASSERT_NULL(flags.model);

        model[200] = 0;
        text = mfree(text);
        text = strjoin("{\"model\": \"", model, "\"}");
        put_file(f.root, REFRESH, text);
        flags = take(&f, 1);
        ASSERT_STREQ(flags.model, model);
        turn_flags_done(&flags);
}

/* What a model with a shell can put there. */
TEST(no_way_out) {
        FIXTURE(f);
        _cleanup_free_ char *fifo = path_join(f.root, REFRESH), *workspace = path_join(f.root, "workspace"),
                            *flags_link = path_join(workspace, ".puffo-agent");
        TurnFlags flags;

        /* A link is a flag, and goes; where it leads stays and is not read. */
        put_file(f.root, "elsewhere/secret.json", "{\"model\": \"secret\"}");
        make_directory(&f, "workspace/.puffo-agent");
        ASSERT_EQ(unlink(flags_link) < 0 ? rmdir(flags_link) : 0, 0);
        link_to(&f, "../elsewhere", "workspace/.puffo-agent");
        put_file(f.root, "elsewhere/refresh.flag", "{\"model\": \"m\"}");
        ASSERT_ERROR(turn_flags_take(workspace, &flags), EXDEV);
        ASSERT_FALSE(flags.reload || flags.refresh || flags.model);
        ASSERT_TRUE(is_there(f.root, "elsewhere/refresh.flag"));
        ASSERT_ERROR(current_turn_write(workspace, &(CurrentTurn) { .root_id = "r" }), EXDEV);
        ASSERT_FALSE(is_there(f.root, "elsewhere/current_turn.json"));

        make_directory(&f, ".puffo-agent");
        link_to(&f, "/etc/passwd", RELOAD);
        flags = take(&f, 1);
        ASSERT_TRUE(flags.reload);
        (void) take(&f, 0);
        ASSERT_TRUE(is_there("/etc", "passwd"));

        ASSERT_EQ(mkfifo(fifo, 0600), 0);       /* nobody waits for a writer */
        flags = take(&f, 1);
        ASSERT_TRUE(flags.refresh);
        ASSERT_NULL(flags.model);
        (void) take(&f, 0);

        put_file(f.root, RELOAD "/deep/file", "x");
        flags = take(&f, 1);
        ASSERT_TRUE(flags.reload);
        (void) take(&f, 0);
}

TEST(current_turn) {
        FIXTURE(f);
        _cleanup_free_ char *text = NULL, *outside = path_join(f.root, "outside"), *name = path_join(f.root, TURN);
        _cleanup_json_ json_object *o = NULL, *dm = NULL;

        ASSERT_OK(current_turn_remove(f.root));
        ASSERT_OK(current_turn_write(f.root, &(CurrentTurn) {
                .channel_id = "ch_1", .root_id = "msg_1", .first_envelope = "msg_2",
        }));
        ASSERT_EQ(get_mode(f.root, TURN), 0600);
        text = get_file(f.root, TURN);
        ASSERT_OK(json_parse(text, strlen(text), &o));
        ASSERT_STREQ(json_get_string(o, "channel_id"), "ch_1");
        ASSERT_STREQ(json_get_string(o, "root_id"), "msg_1");
        ASSERT_STREQ(json_get_string(o, "triggering_post_id"), "msg_2");
        ASSERT_STREQ(json_get_string(o, "peer_slug"), "");
        ASSERT_FALSE(json_get_bool(o, "is_dm", true));
        text = mfree(text);

        ASSERT_OK(current_turn_write(f.root, &(CurrentTurn) {
                .root_id = "msg_3", .first_envelope = "msg_3", .peer_slug = "bo-17fe", .is_dm = true,
        }));
        text = get_file(f.root, TURN);
        ASSERT_OK(json_parse(text, strlen(text), &dm));
        ASSERT_STREQ(json_get_string(dm, "channel_id"), "");
        ASSERT_STREQ(json_get_string(dm, "peer_slug"), "bo-17fe");
        ASSERT_TRUE(json_get_bool(dm, "is_dm", false));

        ASSERT_OK(current_turn_remove(f.root));
        ASSERT_FALSE(is_there(f.root, TURN));
        ASSERT_OK(current_turn_remove(f.root));
        ASSERT_OK(current_turn_remove("/nowhere/at/all"));

        put_file(f.root, "outside", "mine");
        ASSERT_EQ(symlink(outside, name), 0);
        ASSERT_OK(current_turn_write(f.root, &(CurrentTurn) { .root_id = "r" }));
        text = mfree(text);
        text = get_file(f.root, "outside");
        ASSERT_STREQ(text, "mine");
}

#define TEST_SUITE "turn-flags"
TEST_MAIN();
