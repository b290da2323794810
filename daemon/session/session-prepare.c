/* SPDX-License-Identifier: MIT */

/* The agent's CLI is made ready when somebody asks for the agent by name (agent-proxy §6). One that cannot be is
 * tried again after growing pauses (agent-runtime §19). */

#include "event-util.h"
#include "log.h"
#include "session-internal.h"

#define RETRY_MIN_USEC (10 * USEC_PER_SEC)
#define RETRY_MAX_USEC (600 * USEC_PER_SEC)
#define RETRY_TIMEOUT_USEC (30 * USEC_PER_SEC)

static int prepare_again(Session *s) {
        int r = hands_prepare(s->hands, RETRY_TIMEOUT_USEC);

        s->preparing = r > 0;
        session_update(s);
        return r;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata) {
        Session *s = userdata;
        int r;

        if (!s->unready || s->preparing || s->stopping || s->fault)
                return 0;
        r = prepare_again(s);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to make the CLI ready: %m");
        return 0;
}

static void stop_retrying(Session *s) {
        s->unready = mfree(s->unready);
        s->prepare_pause_usec = 0;
        if (s->prepare)
                (void) sd_event_source_set_enabled(s->prepare, SD_EVENT_OFF);
}

void session_hands_prepared(const char *fault, void *userdata) {
        Session *s = userdata;
        int r;

        if (!fault && !s->preparing && !s->unready)
                return;
        s->preparing = false;
        if (!fault)
                stop_retrying(s);
        else {
                /* A fault of the configuration has a place of its own, and ends with that. */
                r = s->fault ? 0 : free_and_strdup(&s->unready, fault);
                log_warning("The agent's CLI could not be made ready: %s", fault);
                s->prepare_pause_usec = CLAMP(s->prepare_pause_usec * 2, RETRY_MIN_USEC, RETRY_MAX_USEC);
                if (r >= 0)
                        r = event_arm_timer(s->event, &s->prepare, s->prepare_pause_usec, USEC_PER_SEC, on_retry, s);
                if (r < 0)
                        (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
        }
        /* Who waits is to find what it is told in the report, too. */
        session_refresh(s);
        if (s->link)
                manager_link_report_now(s->link);
        if (s->on_prepared)
                s->on_prepared(fault, s->on_prepared_userdata);
}

void session_prepare_configured(Session *s, const SessionConfig *c) {
        int r;

        if (!s->unready || s->stopping)
                return;
        if (s->fault || !hands_can_prepare(c)) {
                stop_retrying(s);
                session_update(s);
                return;
        }
        r = prepare_again(s);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to make the CLI ready: %m");
}

void session_on_prepared(Session *s, void (*on_prepared)(const char *fault, void *userdata), void *userdata) {
        s->on_prepared = on_prepared;
        s->on_prepared_userdata = userdata;
}

int session_prepare(Session *s, uint64_t timeout_usec, char **ret_fault) {
        _cleanup_(session_config_freep) SessionConfig *c = NULL;
        int r;

        *ret_fault = NULL;
        if (!s->hands || s->stopping || s->fault) {
                *ret_fault = strdup(session_status_text(s));
                return *ret_fault ? 0 : -ENOMEM;
        }
        r = session_config_load(&c, s->id, s->directory, s->agent);
        if (r < 0 || !hands_can_prepare(c))
                return MIN(r, 0);
        r = hands_prepare(s->hands, timeout_usec);
        if (r > 0 && !s->preparing) {
                s->preparing = true;
                session_refresh(s);
        }
        return r;
}
