/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>
#include <wslay/wslay.h>

#include "string-util.h"
#include "websocket.h"

/* Frames on any transport: what websocket.c drives with a connection and the fuzzer with bytes. Messages are handed
 * out one by one and never from inside wslay, so that their reader may free everything. */

typedef struct WebSocketMessage {
        STAILQ_ENTRY(WebSocketMessage) messages;
        char *text;                     /* and a NUL */
        size_t size;
} WebSocketMessage;

WebSocketMessage* websocket_message_free(WebSocketMessage *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(WebSocketMessage*, websocket_message_free);

STAILQ_HEAD(WebSocketMessageQueue, WebSocketMessage);

typedef struct WebSocketFrames {
        wslay_event_context_ptr wslay;
        /* As recv(2) and send(2): -EAGAIN, 0 at the end (read), other errors. */
        ssize_t (*read)(void *transport, void *data, size_t size);
        ssize_t (*write)(void *transport, const void *data, size_t size);
        void *transport;
        size_t max_message;
        StrBuf text;                    /* of the message that is coming */
        uint8_t opcode;                 /* of the frame that is coming */
        bool wanted;                    /* the message that is coming is a text */
        struct WebSocketMessageQueue received;  /* not handed out yet; wslay reads ahead by at most 4 KiB */
        size_t budget;                  /* bytes that may still be read in this turn */
        bool more;                      /* it is used up: there may be more to read */
        bool pong;                      /* one came since this was cleared */
        bool heard;                     /* and so for any byte */
        bool ended, failed;             /* the transport has, properly or not */
        bool no_memory;                 /* a message could not be kept */
} WebSocketFrames;

/* The caller sets read, write and transport. max_message: bytes that a text may have. -ENOMEM. */
int websocket_frames_init(WebSocketFrames *f, size_t max_message);
void websocket_frames_done(WebSocketFrames *f);
/* Reads until there is a message (> 0, *ret is the caller's to free) or nothing more to read for now (0; f->more: it
 * is somebody else's turn, then try again). -EPROTO when the peer broke the protocol, -EPIPE at the end of the
 * transport, -EIO, -ENOMEM. */
int websocket_frames_read(WebSocketFrames *f, WebSocketMessage **ret);
/* Whether reading makes sense now: not behind a close frame, nor while the peer takes no answers to its pings. */
bool websocket_frames_want_read(const WebSocketFrames *f);
/* Writes what is queued. > 0: the transport takes no more just now. */
int websocket_frames_write(WebSocketFrames *f);
