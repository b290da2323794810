/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdio.h>

#include "macro.h"

/* Text from agents and from the network on its way to a terminal. */

/* Writes s with everything a terminal would obey (escape sequences, other control characters, bidi overrides, bytes
 * that are no UTF-8) shown as '?', but newlines and tabs as they are. Fit for pieces of a stream that end between
 * characters. */
int text_write_safe(FILE *f, const char *s);
/* The same as a new string. NULL when out of memory. */
char* text_safe(const char *s);
/* Writes JSON; the characters above become \u escapes, which say the same. */
void json_write_safe(FILE *f, const char *json);

/* Columns a terminal uses for s. */
size_t text_width(const char *s);
/* At most columns wide, ending with "…" when it was cut. NULL when out of memory. */
char* text_ellipsize(const char *s, size_t columns);

/* Replaces what looks like a key in a command line by "***": "sk-…" words, and the value behind names like --api-key.
 */
char* text_mask_keys(const char *s);

/* "3s", "5m", "2h", "4d": how long ago; "never" for 0. */
char* text_age(uint64_t usec, uint64_t now_usec);
/* Local "YYYY-MM-DD HH:MM:SS"; "never" for 0. */
char* text_time(uint64_t usec);
/* "512 B", "3.4 KiB", … */
char* text_bytes(uint64_t n);

typedef enum Colour {
        COLOUR_NONE,
        COLOUR_BOLD,
        COLOUR_FAINT,
        COLOUR_RED,
        COLOUR_GREEN,
        COLOUR_YELLOW,
        COLOUR_HEADING,
} Colour;

/* stdout is about to become a pager's pipe: what holds for it now shall go on to hold. */
void colours_keep_for_pager(void);
/* The escape sequences to begin and to end with; "" when f wants none. */
const char* colour_on(FILE *f, Colour c);
const char* colour_off(FILE *f, Colour c);
/* What a state is shown in. */
Colour colour_of_state(const char *state);
