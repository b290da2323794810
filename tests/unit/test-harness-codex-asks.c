/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-codex-asks"

#include <sys/stat.h>
#include <unistd.h>

#include "codex-stage.h"
#include "file-util.h"

/* What Codex asks, and what is answered without a question. */

static char* put_dir(const char *root, const char *name) {
        char *path = path_join(root, name);

        ASSERT_OK(mkdir(path, 0700));
        return path;
}

/* Of what is to be changed nothing may lie elsewhere, by whatever name. */
TEST(edits_in_the_workspace) {
        static const struct { const char *path, *moved; bool accepted; } t[] = {
                { "%s/w/a", NULL, true },                { "a", NULL, true },
                { "new/deep/a", NULL, true },            { "./sub/../a", NULL, true },
                { "%s/link-to-w/a", NULL, true },        { "sub", "b", true },
                { "%s/other/a", NULL, false },           { "%s/w-too/a", NULL, false },
                { "../other/a", NULL, false },           { "sub/../../other/a", NULL, false },
                { "new/../../other/a", NULL, false },    { "out/a", NULL, false },
                { "out", NULL, false },                  { "dangling", NULL, false },
                { "dangling/a", NULL, false },           { "loop", NULL, false },
                { "a/../../../etc/passwd", NULL, false }, { "a", "../other/a", false },
                { "", NULL, false },                     { "%s/w", NULL, false },
        };
        char root[] = "/tmp/puffo-test-edits-XXXXXX";
        _cleanup_free_ char *workspace = NULL, *sub = NULL, *other = NULL, *too = NULL;

        ASSERT_NOT_NULL(mkdtemp(root));
        workspace = put_dir(root, "w");
        sub = put_dir(root, "w/sub");
        other = put_dir(root, "other");
        too = put_dir(root, "w-too");
        for (size_t i = 0; i < 4; i++) {
                static const char *const links[][2] = {
                        { "../other", "w/out" }, { "../nowhere", "w/dangling" }, { "loop", "w/loop" },
                        { "w", "link-to-w" },
                };
                _cleanup_free_ char *path = path_join(root, links[i][1]);

                ASSERT_OK(symlink(links[i][0], path));
        }

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *path = startswith(t[i].path, "%s") ? strjoin(root, t[i].path + 2) :
                                                                          strdup(t[i].path),
                                    *kind = !t[i].moved ? strdup("{\"type\":\"add\"}") :
                                            strjoin("{\"type\":\"update\",\"move_path\":\"", t[i].moved, "\"}"),
                                    *item = NULL, *heard = NULL;
                _cleanup_(stage_end) Stage s;
                HarnessSetup setup = setup_of(NULL);

                setup.permission_mode = "acceptEdits";
                setup.working_directory = workspace;
                stage_begin(&s, &setup);
                begin_turn(&s, false);
                item = strjoin(NOTE_BEGIN("item/started") OF_TURN "\"item\":{\"type\":\"fileChange\",\"id\":\"f1\","
                               "\"changes\":[{\"path\":\"ok\",\"kind\":{\"type\":\"add\"}},{\"path\":\"", path,
                               "\",\"kind\":", kind, "}]}}}");
                stage_says(&s, item);
                stage_says(&s, NOTE_BEGIN("item/fileChange/requestApproval") OF_TURN "\"itemId\":\"f1\"},\"id\":1}");
                heard = stage_hears(&s);
                if (!streq_ptr(heard, t[i].accepted ? "{\"id\":1,\"result\":{\"decision\":\"accept\"}}" : NULL) ||
                    s.n_asks != !t[i].accepted)
                        fail_msg("'%s' %s: heard %s, %u questions", path, strempty(t[i].moved), strempty(heard),
                                 s.n_asks);
        }
        /* What nothing is known of is asked about. */
        for (size_t i = 0; i < 2; i++) {
                static const char *const items[] = { "[]", "\"all\"" };
                _cleanup_free_ char *item = NULL, *heard = NULL;
                _cleanup_(stage_end) Stage s;
                HarnessSetup setup = setup_of(NULL);

                setup.permission_mode = "acceptEdits";
                setup.working_directory = workspace;
                stage_begin(&s, &setup);
                begin_turn(&s, false);
                item = strjoin(NOTE_BEGIN("item/started") OF_TURN "\"item\":{\"type\":\"fileChange\",\"id\":\"f1\","
                               "\"changes\":", items[i], "}}}");
                stage_says(&s, item);
                stage_says(&s, NOTE_BEGIN("item/fileChange/requestApproval") OF_TURN "\"itemId\":\"f1\"},\"id\":1}");
                heard = stage_hears(&s);
                ASSERT_NULL(heard);
                ASSERT_EQ(s.n_asks, 1);
        }
        ASSERT_OK(directory_remove(root));
}

TEST(asks) {
        _cleanup_free_ char *yes = NULL, *no = NULL;

        STAGE(s, NULL);
        begin_turn(&s, false);
        stage_says(&s, ASK("7"));
        ASSERT_RECORD(&s, "ask exec_command {\"command\":\"touch x\",\"cwd\":\"/w\",\"reason\":\"May I?\"}\n");
        ASSERT_OK(harness_answer(s.harness, s.ask, true, NULL, NULL));
        yes = stage_hears(&s);
        ASSERT_STREQ(strempty(yes), "{\"id\":7,\"result\":{\"decision\":\"accept\"}}");
        stage_says(&s, NOTE("serverRequest/resolved", "\"requestId\":7"));
        ASSERT_ERROR(harness_answer(s.harness, s.ask, true, NULL, NULL), ENOENT);

        stage_says(&s, "{\"method\":\"mcpServer/elicitation/request\",\"id\":\"e\",\"params\":{\"threadId\":\"" THREAD
                       "\"," OF_TURN "\"serverName\":\"other\",\"message\":\"Allow?\",\"_meta\":{"
                       "\"codex_approval_kind\":\"mcp_tool_call\",\"tool_name\":\"do\",\"tool_params\":{\"a\":1}}}}");
        ASSERT_RECORD(&s, "ask mcp__other__do {\"a\":1}\n");
        ASSERT_OK(harness_answer(s.harness, s.ask, false, NULL, "no"));
        no = stage_hears(&s);
        ASSERT_STREQ(strempty(no),
                     "{\"id\":\"e\",\"result\":{\"action\":\"decline\",\"content\":null,\"_meta\":null}}");

        /* One that is withdrawn, and one that the end of the turn takes with it. */
        stage_says(&s, ASK("8"));
        stage_says(&s, NOTE("serverRequest/resolved", "\"requestId\":8"));
        stage_says(&s, ASK("9"));
        strbuf_done(&s.record);
        stage_says(&s, TURN_COMPLETED("completed"));
        ASSERT_RECORD(&s, "withdrawn d:9\ndone\n");
}

TEST(a_change_of_files_is_shown) {
        STAGE(s, NULL);
        begin_turn(&s, false);
        stage_says(&s, ITEM("started", "\"type\":\"fileChange\",\"id\":\"f1\",\"changes\":[{\"path\":\"/w/a\"}]"));
        strbuf_done(&s.record);
        stage_says(&s, "{\"method\":\"item/fileChange/requestApproval\",\"id\":1,\"params\":{\"threadId\":\"" THREAD
                       "\"," OF_TURN "\"itemId\":\"f1\",\"reason\":null,\"grantRoot\":null}}");
        ASSERT_RECORD(&s, "ask apply_patch {\"changes\":[{\"path\":\"/w/a\"}]}\n");
}

/* An answer to everything, or it waits for ever. */
TEST(requests_that_nobody_knows) {
        static const struct { const char *method, *reply; } t[] = {
                { "account/chatgptAuthTokens/refresh",
                  "{\"id\":3,\"error\":{\"code\":-32601,\"message\":\"method not supported\"}}" },
                { "item/permissions/requestApproval",
                  "{\"id\":3,\"error\":{\"code\":-32601,\"message\":\"method not supported\"}}" },
                { "item/tool/requestUserInput", "{\"id\":3,\"result\":{\"answers\":{}}}" },
                { "item/tool/call", "{\"id\":3,\"result\":{\"contentItems\":[],\"success\":false}}" },
                { "mcpServer/elicitation/request",
                  "{\"id\":3,\"result\":{\"action\":\"decline\",\"content\":null,\"_meta\":null}}" },
        };

        STAGE(s, NULL);
        begin_turn(&s, false);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *line = asprintf_new("{\"id\":3,\"method\":\"%s\",\"params\":{}}", t[i].method),
                                    *reply = NULL;

                stage_says(&s, line);
                reply = stage_hears(&s);
                ASSERT_STREQ(strempty(reply), t[i].reply);
        }
        ASSERT_RECORD(&s, "");
}

TEST_MAIN();
