/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>

#include "http-client.h"

/* One connection of a client of the link's: it says what it wants (daemon/net/link-wire.h), that is done, and it is
 * told what came of it. What waits for one side because the other does not read is bounded; then we do not read
 * either. */
typedef struct Exchange Exchange;

typedef struct ExchangeSpec {
        sd_event *event;
        HttpClient *http;               /* borrowed; outlives the exchange */
        /* It is over: the one thing that may be done is to free it, now or later. */
        void (*on_end)(Exchange *x, void *userdata);
        void *userdata;
} ExchangeSpec;

/* Owns fd from here on, also when it fails. */
int exchange_new(Exchange **ret, const ExchangeSpec *spec, int fd);
/* Cancels what is under way. */
Exchange* exchange_free(Exchange *x);
DEFINE_TRIVIAL_CLEANUP_FUNC(Exchange*, exchange_free);
