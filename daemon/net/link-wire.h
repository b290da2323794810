/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "http-client.h"
#include "string-util.h"

/* What a session and puffo-link say to each other on a connection to the link's socket. A connection is one HTTP
 * request or one WebSocket, and its end cancels that. Who does not read is not sent to: there is no other flow control
 * but for LINK_STOP, which keeps a request from timing out that its session has paused.
 *
 * A frame is a letter, the size of what follows (32 bits, least significant byte first), and that. Some are fields, a
 * line each: "name value". Names and words, not numbers, and what is not known is passed over: after an upgrade the
 * two may be of different versions. Values are bytes as HTTP has them. */
typedef enum LinkType {
        /* The session's. */
        LINK_CERTIFICATES = 'a',        /* PEM: trusted in addition, comes before what they are for */
        LINK_REQUEST = 'r',             /* fields */
        LINK_WEBSOCKET = 'w',           /* fields */
        LINK_BODY = 'b',                /* a part of the request's */
        LINK_BODY_END = 'e',
        LINK_STOP = 's',                /* the answer is not wanted for now */
        LINK_GO = 'g',                  /* it is again */
        LINK_CLOSE = 'c',               /* fields: code */
        LINK_PROBE = 'p',               /* fields: timeout */
        /* Of both. */
        LINK_TEXT = 't',                /* a message; the link's has a NUL behind it, which counts */
        /* The link's. */
        LINK_HEAD = 'h',                /* fields: status, header … */
        LINK_DATA = 'd',                /* a part of the answer's body */
        LINK_OPEN = 'o',                /* the WebSocket is */
        LINK_END = 'f',                 /* fields: how it has ended. The last one */
} LinkType;

#define LINK_DATA_MAX KIB(64)
#define LINK_FIELDS_MAX MIB(1)
#define LINK_CERTIFICATES_MAX MIB(1)

typedef struct LinkFrame {
        LinkType type;
        char *data;             /* borrowed until link_settle() */
        size_t size;
} LinkFrame;

/* One end of a connection. */
typedef struct LinkConnection {
        int fd;
        sd_event_source *io;
        StrBuf in, out;
        size_t taken, written;  /* of in and out */
        bool deaf;              /* nobody reads what is sent: it goes nowhere, but there may be something to read */
} LinkConnection;

/* Owns fd from here on, also when it fails. */
int link_connection_init(LinkConnection *c, sd_event *event, int fd, sd_event_io_handler_t callback, void *userdata);
/* All zero is fine. What it has carried is wiped. */
void link_connection_done(LinkConnection *c);

/* Queues a frame. -EMSGSIZE for what the other end would not take, -ENOMEM. */
int link_send(LinkConnection *c, LinkType type, const void *data, size_t size);
/* The same for what comes in parts of any size. */
int link_send_parts(LinkConnection *c, LinkType type, const void *data, size_t size);
/* How much is queued. */
size_t link_queued(const LinkConnection *c);
/* Writes what the socket takes. The other end may have said something before it went: that is told by reading. */
void link_write(LinkConnection *c);
/* Reads some of what there is. > 0: something came, 0: nothing for now, -EPIPE: that was all. */
int link_read(LinkConnection *c);
/* The next whole frame (> 0) of what was read, or 0. -EPROTO: that is none, or text of more than text_max. */
int link_next(LinkConnection *c, size_t text_max, LinkFrame *ret);
/* What link_next() gave is not looked at any more. */
void link_settle(LinkConnection *c);
/* What the loop is to wake us for, besides the end: reading, and writing if something is queued or writes is set. */
int link_watch(LinkConnection *c, bool reads, bool writes);

/* Appends a field. -EINVAL for a value of more than a line. */
int link_put(StrBuf *fields, const char *name, const char *value);
int link_put_number(StrBuf *fields, const char *name, uint64_t value);
/* Takes the next one out of fields, which are changed; false at the end. Both are texts then. */
bool link_get(char **fields, size_t *size, const char **ret_name, const char **ret_value);

const char* http_failure_to_string(HttpFailure f);
HttpFailure http_failure_from_string(const char *s);    /* what is not known is HTTP_FAILED_PROTOCOL */
