/* SPDX-License-Identifier: MIT */
#pragma once

#include "signed-json.h"

/* Lists of objects that are all alike: the recipients of an envelope are hundreds of objects with the same members, as
 * compact as can be, and with texts of the same lengths. One that is written as the first of its list is, but for what
 * the texts say, is found out as a whole; any other has to be parsed. */

#define JSON_PATTERN_MEMBERS 8U
#define JSON_PATTERN_SIZE 512U

typedef struct JsonPattern {
        const SignedValue *first;
        size_t size;
        /* Where literal is 0xff the byte is that of text; where free is, it is any that needs no escape. */
        uint8_t text[JSON_PATTERN_SIZE], literal[JSON_PATTERN_SIZE], free[JSON_PATTERN_SIZE];
        uint16_t begin[JSON_PATTERN_MEMBERS], end[JSON_PATTERN_MEMBERS];        /* of the members' texts */
} JsonPattern;

/* False when v is nothing that others could be like: an object of few short strings. */
bool json_pattern_init(JsonPattern *t, const SignedValue *v);
/* Whether such an object stands at p. No more than from p to end is looked at. */
bool json_pattern_matches(const JsonPattern *t, const char *p, const char *end);
