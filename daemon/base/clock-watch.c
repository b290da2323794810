/* SPDX-License-Identifier: MIT */

#include <limits.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "clock-watch.h"

struct ClockWatch {
        sd_event_source *io;
        void (*on_change)(void *userdata);
        void *userdata;
        int fd;
};

/* timerfd_create(2), TFD_TIMER_CANCEL_ON_SET: an absolute timer on CLOCK_REALTIME reads ECANCELED when that clock
 * jumps, which a resume makes it do. It must be set anew each time. */
static int clock_watch_arm(ClockWatch *w) {
        const struct itimerspec never = { .it_value.tv_sec = LONG_MAX };

        return timerfd_settime(w->fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 ? -errno : 0;
}

static int clock_watch_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        ClockWatch *w = userdata;
        uint64_t n;
        bool jumped = read(fd, &n, sizeof(n)) < 0 && errno == ECANCELED;

        if (clock_watch_arm(w) < 0)
                (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
        if (jumped)
                w->on_change(w->userdata);
        return 0;
}

int clock_watch_new(ClockWatch **ret, sd_event *event, void (*on_change)(void *userdata), void *userdata) {
        _cleanup_(clock_watch_freep) ClockWatch *w = NULL;
        int r;

        assert(ret && event && on_change);

        w = new0(ClockWatch, 1);
        if (!w)
                return -ENOMEM;
        w->on_change = on_change;
        w->userdata = userdata;
        w->fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
        if (w->fd < 0)
                return -errno;
        r = clock_watch_arm(w);
        if (r >= 0)
                r = sd_event_add_io(event, &w->io, w->fd, EPOLLIN, clock_watch_on_io, w);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(w);
        return 0;
}

ClockWatch* clock_watch_free(ClockWatch *w) {
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->io);
        safe_close(w->fd);
        return mfree(w);
}
