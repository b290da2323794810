/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* One asynchronous method call to puffod that survives its restart: while the name has no owner, or the reply got
 * lost, the call is repeated. All of the API's methods may be (they are idempotent or carry an id of the caller's). */
typedef struct BusCall BusCall;

typedef struct BusCallSpec {
        const char *path, *interface, *member;
        int (*append)(sd_bus_message *message, void *userdata);         /* the arguments; NULL: none */
        /* Called once, from the loop: with a reply or with an error. May free the call. */
        void (*done)(sd_bus_message *reply, const sd_bus_error *error, void *userdata);
        void *userdata;
        uint64_t timeout_usec;          /* of each attempt; 0: the bus's own */
        uint64_t retry_usec;            /* how long to go on trying; 0: 5 s */
} BusCallSpec;

/* Sends it; the path is copied, what else spec names is borrowed until done is called. -ENOMEM, errors of sending. */
int bus_call_start(BusCall **ret, sd_event *event, sd_bus *bus, const BusCallSpec *spec);
/* Gives up waiting; what was sent already may still happen. */
BusCall* bus_call_free(BusCall *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(BusCall*, bus_call_free);

/* The error means that nobody was there to answer. */
bool bus_error_is_transient(const sd_bus_error *error);
