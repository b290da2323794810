/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "turn-record.h"

/* Puts a turn into an agent's queue, or looks at one, and follows its events to the end, across restarts of puffod and
 * of the agent's session (responses-api §9.1). */
typedef struct TurnClient TurnClient;

typedef struct TurnClientSpec {
        const char *agent_path, *id;            /* copied */
        /* The a{sv} of Submit, for each attempt; NULL: the turn is known, only its stream is opened. */
        int (*append)(sd_bus_message *message, void *userdata);
        void (*on_open)(void *userdata);        /* once: the turn is the agent's now, and survives us */
        /* One event of the log. Return > 0 after the last one. */
        int (*on_event)(json_object *event, void *userdata);
        void (*on_reopened)(void *userdata);    /* what follows is from a stream opened anew, from its beginning */
        /* The stream cannot be had any more, but the turn has ended like this. */
        void (*on_record)(const TurnRecord *record, void *userdata);
        /* Given up. Before on_open the error is the answer to the call. */
        void (*on_failed)(const sd_bus_error *error, void *userdata);
        void *userdata;
} TurnClientSpec;

/* on_record, on_failed: nothing follows; they, and only they, may free the client. */
int turn_client_new(TurnClient **ret, sd_event *event, sd_bus *bus, const TurnClientSpec *spec);
TurnClient* turn_client_free(TurnClient *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(TurnClient*, turn_client_free);

/* While it is paused nothing is read from the stream: whoever reads the answer is behind. */
void turn_client_set_paused(TurnClient *c, bool paused);
bool turn_client_is_open(TurnClient *c);        /* on_open was called */
