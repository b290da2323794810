/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "approvals-bus"

/* What sessions say of requests for permission, and who is answered without asking them. */

#include "approvals-bus.h"
#include "unit-world.h"

typedef struct Seen {
        StrBuf signals;                 /* "Member id path state;" of each */
} Seen;

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *id, *path, *state = "";
        Seen *seen = userdata;

        if (sd_bus_message_is_signal(m, PUFFO_BUS_MANAGER_INTERFACE, NULL) <= 0 ||
            !startswith(sd_bus_message_get_member(m), "Approval"))
                return 0;
        ASSERT_OK(sd_bus_message_read(m, "so", &id, &path));
        if (sd_bus_message_is_signal(m, NULL, "ApprovalAnswered") > 0)
                ASSERT_OK(sd_bus_message_read(m, "s", &state));
        ASSERT_STREQ(path, PUFFO_BUS_AGENT_PREFIX "/rob");
        ASSERT_OK(strbuf_printf(&seen->signals, "%s %s %s;", sd_bus_message_get_member(m), id, state));
        return 0;
}

static int report(World *w, char **ids) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;

        ASSERT_OK(sd_bus_message_new_signal(w->systemd, &m, "/x", "x.y", "Z"));
        ASSERT_OK(sd_bus_message_open_container(m, 'v', "as"));
        ASSERT_OK(sd_bus_message_append_strv(m, ids));
        ASSERT_OK(sd_bus_message_close_container(m));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        return approvals_take_report(w->agent, m);
}

#define REPORT(w, ...) ASSERT_OK(report(w, (char*[]) { (char*) __VA_ARGS__ __VA_OPT__(,) NULL }))

static void assert_signals(World *w, Seen *seen, const char *expected) {
        run(w);
        ASSERT_STREQ(strempty(seen->signals.text), expected);
        strbuf_done(&seen->signals);
        seen->signals = (StrBuf) {};
}

TEST(each_request_is_made_known_once) {
        _cleanup_(world_done) World w;
        Seen seen = {};

        world_init(&w);
        run(&w);
        ASSERT_OK(sd_bus_add_filter(w.systemd, NULL, on_signal, &seen));
        REPORT(&w, "rob:aa");
        assert_signals(&w, &seen, "ApprovalRequested rob:aa ;");
        REPORT(&w, "rob:aa", (char*) "rob:bb", (char*) "rob:cc");
        assert_signals(&w, &seen, "ApprovalRequested rob:bb ;ApprovalRequested rob:cc ;");
        REPORT(&w, "rob:bb");
        assert_signals(&w, &seen, "");
        ASSERT_EQ(strv_length(w.agent->approvals), 1);
        ASSERT_OK(approval_ended(w.agent, "rob:aa", "denied"));
        assert_signals(&w, &seen, "ApprovalAnswered rob:aa denied;");
        ASSERT_OK(report(&w, (char*[]) { NULL }));
        ASSERT_EQ(strv_length(w.agent->approvals), 0);
}

/* A session that wants to be taken for another's, or fill the bus. */
TEST(what_sessions_say_is_checked) {
        static const char *const bad[] = {
                "", "x", "rob", "rob:", "robert:aa", "eve:aa", "rob:a b", "rob:../x", "rob:aa\n", "rob:AA", ":aa",
                "rob::aa",
        };
        _cleanup_free_ char *long_id = strjoin("rob:", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        _cleanup_(strv_freep) char **many = NULL;
        _cleanup_(world_done) World w;
        Seen seen = {};

        world_init(&w);
        run(&w);
        ASSERT_OK(sd_bus_add_filter(w.systemd, NULL, on_signal, &seen));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                REPORT(&w, bad[i]);
                ASSERT_ERROR(approval_ended(w.agent, bad[i], "allowed"), EINVAL);
        }
        REPORT(&w, long_id);
        ASSERT_EQ(strv_length(w.agent->approvals), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ASSERT_ERROR(approval_ended(w.agent, "rob:aa", bad[i]), EINVAL);
        ASSERT_ERROR(approval_ended(w.agent, "rob:aa", "pending"), EINVAL);
        assert_signals(&w, &seen, "");

        for (unsigned i = 0; i < 5000; i++) {
                _cleanup_free_ char *id = asprintf_new("rob:%u", i);

                ASSERT_OK(strv_extend(&many, id));
        }
        ASSERT_OK(report(&w, many));
        ASSERT_EQ(strv_length(w.agent->approvals), 256);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);

        return free_and_strdup(userdata, e ? e->name : "");
}

static void assert_approve(World *w, const char *id, const char *reason, const char *error) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *answer = NULL;

        ASSERT_OK(sd_bus_message_new_method_call(w->systemd, &m, NULL, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE,
                                                 "Approve"));
        ASSERT_OK(sd_bus_message_append(m, "sbs", id, true, reason));
        ASSERT_OK(sd_bus_call_async(w->systemd, NULL, m, on_answer, &answer, 0));
        run(w);
        ASSERT_STREQ(answer, error);
}

TEST(answers_that_nobody_is_asked_about) {
        _cleanup_free_ char *long_text = malloc(5001);
        _cleanup_(world_done) World w;

        memset(long_text, 'x', 5000);
        long_text[5000] = 0;
        world_init(&w);
        run(&w);
        assert_approve(&w, "", "", PUFFO_ERROR_NO_SUCH_APPROVAL);
        assert_approve(&w, "rob", "", PUFFO_ERROR_NO_SUCH_APPROVAL);
        assert_approve(&w, "eve:aa", "", PUFFO_ERROR_NO_SUCH_APPROVAL);
        assert_approve(&w, "rob:../aa", "", PUFFO_ERROR_NO_SUCH_APPROVAL);
        assert_approve(&w, long_text, "", PUFFO_ERROR_NO_SUCH_APPROVAL);
        assert_approve(&w, "rob:aa", long_text, PUFFO_ERROR_INVALID_ARGUMENT);
        w.agent->removing = true;
        assert_approve(&w, "rob:aa", "", PUFFO_ERROR_NO_SUCH_AGENT);
}

TEST(a_session_that_waits_is_busy) {
        ASSERT_EQ(agent_state_derive("active", "running", AGENT_WAITING_APPROVAL, true), AGENT_BUSY);
}

TEST_MAIN();
