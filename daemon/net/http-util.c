/* SPDX-License-Identifier: MIT */

#include <ctype.h>

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
