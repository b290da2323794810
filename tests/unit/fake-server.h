/* SPDX-License-Identifier: MIT */
#pragma once

/* A Puffo server that is no server: link with fake_server, and every signed call ends up here, waits, and gets the
 * answer that the test has for it. Clocks and timers are the test's as well: boottime stands still until it is moved,
 * timers go off one by one when the test says so. */

#include <systemd/sd-event.h>

#include "event-util.h"
#include "server-client.h"
#include "string-util.h"
#include "tests.h"

#define FAKE_CALLS_MAX 256U
#define FAKE_TIMERS_MAX 256U

typedef struct FakeCall {
        char *line;                     /* "GET /spaces" */
        char *body;
        CallSpec spec;
        bool is_answered, is_freed;
} FakeCall;

static struct {
        FakeCall *calls[FAKE_CALLS_MAX];
        size_t n_calls;
        int start_error;
        uint64_t now_usec, last_delay_usec, last_accuracy_usec;
        unsigned n_timers;              /* so often was one armed */
        struct {
                sd_event_source *source;        /* a reference */
                uint64_t due_usec;
        } timers[FAKE_TIMERS_MAX];
        size_t n_sources;
        const SessionKey *subkey;
        Identity *identity;
        struct SubkeyWait {
                void (*on_ready)(const CallReply *reply, void *userdata);
                void *userdata;
                bool is_waiting;
        } wait, more_waits[7];          /* wait: the first one, and most often the only one */
} fake = { .now_usec = 3600 * USEC_PER_SEC };

int __wrap_server_call_start(ServerClient *c, const CallSpec *spec, ServerCall **ret);
ServerCall* __wrap_server_call_free(ServerCall *call);
uint64_t __wrap_now_boottime_usec(void);
int __wrap_event_arm_timer(sd_event *event, sd_event_source **s, uint64_t delay_usec, uint64_t accuracy_usec,
                           sd_event_time_handler_t callback, void *userdata);
const SessionKey* __wrap_server_client_subkey(const ServerClient *c);
const Identity* __wrap_server_client_identity(const ServerClient *c);
int __wrap_subkey_wait_new(SubkeyWait **ret, ServerClient *c, const char *refused,
                           void (*on_ready)(const CallReply *reply, void *userdata), void *userdata);
SubkeyWait* __wrap_subkey_wait_free(SubkeyWait *w);

int __wrap_server_call_start(ServerClient *c, const CallSpec *spec, ServerCall **ret) {
        FakeCall *call;

        if (fake.start_error < 0)
                return fake.start_error;
        assert_in_range(fake.n_calls, 0, FAKE_CALLS_MAX - 1);
        call = new0(FakeCall, 1);
        call->line = strjoin(spec->method ?: spec->body ? "POST" : "GET", " ", spec->path);
        call->body = spec->body ? memdup0(spec->body, spec->body_size) : NULL;
        call->spec = *spec;
        fake.calls[fake.n_calls++] = call;
        *ret = (ServerCall*) call;
        return 0;
}

ServerCall* __wrap_server_call_free(ServerCall *call) {
        if (call)
                ((FakeCall*) call)->is_freed = true;
        return NULL;
}

uint64_t __wrap_now_boottime_usec(void) {
        return fake.now_usec;
}

int __wrap_event_arm_timer(sd_event *event, sd_event_source **s, uint64_t delay_usec, uint64_t accuracy_usec,
                           sd_event_time_handler_t callback, void *userdata) {
        size_t i = 0;

        fake.last_delay_usec = delay_usec;
        fake.last_accuracy_usec = accuracy_usec;
        fake.n_timers++;
        if (!*s) {
                ASSERT_OK(sd_event_add_time(event, s, CLOCK_BOOTTIME, USEC_INFINITY, 0, callback, userdata));
                assert_in_range(fake.n_sources, 0, FAKE_TIMERS_MAX - 1);
                fake.timers[fake.n_sources++].source = sd_event_source_ref(*s);
        }
        while (fake.timers[i].source != *s)
                assert_in_range(++i, 0, fake.n_sources - 1);
        fake.timers[i].due_usec = fake.now_usec + delay_usec;
        ASSERT_OK(sd_event_source_set_time(*s, USEC_INFINITY));
        return sd_event_source_set_enabled(*s, SD_EVENT_ONESHOT);
}

const SessionKey* __wrap_server_client_subkey(const ServerClient *c) {
        return fake.subkey;
}

const Identity* __wrap_server_client_identity(const ServerClient *c) {
        return fake.identity;
}

int __wrap_subkey_wait_new(SubkeyWait **ret, ServerClient *c, const char *refused,
                           void (*on_ready)(const CallReply *reply, void *userdata), void *userdata) {
        struct SubkeyWait *w = &fake.wait;

        for (size_t i = 0; w->is_waiting; i++) {
                assert_in_range(i, 0, ELEMENTSOF(fake.more_waits) - 1);
                w = fake.more_waits + i;
        }
        *w = (struct SubkeyWait) { on_ready, userdata, true };
        *ret = (SubkeyWait*) w;
        return 0;
}

SubkeyWait* __wrap_subkey_wait_free(SubkeyWait *w) {
        if (w)
                w->is_waiting = false;
        return NULL;
}

#define FAKE_CLIENT ((ServerClient*) &fake)

/* The oldest call of this "METHOD /path" that waits for an answer, or NULL. */
static inline FakeCall* fake_waiting(const char *line) {
        for (size_t i = 0; i < fake.n_calls; i++)
                if (!fake.calls[i]->is_answered && !fake.calls[i]->is_freed && streq(fake.calls[i]->line, line))
                        return fake.calls[i];
        return NULL;
}

/* The oldest one that waits, of any line; "" when nothing does. */
static inline const char* fake_next(void) {
        for (size_t i = 0; i < fake.n_calls; i++)
                if (!fake.calls[i]->is_answered && !fake.calls[i]->is_freed)
                        return fake.calls[i]->line;
        return "";
}

static inline size_t fake_count(const char *line) {
        size_t n = 0;

        for (size_t i = 0; i < fake.n_calls; i++)
                n += streq(fake.calls[i]->line, line);
        return n;
}

/* Gives the call its end, as the real client would read it. status 0: the network failed. body NULL: none. */
_unused_ static void fake_answer_bytes(const char *line, long status, const char *body, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *document = NULL;
        FakeCall *call = fake_waiting(line);
        CallReply reply = { .status = status, .body = body, .body_size = size };

        if (!call)
                fail_msg("Nobody has called %s, but %s", line, fake_next());
        if (status == 0)
                reply = (CallReply) { .failure = CALL_NETWORK, .error = "Connection refused" };
        else if (status / 100 != 2)
                reply = (CallReply) { .failure = CALL_STATUS, .status = status, .error = "HTTP 4xx: raw words" };
        else if (!call->spec.raw && size > 0 && signed_document_parse(&document, body, size) < 0)
                reply.failure = CALL_PROTOCOL;
        else if (document)
                reply.json = signed_document_root(document);
        call->is_answered = true;
        call->spec.on_done((ServerCall*) call, &reply, call->spec.userdata);
}

_unused_ static void fake_answer(const char *line, long status, const char *body) {
        fake_answer_bytes(line, status, body, strlen(strempty(body)));
}

_unused_ static void fake_subkey_is_ready(CallFailure failure) {
        CallReply reply = { .failure = failure, .error = failure == CALL_OK ? NULL : "no key" };

        ASSERT_TRUE(fake.wait.is_waiting);
        fake.wait.is_waiting = false;
        fake.wait.on_ready(&reply, fake.wait.userdata);
        for (size_t i = 0; i < ELEMENTSOF(fake.more_waits); i++)
                if (fake.more_waits[i].is_waiting) {
                        fake.more_waits[i].is_waiting = false;
                        fake.more_waits[i].on_ready(&reply, fake.more_waits[i].userdata);
                }
}

/* At the end of a test: every call was freed by who made it. */
static inline void fake_done(void) {
        for (size_t i = 0; i < fake.n_calls; i++) {
                FakeCall *call = fake.calls[i];

                if (!call->is_freed)
                        fail_msg("%s is left over", call->line);
                free(call->line);
                free(call->body);
                free(call);
        }
        for (size_t i = 0; i < fake.n_sources; i++)
                sd_event_source_unref(fake.timers[i].source);
        fake.n_sources = 0;
        fake.n_calls = 0;
        fake.start_error = 0;
        fake.n_timers = 0;
        ASSERT_FALSE(fake.wait.is_waiting);
}

/* Runs the loop while there is something to do at once. */
static inline void fake_run(sd_event *event) {
        while (ASSERT_OK(sd_event_run(event, 0)) > 0)
                ;
}

/* Time goes on until the next timer goes off. False when none is armed. */
_unused_ static bool fake_pass(sd_event *event) {
        size_t first = FAKE_TIMERS_MAX;

        for (size_t i = 0; i < fake.n_sources; i++) {
                int enabled;

                ASSERT_OK(sd_event_source_get_enabled(fake.timers[i].source, &enabled));
                if (enabled != SD_EVENT_OFF &&
                    (first == FAKE_TIMERS_MAX || fake.timers[i].due_usec < fake.timers[first].due_usec))
                        first = i;
        }
        if (first == FAKE_TIMERS_MAX)
                return false;
        fake.now_usec = MAX(fake.now_usec, fake.timers[first].due_usec);
        ASSERT_OK(sd_event_source_set_time(fake.timers[first].source, 0));
        fake_run(event);
        return true;
}
