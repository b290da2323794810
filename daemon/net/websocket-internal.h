/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>
#include <wslay/wslay.h>

#include "websocket.h"

/* Frames on any transport: what websocket.c drives with a connection and the fuzzer with bytes. Messages are handed out
 * one by one and never from inside wslay, so that their reader may free everything. */

typedef struct WebSocketMessage {
        STAILQ_ENTRY(WebSocketMessage) messages;
        size_t size;
        char text[];                    /* and a NUL */
} WebSocketMessage;

STAILQ_HEAD(WebSocketMessageQueue, WebSocketMessage);

typedef struct WebSocketFrames {
        wslay_event_context_ptr wslay;
        /* As recv(2) and send(2): -EAGAIN, 0 at the end (read), other errors. */
        ssize_t (*read)(void *transport, void *data, size_t size);
        ssize_t (*write)(void *transport, const void *data, size_t size);
        void *transport;
        struct WebSocketMessageQueue received;  /* not handed out yet; wslay reads ahead by at most 4 KiB */
        bool pong;                      /* one came since this was cleared */
        bool heard;                     /* and so for any byte */
        bool ended, failed;             /* the transport has, properly or not */
        bool no_memory;                 /* a message could not be kept */
} WebSocketFrames;

int websocket_frames_init(WebSocketFrames *f, size_t max_message);
void websocket_frames_done(WebSocketFrames *f);
/* Reads until there is a message (> 0, *ret is the caller's to free) or nothing more to read for now (0). -EPROTO when
 * the peer broke the protocol, -EPIPE at the end of the transport, -EIO, -ENOMEM. */
int websocket_frames_read(WebSocketFrames *f, WebSocketMessage **ret);
/* Writes what is queued. > 0: the transport takes no more just now. */
int websocket_frames_write(WebSocketFrames *f);
