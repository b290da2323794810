/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "json-util.h"
#include "macro.h"

/* The events of one turn, one JSON object a line, and those who read along. A reader is the writing end of a pipe or
 * socket with a position in the log: it may come at any time, starts from the first event, and one that reads slowly
 * costs nothing but its descriptor. */
typedef struct EventLog EventLog;

int event_log_new(EventLog **ret, sd_event *event);
/* Closes all readers, whatever they have read. */
EventLog* event_log_free(EventLog *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(EventLog*, event_log_free);

/* Appends an event; members (an object or NULL) is taken over, "seq" and "type" are put in front. -ENOMEM. */
int event_log_append(EventLog *l, const char *type, json_object *members);
/* Same; nothing comes after it: readers are closed when they have everything. */
int event_log_finish(EventLog *l, const char *type, json_object *members);

/* The end without a final event. */
void event_log_close(EventLog *l);

/* Adds a reader; fd is taken over in any case. -EINVAL: neither a pipe nor a socket; -EBUSY: too many of them. */
int event_log_subscribe(EventLog *l, int fd);

/* Bytes of all events so far, and who reads them now. */
size_t event_log_size(EventLog *l);
unsigned event_log_n_readers(EventLog *l);
/* Called from the event loop when the last reader of a finished log has gone. */
void event_log_on_drained(EventLog *l, void (*callback)(void *userdata), void *userdata);
