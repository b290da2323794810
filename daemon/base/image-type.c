/* SPDX-License-Identifier: MIT */

#include "image-type.h"

const char* image_type_of(const void *head, size_t size) {
        static const struct {
                const char *type, *magic;
                size_t size;
        } t[] = {
                { "image/png",  "\x89PNG\r\n\x1a\n", 8 },
                { "image/jpeg", "\xff\xd8\xff",      3 },
                { "image/gif",  "GIF87a",            6 },
                { "image/gif",  "GIF89a",            6 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (size >= t[i].size && memcmp(head, t[i].magic, t[i].size) == 0)
                        return t[i].type;
        /* Four bytes of length between the two words. */
        if (size >= 12 && memcmp(head, "RIFF", 4) == 0 && memcmp((const char*) head + 8, "WEBP", 4) == 0)
                return "image/webp";
        return NULL;
}
