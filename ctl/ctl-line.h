/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

#include <systemd/sd-event.h>

/* What somebody types or pipes in, line by line: with a prompt, editing and a history on a terminal, plainly
 * otherwise. */
typedef struct LineReader LineReader;

typedef struct LineReaderSpec {
        sd_event *event;        /* borrowed; runs while a line is waited for, so that whatever else is on it goes on */
        int signal_fd;          /* a signalfd(2) for SIGINT, which must be blocked */
        const char *prompt;     /* borrowed */
        const char *history;    /* borrowed; the file that keeps what was said, NULL: nothing is kept */
        /* Asked after each round of the event loop. < 0: the wait is over, with that. May be NULL. */
        int (*check)(void *userdata);
        void *userdata;
} LineReaderSpec;

int line_reader_new(LineReader **ret, const LineReaderSpec *spec);
LineReader* line_reader_free(LineReader *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(LineReader*, line_reader_free);
bool line_reader_is_interactive(const LineReader *l);

/* > 0 with the next line, without its end; lines that end in '\' go on in the next one, and what is pasted into a
 * terminal is one, however many it has. 0: there is no more. -EINTR: Ctrl-C. */
int line_reader_read(LineReader *l, char **ret);

/* While somebody else writes to the terminal, what is typed is not shown; it waits for the next line. Ctrl-C goes on
 * to be a signal. Nothing to be done where there is no terminal. */
void terminal_hold(void);
void terminal_release(void);

/* All of the standard input. -EFBIG: more than max; -EBADMSG: it is no text. */
int stdin_read(size_t max, char **ret);
