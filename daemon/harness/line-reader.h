/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* Lines from a pipe, none of which leaves the pipe before its handler has returned: whoever reads the same pipe after
 * this process was killed gets that line again. Only a line that fills the whole pipe is taken out as it comes: its
 * writer would wait for ever else. */
typedef struct LineReader LineReader;

typedef enum LineEnd {
        LINE_WHOLE,
        LINE_CUT,               /* the stream ended before the line did */
        LINE_TOO_LONG,          /* the beginning of it; the rest is passed over */
} LineEnd;

typedef struct LineHandler {
        /* line: without the newline, NUL-terminated (and there may be NULs in it). < 0: the line stays in the pipe and
         * nothing more is read. May free the reader. */
        int (*on_line)(LineReader *l, const char *line, size_t size, LineEnd end, void *userdata);
        /* Lines that were kept are about to leave the pipe, because its writer needs the room. May be NULL, must not
         * free the reader. */
        void (*on_drain)(LineReader *l, void *userdata);
        /* There is no whole line in the pipe at this moment. May be NULL, may free the reader. */
        void (*on_idle)(LineReader *l, void *userdata);
        /* Last of all; error is 0 at the end of the stream, else what on_line returned or why reading has failed. May
         * free the reader. */
        void (*on_end)(LineReader *l, int error, void *userdata);
        void *userdata;
} LineHandler;

/* fd: read end of a pipe, taken over in any case. -ENOTSUP: it is no pipe. max: bytes of the longest line. */
int line_reader_new(LineReader **ret, sd_event *event, int fd, size_t max, const LineHandler *handler);
LineReader* line_reader_free(LineReader *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(LineReader*, line_reader_free);

/* From within on_line: this line stays in the pipe, with all that were kept before it, until one is handled that is
 * not kept, or until the pipe is full. It is not handed on again here; who takes the pipe over sees it. */
void line_reader_keep(LineReader *l);

/* Reads now what there is, without waiting for the event loop. Not from inside of a handler of the same reader. */
void line_reader_drain(LineReader *l);
