/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <strings.h>
#include <time.h>
#include <wchar.h>

#include "ctl-text.h"
#include "event-util.h"
#include "string-util.h"

int text_write_safe(FILE *f, const char *s) {
        _cleanup_free_ char *safe = text_safe(s);

        if (!safe)
                return -ENOMEM;
        return fputs(safe, f) == EOF ? -EIO : 0;
}

/* What a terminal would act on and JSON's writers leave as it is; its bytes in *ret_n. 0: nothing of that kind. */
static unsigned unsafe_in_json(const unsigned char *u, size_t *ret_n) {
        unsigned c;

        *ret_n = 1;
        if (u[0] == 0x7f || (u[0] < 0x20 && !strchr("\t\n\r", u[0])))
                return u[0];
        if (u[0] == 0xc2 && u[1] >= 0x80 && u[1] < 0xa0) {
                *ret_n = 2;
                return u[1];
        }
        if (u[0] != 0xe2 || (u[1] & 0xc0) != 0x80 || (u[2] & 0xc0) != 0x80)
                return 0;
        c = 0x2000U | (u[1] & 0x3fU) << 6 | (u[2] & 0x3fU);
        *ret_n = 3;
        return c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ? c : 0;
}

void json_write_safe(FILE *f, const char *json) {
        const char *begin = json;

        while (*json) {
                size_t n;
                unsigned c = unsafe_in_json((const unsigned char*) json, &n);

                if (c == 0) {
                        json++;
                        continue;
                }
                fwrite(begin, 1, (size_t) (json - begin), f);
                fprintf(f, "\\u%04x", c);
                begin = json += n;
        }
        fwrite(begin, 1, (size_t) (json - begin), f);
}

char* text_safe(const char *s) {
        _cleanup_(strbuf_done) StrBuf b = {};

        for (;;) {
                size_t n = strcspn(s, "\n\t");
                _cleanup_free_ char *piece = memdup0(s, n), *safe = piece ? str_printable(piece, SIZE_MAX) : NULL;

                if (!safe || strbuf_puts(&b, safe) < 0)
                        return NULL;
                if (!s[n])
                        return strbuf_take(&b);
                if (strbuf_append(&b, s + n, 1) < 0)
                        return NULL;
                s += n + 1;
        }
}

/* The next character; its bytes in *ret_n, its columns as result. What cannot be decoded is one column each byte. */
static size_t next_character(const char *s, size_t *ret_n) {
        mbstate_t state = {};
        wchar_t c;
        size_t n = mbrtowc(&c, s, strlen(s), &state);
        int width;

        if (n == 0 || n > 16) {
                *ret_n = 1;
                return 1;
        }
        *ret_n = n;
        width = wcwidth(c);
        return width < 0 ? 1 : (size_t) width;
}

size_t text_width(const char *s) {
        size_t width = 0, n;

        for (; *s; s += n)
                width += next_character(s, &n);
        return width;
}

char* text_ellipsize(const char *s, size_t columns) {
        _cleanup_free_ char *head = NULL;
        size_t width = 0, end = 0, n;

        if (text_width(s) <= columns)
                return strdup(s);
        if (columns == 0)
                return strdup("");
        for (;; end += n) {
                width += next_character(s + end, &n);
                if (width > columns - 1)
                        break;
        }
        head = memdup0(s, end);
        return head ? strjoin(head, "…") : NULL;
}

/* Behind these, and "=" or a blank, stands a key. */
static const char *const key_names[] = {
                "api-key",    "api_key",      "apikey", "access-token", "auth-token",
                "auth_token", "access_token", "token",  "password",     "secret",
};

/* Bytes of s that name a key up to and with what separates it from the value; 0: it does not. */
static size_t match_key_name(const char *s) {
        for (size_t i = 0; i < ELEMENTSOF(key_names); i++) {
                size_t n = strlen(key_names[i]);

                if (strncasecmp(s, key_names[i], n) == 0 && (s[n] == '=' || s[n] == ' ' || s[n] == ':'))
                        return n + 1 + strspn(s + n + 1, " ");
        }
        return 0;
}

char* text_mask_keys(const char *s) {
        _cleanup_(strbuf_done) StrBuf b = {};
        bool word_start = true;

        while (*s) {
                size_t n = match_key_name(s), value;

                if (n == 0 && word_start && startswith(s, "sk-"))
                        n = strlen("sk-");
                if (n == 0) {
                        if (strbuf_append(&b, s, 1) < 0)
                                return NULL;
                        word_start = !isalnum((unsigned char) *s) && *s != '-' && *s != '_';
                        s++;
                        continue;
                }
                if (strbuf_append(&b, s, n) < 0)
                        return NULL;
                s += n;
                value = strcspn(s, " ");
                if (value > 0 && strbuf_puts(&b, "***") < 0)
                        return NULL;
                s += value;
                word_start = true;
        }
        return strbuf_take(&b);
}

char* text_age(uint64_t usec, uint64_t now_usec) {
        static const struct {
                uint64_t seconds;
                char letter;
        } units[] = { { 86400, 'd' }, { 3600, 'h' }, { 60, 'm' } };
        uint64_t s;

        if (usec == 0)
                return strdup("never");
        s = now_usec > usec ? (now_usec - usec) / USEC_PER_SEC : 0;
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (s >= units[i].seconds)
                        return asprintf_new("%" PRIu64 "%c", s / units[i].seconds, units[i].letter);
        return asprintf_new("%" PRIu64 "s", s);
}

char* text_time(uint64_t usec) {
        time_t t = (time_t) (usec / USEC_PER_SEC);
        char buffer[64];
        struct tm tm;

        if (usec == 0)
                return strdup("never");
        if (!localtime_r(&t, &tm) || strftime(buffer, sizeof(buffer), "%F %T", &tm) == 0)
                return strdup("?");
        return strdup(buffer);
}

char* text_bytes(uint64_t n) {
        static const char *const units[] = { "KiB", "MiB", "GiB", "TiB" };
        double x = (double) n;
        size_t i = 0;

        if (n < 1024)
                return asprintf_new("%" PRIu64 " B", n);
        for (x /= 1024; x >= 1024 && i + 1 < ELEMENTSOF(units); i++)
                x /= 1024;
        return asprintf_new("%.1f %s", x, units[i]);
}

static bool pager_has_colours;

/* Whether f is a terminal that wants colours (NO_COLOR and TERM=dumb do not). */
static bool colours_are_wanted(FILE *f) {
        if (f == stdout && pager_has_colours)
                return true;
        return isatty(fileno(f)) && isempty(getenv("NO_COLOR")) && !streq_ptr(getenv("TERM"), "dumb");
}

void colours_keep_for_pager(void) {
        pager_has_colours = colours_are_wanted(stdout);
}

const char* colour_on(FILE *f, Colour c) {
        static const char *const sequences[] = {
                [COLOUR_NONE] = "",
                [COLOUR_BOLD] = "\033[1m",
                [COLOUR_FAINT] = "\033[2m",
                [COLOUR_RED] = "\033[1;31m",
                [COLOUR_GREEN] = "\033[1;32m",
                [COLOUR_YELLOW] = "\033[1;33m",
                [COLOUR_HEADING] = "\033[4m",
        };

        return colours_are_wanted(f) ? sequences[c] : "";
}

const char* colour_off(FILE *f, Colour c) {
        return c != COLOUR_NONE && colours_are_wanted(f) ? "\033[0m" : "";
}

Colour colour_of_state(const char *state) {
        static const struct {
                const char *state;
                Colour colour;
        } map[] = {
                { "ready", COLOUR_GREEN},       {"active", COLOUR_GREEN},      {"busy", COLOUR_YELLOW },
                { "starting", COLOUR_YELLOW},   {"restarting", COLOUR_YELLOW}, {"stopping", COLOUR_YELLOW },
                { "activating", COLOUR_YELLOW}, {"failed", COLOUR_RED},        {"stopped", COLOUR_FAINT },
                { "inactive", COLOUR_FAINT },   {"missing", COLOUR_RED},
        };

        for (size_t i = 0; i < ELEMENTSOF(map); i++)
                if (streq(map[i].state, strempty(state)))
                        return map[i].colour;
        return COLOUR_NONE;
}
