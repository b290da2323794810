/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "http-client.h"
#include "http-util.h"
#include "string-util.h"

/* What is the same for every kind of client. */

/* Digits with at most one point among them, times unit; no sign, exponent or locale. */
static int parse_decimal_usec(const char *s, uint64_t unit, uint64_t *ret) {
        uint64_t whole = 0, part = 0, scale = unit;
        bool any = false;

        for (; *s >= '0' && *s <= '9'; s++, any = true)
                if (__builtin_mul_overflow(whole, 10U, &whole) ||
                    __builtin_add_overflow(whole, (uint64_t) (*s - '0'), &whole))
                        return -ERANGE;
        if (*s == '.')
                for (s++; *s >= '0' && *s <= '9'; s++, any = true) {
                        part += scale * (uint64_t) (*s - '0') / 10;
                        scale /= 10;
                }
        if (*s || !any)
                return -EINVAL;

        if (__builtin_mul_overflow(whole, unit, &whole) || __builtin_add_overflow(whole, part, &whole) ||
            whole == USEC_INFINITY)
                return -ERANGE;
        *ret = whole;
        return 0;
}

uint64_t http_request_retry_after(HttpRequest *q) {
        const char *value;
        uint64_t usec, now;
        int64_t when;

        assert(q);

        value = http_request_header(q, "retry-after-ms");
        if (value && parse_decimal_usec(value, USEC_PER_MSEC, &usec) >= 0)
                return usec;

        value = http_request_header(q, "retry-after");
        if (!value)
                return USEC_INFINITY;
        if (parse_decimal_usec(value, USEC_PER_SEC, &usec) >= 0)
                return usec;

        if (http_date_parse(value, &when) < 0)
                return USEC_INFINITY;
        now = now_realtime_usec();
        usec = when < 0 ? 0 : (uint64_t) when * USEC_PER_SEC;
        return usec > now ? usec - now : 0;
}

char* http_url_join(const char *base, const char *path) {
        size_t n;

        assert(base && path);

        for (n = strlen(base); n > 0 && base[n - 1] == '/'; n--)
                ;
        return asprintf_new("%.*s/%s", (int) n, base, path + strspn(path, "/"));
}
