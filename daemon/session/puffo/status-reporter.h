/* SPDX-License-Identifier: MIT */
#pragma once

#include "server-client.h"

/* Tells the server what the agent is doing (message-pipeline §14): a heartbeat while the stream is connected, and each
 * turn's begin and end, in their order. All of it is best effort: what fails is logged and forgotten. */
typedef struct StatusReporter StatusReporter;

#define HEARTBEAT_PERIOD_USEC (60 * USEC_PER_SEC)
#define HEARTBEAT_PERIOD_MIN_USEC (10 * USEC_PER_SEC)

/* Ids that begin like this are ours and no message's: the server never sees them. */
#define SYNTHETIC_ID_PREFIX "intro-prompt-"

/* client is borrowed. */
int status_reporter_new(StatusReporter **ret, sd_event *event, ServerClient *client);
StatusReporter* status_reporter_free(StatusReporter *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(StatusReporter*, status_reporter_free);

/* 0: the usual one. Shorter ones than the least become that. */
void status_reporter_set_period(StatusReporter *s, uint64_t period_usec);
/* Heartbeats go at once and then on until it is false. A crash is over when the stream is there. */
void status_reporter_set_connected(StatusReporter *s, bool connected);

/* A turn begins with this message as the first of its batch. */
void status_reporter_begin(StatusReporter *s, const char *envelope_id);

typedef struct StatusRun {
        const char *envelope_id;
        const char *error_text;         /* NULL: it succeeded */
} StatusRun;
/* … and ends with all of its messages. */
void status_reporter_end(StatusReporter *s, const StatusRun *runs, size_t n_runs);

/* No begin or end is on its way or waits. */
bool status_reporter_is_settled(const StatusReporter *s);
/* Called whenever that has become true. */
void status_reporter_set_settled_handler(StatusReporter *s, void (*on_settled)(void *userdata), void *userdata);

/* Listening has failed altogether, until it is connected anew or has recovered. Either may be said as often as it is
 * true. */
void status_reporter_crashed(StatusReporter *s, const char *error_text);
void status_reporter_recovered(StatusReporter *s);
