/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* A file of the chat page, as web/embed.py puts it into the program: it stays in the program's own file until it is
 * read, and costs no memory before. */
typedef struct PageFile {
        const char *name;               /* below /web/VERSION/; page_index: the page itself */
        const char *type;
        const char *etag;               /* of both forms, and therefore a weak one */
        const char *data, *gzip;
        size_t size, gzip_size;
} PageFile;

extern const PageFile page_index;
extern const PageFile page_files[];
extern const size_t page_n_files;
/* Changes with any of the files, so that each of their addresses means the same for ever. */
extern const char page_version[];
