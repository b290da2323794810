/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* The reading end of a turn's event stream: JSON objects, one a line. */
typedef struct TurnStream TurnStream;

typedef struct TurnStreamSpec {
        /* One event, borrowed. May pause, but not free the stream. Return > 0 when no more is wanted: on_end is not
         * called then. */
        int (*on_event)(json_object *event, void *userdata);
        /* The writer closed (error 0), or what came is no event stream (-EBADMSG, -EMSGSIZE) or cannot be read. May
         * free the stream. */
        void (*on_end)(int error, void *userdata);
        void *userdata;
} TurnStreamSpec;

/* fd is taken over, on failure too. */
int turn_stream_new(TurnStream **ret, sd_event *event, int fd, const TurnStreamSpec *spec);
TurnStream* turn_stream_free(TurnStream *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(TurnStream*, turn_stream_free);
/* Stops and starts reading: whoever shows the events to a slow client must not collect them meanwhile. */
int turn_stream_set_paused(TurnStream *s, bool paused);
