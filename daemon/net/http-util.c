/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <strings.h>
#include <time.h>

#include "http-util.h"

bool http_token_is_valid(const char *s, size_t n) {
        for (size_t i = 0; i < n; i++) {
                unsigned char u = (unsigned char) s[i];

                if (!isascii(u) || !(isalnum(u) || (u && strchr("!#$%&'*+-.^_`|~", u))))
                        return false;
        }
        return n > 0;
}

bool http_value_is_valid(const char *s) {
        for (; *s; s++)
                if ((unsigned char) *s < 0x20 || *s == 0x7f)
                        return false;
        return true;
}

int http_date_parse(const char *s, int64_t *ret) {
        /* RFC 9110 §5.6.7: today's form, and the two that are obsolete. */
        static const char *const forms[] = {
                "%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y",
        };

        for (size_t i = 0; i < ELEMENTSOF(forms); i++) {
                struct tm tm = {};
                const char *end = strptime(s, forms[i], &tm);

                if (end && !*end) {
                        *ret = timegm(&tm);
                        return 0;
                }
        }
        return -EINVAL;
}

/* The characters of RFC 3986, without those that begin a query or fragment or end the host's part. */
static size_t host_size(const char *s) {
        size_t n;

        if (*s == '[') {
                n = strspn(s + 1, "0123456789abcdefABCDEF:.%");
                return n > 0 && s[n + 1] == ']' ? n + 2 : 0;
        }
        for (n = 0; s[n] && (!isascii((unsigned char) s[n]) || isalnum((unsigned char) s[n]) ||
                             strchr("-._~%!$&'()*+,;=", s[n])); n++)
                ;
        return n;
}

int http_url_check(const char *url, bool *ret_tls) {
        const char *host, *rest;
        unsigned long port = 0;
        size_t n;

        if (strncasecmp(url, "https://", 8) == 0)
                host = url + 8;
        else if (strncasecmp(url, "http://", 7) == 0)
                host = url + 7;
        else
                return -EINVAL;
        for (const char *c = url; *c; c++)
                if ((unsigned char) *c <= 0x20 || *c == 0x7f)
                        return -EINVAL;

        n = strcspn(host, "/?#");
        rest = memrchr(host, '@', n);
        if (rest)
                host = rest + 1;
        n = host_size(host);
        if (n == 0)
                return -EINVAL;
        rest = host + n;
        if (*rest == ':') {
                for (rest++; isdigit((unsigned char) *rest) && port <= 65535; rest++)
                        port = port * 10 + (unsigned long) (*rest - '0');
                if (port > 65535)
                        return -EINVAL;
        }
        if (*rest && !strchr("/?#", *rest))
                return -EINVAL;
        *ret_tls = url[4] != ':';
        return 0;
}
