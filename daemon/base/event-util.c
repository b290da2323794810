/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <time.h>

#include "event-util.h"

int event_new(sd_event **ret) {
        return event_new_with_stop(ret, NULL, NULL);
}

int event_new_with_stop(sd_event **ret, sd_event_signal_handler_t on_stop, void *userdata) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        sigset_t mask;
        int r;

        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return -errno;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGTERM);
        (void) sigaddset(&mask, SIGINT);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;

        r = sd_event_default(&event);
        if (r < 0)
                return r;
        r = sd_event_add_signal(event, NULL, SIGTERM, on_stop, userdata);
        if (r < 0)
                return r;
        r = sd_event_add_signal(event, NULL, SIGINT, on_stop, userdata);
        if (r < 0)
                return r;
        r = sd_event_set_watchdog(event, true);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(event);
        return 0;
}

int event_arm_timer(sd_event *event, sd_event_source **s, uint64_t delay_usec, uint64_t accuracy_usec,
                    sd_event_time_handler_t callback, void *userdata) {
        int r;

        if (!*s)
                return sd_event_add_time_relative(event, s, CLOCK_BOOTTIME, delay_usec, accuracy_usec, callback,
                                                  userdata);

        r = sd_event_source_set_time_relative(*s, delay_usec);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(*s, SD_EVENT_ONESHOT);
}

int event_limit_connections(sd_event_source *io) {
        return sd_event_source_set_ratelimit(io, 100 * USEC_PER_MSEC, 100);
}

bool errno_is_shortage(int error) {
        return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

static int on_pause_over(sd_event_source *s, uint64_t usec, void *userdata) {
        return sd_event_source_set_enabled(userdata, SD_EVENT_ON);
}

int event_pause_new(sd_event_source *io, sd_event_source **ret) {
        _cleanup_event_source_ sd_event_source *s = NULL;
        int r;

        r = sd_event_add_time(sd_event_source_get_event(io), &s, CLOCK_BOOTTIME, UINT64_MAX, 0, on_pause_over, io);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int event_pause(sd_event_source *io, sd_event_source *pause, uint64_t usec) {
        int r;

        r = sd_event_source_set_time_relative(pause, usec);
        if (r >= 0)
                r = sd_event_source_set_enabled(pause, SD_EVENT_ONESHOT);
        return r < 0 ? r : sd_event_source_set_enabled(io, SD_EVENT_OFF);
}

static uint64_t clock_usec(clockid_t clock) {
        struct timespec ts;

        (void) clock_gettime(clock, &ts);
        return (uint64_t) ts.tv_sec * USEC_PER_SEC + (uint64_t) ts.tv_nsec / NSEC_PER_USEC;
}

uint64_t now_realtime_usec(void) {
        return clock_usec(CLOCK_REALTIME);
}

int64_t now_realtime_ms(void) {
        return (int64_t) (now_realtime_usec() / USEC_PER_MSEC);
}

uint64_t now_boottime_usec(void) {
        return clock_usec(CLOCK_BOOTTIME);
}
