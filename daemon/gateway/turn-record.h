/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "macro.h"

/* What Agent.GetTurn tells of a turn. */
typedef struct TurnMessage {
        char *item, *text;
        bool complete;
} TurnMessage;

typedef struct TurnRecord {
        char *status;           /* queued, running, completed, incomplete, cancelled, failed */
        char *conversation, *error_code, *error_message, *reason;
        json_object *document;  /* ours, as given to Submit; NULL for turns that did not come through the gateway */
        json_object *usage;     /* in the form of the stream's; NULL: unknown */
        TurnMessage *messages;
        size_t n_messages;
        uint64_t created_usec, ended_usec;
} TurnRecord;

void turn_record_done(TurnRecord *t);
/* Reads the reply. -EBADMSG when the document is none of ours. */
int turn_record_read(sd_bus_message *reply, TurnRecord *ret);
bool turn_record_is_running(const TurnRecord *t);
