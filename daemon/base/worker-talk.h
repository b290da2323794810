/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "string-util.h"

/* What a helper of a session says to it and hears from it, over the socket that it was started with. The loop ends
 * with the talk. */
#define WORKER_FDS_MAX 32U

typedef struct WorkerTalk {
        sd_event *event;
        int fd;
        sd_event_source *io;
        StrBuf in;                      /* what has come and was not taken yet; there may be keys in it */
        int fds[WORKER_FDS_MAX];        /* what came with it: whoever takes one lowers n_fds */
        size_t n_fds;
        StrBuf out;                     /* what is to be said: to be appended to, then worker_talk_flush() */
        /* There is more in t->in. < 0: that makes no sense, and the talk is over. */
        int (*on_input)(struct WorkerTalk *t, void *userdata);
        void *userdata;
} WorkerTalk;

/* Makes the process's event loop; fd is borrowed. */
int worker_talk_start(WorkerTalk *t, int fd, int (*on_input)(WorkerTalk *t, void *userdata), void *userdata);
/* Says what there is to be said, now or as soon as there is room. < 0: nobody hears it. */
int worker_talk_flush(WorkerTalk *t);
/* Ends the loop, with an error in the log and in the exit status if error < 0. A value for an event handler. */
int worker_talk_exit(WorkerTalk *t, int error);
/* Closes the descriptors that have come. */
void worker_talk_close_fds(WorkerTalk *t);
/* What was heard is wiped. */
void worker_talk_done(WorkerTalk *t);
