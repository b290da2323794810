/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* Tells when the machine resumes from suspend or somebody sets its clock: the two moments at which connections are
 * likely dead and times worth another look. Costs nothing in between. */
typedef struct ClockWatch ClockWatch;

int clock_watch_new(ClockWatch **ret, sd_event *event, void (*on_change)(void *userdata), void *userdata);
ClockWatch* clock_watch_free(ClockWatch *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(ClockWatch*, clock_watch_free);
