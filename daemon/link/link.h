/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* The network of the sessions of a service manager: takes their connections and does what they ask for (exchange.h).
 * Each session has connections to servers of its own, and so many exchanges at a time and no more: what one does is
 * never another's answer, nor its end. Ends the loop when there has been no session for a while. */
typedef struct Link Link;

#define LINK_EXCHANGES_MAX 256U

/* Owns fd, which is listening, from here on, also when it fails. */
int link_new(Link **ret, sd_event *event, int fd, uint64_t idle_usec);
Link* link_free(Link *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(Link*, link_free);
