/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* The _unrefp() helpers come with sd-event.h. */
#define _cleanup_event_source_ _cleanup_(sd_event_source_disable_unrefp)

/* The default loop with SIGTERM and SIGINT ending it (exit code 0), SIGPIPE ignored and, where the manager asks for
 * it, the watchdog fed by the loop itself. */
int event_new(sd_event **ret);
/* The same for programs that have something to do before they end: on_stop is called on SIGTERM and SIGINT instead. */
int event_new_with_stop(sd_event **ret, sd_event_signal_handler_t on_stop, void *userdata);

/* (Re-)arms a one-shot timer relative to now on CLOCK_BOOTTIME; *s is made when NULL. accuracy_usec 0 means 250 ms of
 * slack: right for back-off, wrong for I/O (pass 1). */
int event_arm_timer(sd_event *event, sd_event_source **s, uint64_t delay_usec, uint64_t accuracy_usec,
                    sd_event_time_handler_t callback, void *userdata);

/* For a listening socket to which whoever runs as the same user may connect as often as he likes: a thousand a second,
 * one by one, and the loop has time for everything else. */
int event_limit_connections(sd_event_source *io);
/* Whether accept4() has failed for want of something that others may give back (descriptors, memory): what waits to be
 * accepted would wake us again at once. */
bool errno_is_shortage(int error);
/* What event_pause() needs, made while there is enough of everything. To be freed before io. */
int event_pause_new(sd_event_source *io, sd_event_source **ret);
/* Does not look at io for so long. */
int event_pause(sd_event_source *io, sd_event_source *pause, uint64_t usec);

/* The wall clock, which may be set; and the one that only goes on, also while the machine sleeps. */
uint64_t now_realtime_usec(void);
int64_t now_realtime_ms(void);        /* as times stand in Puffo's protocol */
uint64_t now_boottime_usec(void);
