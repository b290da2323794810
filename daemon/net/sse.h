/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* Parser for server-sent events (WHATWG HTML, "9.2 Server-sent events"): lines end in LF, CRLF or CR and may be split
 * anywhere, a leading BOM is dropped, comments are skipped, several data lines are joined with LF. */
typedef struct SseParser SseParser;

/* event: "message" when the stream names none. data: NUL-terminated, size without the NUL. id: last id or "".
 * Borrowed for the call. Return < 0 to stop; sse_parser_feed() passes that on. */
typedef int (*sse_event_t)(const char *event, const char *data, size_t size, const char *id, void *userdata);

/* max_event: the most bytes one event may have (its lines together). */
int sse_parser_new(SseParser **ret, size_t max_event, sse_event_t on_event, void *userdata);
SseParser* sse_parser_free(SseParser *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(SseParser*, sse_parser_free);

/* 0, the callback's error, -EMSGSIZE for an event over max_event, -ENOMEM. After an error the parser is unusable. */
int sse_parser_feed(SseParser *p, const char *data, size_t size);

/* The stream has ended: an event that no empty line has closed is dropped (so says the standard); > 0 if there was
 * one. */
int sse_parser_finish(SseParser *p);

/* Appends one event in our own framing: "event: X\n" (skipped for NULL), "data: …\n" per line of data, "\n". */
int sse_format(StrBuf *b, const char *event, const char *data, size_t size);
