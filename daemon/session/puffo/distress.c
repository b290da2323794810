/* SPDX-License-Identifier: MIT */

#include "account.h"
#include "crypto.h"
#include "distress.h"
#include "event-util.h"
#include "log.h"
#include "server-api.h"
#include "status-reporter.h"

struct Distress {
        sd_event *event;
        HttpClient *http;
        Identity *identity;
        ServerClient *client;
        char *text;
        ServerCall *call;
        sd_event_source *timer;
        bool has_failed;
};

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void arm(Distress *d, uint64_t delay) {
        int r = event_arm_timer(d->event, &d->timer, delay, delay / 4, on_timer, d);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
}

static void on_reply(ServerCall *call, const CallReply *reply, void *userdata) {
        Distress *d = userdata;

        /* The process before us has just said something else. */
        if (reply->failure == CALL_STATUS && reply->status == 429)
                arm(d, HEARTBEAT_PERIOD_MIN_USEC);
        else if (reply->failure != CALL_OK && !d->has_failed) {
                d->has_failed = true;
                log_warning("The agent's people cannot be told that it does not answer: %s", strempty(reply->error));
        }
        d->call = server_call_free(d->call);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Distress *d = userdata;
        int r = 0;

        arm(d, HEARTBEAT_PERIOD_USEC);
        if (!d->call)
                r = api_heartbeat(d->client, AGENT_STATUS_ERROR, NULL, d->text, on_reply, d, &d->call);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to report the status, ignoring: %m");
        return 0;
}

int distress_new(Distress **ret, sd_event *event, const SessionConfig *config, const char *error_text) {
        _cleanup_(distress_freep) Distress *d = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        if (!config->agent || isempty(config->agent->slug) || isempty(config->agent->server_url))
                return 0;
        d = new0(Distress, 1);
        if (!d)
                return -ENOMEM;
        d->event = event;
        d->text = strdup(error_text);
        if (!d->text)
                return -ENOMEM;
        r = crypto_init();
        if (r >= 0)
                r = http_client_new(&d->http, event);
        if (r >= 0)
                r = account_open(event, d->http, config, &d->identity, &d->client, &text);
        if (r >= 0)
                r = event_arm_timer(event, &d->timer, 0, USEC_PER_MSEC, on_timer, d);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                log_warning("The agent's people cannot be told that it does not answer: %s", text ?: strerror(-r));
                return 0;
        }
        *ret = TAKE_PTR(d);
        return 1;
}

Distress* distress_free(Distress *d) {
        if (!d)
                return NULL;
        (void) sd_event_source_disable_unref(d->timer);
        (void) server_call_free(d->call);
        (void) server_client_free(d->client);
        (void) identity_free(d->identity);
        (void) http_client_free(d->http);
        free(d->text);
        return mfree(d);
}
