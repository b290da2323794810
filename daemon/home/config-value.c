/* SPDX-License-Identifier: MIT */

#include <math.h>

#include "config-value.h"
#include "string-util.h"
#include "yaml-internal.h"

/* Ten years: more is a mistake, and what is added to a clock must not overflow. */
#define SECONDS_MAX ((uint64_t) 315360000)
#define USEC_PER_PERCENT (USEC_PER_SEC / 100)
#define CPU_PERCENT_MAX 1000000
#define DOLLARS_MAX 1000000

static const char byte_units[] = "KMGT";

int config_choice_index(const char *const *choices, const char *text) {
        for (int i = 0; choices[i]; i++)
                if (streq(choices[i], text))
                        return i;
        return -EBADMSG;
}

int config_text_to_uint(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret) {
        int64_t v;

        if (yaml_type_resolve(text) != YAML_TYPE_INT || yaml_text_to_int(text, &v) < 0)
                return -EBADMSG;
        if (v < 0 || (uint64_t) v < minimum || (maximum > 0 && (uint64_t) v > maximum))
                return -EBADMSG;

        *ret = (uint64_t) v;
        return 0;
}

int config_text_to_number(const char *text, double *ret) {
        int64_t integer;
        double v;
        int r;

        switch (yaml_type_resolve(text)) {
        case YAML_TYPE_INT:
                if (yaml_text_to_int(text, &integer) < 0)
                        return -EBADMSG;
                v = (double) integer;
                break;
        case YAML_TYPE_FLOAT:
                r = yaml_text_to_double(text, &v);
                if (r < 0)
                        return r;
                break;
        default:
                return -EBADMSG;
        }
        if (!isfinite(v) || v < 0)
                return -EBADMSG;

        *ret = v;
        return 0;
}

int config_text_to_usec(const char *text, uint64_t minimum_seconds, uint64_t *ret) {
        double v;
        int r;

        r = config_text_to_number(text, &v);
        if (r < 0)
                return r;
        if (v < (double) minimum_seconds || v > (double) SECONDS_MAX)
                return -EBADMSG;

        *ret = (uint64_t) (v * (double) USEC_PER_SEC + 0.5);
        return 0;
}

int config_text_to_micro(const char *text, uint64_t *ret) {
        double v;
        int r;

        r = config_text_to_number(text, &v);
        if (r < 0)
                return r;
        if (v < 0.000001 || v > DOLLARS_MAX)
                return -EBADMSG;

        *ret = (uint64_t) (v * 1e6 + 0.5);
        return 0;
}

int config_text_to_bytes(const char *text, uint64_t *ret) {
        size_t n = strspn(text, "0123456789");
        _cleanup_free_ char *digits = NULL;
        const char *unit;
        uint64_t v;
        int r;

        digits = memdup0(text, n);
        if (!digits)
                return -ENOMEM;
        r = parse_u64(digits, &v);
        if (r < 0)
                return -EBADMSG;

        if (text[n]) {
                unit = strchr(byte_units, text[n]);
                if (!unit || text[n + 1])
                        return -EBADMSG;
                if (__builtin_mul_overflow(v, (uint64_t) 1 << (10 * (unit - byte_units + 1)), &v))
                        return -EBADMSG;
        }
        /* Below this nothing starts; above, the bus has other meanings for the number. */
        if (v < MIB(1) || v > INT64_MAX)
                return -EBADMSG;

        *ret = v;
        return 0;
}

int config_text_to_cpu(const char *text, uint64_t *ret) {
        uint64_t whole = 0, hundredths = 0;
        const char *p = text;
        unsigned decimals = 0;

        if (*p < '0' || *p > '9')
                return -EBADMSG;
        for (; *p >= '0' && *p <= '9'; p++) {
                whole = whole * 10 + (uint64_t) (*p - '0');
                if (whole > CPU_PERCENT_MAX)
                        return -EBADMSG;
        }
        if (*p == '.')
                for (p++; *p >= '0' && *p <= '9' && decimals < 2; p++, decimals++)
                        hundredths += (uint64_t) (*p - '0') * (decimals == 0 ? 10 : 1);
        if (!streq(p, "%") || (p[-1] == '.'))
                return -EBADMSG;

        whole = whole * USEC_PER_PERCENT + hundredths * USEC_PER_PERCENT / 100;
        if (whole == 0)
                return -EBADMSG;

        *ret = whole;
        return 0;
}

char* config_bytes_to_text(uint64_t v) {
        char unit[2] = "";

        if (v == UINT64_MAX)
                return strdup("");

        for (size_t i = 0; i < sizeof(byte_units) - 1 && v % 1024 == 0; i++) {
                v /= 1024;
                unit[0] = byte_units[i];
        }
        return asprintf_new("%" PRIu64 "%s", v, unit);
}

char* config_cpu_to_text(uint64_t v) {
        uint64_t hundredths;

        if (v == UINT64_MAX)
                return strdup("");

        hundredths = v * 100 / USEC_PER_PERCENT;
        if (hundredths % 100 == 0)
                return asprintf_new("%" PRIu64 "%%", hundredths / 100);
        return asprintf_new("%" PRIu64 ".%02" PRIu64 "%%", hundredths / 100, hundredths % 100);
}

static char* describe_choices(const char *const *choices) {
        _cleanup_(strbuf_done) StrBuf b = {};

        if (strbuf_puts(&b, "one of ") < 0)
                return NULL;
        for (size_t i = 0; choices[i]; i++)
                if (strbuf_printf(&b, "%s%s", i > 0 ? ", " : "", *choices[i] ? choices[i] : "''") < 0)
                        return NULL;
        return strbuf_take(&b);
}

char* config_describe(const ConfigField *f) {
        switch (f->type) {
        case CONFIG_STRING:
        case CONFIG_CHOICE:
                return f->choices ? describe_choices(f->choices) :
                                    strdup("a text (put '' around what looks like a number or a truth value)");
        case CONFIG_STRINGS:
                return strdup("a list of texts, as in [one, two]");
        case CONFIG_BOOL:
                return strdup("true or false");
        case CONFIG_UINT:
                if (f->maximum == 0)
                        return asprintf_new("a whole number of at least %" PRIu64, f->minimum);
                return asprintf_new("a whole number from %" PRIu64 " to %" PRIu64, f->minimum, f->maximum);
        case CONFIG_NUMBER:
                return strdup("a number of at least 0");
        case CONFIG_SECONDS:
                return asprintf_new("a number of seconds from %" PRIu64 " to %" PRIu64, f->minimum, SECONDS_MAX);
        case CONFIG_BYTES:
                return strdup("a size of at least 1M (digits, then K, M, G or T, as in 2G)");
        case CONFIG_CPU:
                return strdup("a share of CPU time (as in 150%)");
        case CONFIG_DOLLARS:
                return asprintf_new("an amount of dollars above 0, up to %d", DOLLARS_MAX);
        }
        return NULL;
}

int config_check_url(const char *value, char **reterr) {
        const char *host = startswith(value, "https://") ?: startswith(value, "http://");

        if (*value == 0 || (host && *host && *host != '/' && !strpbrk(value, " \"<>\\")))
                return 0;

        *reterr = strdup("expected a URL that begins with https:// or http://");
        return *reterr ? -EBADMSG : -ENOMEM;
}

int config_check_absolute_path(const char *value, char **reterr) {
        if (*value == '/')
                return 0;

        *reterr = strdup("expected absolute paths");
        return *reterr ? -EBADMSG : -ENOMEM;
}
