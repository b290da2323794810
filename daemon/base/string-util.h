/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdarg.h>

#include "macro.h"

/* Joins its arguments into a new string; the list ends with NULL. NULL when out of memory. */
char* strjoin_real(const char *first, ...) _sentinel_;
#define strjoin(first, ...) strjoin_real(first, ##__VA_ARGS__, NULL)

/* printf into a new string; NULL when out of memory. */
char* asprintf_new(const char *format, ...) _printf_(1, 2);

/* Replaces *p by a copy of s (NULL: by NULL). 0, > 0 when it was equal already, -ENOMEM. */
int free_and_strdup(char **p, const char *s);

/* Copies n bytes and adds a NUL. NULL when out of memory. */
void* memdup0(const void *p, size_t n);

/* Whole string is valid UTF-8 (RFC 3629: no surrogates, no overlong forms). */
bool utf8_is_valid(const char *s, size_t n);

/* How many of the n bytes can be passed on without cutting a code point at the end (the rest is < 4 bytes). Bytes
 * that are no UTF-8 at all are not held back. */
size_t utf8_complete_prefix(const char *s, size_t n);

/* Makes s valid UTF-8 in place: a code point that is cut off at the end goes, other bytes that are none become '?'. */
char* utf8_repair(char *s);

/* A copy of s fit to be shown: C0, C1 and bidi control characters, noncharacters and invalid bytes become '?', cut
 * with "…" after max_chars. */
char* str_printable(const char *s, size_t max_chars);

/* Valid UTF-8 without noncharacters (U+FDD0 to U+FDEF, U+xxFFFE, U+xxFFFF; Unicode 23.7): what sd-bus takes. */
bool utf8_is_interchangeable(const char *s, size_t n);
/* A copy of s with U+FFFD in the place of whatever is not that. NULL when out of memory. */
char* utf8_to_interchangeable(const char *s);

/* Decimal only, no sign, no blanks. -EINVAL, -ERANGE. */
int parse_u64(const char *s, uint64_t *ret);
int parse_u32(const char *s, uint32_t *ret);

/* A growing byte string. All zero is a valid empty one. text is NUL-terminated whenever it is not NULL. */
typedef struct StrBuf {
        char *text;
        size_t size, allocated;
} StrBuf;

void strbuf_done(StrBuf *b);
/* -ENOMEM leaves the buffer as it was. */
int strbuf_append(StrBuf *b, const char *s, size_t n);
int strbuf_puts(StrBuf *b, const char *s);
/* Room for n more bytes and a NUL at text + size, to be written there and then counted in size. -ENOMEM. */
int strbuf_reserve(StrBuf *b, size_t n);
int strbuf_printf(StrBuf *b, const char *format, ...) _printf_(2, 3);
/* Hands the text over (never NULL on success) and empties the buffer. NULL when out of memory. */
char* strbuf_take(StrBuf *b);
/* Gives back what was allocated ahead: nothing follows. */
void strbuf_trim(StrBuf *b);
/* Drops the first n bytes. */
void strbuf_consume(StrBuf *b, size_t n);

/* Whether s is that word, in whatever case and with whatever white space around it. */
bool str_is_word(const char *s, const char *word);

/* NULL-terminated string arrays. */
char** strv_free(char **l);
DEFINE_TRIVIAL_CLEANUP_FUNC(char**, strv_free);
size_t strv_length(char *const *l);
bool strv_contains(char *const *l, const char *s);
/* Appends a copy of s to *l. -ENOMEM. */
int strv_extend(char ***l, const char *s);
void strv_sort(char **l);

/* Escapes for the instance or prefix part of a unit name as systemd-escape(1) does. NULL when out of memory. */
char* unit_name_escape(const char *s);
/* The reverse; -EINVAL on a bad escape. */
int unit_name_unescape(const char *s, char **ret);

/* n random bytes as 2n lower-case hex digits, from the kernel. NULL when out of memory. */
char* random_hex(size_t n_bytes);

/* Agent ids: [A-Za-z0-9][A-Za-z0-9_-]*, at most 64 characters (agent-home 5.1). */
bool agent_id_is_valid(const char *s);
/* Ids that callers choose for turns: [A-Za-z0-9_-], 1 to 80 characters. */
bool turn_id_is_valid(const char *s);
