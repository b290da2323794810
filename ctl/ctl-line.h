/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* What somebody types or pipes in, line by line: with a prompt, editing and a history on a terminal, plainly
 * otherwise. */
typedef struct LineReader LineReader;

/* signal_fd: a signalfd(2) for SIGINT, which must be blocked. prompt is borrowed. */
int line_reader_new(LineReader **ret, const char *prompt, int signal_fd);
LineReader* line_reader_free(LineReader *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(LineReader*, line_reader_free);
bool line_reader_is_interactive(const LineReader *l);

/* > 0 with the next line, without its end; lines that end in '\' go on in the next one. 0: there is no more. -EINTR:
 * Ctrl-C. */
int line_reader_read(LineReader *l, char **ret);

/* All of the standard input. -EFBIG: more than max; -EBADMSG: it is no text. */
int stdin_read(size_t max, char **ret);
