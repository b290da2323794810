/* SPDX-License-Identifier: MIT */

/* How the manager agent has others work for it: puffod, which alone knows who asks, makes agents and passes questions
 * on. Whoever is asked has no such tools, so that a question never comes back. */

#include <fcntl.h>
#include <sodium.h>

#include "bus-util.h"
#include "event-util.h"
#include "line-reader.h"
#include "log.h"
#include "manager-link.h"
#include "tool-internal.h"

#define PUFFOD_GONE "the agents cannot be reached at the moment; try again in a minute"
/* Above the longest start_timeout that there can be. */
#define HIRE_TIMEOUT_USEC (90 * USEC_PER_SEC)
/* puffod keeps a question for a minute while the other one is started again. */
#define SUBMIT_TIMEOUT_USEC (90 * USEC_PER_SEC)
/* Below the silence after which a turn is ended (task_timeout_seconds, 30 minutes), which this is part of. */
#define ASK_TIMEOUT_USEC (25 * 60 * USEC_PER_SEC)
/* For the answer of one that has ended meanwhile. */
#define ASK_REST_USEC (10 * USEC_PER_SEC)
#define RETRY_USEC_MIN (250 * USEC_PER_MSEC)
#define RETRY_USEC_MAX (4 * USEC_PER_SEC)
#define ASKS_MAX 8U
#define QUESTION_MAX MIB(1)
/* An event carries the whole of a message. */
#define EVENT_MAX MIB(16)

static int new_call(ToolCall *c, const char *member, sd_bus_message **ret) {
        ManagerLink *link = c->box->get_link(c->box->userdata);

        return link ? manager_link_new_call(link, member, ret) : -ENOTCONN;
}

static bool was_lost(const sd_bus_error *e) {
        return sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED, "System.Error.ECONNRESET",
                                      "System.Error.ENOTCONN", "System.Error.ECONNABORTED");
}

/* --- hire_agent --- */

static void hire_free(void *state) {
        sd_bus_slot_unref(state);
}

static int on_hired(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        _cleanup_free_ char *id = NULL;
        ToolCall *c = userdata;
        const char *path;
        uint32_t pid;
        int r, created;

        if (e)
                return tool_fail(c, "%s", was_lost(e) ? PUFFOD_GONE : e->message ?: e->name);
        r = sd_bus_message_read(m, "oub", &path, &pid, &created);
        if (r >= 0)
                r = sd_bus_path_decode(path, PUFFO_BUS_AGENT_PREFIX, &id);
        if (r <= 0)
                return tool_fail_errno(c, r < 0 ? r : -EBADMSG);
        return tool_succeed(c, strjoin(id, created ? " is new" : " was there already",
                                       pid > 0 ? " and ready; ask_agent(\"" : ", but is not able to work yet; "
                                                 "try later whether it answers: ask_agent(\"",
                                       id, "\", …) gives it work."));
}

int tool_hire_agent(ToolCall *c) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *role = NULL, *name = NULL;
        sd_bus_slot *slot;
        int r;

        r = tool_trimmed(c, "role", &role);
        if (r >= 0)
                r = tool_trimmed(c, "name", &name);
        if (r >= 0)
                r = new_call(c, "HireAgent", &m);
        if (r >= 0)
                r = bus_append_text(m, role);
        if (r >= 0)
                r = bus_append_text(m, name);
        if (r >= 0)
                r = manager_link_call(c->box->get_link(c->box->userdata), m, on_hired, c, HIRE_TIMEOUT_USEC, &slot);
        if (r == -ENOTCONN)
                return tool_fail(c, PUFFOD_GONE);
        if (r < 0)
                return r;
        c->state = slot;
        c->state_free = hire_free;
        return 0;
}

/* --- ask_agent --- */

typedef struct Ask {
        ToolCall *call;
        char *agent, *turn, *text;
        char *answer;                   /* the last message of the turn so far */
        LineReader *reader;             /* of the turn's events; NULL: they have not begun, or broke off */
        sd_bus_slot *submitting;
        sd_event_source *retry, *deadline;
        unsigned n_retries;             /* since something was heard */
        bool ended;
} Ask;

static int ask_submit(Ask *a);

/* What was begun for a call that nobody waits for any more is not carried on with, unless whoever called will be back.
 */
static void ask_interrupt(Ask *a) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = new_call(a->call, "InterruptAsked", &m);
        if (r >= 0)
                r = bus_append_text(m, a->agent);
        if (r >= 0)
                r = bus_append_text(m, a->turn);
        if (r >= 0)
                r = manager_link_call(a->call->box->get_link(a->call->box->userdata), m, NULL, NULL, 0, NULL);
        if (r < 0)
                (void) log_warning_errno(r, "What '%s' was asked could not be interrupted: %m", a->agent);
}

static void ask_free(void *state) {
        Ask *a = state;

        if (!a->ended && !a->call->box->leaving)
                ask_interrupt(a);
        a->call->box->n_asks--;
        line_reader_free(a->reader);
        sd_bus_slot_unref(a->submitting);
        sd_event_source_disable_unref(a->retry);
        sd_event_source_disable_unref(a->deadline);
        free(a->agent);
        free(a->turn);
        free(a->text);
        free(a->answer);
        free(a);
}

static int ask_fail(Ask *a, const char *reason) {
        a->ended = true;
        return tool_fail(a->call, "%s: %s", a->agent, reason);
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Ask *a = userdata;
        int r = ask_submit(a);

        if (r < 0)
                (void) ask_fail(a, strerror(-r));
        return 0;
}

/* Under the same id, with which the other one goes on, or has ended already. */
static void ask_again(Ask *a) {
        uint64_t delay = MIN(RETRY_USEC_MIN << MIN(a->n_retries++, 8U), RETRY_USEC_MAX);
        int r;

        a->reader = line_reader_free(a->reader);
        a->submitting = sd_bus_slot_unref(a->submitting);
        r = event_arm_timer(a->call->box->event, &a->retry, delay, USEC_PER_MSEC, on_retry, a);
        if (r < 0)
                (void) ask_fail(a, strerror(-r));
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        return ask_fail(userdata, "has not answered within 25 minutes. It is still at it; ask it later what has come "
                                  "of it");
}

/* It has been waited for since it was asked first, which may have been by a session before this one. */
static int heed_age(Ask *a, int64_t created_usec) {
        int64_t rest = created_usec + (int64_t) ASK_TIMEOUT_USEC - (int64_t) now_realtime_usec();

        if (created_usec <= 0)
                return 0;
        return event_arm_timer(a->call->box->event, &a->deadline,
                               (uint64_t) CLAMP(rest, (int64_t) ASK_REST_USEC, (int64_t) ASK_TIMEOUT_USEC),
                               USEC_PER_SEC, on_deadline, a);
}

static int take_event(Ask *a, const char *line, size_t size) {
        _cleanup_json_ json_object *event = NULL;
        const char *type, *text;
        int r;

        r = json_parse(line, size, &event);
        if (r < 0)
                return r;
        type = strempty(json_get_string(event, "type"));
        text = json_get_string(event, "text");
        a->n_retries = 0;

        if (streq(type, "queued"))
                return heed_age(a, json_get_int(event, "created_at", 0));
        if (streq(type, "restarted"))
                a->answer = mfree(a->answer);
        else if (streq(type, "message_done") && !isempty(text))
                return free_and_strdup(&a->answer, text);
        else if (streq(type, "completed")) {
                a->ended = true;
                return tool_succeed(a->call, a->answer ? TAKE_PTR(a->answer) : strdup("(It has said nothing.)"));
        } else if (streq(type, "incomplete")) {
                a->ended = true;
                text = json_get_string(event, "reason");
                return tool_fail(a->call, "%s did not come to an end (%s)%s%s", a->agent, text ?: "unknown",
                                 a->answer ? "; it has said so far: " : "", strempty(a->answer));
        } else if (streq(type, "failed"))
                return ask_fail(a, json_get_string(json_get(event, "error"), "message") ?: "the turn failed");
        return 0;
}

static int on_line(LineReader *l, const char *line, size_t size, LineEnd end, void *userdata) {
        Ask *a = userdata;

        if (end == LINE_CUT || a->ended)
                return 0;
        return end == LINE_TOO_LONG ? -EMSGSIZE : take_event(a, line, size);
}

static void on_end(LineReader *l, int error, void *userdata) {
        Ask *a = userdata;

        a->reader = line_reader_free(a->reader);
        if (a->ended)
                return;
        if (error < 0)
                (void) ask_fail(a, error == -ENOMEM ? "out of memory" : "its answer cannot be read");
        else if (!a->submitting)
                ask_again(a);
}

static int on_submitted(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Ask *a = userdata;

        a->submitting = sd_bus_slot_unref(a->submitting);
        if (a->ended)
                return 0;
        if (!e) {
                if (!a->reader)
                        ask_again(a);
                return 0;
        }
        if (was_lost(e))
                ask_again(a);
        else
                (void) ask_fail(a, sd_bus_error_has_name(e, PUFFO_ERROR_STREAM_GONE)
                                           ? "has answered this before, and the answer is gone; ask again"
                                           : e->message ?: e->name);
        return 0;
}

static int ask_submit(Ask *a) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_close_ int reader = -EBADF, writer = -EBADF;
        ToolBox *b = a->call->box;
        int fds[2], r;

        r = new_call(a->call, "AskAgent", &m);
        if (r == -ENOTCONN) {
                ask_again(a);
                return 0;
        }
        if (r < 0)
                return r;
        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        reader = fds[0];
        writer = fds[1];
        r = line_reader_new(&a->reader, b->event, TAKE_FD(reader), EVENT_MAX, &(LineHandler) {
                .on_line = on_line, .on_end = on_end, .userdata = a,
        });
        if (r >= 0)
                r = bus_append_text(m, a->agent);
        if (r >= 0)
                r = bus_append_text(m, a->turn);
        if (r >= 0)
                r = bus_append_text(m, a->text);
        if (r >= 0)
                r = sd_bus_message_append(m, "h", writer);
        return r < 0 ? r : manager_link_call(b->get_link(b->userdata), m, on_submitted, a, SUBMIT_TIMEOUT_USEC,
                                             &a->submitting);
}

/* The same for a call that is made again after a crash: it is the same question, and asked once. */
static char* turn_id(const char *key) {
        _cleanup_free_ char *name = NULL;
        uint8_t hash[16];
        char hex[2 * sizeof(hash) + 1];

        if (isempty(key))
                name = random_hex(sizeof(hash));
        else {
                (void) crypto_generichash(hash, sizeof(hash), (const uint8_t*) key, strlen(key), NULL, 0);
                name = strdup(sodium_bin2hex(hex, sizeof(hex), hash, sizeof(hash)));
        }
        return name ? strjoin("ask-", name) : NULL;
}

int tool_ask_agent(ToolCall *c) {
        const char *text = tool_string(c, "text");
        Ask *a;
        int r;

        if (text[strspn(text, " \t\r\n")] == 0)
                return tool_fail(c, "there is nothing in text");
        if (strlen(text) > QUESTION_MAX)
                return tool_fail(c, "text is longer than 1 MiB; put it into a file");
        if (c->box->n_asks >= ASKS_MAX)
                return tool_fail(c, "%u agents are being asked already; wait for one of them", ASKS_MAX);

        a = new0(Ask, 1);
        if (!a)
                return -ENOMEM;
        a->call = c;
        a->ended = true;        /* nothing has begun yet */
        c->box->n_asks++;
        c->state = a;
        c->state_free = ask_free;
        a->turn = turn_id(c->key);
        a->text = strdup(text);
        r = tool_trimmed(c, "agent", &a->agent);
        if (r >= 0 && (!a->turn || !a->text))
                r = -ENOMEM;
        if (r >= 0)
                r = event_arm_timer(c->box->event, &a->deadline, ASK_TIMEOUT_USEC, USEC_PER_SEC, on_deadline, a);
        if (r < 0)
                return r;
        a->ended = false;
        return ask_submit(a);
}
