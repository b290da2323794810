/* SPDX-License-Identifier: MIT */
#pragma once

#include "signed-json.h"

/* The same text with a space behind each bracket, comma and colon: objects in a list that are found out as a whole
 * when they are compact are parsed one by one then. */
static inline int json_spaced(const char *text, size_t size, StrBuf *ret) {
        bool quoted = false, escaped = false;
        int r = 0;

        for (size_t i = 0; i < size && r >= 0; i++) {
                r = strbuf_append(ret, text + i, 1);
                if (quoted) {
                        if (!escaped && text[i] == '"')
                                quoted = false;
                        escaped = !escaped && text[i] == '\\';
                } else if (text[i] == '"')
                        quoted = true;
                else if (r >= 0 && text[i] != 0 && strchr("{[,:", text[i]))
                        r = strbuf_append(ret, " ", 1);
        }
        return r;
}
